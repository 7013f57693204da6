//! Snapshots without what is lost.

use std::collections::HashMap;
use std::sync::Arc;

use alidade_entity::Cx;

use crate::touched::{Search, Touched};
use crate::{
    BlobId, BlobKind, Content, Error, FileId, FileKind, Indexed, Lock, Node, NodeKind, Repository,
    Result, Snapshot, TreeReader, TreeWriter, Writer, WriterOptions,
};

/// Which snapshots are not whole.
#[derive(Debug)]
pub struct SnapshotRepair {
    /// They, and what of them is lost.
    pub snapshots: Vec<(FileId, Snapshot, Touched)>,
    /// Snapshot files that do not read, and why: nothing can be saved of them.
    pub unreadable: Vec<(FileId, String)>,
}

impl SnapshotRepair {
    /// True when there is nothing to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.snapshots.is_empty() && self.unreadable.is_empty()
    }
}

/// What a snapshot is written again with.
#[derive(Debug)]
pub struct Dressing {
    /// A record of what is lost, by name and content. The name is the last one among the records.
    pub record: (String, Vec<u8>),
    /// The lengths that pieces of its files have, where every piece lies where it must stay, as those of a disk:
    /// what is lost of these becomes zeros. The first is that of data; zeros may have each. Empty for others.
    pub cells: Vec<u64>,
}

/// What the layer above knows of the snapshots that are written again.
pub trait Dress {
    /// The directory at the top of a snapshot that holds records: a file there that is not whole is left out.
    fn records(&self) -> &str;

    /// What a snapshot is to be written again with.
    ///
    /// # Errors
    /// When the store fails; when what is there of earlier repairs makes no sense.
    fn dressing(
        &mut self,
        indexed: &Arc<Indexed>,
        old: (FileId, &Snapshot),
        lost: &Touched,
    ) -> Result<Dressing>;

    /// Says in the new snapshot file what it is.
    ///
    /// # Errors
    /// When the run has no name for it.
    fn dress(&mut self, new: &mut Snapshot) -> Result<()>;
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairedSnapshot {
    /// The file that is not whole.
    pub from: FileId,
    /// The one without what is lost; `None` when nothing of it is left.
    pub to: Option<FileId>,
}

impl Repository {
    /// Looks through all snapshots for what no index names and for trees that do not read. What is damaged
    /// inside packs is for [`Repository::plan_pack_repair`], which makes the index tell. Nothing is written.
    ///
    /// # Errors
    /// When an index file is damaged: [`Repository::plan_index_repair`] comes first. When the store fails; when
    /// the run was told to stop.
    pub fn plan_snapshot_repair(self: &Arc<Self>, cx: &Cx) -> Result<SnapshotRepair> {
        let indexed = Indexed::load(Arc::clone(self), cx)?;
        let is_lost = |kind: BlobKind, id: &BlobId| !indexed.contains(kind, id);
        let mut search = Search::new(cx, &indexed, &is_lost);
        let (mut snapshots, mut unreadable) = (Vec::new(), Vec::new());
        for (file, snapshot) in self.snapshots(cx)? {
            match snapshot {
                Ok(snapshot) => {
                    let touched = search.tree(snapshot.tree)?;
                    if touched.count > 0 {
                        snapshots.push((file, snapshot, touched));
                    }
                }
                Err(Error::Damaged { why, .. }) => unreadable.push((file, why)),
                Err(error) => return Err(error),
            }
        }
        Ok(SnapshotRepair { snapshots, unreadable })
    }

