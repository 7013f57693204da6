//! The way in: a tree sink that stores what it is given in a repository.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alidade_entity::{
    Carrier, Class, Cx, EntryNo, Error, Place, Result, SinkEnding, TreeSink, Verdict, Want,
};
use alidade_model::{
    Checks, ContentDigest, Counts, Entry, Hole, Kind, Metadata, Omission, OmissionKind, Omissions,
};
use alidade_repository::{
    BlobId, BlobKind, Content, Indexed, Node, NodeKind, SameNode, TreeWriter, Writer,
};

use crate::announced::{Announced, Begun, Same};
use crate::base::{Base, Found, KnownHoles};
use crate::base_cells::BaseCells;
use crate::convert::node_of;
use crate::disk_layout::ZeroIds;
use crate::error::as_entity;
use crate::stored_carrier::StoredCarrier;
use crate::stored_top::{Log, Stored};
use crate::{holes, record};

/// Stores a tree. Memory: the buffers of the open trees, the entries that are begun and not settled, and
/// those that lie directly at the top.
pub(crate) struct StoredSink<'a> {
    indexed: &'a Indexed,
    writer: &'a Writer,
    cut: Cut,
    /// Entries numbered up to this are the directories above the walk.
    trail: u64,
    base: Mutex<Base>,
    begun: Mutex<Announced>,
    /// The spans of files that come in spans, by where they begin.
    spans: Mutex<HashMap<EntryNo, BTreeMap<u64, Taken>>>,
    tree: Mutex<Tree<'a>>,
    zeros: Mutex<ZeroIds>,
    known_bytes: AtomicU64,
}

/// Where contents are cut into blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Where their bytes say.
    Content,
    /// Into cells, as a disk. True when the source can say what changed since the base.
    Cells { since: bool },
}

/// The content of a file, or of a span of it, so far.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) content: Content,
    /// The bytes its blobs stand for.
    pub(crate) bytes: u64,
    pub(crate) holes: Vec<Hole>,
}

impl Taken {
    fn append(&mut self, other: Self) {
        for (id, count) in other.content.runs() {
            self.content.push_run(*id, u64::from(*count));
        }
        self.bytes += other.bytes;
        for hole in other.holes {
            match self.holes.last_mut() {
                Some(last) if last.at + last.len == hole.at => last.len += hole.len,
                _ => self.holes.push(hole),
            }
        }
    }
}

/// The settled side: directories that are open, innermost last.
struct Tree<'a> {
    open: Vec<Directory<'a>>,
    /// The finished nodes at the top of the snapshot.
    top: Vec<Node>,
    path: Vec<u8>,
    digest: Option<ContentDigest>,
    counts: Counts,
    omissions: Omissions,
    hole_map: Log,
    omitted: Log,
}

struct Directory<'a> {
    node: DirectoryNode,
    /// `None` once the tree passed what the format can hold.
    tree: Option<TreeWriter<'a>>,
}

/// The node of a directory that is open.
enum DirectoryNode {
    /// Without its subtree.
    Node(Box<Node>),
    /// The base's, when the directory itself turns out to be the same.
    Same(Box<Entry>, SameNode),
}

impl<'a> StoredSink<'a> {
    pub(crate) fn new(
        (indexed, writer): (&'a Indexed, &'a Writer),
        base: Base,
        trail: usize,
        cut: Cut,
    ) -> Self {
        Self {
            indexed,
            writer,
            cut,
            trail: trail as u64,
            base: Mutex::new(base),
            begun: Mutex::default(),
            spans: Mutex::default(),
            tree: Mutex::new(Tree {
                open: Vec::new(),
                top: Vec::new(),
                path: Vec::new(),
                digest: Some(ContentDigest::new()),
                counts: Counts::default(),
                omissions: Omissions::default(),
                hole_map: Log::default(),
                omitted: Log::default(),
            }),
            zeros: Mutex::default(),
            known_bytes: AtomicU64::new(0),
        }
    }

    /// Bytes of content that were read and that the repository had already.
    pub(crate) fn known_bytes(&self) -> u64 {
        self.known_bytes.load(Ordering::Relaxed)
    }

    /// What was stored, after [`TreeSink::finish`].
    pub(crate) fn into_stored(self) -> Stored {
        let tree = self.tree.into_inner().unwrap_or_else(PoisonError::into_inner);
        Stored { top: tree.top, hole_map: tree.hole_map, omitted: tree.omitted }
    }

