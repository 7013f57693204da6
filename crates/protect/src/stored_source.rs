//! The way out: a stored tree, read as any other tree source.

use std::io::BufRead;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use alidade_entity::{Class, Cx, Ending, Error, Lease, Result, TreeSource, Visit};
use alidade_model::{
    Consistency, ContentDigest, Digest, Entry, Exclusions, Kind, Omission, OmissionKind,
};
use alidade_repository::{BlobId, Content, Indexed, Node, TreeReader};

use crate::convert::entry_of;
use crate::error::as_entity;
use crate::filter::{Filter, Verdict as Chosen};
use crate::holes::HoleMap;
use crate::identity::OWN_DIR;
use crate::stored_file::{Stored, StoredFile};

/// Visits in one batch.
const BATCH: usize = 256;

/// What a walk through a stored tree found out, for its lease.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    digest: Mutex<Option<Digest>>,
    excluded: Mutex<Exclusions>,
    pub(crate) verified: AtomicU64,
    damaged: AtomicU64,
}

/// How to read a stored tree.
pub(crate) struct Walk {
    pub(crate) indexed: Arc<Indexed>,
    pub(crate) root: BlobId,
    /// The absolute path of `root`; empty for the top of the snapshot.
    pub(crate) top: Vec<u8>,
    /// Entries above this depth lead to the entity and are not in its digest.
    pub(crate) trail: usize,
    pub(crate) filter: Filter,
    pub(crate) holes: Option<HoleMap<Box<dyn BufRead + Send>>>,
    /// Treat blocks of zeros as holes even where the snapshot does not say that they were.
    pub(crate) sparse_zeros: bool,
}

/// Walks a stored tree. Memory: one node a level.
pub(crate) struct StoredSource {
    walk: Walk,
    levels: Vec<Level>,
    path: Vec<u8>,
    digest: Option<ContentDigest>,
    findings: Arc<Findings>,
    started: bool,
}

struct Level {
    nodes: TreeReader,
    /// Set until the directory is announced: with a filter, only when something in it is chosen.
    held: Option<Entry>,
}

impl StoredSource {
    pub(crate) fn new(walk: Walk) -> (Self, StoredLease) {
        let findings = Arc::new(Findings::default());
        let digest = walk.filter.takes_everything().then(ContentDigest::new);
        let lease = StoredLease { findings: Arc::clone(&findings) };
        let source = Self {
            path: walk.top.clone(),
            walk,
            levels: Vec::new(),
            digest,
            findings,
            started: false,
        };
        (source, lease)
    }

