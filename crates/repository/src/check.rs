//! Whether the repository holds what it says: structure and references, and on demand every byte.

mod lanes;
mod packs;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use alidade_entity::{Cx, Step};

use crate::index::Table;
use crate::indexed::noun;
use crate::pack_header::trailer_len;
use crate::{
    BlobId, BlobKind, Error, FileId, FileKind, Indexed, Node, NodeKind, Repository, Result,
    Snapshot, snapshot,
};

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckOptions {
    /// Reads and hashes every pack and every blob, too.
    pub read_data: bool,
    /// How many threads read packs; each takes 24 MiB for packs and as much for what is in them, and up
    /// to 16 MiB more for the last blobs.
    pub parallel: usize,
}

impl CheckOptions {
    /// Structure and references, and with `read_data` every byte, by two threads.
    #[must_use]
    pub fn new(read_data: bool) -> Self {
        Self { read_data, parallel: 2 }
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FindingClass {
    /// An index file cannot be read; what it named is missing from what was checked.
    Index,
    /// A snapshot cannot be read.
    Snapshot,
    /// A tree cannot be read, or has a node that cannot be.
    Tree,
    /// A file or directory needs a blob that no index names.
    Reference,
    /// A pack that an index names is not there.
    MissingPack,
    /// A pack has another length than the index says.
    PackSize,
    /// A pack, or a blob in it, is not what was written.
    PackContent,
    /// Not damage: no index names this pack. An interrupted run leaves such.
    UnusedPack,
    /// Not damage: several index files name this pack.
    PackNamedTwice,
    /// Not damage: a pack holds data and trees.
    MixedPack,
}

impl FindingClass {
    /// False for what is only untidy.
    #[must_use]
    pub fn is_damage(self) -> bool {
        !matches!(self, Self::UnusedPack | Self::PackNamedTwice | Self::MixedPack)
    }

    /// A word for it in machine-readable output.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Snapshot => "snapshot",
            Self::Tree => "tree",
            Self::Reference => "reference",
            Self::MissingPack => "missing-pack",
            Self::PackSize => "pack-size",
            Self::PackContent => "pack-content",
            Self::UnusedPack => "unused-pack",
            Self::PackNamedTwice => "pack-named-twice",
            Self::MixedPack => "mixed-pack",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub class: FindingClass,
    /// What is concerned, with its id: `pack 1234…`.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// What was looked at and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckSummary {
    /// Index files.
    pub index_files: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Packs that are there.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Blobs that the index names, each copy counted.
    pub blobs: u64,
    /// Of these, further copies of a blob.
    pub copies: u64,
    /// Trees that snapshots need, each once.
    pub trees: u64,
    /// Nodes in these trees.
    pub nodes: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Blobs that were opened and hashed in them.
    pub blobs_read: u64,
    /// Bytes of packs that were read.
    pub bytes_read: u64,
    /// Findings that are damage.
    pub damage: u64,
    /// Findings that are only untidy.
    pub hints: u64,
}

impl Repository {
    /// Looks at everything, as stock restic's check does, and goes on behind what is damaged:
    /// index files against packs with their exact lengths; all snapshots; every tree they need, once;
    /// every blob these need against the index. With [`CheckOptions::read_data`] every pack is read:
    /// its hash, its header, and the MAC, compression and hash of every blob.
    ///
    /// Memory: 60 bytes for each blob and 100 for each pack, and 20 MiB for each thread.
    ///
    /// # Errors
    /// Only when it cannot go on: the store cannot be listed, or the run was told to stop. Damage is
    /// no error but a finding.
    pub fn check(
        self: &Arc<Self>,
        cx: &Cx,
        options: CheckOptions,
        each: &mut dyn FnMut(Finding),
    ) -> Result<CheckSummary> {
        let mut check = Check { cx, each, summary: CheckSummary::default() };
        // Snapshots before indexes: what a run that is under way adds is not missed.
        let trees = check.snapshots(self)?;
        let indexed = check.index(self)?;
        let listed = check.packs(&indexed)?;
        check.trees(&indexed, trees)?;
        if options.read_data {
            check.read_packs(&indexed, &listed, options.parallel)?;
        }
        Ok(check.summary)
    }
}

struct Check<'a> {
    cx: &'a Cx,
    each: &'a mut dyn FnMut(Finding),
    summary: CheckSummary,
}

/// What the index says about a pack, and what the store does.
#[derive(Clone, Copy, Default)]
struct PackFacts {
    /// Bytes it must have; 0 when the index does not name it.
    expected: u64,
    /// Bytes it has; `None` when it is not there.
    actual: Option<u64>,
    data: bool,
    trees: bool,
}

impl Check<'_> {
    fn find(&mut self, class: FindingClass, what: impl Into<String>, why: impl Into<String>) {
        self.tell(Finding { class, what: what.into(), why: why.into() });
    }

