//! A stored file, read as any other file: blobs that lie together are read and verified together.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use alidade_entity::{
    Class, Cx, Error, Lent, OpenFile, Piece, ReadFile, Result, Shelf, Span, Verdict,
};
use alidade_model::{Hole, Kind, Metadata};
use alidade_repository::{BlobId, BlobKind, Blobs, Content, Indexed, Node, NodeKind};

use crate::error::as_entity;
use crate::stored_source::Findings;

/// Files up to this size are read together with others that are announced.
const TOGETHER: u64 = 16 << 20;
/// Content that is read and verified together, in bytes, about: the more there is, the more evenly
/// it fills the lanes that hash it.
const AHEAD: u64 = 36 << 20;
/// The largest piece.
const PIECE: usize = 8 << 20;
/// The most blobs that are lent together: what a system call writes together.
const PARTS: usize = 1024;
/// Content that is lent together, in bytes, and as many more as the last blob is longer: who writes it is not
/// interrupted meanwhile.
const LENT: usize = 16 << 20;
/// Where in the list of blobs an offset lies is remembered for every so many bytes.
const MARK: u64 = 64 << 20;

/// What is stored of a file.
pub(crate) struct Stored {
    pub(crate) indexed: Arc<Indexed>,
    pub(crate) findings: Arc<Findings>,
    pub(crate) content: Content,
    pub(crate) metadata: Metadata,
    pub(crate) holes: Vec<Hole>,
    pub(crate) sparse_zeros: bool,
    pub(crate) layout: OnceLock<Layout>,
}

/// A stored file, met in a walk.
pub(crate) struct StoredFile {
    stored: Arc<Stored>,
}

/// Where the blobs of a file lie in it.
pub(crate) struct Layout {
    size: u64,
    /// Offsets behind the beginning and the runs of blobs that begin there, ascending.
    marks: Vec<(u64, usize)>,
}

/// The blobs of the small files that one thread announced.
#[derive(Default)]
struct Announced {
    wanted: Vec<BlobId>,
    blobs: Ahead,
}

/// Blobs that were read together; the reader that is at work has them, and gives them back.
type Ahead = Arc<Mutex<Option<Blobs>>>;

impl StoredFile {
    pub(crate) fn new(stored: Stored) -> Self {
        Self { stored: Arc::new(stored) }
    }

    /// The file of a node, by its content alone; `None` for what is no file.
    pub(crate) fn of(indexed: &Arc<Indexed>, findings: &Arc<Findings>, node: Node) -> Option<Self> {
        let content = node.content.filter(|_| node.kind == NodeKind::File)?;
        Some(Self::new(Stored {
            indexed: Arc::clone(indexed),
            findings: Arc::clone(findings),
            content,
            metadata: Metadata { size: node.size, ..Metadata::of(Kind::File, 0) },
            holes: Vec::new(),
            sparse_zeros: false,
            layout: OnceLock::new(),
        }))
    }
}

impl Stored {
    fn layout(&self) -> Result<&Layout> {
        if let Some(layout) = self.layout.get() {
            return Ok(layout);
        }
        let layout = Layout::of(self)?;
        Ok(self.layout.get_or_init(|| layout))
    }
}

impl Layout {
    fn of(stored: &Stored) -> Result<Self> {
        let (mut size, mut marks, mut marked) = (0u64, Vec::new(), 0);
        for (run, (id, count)) in stored.content.runs().iter().enumerate() {
            if size - marked >= MARK {
                marks.push((size, run));
                marked = size;
            }
            let len = stored.indexed.plain_len(BlobKind::Data, id).ok_or_else(|| {
                Error::new(Class::Damaged, format!("find blob {id} in the index"))
            })?;
            size = size.saturating_add(u64::from(len).saturating_mul(u64::from(*count)));
        }
        Ok(Self { size, marks })
    }

    /// A run of blobs at or before that offset, and where it begins.
    fn before(&self, at: u64) -> (u64, usize) {
        let after = self.marks.partition_point(|(begins, _)| *begins <= at);
        after.checked_sub(1).map_or((0, 0), |mark| self.marks[mark])
    }
}

impl OpenFile for StoredFile {
    fn announce(&self, shelf: &mut Shelf) {
        if self.stored.metadata.size <= TOGETHER && self.stored.holes.is_empty() {
            let runs = self.stored.content.runs();
            shelf.kept::<Announced>().wanted.extend(runs.iter().map(|(id, _)| *id));
        }
    }

    fn has_spans(&self) -> bool {
        true
    }