    fn step(&mut self, cx: &Cx, out: &mut Vec<Visit>) -> Result<bool> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        match level.nodes.next() {
            Some(Ok(node)) => self.node(cx, node, out),
            Some(Err(error)) => {
                let error = as_entity("read a stored directory", error);
                self.broken(error, out)?;
                self.leave(out);
                Ok(true)
            }
            None => {
                self.leave(out);
                Ok(true)
            }
        }
    }

    fn node(&mut self, cx: &Cx, node: Node, out: &mut Vec<Visit>) -> Result<bool> {
        if self.levels.len() == 1 && self.walk.top.is_empty() && node.name == OWN_DIR.as_bytes() {
            return Ok(true);
        }
        let Some(entry) = entry_of(&node) else {
            self.omit(
                &node.name,
                OmissionKind::Unrepresentable,
                "create an entry of a kind this program does not know",
                out,
            );
            return Ok(true);
        };
        let up = self.path.len();
        self.path.push(b'/');
        self.path.extend_from_slice(&node.name);
        let is_dir = entry.metadata.kind == Kind::Directory;
        match self.walk.filter.look(&self.path, is_dir) {
            Chosen::No(rule) => {
                if let Some(rule) = rule {
                    let mut excluded = lock(&self.findings.excluded);
                    *excluded.entry(rule).or_insert(0) += 1;
                }
                self.path.truncate(up);
                Ok(true)
            }
            Chosen::Yes => {
                self.announce(out);
                self.take(cx, (entry, node), up, false, out)
            }
            Chosen::Maybe => self.take(cx, (entry, node), up, true, out),
        }
    }

    /// Emits the entry at the current path, or descends into it.
    fn take(
        &mut self,
        cx: &Cx,
        (entry, node): (Entry, Node),
        up: usize,
        hold: bool,
        out: &mut Vec<Visit>,
    ) -> Result<bool> {
        if entry.metadata.kind != Kind::Directory {
            if !hold {
                self.hash(&entry, node.content.as_ref());
                match self.leaf(entry, node) {
                    Ok(visit) => out.push(visit),
                    Err(error) => self.broken(error, out)?,
                }
            }
            self.path.truncate(up);
            return Ok(true);
        }
        let subtree = node
            .subtree
            .ok_or_else(|| Error::new(Class::Damaged, "find the tree of a stored directory"));
        let nodes = subtree.and_then(|tree| {
            self.walk
                .indexed
                .tree(cx, tree)
                .map_err(|error| as_entity("read a stored directory", error))
        });
        if !hold {
            self.hash(&entry, None);
            out.push(Visit::Enter(entry.clone()));
        }
        match nodes {
            Ok(nodes) => self.levels.push(Level { nodes, held: hold.then_some(entry) }),
            Err(error) => {
                self.broken(error, out)?;
                if !hold {
                    out.push(Visit::Leave);
                    self.unhash();
                }
                self.path.truncate(up);
            }
        }
        Ok(true)
    }

    /// Announces the directories that were held back until something in them was chosen.
    fn announce(&mut self, out: &mut Vec<Visit>) {
        for level in &mut self.levels {
            if let Some(entry) = level.held.take() {
                out.push(Visit::Enter(entry));
            }
        }
    }

    fn leave(&mut self, out: &mut Vec<Visit>) {
        let Some(level) = self.levels.pop() else { return };
        if self.levels.is_empty() {
            return;
        }
        if level.held.is_none() {
            out.push(Visit::Leave);
            let up = self.path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            self.path.truncate(up);
            self.unhash();
        } else {
            let up = self.path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            self.path.truncate(up);
        }
    }

    fn leaf(&mut self, entry: Entry, node: Node) -> Result<Visit> {
        if entry.metadata.kind != Kind::File {
            return Ok(Visit::Leaf(entry));
        }
        let content = node.content.ok_or_else(|| {
            Error::new(Class::Damaged, "find the content of a stored file in its directory")
        })?;
        let holes = match &mut self.walk.holes {
            None => Vec::new(),
            Some(map) => map.at(&self.path).map_err(|error| {
                Error::with_source(Class::Damaged, "read the snapshot's hole map", error)
            })?,
        };
        let file = StoredFile::new(Stored {
            indexed: Arc::clone(&self.walk.indexed),
            findings: Arc::clone(&self.findings),
            content,
            metadata: entry.metadata.clone(),
            holes,
            sparse_zeros: self.walk.sparse_zeros,
            layout: OnceLock::new(),
        });
        Ok(Visit::File(entry, Box::new(file)))
    }

    /// A part of the tree that cannot be read: an omission that counts as damage.
    fn broken(&mut self, error: Error, out: &mut Vec<Visit>) -> Result<()> {
        if error.class() != Class::Damaged {
            return Err(error);
        }
        self.digest = None;
        self.findings.damaged.fetch_add(1, Ordering::Relaxed);
        out.push(Visit::Omit(Omission {
            path: self.path.clone(),
            kind: OmissionKind::Unreadable,
            reason: error.chain(),
        }));
        Ok(())
    }

    fn omit(&mut self, name: &[u8], kind: OmissionKind, reason: &str, out: &mut Vec<Visit>) {
        let mut path = self.path.clone();
        path.push(b'/');
        path.extend_from_slice(name);
        out.push(Visit::Omit(Omission { path, kind, reason: reason.to_owned() }));
    }

    /// Depth of the entry at the current path, the top being 0.
    fn depth(&self) -> usize {
        self.path.iter().filter(|&&byte| byte == b'/').count().saturating_sub(1)
    }

    fn hash(&mut self, entry: &Entry, content: Option<&Content>) {
        let depth = self.depth();
        if let Some(digest) = self.digest.as_mut().filter(|_| depth >= self.walk.trail) {
            digest.enter(entry);
            if let Some(content) = content {
                digest.blobs(content.len());
                content.iter().for_each(|id| digest.blob(&id.0));
            }
        }
    }

    /// The directory just left: its path is gone already, so its depth is that of its entries' parent.
    fn unhash(&mut self) {
        let depth = self.path.iter().filter(|&&byte| byte == b'/').count();
        if let Some(digest) = self.digest.as_mut().filter(|_| depth >= self.walk.trail) {
            digest.leave();
        }
    }
}

impl TreeSource for StoredSource {
    fn trail(&self) -> &[Entry] {
        &[]
    }

    fn next(&mut self, cx: &Cx, out: &mut Vec<Visit>) -> Result<bool> {
        cx.check()?;
        if !self.started {
            self.started = true;
            let nodes = self
                .walk
                .indexed
                .tree(cx, self.walk.root)
                .map_err(|error| as_entity("read the top of a stored tree", error))?;
            self.levels.push(Level { nodes, held: None });
        }
        let first = out.len();
        while out.len() - first < BATCH {
            if !self.step(cx, out)? {
                if let Some(digest) = self.digest.take() {
                    *lock(&self.findings.digest) = Some(digest.finish());
                }
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A stored tree needs nothing to be held still.
pub(crate) struct StoredLease {
    findings: Arc<Findings>,
}

impl Lease for StoredLease {
    fn finish(self: Box<Self>) -> Result<Ending> {
        let mut ending = Ending::of(Consistency::Crash);
        ending.digest = *lock(&self.findings.digest);
        ending.excluded = std::mem::take(&mut lock(&self.findings.excluded));
        ending.verified = self.findings.verified.load(Ordering::Relaxed);
        ending.damaged = self.findings.damaged.load(Ordering::Relaxed);
        Ok(ending)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
