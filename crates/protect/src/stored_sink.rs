//! The way in: a tree sink that stores what it is given in a repository.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use alidade_entity::{
    Carrier, Class, Cx, EntryNo, Error, Place, Result, SinkEnding, TreeSink, Verdict, Want,
};
use alidade_model::{
    Checks, ContentDigest, Counts, Entry, Hole, Kind, Metadata, Omission, OmissionKind, Omissions,
};
use alidade_repository::{BlobId, BlobKind, Content, Indexed, Node, NodeKind, TreeWriter, Writer};

use crate::base::{Base, KnownHoles};
use crate::convert::{node_of, version_of};
use crate::error::as_entity;
use crate::identity::OWN_DIR;
use crate::stored_carrier::StoredCarrier;
use crate::{holes, record};

/// Our own records are stored in pieces of about this size.
const RECORD_PIECE: usize = 1 << 20;

/// Stores a tree. Memory: the buffers of the open trees, the entries that are begun and not settled, and
/// those that lie directly at the top.
pub(crate) struct StoredSink<'a> {
    indexed: &'a Indexed,
    writer: &'a Writer,
    /// Entries numbered up to this are the directories above the walk.
    trail: u64,
    base: Mutex<Base>,
    begun: Mutex<HashMap<EntryNo, Begun>>,
    /// The spans of files that come in spans, by where they begin.
    spans: Mutex<HashMap<EntryNo, BTreeMap<u64, Taken>>>,
    tree: Mutex<Tree<'a>>,
    known_bytes: AtomicU64,
}

/// An entry that is announced and not yet settled.
struct Begun {
    entry: Entry,
    fate: Begin,
}

enum Begin {
    /// It has no content, or the content is still to come.
    Open,
    /// Unchanged since the base.
    Known(Content, Vec<Hole>),
    /// It will not come.
    Abandoned,
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
    node: Node,
    /// `None` once the tree passed what the format can hold.
    tree: Option<TreeWriter<'a>>,
}

/// Lines that are stored piece by piece.
#[derive(Default)]
struct Log {
    buffer: Vec<u8>,
    content: Content,
    size: u64,
}

/// The top of a snapshot and the records that lie beside it, ready to be sealed.
pub(crate) struct Stored {
    top: Vec<Node>,
    hole_map: (Content, u64),
    omitted: (Content, u64),
}

impl<'a> StoredSink<'a> {
    pub(crate) fn new(indexed: &'a Indexed, writer: &'a Writer, base: Base, trail: usize) -> Self {
        Self {
            indexed,
            writer,
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
        Stored {
            top: tree.top,
            hole_map: (tree.hole_map.content, tree.hole_map.size),
            omitted: (tree.omitted.content, tree.omitted.size),
        }
    }

    /// The unchanged content of a file, when the base vouches for it and every blob is still there.
    fn known(
        &self,
        base: &mut Base,
        found: Option<&Node>,
        entry: &Entry,
    ) -> Option<(Content, Want, Vec<Hole>)> {
        let node = found?;
        let content = node.content.as_ref()?;
        let same = node.kind == NodeKind::File && entry.version.matches(&version_of(node));
        let there =
            || content.runs().iter().all(|(id, _)| self.indexed.contains(BlobKind::Data, id));
        if !same || !there() {
            return None;
        }
        Some(match base.holes(&entry.name) {
            KnownHoles::These(holes) => (content.clone(), Want::Nothing, holes),
            KnownHoles::Ask if entry.metadata.size == 0 => (content.clone(), Want::Nothing, vec![]),
            KnownHoles::Ask => (content.clone(), Want::Holes, Vec::new()),
        })
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
        lock(&self.begun).get(&no).is_some_and(|begun| matches!(begun.fate, Begin::Known(..)))
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
        self.with_begun(no, |begun| begun.fate = Begin::Abandoned)
    }

    fn with_begun<T>(&self, no: EntryNo, change: impl FnOnce(&mut Begun) -> T) -> Result<T> {
        let mut begun = lock(&self.begun);
        let begun = begun.get_mut(&no).ok_or_else(|| {
            Error::new(Class::Failed, format!("complete entry {}, which was not begun", no.0))
        })?;
        Ok(change(begun))
    }
}

impl TreeSink for StoredSink<'_> {
    fn begin(&self, cx: &Cx, place: Place, entry: &Entry) -> Result<Want> {
        let mut base = lock(&self.base);
        let found = base.find(cx, place, entry);
        let mut fate = Begin::Open;
        let mut want = Want::Nothing;
        if entry.metadata.kind == Kind::File {
            want = Want::Content;
            let mut tree = lock(&self.tree);
            if let Some((content, ask, holes)) = self.known(&mut base, found.as_ref(), entry) {
                tree.counts.unchanged += 1;
                fate = Begin::Known(content, holes);
                want = ask;
            } else if found.is_some() {
                tree.counts.changed += 1;
            } else {
                tree.counts.new += 1;
            }
        }
        lock(&self.begun).insert(place.no, Begun { entry: entry.clone(), fate });
        Ok(want)
    }