    /// Writes each snapshot of the plan again without what is lost: a file keeps the pieces that are there, one
    /// behind the other, or, of a disk, where they were; a directory that does not read is empty. With `forget`
    /// the old snapshot files are removed afterwards, as are those that do not read.
    ///
    /// # Errors
    /// When the lock, which must be exclusive to forget, does not hold; when the store fails.
    pub fn repair_snapshots(
        self: &Arc<Self>,
        cx: &Cx,
        lock: &Lock,
        plan: &SnapshotRepair,
        options: WriterOptions,
        (forget, dress): (bool, &mut dyn Dress),
    ) -> Result<Vec<RepairedSnapshot>> {
        let indexed = Indexed::load(Arc::clone(self), cx)?;
        let writer = Writer::new(Arc::clone(&indexed), lock, options)?;
        let mut repaired = Vec::new();
        let mut rewrite = Rewrite {
            cx,
            indexed: &indexed,
            writer: &writer,
            records: dress.records().as_bytes().to_vec(),
            record: None,
            cells: Vec::new(),
            zeros: Vec::new(),
            done: HashMap::new(),
        };
        for (from, snapshot, lost) in &plan.snapshots {
            let Dressing { record, cells } = dress.dressing(&indexed, (*from, snapshot), lost)?;
            rewrite.record = Some(record_node(cx, &writer, snapshot, record)?);
            let tree = rewrite.snapshot(snapshot.tree, cells)?;
            let to = match tree {
                None => None,
                Some(tree) => {
                    let mut new = snapshot.clone();
                    (new.tree, new.original) = (tree, Some(snapshot.original.unwrap_or(*from)));
                    dress.dress(&mut new)?;
                    Some(writer.commit(cx, &new)?)
                }
            };
            repaired.push(RepairedSnapshot { from: *from, to });
        }
        writer.abandon(cx)?;
        if forget {
            lock.check(cx)?;
            let old = plan.snapshots.iter().map(|(file, ..)| file);
            for file in old.chain(plan.unreadable.iter().map(|(file, _)| file)) {
                self.store().remove(FileKind::Snapshot, &file.to_string())?;
            }
        }
        Ok(repaired)
    }
}

/// The file that a record is.
fn record_node(
    cx: &Cx,
    writer: &Writer,
    snapshot: &Snapshot,
    (name, bytes): (String, Vec<u8>),
) -> Result<Node> {
    let mut content = Content::new();
    content.push(writer.save_data(cx, &bytes)?.id);
    let mut node = Node::new(name, NodeKind::File);
    (node.mode, node.size, node.content) = (0o600, bytes.len() as u64, Some(content));
    (node.mtime, node.atime, node.ctime) = (snapshot.time, snapshot.time, snapshot.time);
    Ok(node)
}

/// Writes trees again without what is lost. Memory: 64 bytes for each tree.
struct Rewrite<'a> {
    cx: &'a Cx,
    indexed: &'a Arc<Indexed>,
    writer: &'a Writer,
    /// The name at the top below which a file that is not whole is left out.
    records: Vec<u8>,
    /// What is put at the end of that directory.
    record: Option<Node>,
    /// The lengths of pieces, where what is lost becomes zeros.
    cells: Vec<u64>,
    /// The pieces of these lengths that are zeros.
    zeros: Vec<(BlobId, u64)>,
    /// What became of a tree; `None` of one that is lost.
    done: HashMap<BlobId, Option<BlobId>>,
}

/// A tree that is being written again.
struct Level<'a> {
    id: BlobId,
    nodes: TreeReader,
    tree: TreeWriter<'a>,
    is_changed: bool,
    is_records: bool,
    /// The directory whose tree is being written, below this one.
    waiting: Option<Node>,
}

impl<'a> Rewrite<'a> {
    /// Writes the tree of a snapshot again; `None` when it is lost.
    fn snapshot(&mut self, root: BlobId, cells: Vec<u64>) -> Result<Option<BlobId>> {
        if self.cells != cells {
            // What was done before was done in another way.
            self.done.clear();
            let of = |len: &u64| usize::try_from(*len).map(|len| BlobId::of(&vec![0; len]));
            self.zeros = cells.iter().filter_map(|len| Some((of(len).ok()?, *len))).collect();
            self.cells = cells;
        }
        self.tree(root)
    }

    fn tree(&mut self, root: BlobId) -> Result<Option<BlobId>> {
        let mut levels: Vec<Level<'a>> = Vec::new();
        levels.extend(self.enter(root)?);
        loop {
            let is_top = levels.len() == 1;
            let Some(level) = levels.last_mut() else { break };
            match level.nodes.next() {
                Some(Ok(node)) => {
                    let below = node.subtree.filter(|id| !self.done.contains_key(id));
                    match below.map(|id| self.enter(id)).transpose()?.flatten() {
                        Some(mut below) => {
                            below.is_records = is_top && node.name == self.records;
                            level.waiting = Some(node);
                            levels.push(below);
                        }
                        None => self.add(level, node)?,
                    }
                }
                // What makes no sense is left out.
                Some(Err(Error::Damaged { .. })) => level.is_changed = true,
                Some(Err(error)) => return Err(error),
                None => {
                    let Some(level) = levels.pop() else { break };
                    self.leave(level)?;
                    if let Some(above) = levels.last_mut()
                        && let Some(node) = above.waiting.take()
                    {
                        self.add(above, node)?;
                    }
                }
            }
        }
        Ok(self.done.get(&root).copied().flatten())
    }