    fn tell(&mut self, finding: Finding) {
        if finding.class.is_damage() {
            self.summary.damage += 1;
        } else {
            self.summary.hints += 1;
        }
        (self.each)(finding);
    }

    /// Takes what failed as a finding, unless the run is to stop.
    fn failed(&mut self, class: FindingClass, what: &str, error: Error) -> Result<()> {
        match error {
            Error::Cancelled => Err(Error::Cancelled),
            Error::Damaged { what, why } => {
                self.find(class, what, why);
                Ok(())
            }
            other => {
                self.find(class, what, chain(&other));
                Ok(())
            }
        }
    }

    /// The trees of all snapshots.
    fn snapshots(&mut self, repository: &Repository) -> Result<Vec<(FileId, BlobId)>> {
        self.cx.report(Step::Phase("snapshots"));
        let mut trees = Vec::new();
        for (id, _) in repository.files().list(FileKind::Snapshot)? {
            self.cx.check()?;
            match snapshot(repository, &id) {
                Ok(snapshot) => trees.push((id, snapshot.tree)),
                // Somebody forgot it meanwhile.
                Err(Error::NotFound { .. }) => continue,
                Err(error) => {
                    self.failed(FindingClass::Snapshot, &format!("snapshot {id}"), error)?;
                }
            }
            self.summary.snapshots += 1;
        }
        Ok(trees)
    }

    fn index(&mut self, repository: &Arc<Repository>) -> Result<Indexed> {
        self.cx.report(Step::Phase("index"));
        let (mut files, mut last) = (0, None);
        let mut named = HashSet::new();
        let mut notes = Vec::new();
        let cx = self.cx;
        let indexed = Indexed::load_each(Arc::clone(repository), cx, &mut |file, loaded| {
            if last != Some(file) {
                last = Some(file);
                files += 1;
            }
            match loaded {
                Ok(pack) if !named.insert(pack.id) => notes.push(Finding {
                    class: FindingClass::PackNamedTwice,
                    what: format!("pack {}", pack.id),
                    why: format!("index {file} names it, and another one before"),
                }),
                Ok(_) => {}
                Err(Error::Damaged { what, why }) => {
                    notes.push(Finding { class: FindingClass::Index, what, why });
                }
                Err(error) => notes.push(Finding {
                    class: FindingClass::Index,
                    what: format!("index {file}"),
                    why: chain(&error),
                }),
            }
            Ok(())
        })?;
        self.summary.index_files = files;
        notes.into_iter().for_each(|finding| self.tell(finding));
        let table = indexed.index().read();
        (self.summary.blobs, self.summary.copies) = (table.len() as u64, table.copies());
        drop(table);
        Ok(indexed)
    }

    /// Compares the packs that are there with those the index names; by number.
    fn packs(&mut self, indexed: &Indexed) -> Result<Vec<PackFacts>> {
        self.cx.report(Step::Phase("packs"));
        let table = indexed.index().read();
        let mut facts = facts(&table);
        let (packs, bytes) = (&mut self.summary.packs, &mut self.summary.pack_bytes);
        let mut unused = Vec::new();
        indexed.repository().store().list(FileKind::Pack, &mut |name, len| {
            self.cx.check()?;
            *packs += 1;
            *bytes += len;
            match name.parse().ok().and_then(|id| table.pack_number(&id)) {
                Some(number) => facts[number as usize].actual = Some(len),
                None => unused.push(name.to_owned()),
            }
            Ok(())
        })?;
        for name in unused {
            self.find(FindingClass::UnusedPack, format!("pack {name}"), "no index names it");
        }
        for (id, fact) in table.packs().iter().zip(&facts) {
            let what = format!("pack {id}");
            match fact.actual {
                None => self.find(FindingClass::MissingPack, &what, "it is not there"),
                Some(actual) if actual != fact.expected => {
                    let why = format!("it has {actual} bytes, not {}", fact.expected);
                    self.find(FindingClass::PackSize, &what, why);
                }
                Some(_) => {}
            }
            if fact.data && fact.trees {
                self.find(FindingClass::MixedPack, what, "it holds data and trees");
            }
        }
        Ok(facts)
    }