    /// What becomes of a file, by what the base says about it.
    fn begin_file(&self, base: &mut Base, found: Found, entry: &Entry) -> (Begun, Want) {
        let is_new = matches!(found, Found::Nothing);
        let same = found.version(entry).is_some_and(|version| entry.version.matches(&version));
        let (known, cells) = match (same, self.cut) {
            (true, _) => (self.known(base, found, entry), None),
            (false, Cut::Cells { since: true }) => (None, self.cells(base, found, entry)),
            (false, _) => (None, None),
        };
        let counts = &mut lock(&self.tree).counts;
        match (known, is_new) {
            (Some(known), _) => {
                counts.unchanged += 1;
                known
            }
            (None, true) => {
                counts.new += 1;
                (Begun::Open(entry.clone()), Want::Content)
            }
            (None, false) => {
                counts.changed += 1;
                match cells {
                    Some(cells) => (Begun::Changes(entry.clone(), Arc::new(cells)), Want::Changes),
                    None => (Begun::Open(entry.clone()), Want::Content),
                }
            }
        }
    }

    /// The unchanged content of a file, when every blob is still there.
    fn known(&self, base: &mut Base, found: Found, entry: &Entry) -> Option<(Begun, Want)> {
        let there = |id: &BlobId| self.indexed.contains(BlobKind::Data, id);
        let known = match found {
            Found::Nothing => return None,
            Found::Same(node) => {
                let (ids, _) = base.ids().as_chunks::<32>();
                ids.iter().all(|id| there(&BlobId(*id))).then_some(Ok(node))?
            }
            Found::Node(node) => {
                let content = node.content.filter(|_| node.kind == NodeKind::File)?;
                content.runs().iter().all(|(id, _)| there(id)).then_some(Err(content))?
            }
        };
        let (holes, want) = match base.holes(&entry.name) {
            KnownHoles::These(holes) => (holes, Want::Nothing),
            KnownHoles::Ask if entry.metadata.size == 0 => (Vec::new(), Want::Nothing),
            KnownHoles::Ask => (Vec::new(), Want::Holes),
        };
        let content = match known {
            Ok(node) if want == Want::Nothing => {
                let mut same = self.same(node, entry, holes);
                let (ids, _) = base.ids().as_chunks::<32>();
                ContentDigest::describe_blobs(ids.len() as u64, &mut same.words);
                same.words.extend_from_slice(base.ids());
                return Some((Begun::Same(same), want));
            }
            Ok(_) => {
                let mut content = Content::new();
                base.ids().as_chunks::<32>().0.iter().for_each(|id| content.push(BlobId(*id)));
                content
            }
            Err(content) => content,
        };
        Some((Begun::Known(entry.clone(), content, holes), want))
    }

    /// What the base has of a file of a disk.
    fn cells(&self, base: &Base, found: Found, entry: &Entry) -> Option<BaseCells> {
        let (indexed, zeros, size) = (self.indexed, &self.zeros, entry.metadata.size);
        match found {
            Found::Nothing => None,
            Found::Same(_) => {
                let ids = base.ids().as_chunks::<32>().0.iter().map(|id| (BlobId(*id), 1));
                BaseCells::of(indexed, zeros, ids, size)
            }
            Found::Node(node) => {
                let content = node.content.filter(|_| node.kind == NodeKind::File)?;
                let runs = content.runs().iter().map(|(id, count)| (*id, u64::from(*count)));
                BaseCells::of(indexed, zeros, runs, size)
            }
        }
    }

    /// An entry whose node in the base can be used; what it adds to the digest is without its content.
    fn same(&self, node: SameNode, entry: &Entry, holes: Vec<Hole>) -> Same {
        let mut words = lock(&self.begun).buffer();
        words.extend_from_slice(&entry.name);
        ContentDigest::describe(entry, &mut words);
        let is_directory = entry.metadata.kind == Kind::Directory;
        let directory = is_directory.then(|| Box::new(entry.clone()));
        Same { node, words, name: entry.name.len(), holes, directory }
    }