    fn open(&self, cx: &Cx, shelf: &mut Shelf, span: Span) -> Result<Box<dyn ReadFile>> {
        let layout = self.stored.layout()?;
        let announced = shelf.kept::<Announced>();
        let lent = Arc::clone(&announced.blobs);
        let mut ahead = held(&lent).take().unwrap_or_default();
        if !announced.wanted.is_empty() {
            let wanted = std::mem::take(&mut announced.wanted);
            self.stored
                .indexed
                .read_blobs(cx, &wanted, &mut ahead)
                .map_err(|error| as_entity("read stored pieces of files", error))?;
        }
        let is_steady = layout.size == self.stored.metadata.size;
        let resized = (!is_steady)
            .then(|| Box::new(Metadata { size: layout.size, ..self.stored.metadata.clone() }));
        let (next, run) = layout.before(span.from);
        Ok(Box::new(StoredReader {
            stored: Arc::clone(&self.stored),
            to: layout.size.min(span.to),
            resized,
            run,
            of_run: 0,
            next,
            at: span.from,
            ahead,
            lent,
            held: Held::Own(Vec::new()),
            held_at: next,
            hole: 0,
        }))
    }

    fn holes(&self, _cx: &Cx) -> Result<Vec<Hole>> {
        Ok(self.stored.holes.clone())
    }
}

/// An open stored file: blob after blob, verified; holes are told, not read.
struct StoredReader {
    stored: Arc<Stored>,
    /// The metadata where the content has another size than it says.
    resized: Option<Box<Metadata>>,
    /// Where the span ends.
    to: u64,
    /// The next blob to hold, a run and a place in it, and where that begins.
    run: usize,
    of_run: u32,
    next: u64,
    /// Everything before this offset has been given.
    at: u64,
    /// Blobs that were read together.
    ahead: Blobs,
    lent: Ahead,
    /// The blob at `held_at`.
    held: Held,
    held_at: u64,
    hole: usize,
}

/// The content of a blob.
enum Held {
    Own(Vec<u8>),
    Ahead(Range<usize>),
}

impl StoredReader {
    fn held(&self) -> &[u8] {
        match &self.held {
            Held::Own(bytes) => bytes,
            Held::Ahead(range) => self.ahead.bytes(range.clone()),
        }
    }

    /// The next piece of the file, and which part of the blob that is held it is.
    fn piece(&mut self, cx: &Cx) -> Result<Option<(Piece, Range<usize>)>> {
        if self.at >= self.to {
            return Ok(None);
        }
        let hole = self.hole_ahead();
        if let Some(hole) = hole.filter(|hole| hole.at <= self.at) {
            let end = hole.at.saturating_add(hole.len).min(self.to);
            let hole = Hole { at: self.at, len: end - self.at };
            self.at = end;
            return Ok(Some((Piece::Hole(hole), 0..0)));
        }
        if !self.load(cx)? {
            return Err(Error::new(Class::Damaged, "find all of a stored file's content"));
        }
        let at = self.at;
        let from = usize::try_from(at - self.held_at).unwrap_or(0);
        let end = hole.map_or(self.to, |hole| hole.at.min(self.to));
        let until = usize::try_from(end - self.held_at).unwrap_or(usize::MAX);
        let until = until.min(from.saturating_add(PIECE)).min(self.held().len());
        self.at += (until - from) as u64;
        let data = &self.held()[from..until];
        let len = data.len() as u64;
        let is_hole = self.stored.sparse_zeros && len >= 4096 && data.iter().all(|&byte| byte == 0);
        let hole = Piece::Hole(Hole { at, len });
        Ok(Some(if is_hole { (hole, 0..0) } else { (Piece::Data { at }, from..until) }))
    }