    fn carrier(&self) -> Result<Box<dyn Carrier + '_>> {
        Ok(Box::new(StoredCarrier::new(self)?))
    }

    fn takes_spans(&self) -> bool {
        true
    }

    fn settle(&self, cx: &Cx, no: EntryNo) -> Result<()> {
        let begun = lock(&self.begun).remove(&no);
        let Some(Begun { entry, fate }) = begun else {
            return Err(Error::new(Class::Failed, "settle an entry that was not begun"));
        };
        let (content, holes) = match fate {
            Begin::Abandoned => return Ok(()),
            Begin::Open => (None, Vec::new()),
            Begin::Known(content, holes) => (Some(content), holes),
        };
        let mut tree = lock(&self.tree);
        tree.settle(cx, self, no, &entry, (content, holes))
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

impl Begun {
    /// The content has come: what was read when it was opened counts, not what the walk saw before.
    fn settle_content(&mut self, taken: Taken, metadata: Metadata, verdict: Verdict) {
        let Taken { content, holes, .. } = taken;
        if let Begin::Known(..) = self.fate {
            if let Begin::Known(content, _) = std::mem::replace(&mut self.fate, Begin::Open) {
                self.fate = Begin::Known(content, holes);
            }
            return;
        }
        self.entry.metadata = metadata;
        if verdict != Verdict::Steady {
            // What was stored is not what lies there now. An inode change time of zero makes the next
            // run read the file again, ours or stock restic's.
            self.entry.metadata.ctime = alidade_model::Time::default();
        }
        self.fate = Begin::Known(content, holes);
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
            self.path.push(b'/');
            self.path.extend_from_slice(&entry.name);
            self.open.push(Directory { node, tree: Some(sink.writer.begin_tree()) });
            return Ok(());
        }
        if !holes.is_empty() {
            let mut path = self.path.clone();
            path.push(b'/');
            path.extend_from_slice(&entry.name);
            holes::write(&path, &holes, &mut self.hole_map.buffer);
            self.hole_map.flush_full(cx, sink.writer)?;
            self.counts.sparse += 1;
        }
        node.content = content;
        self.add(cx, node)
    }

    fn leave(&mut self, cx: &Cx, trail: bool) -> Result<()> {
        let Some(Directory { mut node, tree }) = self.open.pop() else {
            return Err(Error::new(Class::Failed, "leave a directory that is not open"));
        };
        let up = self.path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        self.path.truncate(up);
        if !trail && let Some(digest) = &mut self.digest {
            digest.leave();
        }
        let Some(tree) = tree else { return Ok(()) };
        let saved = tree.finish(cx).map_err(|error| as_entity("store a directory", error))?;
        node.subtree = Some(saved.id);
        self.add(cx, node)
    }

    /// Adds a finished node to the innermost open directory.
    fn add(&mut self, cx: &Cx, node: Node) -> Result<()> {
        let Some(directory) = self.open.last_mut() else {
            self.top.push(node);
            return Ok(());
        };
        let Some(tree) = &mut directory.tree else { return Ok(()) };
        match tree.add(cx, &node) {
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

impl Log {
    fn flush_full(&mut self, cx: &Cx, writer: &Writer) -> Result<()> {
        if self.buffer.len() < RECORD_PIECE { Ok(()) } else { self.flush(cx, writer) }
    }

    fn flush(&mut self, cx: &Cx, writer: &Writer) -> Result<()> {
        for piece in self.buffer.chunks(8 * RECORD_PIECE) {
            let saved = writer.save_data(cx, piece);
            self.content.push(saved.map_err(|error| as_entity("store a record", error))?.id);
            self.size += piece.len() as u64;
        }
        self.buffer.clear();
        Ok(())
    }
}

impl Stored {
    /// True when the content is the same as that of a snapshot whose top nodes are `other`.
    pub(crate) fn same_as(&self, other: &[Node]) -> bool {
        let theirs = other.iter().filter(|node| node.name != OWN_DIR.as_bytes());
        self.top.iter().eq(theirs)
    }

    /// Stores the records and the root tree.
    pub(crate) fn seal(
        self,
        cx: &Cx,
        writer: &Writer,
        entity: &[u8],
        time: alidade_model::Time,
    ) -> alidade_repository::Result<BlobId> {
        let mut content = Content::new();
        content.push(writer.save_data(cx, entity)?.id);
        let mut own = writer.begin_tree();
        own.add(cx, &record_node("entity.json", content, entity.len() as u64, time))?;
        for (name, (content, size)) in [("holes", self.hole_map), ("omissions", self.omitted)] {
            if !content.is_empty() {
                own.add(cx, &record_node(name, content, size, time))?;
            }
        }
        let mut directory = Node::new(OWN_DIR, NodeKind::Dir);
        directory.mode = 1 << 31 | 0o700;
        (directory.mtime, directory.atime, directory.ctime) = (time, time, time);
        directory.subtree = Some(own.finish(cx)?.id);
        let mut top = self.top;
        let at = top.partition_point(|node| node.name.as_slice() < OWN_DIR.as_bytes());
        top.insert(at, directory);
        let mut root = writer.begin_tree();
        for node in &top {
            root.add(cx, node)?;
        }
        Ok(root.finish(cx)?.id)
    }
}

/// A file of ours beside the content.
pub(crate) fn record_node(
    name: &str,
    content: Content,
    size: u64,
    time: alidade_model::Time,
) -> Node {
    let mut node = Node::new(name, NodeKind::File);
    node.mode = 0o600;
    node.size = size;
    (node.mtime, node.atime, node.ctime) = (time, time, time);
    node.content = Some(content);
    node
}

/// A worker that panicked took the whole copy with it; what it left behind is not looked at again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