    pub(crate) fn writer(&self) -> &'a Writer {
        self.writer
    }

    /// Bytes of content came that the repository had.
    pub(crate) fn count_known(&self, bytes: u64) {
        self.known_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// True when the content is known and only its holes come.
    pub(crate) fn is_known(&self, no: EntryNo) -> bool {
        lock(&self.begun).find(no).is_some_and(|begun| matches!(begun, Begun::Known(..)))
    }

    /// What the base has of a file of which only changes come.
    pub(crate) fn base_cells(&self, no: EntryNo) -> Option<Arc<BaseCells>> {
        match lock(&self.begun).find(no)? {
            Begun::Changes(_, cells) => Some(Arc::clone(cells)),
            _ => None,
        }
    }

    pub(crate) fn cut(&self) -> Cut {
        self.cut
    }

    /// Keeps a span until the file is complete.
    pub(crate) fn keep_span(&self, no: EntryNo, from: u64, taken: Taken) {
        lock(&self.spans).entry(no).or_default().insert(from, taken);
    }

    /// Forgets the spans of a file.
    pub(crate) fn forget_spans(&self, no: EntryNo) {
        lock(&self.spans).remove(&no);
    }

    /// A content has come whole: all of it, or what follows the spans that are kept.
    pub(crate) fn complete(
        &self,
        no: EntryNo,
        taken: Taken,
        metadata: Metadata,
        verdict: Verdict,
    ) -> Result<()> {
        let mut whole = Taken::default();
        for span in lock(&self.spans).remove(&no).unwrap_or_default().into_values() {
            whole.append(span);
        }
        whole.append(taken);
        // The source vouches that nothing changed: then every byte must have come through here.
        let is_due = verdict == Verdict::Steady && !self.is_known(no);
        if is_due && whole.bytes != metadata.size {
            let attempt = format!("store {} bytes of a file: {} came", metadata.size, whole.bytes);
            return Err(Error::new(Class::Failed, attempt));
        }
        self.with_begun(no, |begun| begun.settle_content(whole, metadata, verdict))
    }

    /// A content will not come.
    pub(crate) fn abandon(&self, no: EntryNo) -> Result<()> {
        self.forget_spans(no);
        self.with_begun(no, |begun| *begun = Begun::Abandoned)
    }

    fn with_begun<T>(&self, no: EntryNo, change: impl FnOnce(&mut Begun) -> T) -> Result<T> {
        let mut begun = lock(&self.begun);
        let begun = begun.find(no).ok_or_else(|| {
            Error::new(Class::Failed, format!("complete entry {}, which was not begun", no.0))
        })?;
        Ok(change(begun))
    }
}

impl TreeSink for StoredSink<'_> {
    fn begin(&self, cx: &Cx, place: Place, entry: &Entry) -> Result<Want> {
        let mut base = lock(&self.base);
        let found = base.find(cx, place, entry);
        let (begun, want) = match (entry.metadata.kind, found) {
            (Kind::File, found) => self.begin_file(&mut base, found, entry),
            (_, Found::Same(node)) => {
                (Begun::Same(self.same(node, entry, Vec::new())), Want::Nothing)
            }
            (_, Found::Nothing | Found::Node(_)) => (Begun::Open(entry.clone()), Want::Nothing),
        };
        lock(&self.begun).push(place.no, begun);
        Ok(want)
    }

    fn carrier(&self) -> Result<Box<dyn Carrier + '_>> {
        Ok(Box::new(StoredCarrier::new(self)?))
    }

    fn takes_spans(&self) -> bool {
        true
    }

    fn settle(&self, cx: &Cx, no: EntryNo) -> Result<()> {
        let begun = lock(&self.begun).pop(no).ok_or_else(|| {
            Error::new(Class::Failed, "settle an entry that is not the next one that was begun")
        })?;
        let mut tree = lock(&self.tree);
        match begun {
            Begun::Abandoned => Ok(()),
            Begun::Open(entry) | Begun::Changes(entry, _) => {
                tree.settle(cx, self, no, &entry, (None, Vec::new()))
            }
            Begun::Known(entry, content, holes) => {
                tree.settle(cx, self, no, &entry, (Some(content), holes))
            }
            Begun::Same(same) => {
                let words = tree.settle_same(cx, self, no, same)?;
                lock(&self.begun).spare(words);
                Ok(())
            }
        }
    }

    fn leave(&self, cx: &Cx, no: EntryNo) -> Result<()> {
        let mut tree = lock(&self.tree);
        tree.leave(cx, no.0 <= self.trail)
    }

    fn omit(&self, cx: &Cx, omission: &Omission) -> Result<()> {
        let mut tree = lock(&self.tree);
        tree.omitted.buffer.extend_from_slice(&record::omission_line(omission));
        tree.omitted.flush_full(cx, self.writer)
    }

    fn finish(&self, cx: &Cx) -> Result<SinkEnding> {
        let mut tree = lock(&self.tree);
        tree.hole_map.flush(cx, self.writer)?;
        tree.omitted.flush(cx, self.writer)?;
        let stats = self.writer.stats();
        Ok(SinkEnding {
            omissions: std::mem::take(&mut tree.omissions),
            digest: tree.digest.take().map(ContentDigest::finish),
            checks: Checks {
                self_checked: stats.self_checked,
                new_blobs: stats.data_new + stats.trees_new,
                ..Checks::default()
            },
            counts: tree.counts,
            notes: lock(&self.base).take_notes(),
        })
    }
}