    /// The next piece of the file, where it lies, with those that follow it as far as they are at hand.
    fn pieces(&mut self, cx: &Cx) -> Result<Option<Lent<'_>>> {
        let Some((first, range)) = self.piece(cx)? else { return Ok(None) };
        let mut parts = Vec::new();
        let Held::Ahead(blob) = &self.held else {
            return Ok(Some((first, vec![&self.held()[range]])));
        };
        let mut len = range.len();
        parts.push(blob.start + range.start..blob.start + range.end);
        while matches!(first, Piece::Data { .. })
            && parts.len() < PARTS
            && len < LENT
            && self.is_at_hand()
        {
            let (Some((Piece::Data { .. }, range)), Held::Ahead(blob)) =
                (self.piece(cx)?, &self.held)
            else {
                return Err(Error::new(Class::Failed, "lend a piece that is at hand"));
            };
            len += range.len();
            parts.push(blob.start + range.start..blob.start + range.end);
        }
        let parts = parts.into_iter().map(|part| self.ahead.bytes(part)).collect();
        Ok(Some((first, parts)))
    }

    /// True when the next piece is surely data that was read together with the last.
    fn is_at_hand(&mut self) -> bool {
        let is_data = self.at < self.to
            && !self.stored.sparse_zeros
            && self.hole_ahead().is_none_or(|hole| hole.at > self.at);
        let begins = self.at == self.next && self.at == self.held_at + self.held().len() as u64;
        let next = self.stored.content.runs().get(self.run);
        is_data && begins && next.is_some_and(|(id, _)| self.ahead.find(id).is_some())
    }

    /// The hole in which the next piece lies, or the next one behind it.
    fn hole_ahead(&mut self) -> Option<Hole> {
        let holes = &self.stored.holes;
        while holes.get(self.hole).is_some_and(|hole| hole.at.saturating_add(hole.len) <= self.at) {
            self.hole += 1;
        }
        holes.get(self.hole).copied()
    }

    /// Makes the blob that holds offset `self.at` the one that is held; false at the end.
    fn load(&mut self, cx: &Cx) -> Result<bool> {
        loop {
            if self.at < self.held_at + self.held().len() as u64 {
                return Ok(true);
            }
            let stored = Arc::clone(&self.stored);
            let Some((id, count)) = stored.content.runs().get(self.run).copied() else {
                return Ok(false);
            };
            let len = stored.indexed.plain_len(BlobKind::Data, &id).map_or(0, u64::from);
            // Blobs that lie wholly before the wanted offset are passed over without being read.
            let rest = count - self.of_run;
            let passed = (self.at - self.next).checked_div(len).unwrap_or(u64::from(rest));
            let passed = u32::try_from(passed).unwrap_or(u32::MAX).min(rest);
            self.step(count, passed, len);
            if passed == rest {
                continue;
            }
            self.hold(cx, id)?;
            stored.findings.verified.fetch_add(1, Ordering::Relaxed);
            self.held_at = self.next;
            self.step(count, 1, len);
        }
    }

    /// Passes over `blobs` of the run.
    fn step(&mut self, count: u32, blobs: u32, len: u64) {
        self.next += u64::from(blobs) * len;
        self.of_run += blobs;
        if self.of_run == count {
            self.run += 1;
            self.of_run = 0;
        }
    }

    /// Holds the content of a blob, reading those that follow it with it.
    fn hold(&mut self, cx: &Cx, id: BlobId) -> Result<()> {
        if let Some(range) = self.ahead.find(&id) {
            self.held = Held::Ahead(range);
            return Ok(());
        }
        let wanted = self.wanted();
        self.stored
            .indexed
            .read_blobs(cx, &wanted, &mut self.ahead)
            .map_err(|error| as_entity("read stored pieces of a file", error))?;
        if let Some(range) = self.ahead.find(&id) {
            self.held = Held::Ahead(range);
            return Ok(());
        }
        // Not whole where it lies first: now every copy is tried, and it is said why none is good.
        let mut bytes = Vec::new();
        self.stored
            .indexed
            .read_blob(cx, BlobKind::Data, &id, &mut bytes)
            .map_err(|error| as_entity("read a stored piece of a file", error))?;
        self.held = Held::Own(bytes);
        Ok(())
    }

    /// The blobs that are read together with the next one.
    fn wanted(&self) -> Vec<BlobId> {
        let (mut wanted, mut bytes, mut at) = (Vec::new(), 0u64, self.next);
        // Equal parts: a small rest would be hashed slowly.
        let rest = self.to.saturating_sub(at);
        let share = rest / rest.div_ceil(AHEAD).max(1);
        for (id, count) in self.stored.content.runs().iter().skip(self.run) {
            let len = self.stored.indexed.plain_len(BlobKind::Data, id).map_or(0, u64::from);
            let is_enough = bytes >= share || bytes + len > Blobs::HELD as u64;
            if at >= self.to || (bytes > 0 && is_enough) {
                break;
            }
            if !self.is_in_hole(at, len) {
                wanted.push(*id);
                bytes += len;
            }
            at = at.saturating_add(len.saturating_mul(u64::from(*count)));
        }
        wanted
    }

    fn is_in_hole(&self, at: u64, len: u64) -> bool {
        let around = self.stored.holes.partition_point(|hole| hole.at <= at);
        let hole = around.checked_sub(1).and_then(|before| self.stored.holes.get(before));
        hole.is_some_and(|hole| at + len <= hole.at.saturating_add(hole.len))
    }
}

impl Drop for StoredReader {
    fn drop(&mut self) {
        *held(&self.lent) = Some(std::mem::take(&mut self.ahead));
    }
}

fn held(lent: &Ahead) -> MutexGuard<'_, Option<Blobs>> {
    lent.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ReadFile for StoredReader {
    fn metadata(&self) -> &Metadata {
        self.resized.as_deref().unwrap_or(&self.stored.metadata)
    }

    fn next_piece(&mut self, cx: &Cx, buf: &mut Vec<u8>) -> Result<Option<Piece>> {
        buf.clear();
        let Some((piece, range)) = self.piece(cx)? else { return Ok(None) };
        buf.extend_from_slice(&self.held()[range]);
        Ok(Some(piece))
    }

    fn lend_piece<'a>(&'a mut self, cx: &Cx, _buf: &'a mut Vec<u8>) -> Result<Option<Lent<'a>>> {
        self.pieces(cx)
    }

    fn finish(self: Box<Self>) -> Result<Verdict> {
        Ok(if self.resized.is_none() { Verdict::Steady } else { Verdict::Changed })
    }
}
