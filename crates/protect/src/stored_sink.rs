//! The way in: a tree sink that stores what it is given in a repository.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alidade_entity::{
    Carrier, Class, Cx, EntryNo, Error, Place, Result, SinkEnding, TreeSink, Verdict, Want,
};
use alidade_model::{Checks, ContentDigest, Entry, Hole, Kind, Metadata, Omission};
use alidade_repository::{BlobId, BlobKind, Content, Indexed, NodeKind, SameNode, Writer};

use crate::announced::{Announced, Begun, Same};
use crate::base::{Found, KnownHoles};
use crate::base_cells::BaseCells;
use crate::bases::Bases;
use crate::disk_layout::ZeroIds;
use crate::partial::{Checkpoints, Unfinished};
use crate::record;
use crate::stored_carrier::StoredCarrier;
use crate::stored_top::Stored;
use crate::stored_tree::Tree;

/// Stores a tree. Memory: the buffers of the open trees, the entries that are begun and not settled, and
/// those that lie directly at the top.
pub(crate) struct StoredSink<'a> {
    indexed: &'a Indexed,
    writer: &'a Writer,
    cut: Cut,
    /// Entries numbered up to this are the directories above the walk.
    trail: u64,
    base: Mutex<Bases>,
    /// What an interrupted run had of a large file.
    unfinished: Option<Unfinished>,
    checkpoints: Option<Checkpoints<'a>>,
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
#[derive(Clone, Debug, Default)]
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

impl<'a> StoredSink<'a> {
    pub(crate) fn new(
        (indexed, writer): (&'a Indexed, &'a Writer),
        base: Bases,
        trail: usize,
        cut: Cut,
    ) -> Self {
        Self {
            indexed,
            writer,
            cut,
            trail: trail as u64,
            base: Mutex::new(base),
            unfinished: None,
            checkpoints: None,
            begun: Mutex::default(),
            spans: Mutex::default(),
            tree: Mutex::new(Tree::new()),
            zeros: Mutex::default(),
            known_bytes: AtomicU64::new(0),
        }
    }

    /// Goes on with a large file where an interrupted run stopped.
    pub(crate) fn going_on_with(mut self, unfinished: Option<Unfinished>) -> Self {
        self.unfinished = unfinished;
        self
    }

    /// Makes partial snapshots.
    pub(crate) fn with_checkpoints(mut self, checkpoints: Checkpoints<'a>) -> Self {
        self.checkpoints = Some(checkpoints);
        self
    }

    /// Bytes of content that were read and that the repository had already.
    pub(crate) fn known_bytes(&self) -> u64 {
        self.known_bytes.load(Ordering::Relaxed)
    }

    /// What was stored, after [`TreeSink::finish`], and what made partial snapshots.
    pub(crate) fn into_stored(self) -> (Stored, Option<Checkpoints<'a>>) {
        let tree = self.tree.into_inner().unwrap_or_else(PoisonError::into_inner);
        let stored = Stored { top: tree.top, hole_map: tree.hole_map, omitted: tree.omitted };
        (stored, self.checkpoints)
    }

    /// The large file of which some spans are stored.
    fn unfinished(&self, directory: &[u8]) -> Option<Unfinished> {
        let begun = lock(&self.begun);
        let (no, entry) = begun.first_open()?;
        let spans = lock(&self.spans);
        let mut whole = Taken::default();
        for (from, span) in spans.get(&no)? {
            if *from != whole.bytes {
                return None;
            }
            whole.append(span.clone());
        }
        let path = [directory, b"/", &entry.name].concat();
        Unfinished::of(path, entry, whole)
    }

    /// What is wanted of a file of which nothing is known: all of it, or what an interrupted run had not stored.
    fn rest_of(&self, base: &Bases, no: EntryNo, entry: &Entry) -> Want {
        let Some(unfinished) = self.unfinished.as_ref().filter(|_| self.takes_spans()) else {
            return Want::Content;
        };
        let path = base.path_of(&entry.name);
        let Some(taken) = unfinished.taken_of(self.indexed, &path, entry) else {
            return Want::Content;
        };
        let bytes = taken.bytes;
        self.keep_span(no, 0, taken);
        Want::From(bytes)
    }

    /// What becomes of a file, by what the base says about it.
    fn begin_file(
        &self,
        base: &mut Bases,
        found: Found,
        (no, entry): (EntryNo, &Entry),
    ) -> (Begun, Want) {
        let is_new = matches!(found, Found::Nothing);
        let same = found.version(entry).is_some_and(|version| entry.version.matches(&version));
        let (known, cells) = match (same, self.cut) {
            (true, _) => (self.known(base, found, entry), None),
            (false, Cut::Cells { since: true }) => (None, self.cells(base, found, entry)),
            (false, _) => (None, None),
        };
        let rest = if known.is_none() && cells.is_none() {
            self.rest_of(base, no, entry)
        } else {
            Want::Content
        };
        let counts = &mut lock(&self.tree).counts;
        match (known, is_new) {
            (Some(known), _) => {
                counts.unchanged += 1;
                known
            }
            (None, true) => {
                counts.new += 1;
                (Begun::Open(entry.clone()), rest)
            }
            (None, false) => {
                counts.changed += 1;
                match cells {
                    Some(cells) => (Begun::Changes(entry.clone(), Arc::new(cells)), Want::Changes),
                    None => (Begun::Open(entry.clone()), rest),
                }
            }
        }
    }

    /// The unchanged content of a file, when every blob is still there.
    fn known(&self, base: &mut Bases, found: Found, entry: &Entry) -> Option<(Begun, Want)> {
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
    fn cells(&self, base: &Bases, found: Found, entry: &Entry) -> Option<BaseCells> {
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

    /// False for the directories above the walk.
    pub(crate) fn is_counted(&self, no: EntryNo) -> bool {
        no.0 > self.trail
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
            (Kind::File, found) => self.begin_file(&mut base, found, (place.no, entry)),
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
        !self.writer.cuts_whole_files()
    }

    fn is_rest_due(&self, cx: &Cx) -> bool {
        self.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.is_due(cx))
    }

    fn rest(&self, cx: &Cx) -> Result<()> {
        let Some(checkpoints) = &self.checkpoints else { return Ok(()) };
        let mut tree = lock(&self.tree);
        let unfinished = self.unfinished(&tree.path);
        let stored = tree.so_far(cx, self)?;
        checkpoints.make(cx, self.writer, stored, unfinished)
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
        tree.leave(cx, !self.is_counted(no))
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

/// A worker that panicked took the whole copy with it; what it left behind is not looked at again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