impl<'a> Tree<'a> {
    fn settle(
        &mut self,
        cx: &Cx,
        sink: &StoredSink<'a>,
        no: EntryNo,
        entry: &Entry,
        (content, holes): (Option<Content>, Vec<Hole>),
    ) -> Result<()> {
        let (mut node, lost) = node_of(entry);
        for name in lost {
            self.lose(
                entry,
                &format!(
                    "keep the attribute {}, whose name is not text",
                    String::from_utf8_lossy(&name)
                ),
            );
        }
        let counted = no.0 > sink.trail;
        if counted && let Some(digest) = &mut self.digest {
            digest.enter(entry);
            if let Some(content) = &content {
                digest.blobs(content.len());
                content.iter().for_each(|id| digest.blob(&id.0));
            }
        }
        if entry.metadata.kind == Kind::Directory {
            self.enter(sink, &entry.name, DirectoryNode::Node(Box::new(node)));
            return Ok(());
        }
        self.note_holes(cx, sink, &entry.name, &holes)?;
        node.content = content;
        self.add(cx, &node)
    }

    /// The same for an entry that is in the base; gives back its buffer.
    fn settle_same(
        &mut self,
        cx: &Cx,
        sink: &StoredSink<'a>,
        no: EntryNo,
        same: Same,
    ) -> Result<Vec<u8>> {
        let Same { node, words, name, holes, directory } = same;
        let (name, described) = words.split_at(name);
        let counted = no.0 > sink.trail;
        if counted && let Some(digest) = &mut self.digest {
            digest.described(described);
        }
        if let Some(entry) = directory {
            self.enter(sink, name, DirectoryNode::Same(entry, node));
        } else {
            self.note_holes(cx, sink, name, &holes)?;
            self.put(|tree| tree.add_same(cx, name, &node))?;
        }
        Ok(words)
    }

    fn enter(&mut self, sink: &StoredSink<'a>, name: &[u8], node: DirectoryNode) {
        self.path.push(b'/');
        self.path.extend_from_slice(name);
        self.open.push(Directory { node, tree: Some(sink.writer.begin_tree()) });
    }

    fn note_holes(
        &mut self,
        cx: &Cx,
        sink: &StoredSink<'a>,
        name: &[u8],
        holes: &[Hole],
    ) -> Result<()> {
        if holes.is_empty() {
            return Ok(());
        }
        let mut path = self.path.clone();
        path.push(b'/');
        path.extend_from_slice(name);
        holes::write(&path, holes, &mut self.hole_map.buffer);
        self.counts.sparse += 1;
        self.hole_map.flush_full(cx, sink.writer)
    }

    fn leave(&mut self, cx: &Cx, trail: bool) -> Result<()> {
        let Some(Directory { node, tree }) = self.open.pop() else {
            return Err(Error::new(Class::Failed, "leave a directory that is not open"));
        };
        let up = self.path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        self.path.truncate(up);
        if !trail && let Some(digest) = &mut self.digest {
            digest.leave();
        }
        let Some(tree) = tree else { return Ok(()) };
        let saved = tree.finish(cx).map_err(|error| as_entity("store a directory", error))?;
        let mut node = match node {
            DirectoryNode::Node(node) => *node,
            DirectoryNode::Same(entry, same) => {
                if same.subtree() == Some(saved.id) && !self.open.is_empty() {
                    return self.put(|tree| tree.add_same(cx, &entry.name, &same));
                }
                node_of(&entry).0
            }
        };
        node.subtree = Some(saved.id);
        self.add(cx, &node)
    }

    /// Adds a finished node to the innermost open directory.
    fn add(&mut self, cx: &Cx, node: &Node) -> Result<()> {
        if self.open.is_empty() {
            self.top.push(node.clone());
            return Ok(());
        }
        self.put(|tree| tree.add(cx, node))
    }

    /// Puts something into the innermost open directory.
    fn put(
        &mut self,
        put: impl FnOnce(&mut TreeWriter<'a>) -> alidade_repository::Result<()>,
    ) -> Result<()> {
        let Some(directory) = self.open.last_mut() else {
            return Err(Error::new(Class::Failed, "put an entry where no directory is open"));
        };
        let Some(tree) = &mut directory.tree else { return Ok(()) };
        match put(tree) {
            Ok(()) => Ok(()),
            Err(alidade_repository::Error::Unrepresentable { why, .. }) => {
                // The format has one blob for a directory, of 4 GiB at most.
                directory.tree = None;
                self.digest = None;
                let reason = format!("store the directory: {why}");
                let path = self.path.clone();
                self.omissions.add(Omission { path, kind: OmissionKind::Unrepresentable, reason });
                Ok(())
            }
            Err(error) => Err(as_entity("store an entry of a directory", error)),
        }
    }

    fn lose(&mut self, entry: &Entry, reason: &str) {
        let mut path = self.path.clone();
        path.push(b'/');
        path.extend_from_slice(&entry.name);
        let kind = OmissionKind::Unrepresentable;
        self.omissions.add(Omission { path, kind, reason: reason.to_owned() });
    }
}

/// A worker that panicked took the whole copy with it; what it left behind is not looked at again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