    /// Begins with a tree; `None` when it was done before or is lost.
    fn enter(&mut self, id: BlobId) -> Result<Option<Level<'a>>> {
        if self.done.contains_key(&id) {
            return Ok(None);
        }
        let nodes = match self.indexed.tree(self.cx, id) {
            Err(Error::Damaged { .. } | Error::NotFound { .. }) => {
                self.done.insert(id, None);
                return Ok(None);
            }
            nodes => nodes?,
        };
        let tree = self.writer.begin_tree();
        Ok(Some(Level { id, nodes, tree, is_changed: false, is_records: false, waiting: None }))
    }

    fn leave(&mut self, level: Level<'a>) -> Result<()> {
        let Level { id, mut tree, mut is_changed, is_records, .. } = level;
        if let Some(record) = self.record.as_ref().filter(|_| is_records) {
            tree.add(self.cx, record)?;
            is_changed = true;
        }
        // One that did not change is the one that is there, however it was written.
        let now = if is_changed { tree.finish(self.cx)?.id } else { id };
        self.done.insert(id, Some(now));
        Ok(())
    }

    /// Adds an entry as far as it is there.
    fn add(&self, level: &mut Level<'a>, mut node: Node) -> Result<()> {
        if level.is_records && self.record.as_ref().is_some_and(|record| record.name == node.name) {
            return Ok(());
        }
        if let Some(id) = node.subtree {
            let now = match self.done.get(&id).copied().flatten() {
                Some(now) => now,
                None => self.writer.begin_tree().finish(self.cx)?.id,
            };
            level.is_changed |= now != id;
            node.subtree = Some(now);
        }
        let is_there = |id: &BlobId| self.indexed.contains(BlobKind::Data, id);
        if let Some(content) = &node.content
            && !content.runs().iter().all(|(id, _)| is_there(id))
        {
            level.is_changed = true;
            if level.is_records {
                return Ok(());
            }
            let rest = match self.cells.first() {
                Some(cell) => (self.in_place(content, node.size, *cell)?, node.size),
                None => self.closed_up(content),
            };
            (node.content, node.size) = (Some(rest.0), rest.1);
        }
        // A file without content, a directory without a tree: nobody can restore them.
        let is_sound = match node.kind {
            NodeKind::File => node.content.is_some(),
            NodeKind::Dir => node.subtree.is_some(),
            _ => true,
        };
        if !is_sound {
            level.is_changed = true;
            return Ok(());
        }
        level.tree.add(self.cx, &node)
    }

    /// The pieces that are there, one behind the other, and their bytes.
    fn closed_up(&self, content: &Content) -> (Content, u64) {
        let (mut rest, mut size) = (Content::new(), 0);
        for (id, count) in content.runs() {
            if let Some(len) = self.indexed.plain_len(BlobKind::Data, id) {
                rest.push_run(*id, u64::from(*count));
                size += u64::from(len) * u64::from(*count);
            }
        }
        (rest, size)
    }

    /// The pieces that are there, and zeros in the place of the others: of the length `cell`, but for the last one
    /// and for those that were zeros.
    fn in_place(&self, content: &Content, size: u64, cell: u64) -> Result<Content> {
        let (mut rest, mut at) = (Content::new(), 0);
        for (id, count) in content.runs() {
            let (count, from) = (u64::from(*count), at);
            if let Some(len) = self.indexed.plain_len(BlobKind::Data, id) {
                rest.push_run(*id, count);
                at += u64::from(len) * count;
                continue;
            }
            let len = self.zeros_of(id).unwrap_or(cell);
            at = size.min(from + count * len);
            let (whole, end) = ((at - from) / len, (at - from) % len);
            if whole > 0 {
                rest.push_run(self.writer.save_zeros(self.cx, len)?.id, whole);
            }
            if end > 0 {
                rest.push(self.writer.save_zeros(self.cx, end)?.id);
            }
        }
        Ok(rest)
    }

    /// The length of a lost piece that was zeros.
    fn zeros_of(&self, id: &BlobId) -> Option<u64> {
        self.zeros.iter().find(|(zeros, _)| zeros == id).map(|(_, len)| *len)
    }
}