    /// Reads every tree that the snapshots need, each once.
    fn trees(&mut self, indexed: &Indexed, roots: Vec<(FileId, BlobId)>) -> Result<()> {
        self.cx.report(Step::Phase("trees"));
        let mut seen = Bits::of(indexed.index().read().len());
        let mut open = Vec::new();
        for (snapshot, tree) in roots {
            match indexed.index().read().find(BlobKind::Tree, &tree) {
                None => self.missing(BlobKind::Tree, &tree, &format!("snapshot {snapshot}")),
                Some(found) if seen.set(found.ordinal) => open.push(found.ordinal),
                Some(_) => {}
            }
        }
        while let Some(ordinal) = open.pop() {
            let id = indexed.index().read().found(ordinal).blob.id;
            self.summary.trees += 1;
            let nodes = match indexed.tree(self.cx, id) {
                Ok(nodes) => nodes,
                Err(error) => {
                    self.failed(FindingClass::Tree, &format!("tree {id}"), error)?;
                    continue;
                }
            };
            for node in nodes {
                match node {
                    Ok(node) => self.node(indexed, &id, &node, &mut seen, &mut open),
                    Err(error) => self.failed(FindingClass::Tree, &format!("tree {id}"), error)?,
                }
            }
        }
        Ok(())
    }

    fn node(
        &mut self,
        indexed: &Indexed,
        tree: &BlobId,
        node: &Node,
        seen: &mut Bits,
        open: &mut Vec<u32>,
    ) {
        self.summary.nodes += 1;
        let what = || format!("`{}` in tree {tree}", node.name.escape_ascii());
        let table = indexed.index().read();
        match (&node.kind, &node.content, &node.subtree) {
            (NodeKind::File, Some(content), _) => {
                for (id, _) in content.runs() {
                    if table.find(BlobKind::Data, id).is_none() {
                        self.missing(BlobKind::Data, id, &what());
                    }
                }
            }
            (NodeKind::File, None, _) => {
                self.find(FindingClass::Tree, what(), "it is a file without content");
            }
            (NodeKind::Dir, _, Some(id)) => match table.find(BlobKind::Tree, id) {
                None => self.missing(BlobKind::Tree, id, &what()),
                Some(found) if seen.set(found.ordinal) => open.push(found.ordinal),
                Some(_) => {}
            },
            (NodeKind::Dir, _, None) => {
                self.find(FindingClass::Tree, what(), "it is a directory without a tree");
            }
            (NodeKind::Other(word), _, _) => {
                let why = format!("it is a `{}`, which is unknown", word.escape_debug());
                self.find(FindingClass::Tree, what(), why);
            }
            (
                NodeKind::Symlink
                | NodeKind::Dev
                | NodeKind::CharDev
                | NodeKind::Fifo
                | NodeKind::Socket,
                _,
                _,
            ) => {}
        }
    }

    fn missing(&mut self, kind: BlobKind, id: &BlobId, needed_by: &str) {
        let why = format!("{needed_by} needs it, and no index names it");
        self.find(FindingClass::Reference, format!("{} {id}", noun(kind)), why);
    }
}

fn snapshot(repository: &Repository, id: &FileId) -> Result<Snapshot> {
    let json = repository.files().read(FileKind::Snapshot, id, snapshot::MAX_LEN)?;
    Snapshot::decode(&json).map_err(|error| error.of(format!("snapshot {id}")))
}

/// What the index says about every pack, by number.
fn facts(table: &Table) -> Vec<PackFacts> {
    let empty = PackFacts { expected: trailer_len([]), ..PackFacts::default() };
    let mut facts = vec![empty; table.packs().len()];
    for ordinal in 0..u32::try_from(table.len()).unwrap_or(u32::MAX) {
        let blob = table.found(ordinal).blob;
        let fact = &mut facts[table.pack_of(ordinal) as usize];
        fact.expected += u64::from(blob.len) + blob.encoded_len() as u64;
        match blob.kind {
            BlobKind::Data => fact.data = true,
            BlobKind::Tree => fact.trees = true,
        }
    }
    facts
}

/// A bit for every entry of the index.
struct Bits(Vec<u64>);

impl Bits {
    fn of(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    /// Sets a bit; true when it was not set.
    fn set(&mut self, at: u32) -> bool {
        let (word, bit) = (at as usize / 64, 1 << (at % 64));
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }
}

/// The message of an error and those of its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
