//! Every tree that snapshots need, each once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use alidade_entity::Cx;

use super::lost::Blob;
use super::{Finding, FindingClass, Told, finding};
use crate::indexed::noun;
use crate::{BlobId, BlobKind, FileId, Indexed, Node, NodeKind, Result};

/// Trees after which a thread says that it read them.
const TOLD: u64 = 256;

/// The trees of all snapshots, which several threads read.
pub(super) struct Forest<'a> {
    cx: &'a Cx,
    indexed: &'a Indexed,
    seen: Bits,
    open: Mutex<Open>,
    /// There is more to read, or there will be no more.
    changed: Condvar,
}

/// What is known of and not read.
#[derive(Default)]
struct Open {
    trees: Vec<u32>,
    /// Roots that no index names; told by the first that reads.
    missing: Vec<Finding>,
    lost: Vec<Blob>,
    /// Threads that may find more.
    busy: usize,
}

/// What one thread is at.
struct Turn<'f, 'a> {
    forest: &'f Forest<'a>,
    tree: u32,
    /// Trees that were found in it.
    found: Vec<u32>,
}

impl<'a> Forest<'a> {
    pub(super) fn of(cx: &'a Cx, indexed: &'a Indexed, roots: &[(FileId, BlobId)]) -> Self {
        let table = indexed.index().read();
        let seen = Bits::of(table.len());
        let mut open = Open::default();
        for (snapshot, tree) in roots {
            match table.find(BlobKind::Tree, tree) {
                None => {
                    let needed_by = format!("snapshot {snapshot}");
                    open.missing.push(missing(BlobKind::Tree, tree, &needed_by));
                    open.lost.push((BlobKind::Tree, *tree));
                }
                Some(found) if seen.set(found.ordinal) => open.trees.push(found.ordinal),
                Some(_) => {}
            }
        }
        drop(table);
        Self { cx, indexed, seen, open: Mutex::new(open), changed: Condvar::new() }
    }

    /// Reads trees until there are no more, or `tell` says no.
    pub(super) fn read(&self, tell: &mut impl FnMut(Told) -> bool) -> Result<()> {
        let (findings, lost) = {
            let mut open = self.open();
            (std::mem::take(&mut open.missing), std::mem::take(&mut open.lost))
        };
        let mut told = Told { findings, lost, ..Told::default() };
        while let Some(mut turn) = self.turn() {
            turn.read(&mut told)?;
            let is_much = told.trees >= TOLD || !told.findings.is_empty();
            if is_much && !tell(std::mem::take(&mut told)) {
                return Ok(());
            }
        }
        tell(told);
        Ok(())
    }

    /// The next tree; waits while there is none and another thread may find one.
    fn turn(&self) -> Option<Turn<'_, 'a>> {
        let mut open = self.open();
        loop {
            if let Some(tree) = open.trees.pop() {
                open.busy += 1;
                return Some(Turn { forest: self, tree, found: Vec::new() });
            }
            if open.busy == 0 {
                return None;
            }
            open = self.changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_, '_> {
    fn drop(&mut self) {
        let mut open = self.forest.open();
        open.trees.append(&mut self.found);
        open.busy -= 1;
        self.forest.changed.notify_all();
    }
}

impl Turn<'_, '_> {
    fn read(&mut self, told: &mut Told) -> Result<()> {
        let Forest { cx, indexed, .. } = self.forest;
        let id = indexed.index().read().found(self.tree).blob.id;
        let tree = || format!("tree {id}");
        told.trees += 1;
        let nodes = match indexed.tree(cx, id) {
            Ok(nodes) => nodes,
            Err(error) => {
                told.findings.push(finding(FindingClass::Tree, &tree(), error)?);
                told.lost.push((BlobKind::Tree, id));
                return Ok(());
            }
        };
        for node in nodes {
            match node {
                Ok(node) => {
                    told.nodes += 1;
                    self.node(&id, &node, told);
                }
                Err(error) => {
                    told.findings.push(finding(FindingClass::Tree, &tree(), error)?);
                    told.lost.push((BlobKind::Tree, id));
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, tree: &BlobId, node: &Node, told: &mut Told) {
        let Told { findings, lost, .. } = told;
        let what = || format!("`{}` in tree {tree}", node.name.escape_ascii());
        let mut bad = |why: &str| {
            findings.push(Finding::new(FindingClass::Tree, what(), why));
        };
        let table = self.forest.indexed.index().read();
        match (&node.kind, &node.content, &node.subtree) {
            (NodeKind::File, Some(content), _) => {
                for (id, _) in content.runs() {
                    if table.find(BlobKind::Data, id).is_none() {
                        findings.push(missing(BlobKind::Data, id, &what()));
                        lost.push((BlobKind::Data, *id));
                    }
                }
            }
            (NodeKind::File, None, _) => bad("it is a file without content"),
            (NodeKind::Dir, _, Some(id)) => match table.find(BlobKind::Tree, id) {
                None => {
                    findings.push(missing(BlobKind::Tree, id, &what()));
                    lost.push((BlobKind::Tree, *id));
                }
                Some(found) if self.forest.seen.set(found.ordinal) => {
                    self.found.push(found.ordinal);
                }
                Some(_) => {}
            },
            (NodeKind::Dir, _, None) => bad("it is a directory without a tree"),
            (NodeKind::Other(word), _, _) => {
                bad(&format!("it is a `{}`, which is unknown", word.escape_debug()));
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
}

fn missing(kind: BlobKind, id: &BlobId, needed_by: &str) -> Finding {
    let why = format!("{needed_by} needs it, and no index names it");
    Finding::new(FindingClass::Reference, format!("{} {id}", noun(kind)), why)
}

/// A bit for every entry of the index.
struct Bits(Vec<AtomicU64>);

impl Bits {
    fn of(len: usize) -> Self {
        Self(std::iter::repeat_with(AtomicU64::default).take(len.div_ceil(64)).collect())
    }

    /// Sets a bit; true when it was not set.
    fn set(&self, at: u32) -> bool {
        let bit = 1 << (at % 64);
        self.0[at as usize / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}
