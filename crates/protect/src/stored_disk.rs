//! A stored disk, read as any other disk: blob by blob, each verified.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alidade_entity::{Class, Cx, DiskSource, Ending, Error, Extent, Lease, Result};
use alidade_model::{Consistency, ContentName};
use alidade_repository::{BlobId, BlobKind, Blobs, Content, Indexed, Node, NodeKind};

use crate::disk_layout::{GROUP, SEGMENT, ZeroIds, has_segments, name_of, segment_name};
use crate::error::as_entity;
use crate::stored_entity::child;

/// Extents in one answer.
const BATCH: usize = 4096;
/// Directories of segments whose contents are kept: those that several threads read at a time.
const GROUPS: usize = 3;

/// A stored disk. Memory: the ids of the blobs of up to 64 GiB of it three times, 9 MiB each, and
/// [`Blobs`] for each thread that reads.
pub(crate) struct StoredDisk {
    indexed: Arc<Indexed>,
    size: u64,
    layout: Layout,
    zeros: Mutex<ZeroIds>,
    /// Memory of readings that ended.
    spare: Mutex<Vec<Blobs>>,
    verified: Arc<AtomicU64>,
}

enum Layout {
    One(Arc<Files>),
    /// The directories of segments, and those that were read last.
    Groups(Vec<BlobId>, Mutex<VecDeque<(usize, Arc<Files>)>>),
}

/// Files that follow one another on the disk.
struct Files {
    /// Where the first begins.
    from: u64,
    /// Runs of blobs: where they begin, the bytes of a blob, and how many there are.
    runs: Vec<Run>,
}

#[derive(Clone, Copy)]
struct Run {
    at: u64,
    len: u32,
    count: u32,
    id: BlobId,
}

impl Run {
    fn end(&self) -> u64 {
        self.at + u64::from(self.len) * u64::from(self.count)
    }
}

/// A blob, and where it lies on the disk.
#[derive(Clone, Copy)]
struct Placed {
    at: u64,
    len: u32,
    id: BlobId,
}

/// Says how much was verified.
struct StoredDiskLease {
    verified: Arc<AtomicU64>,
}

impl StoredDisk {
    /// The disk that is the content of that name, in the directory `tree`; it has `size` bytes.
    ///
    /// # Errors
    /// [`Class::Damaged`] when its files are not there or of another size.
    pub(crate) fn open(
        cx: &Cx,
        indexed: Arc<Indexed>,
        tree: BlobId,
        content: &ContentName,
        size: u64,
    ) -> Result<Self> {
        let name = name_of(content, size);
        let found = child(cx, &indexed, tree, &name)
            .map_err(|error| as_entity("find the stored disk", error))?;
        let node = found.ok_or_else(|| damaged("find the stored disk"))?;
        let layout = if has_segments(size) {
            let groups = groups(cx, &indexed, &node, size)?;
            Layout::Groups(groups, Mutex::default())
        } else {
            let mut files = Files { from: 0, runs: Vec::new() };
            files.add(&indexed, &node, size)?;
            Layout::One(Arc::new(files))
        };
        let (zeros, spare) = (Mutex::default(), Mutex::default());
        Ok(Self { indexed, size, layout, zeros, spare, verified: Arc::default() })
    }

    /// Says in the end how much was verified.
    pub(crate) fn lease(&self) -> impl Lease + use<> {
        StoredDiskLease { verified: Arc::clone(&self.verified) }
    }

    /// The files in which an offset lies.
    fn files(&self, cx: &Cx, at: u64) -> Result<Arc<Files>> {
        let (groups, recent) = match &self.layout {
            Layout::One(files) => return Ok(Arc::clone(files)),
            Layout::Groups(groups, recent) => (groups, recent),
        };
        let number = usize::try_from(at / (GROUP * SEGMENT)).unwrap_or(usize::MAX);
        if let Some((_, files)) = held(recent).iter().find(|(other, _)| *other == number) {
            return Ok(Arc::clone(files));
        }
        let tree = groups.get(number).ok_or_else(|| damaged("find a segment of a stored disk"))?;
        let files = Arc::new(self.group(cx, number as u64, *tree)?);
        let mut recent = held(recent);
        recent.push_front((number, Arc::clone(&files)));
        recent.truncate(GROUPS);
        Ok(files)
    }

    fn group(&self, cx: &Cx, number: u64, tree: BlobId) -> Result<Files> {
        let read = |error| as_entity("read a directory of a stored disk", error);
        let from = number * GROUP * SEGMENT;
        let mut files = Files { from, runs: Vec::new() };
        for (segment, node) in (number * GROUP..).zip(self.indexed.tree(cx, tree).map_err(read)?) {
            let node = node.map_err(read)?;
            let begins = segment * SEGMENT;
            if node.name != segment_name(segment) || begins >= self.size {
                return Err(damaged("find a segment of a stored disk"));
            }
            files.add(&self.indexed, &node, SEGMENT.min(self.size - begins))?;
        }
        let end = (from + GROUP * SEGMENT).min(self.size);
        if files.end() == end { Ok(files) } else { Err(damaged("find a segment of a stored disk")) }
    }

    /// The blobs that a range touches.
    fn blobs(&self, cx: &Cx, range: Range<u64>) -> Result<Vec<Placed>> {
        let (mut blobs, mut at) = (Vec::new(), range.start);
        while at < range.end {
            let files = self.files(cx, at)?;
            let end = files.end().min(range.end);
            files.blobs(at..end, usize::MAX, &mut blobs);
            at = end;
        }
        Ok(blobs)
    }

    /// Copies blobs to where they lie in `buf`, which begins at `at`.
    fn fill(&self, cx: &Cx, at: u64, buf: &mut [u8], blobs: &[Placed]) -> Result<()> {
        let mut ids: Vec<BlobId> = blobs.iter().map(|blob| blob.id).collect();
        ids.dedup();
        let mut memory = held(&self.spare).pop().unwrap_or_default();
        let read = self.indexed.read_blobs(cx, &ids, &mut memory);
        read.map_err(|error| as_entity("read stored pieces of a disk", error))?;
        let mut own = Vec::new();
        for blob in blobs {
            let bytes = match memory.find(&blob.id) {
                Some(range) => memory.bytes(range),
                // Not whole where it lies first: now every copy is tried, and it is said why none is.
                None => {
                    own.clear();
                    let read = self.indexed.read_blob(cx, BlobKind::Data, &blob.id, &mut own);
                    read.map_err(|error| as_entity("read a stored piece of a disk", error))?;
                    &own
                }
            };
            if bytes.len() != blob.len as usize {
                return Err(damaged("read a stored piece of a disk: its length"));
            }
            copy(blob.at, bytes, at, buf);
        }
        held(&self.spare).push(memory);
        self.verified.fetch_add(ids.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn is_zeros(&self, blob: &Placed) -> bool {
        held(&self.zeros).is(&blob.id, u64::from(blob.len))
    }
}

/// Copies the part of `from`, which lies at `from_at`, that lies in `to`, which lies at `to_at`.
fn copy(from_at: u64, from: &[u8], to_at: u64, to: &mut [u8]) {
    let begin = from_at.max(to_at);
    let end = (from_at + from.len() as u64).min(to_at + to.len() as u64);
    let within = |base: u64| {
        let index = |at: u64| usize::try_from(at - base).unwrap_or(usize::MAX);
        index(begin)..index(end)
    };
    if begin < end {
        to[within(to_at)].copy_from_slice(&from[within(from_at)]);
    }
}

/// The directories of segments of a disk.
fn groups(cx: &Cx, indexed: &Arc<Indexed>, node: &Node, size: u64) -> Result<Vec<BlobId>> {
    let read = |error| as_entity("read the directory of a stored disk", error);
    let tree = node.subtree.filter(|_| node.kind == NodeKind::Dir);
    let tree = tree.ok_or_else(|| damaged("find the directory of a stored disk"))?;
    let mut groups = Vec::new();
    for node in indexed.tree(cx, tree).map_err(read)? {
        let tree = node.map_err(read)?.subtree;
        groups.push(tree.ok_or_else(|| damaged("find a directory of a stored disk"))?);
    }
    if groups.len() as u64 == size.div_ceil(GROUP * SEGMENT) {
        Ok(groups)
    } else {
        Err(damaged("find all directories of a stored disk"))
    }
}

impl Files {
    fn end(&self) -> u64 {
        self.runs.last().map_or(self.from, Run::end)
    }

    /// Adds a file of that size behind the others.
    fn add(&mut self, indexed: &Indexed, node: &Node, size: u64) -> Result<()> {
        let content = node.content.as_ref().filter(|_| node.kind == NodeKind::File);
        let content = content.ok_or_else(|| damaged("find the content of a stored disk"))?;
        let begins = self.end();
        self.add_runs(indexed, content)?;
        if self.end() == begins + size {
            return Ok(());
        }
        Err(damaged("find all of a stored disk's content"))
    }

    fn add_runs(&mut self, indexed: &Indexed, content: &Content) -> Result<()> {
        for (id, count) in content.runs() {
            let len =
                indexed.plain_len(BlobKind::Data, id).filter(|len| *len > 0).ok_or_else(|| {
                    Error::new(Class::Damaged, format!("find blob {id} in the index"))
                })?;
            let at = self.end();
            let bytes = u64::from(len) * u64::from(*count);
            at.checked_add(bytes).ok_or_else(|| damaged("find the end of a stored disk"))?;
            self.runs.push(Run { at, len, count: *count, id: *id });
        }
        Ok(())
    }

    /// Appends the blobs that a range touches, until there are `full`.
    fn blobs(&self, range: Range<u64>, full: usize, out: &mut Vec<Placed>) {
        let first = self.runs.partition_point(|run| run.end() <= range.start);
        for run in &self.runs[first..] {
            let len = u64::from(run.len);
            let skipped = range.start.saturating_sub(run.at) / len;
            let mut at = run.at + skipped * len;
            while at < run.end() {
                if at >= range.end || out.len() >= full {
                    return;
                }
                out.push(Placed { at, len: run.len, id: run.id });
                at += len;
            }
        }
    }
}

impl DiskSource for StoredDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn extents(&self, cx: &Cx, from: u64, out: &mut Vec<Extent>) -> Result<()> {
        cx.check()?;
        if from >= self.size {
            return Ok(());
        }
        let files = self.files(cx, from)?;
        let mut blobs = Vec::new();
        files.blobs(from..files.end(), BATCH, &mut blobs);
        for blob in blobs {
            let at = blob.at.max(from);
            let len = blob.at + u64::from(blob.len) - at;
            out.push(Extent { at, len, allocated: !self.is_zeros(&blob) });
        }
        Ok(())
    }

    fn read_at(&self, cx: &Cx, at: u64, buf: &mut [u8]) -> Result<()> {
        let end = at.checked_add(buf.len() as u64).filter(|end| *end <= self.size);
        let end = end.ok_or_else(|| {
            let attempt = format!("read {} bytes at {at} of a disk of {}", buf.len(), self.size);
            Error::new(Class::Failed, attempt)
        })?;
        cx.check()?;
        let mut blobs = self.blobs(cx, at..end)?;
        for blob in blobs.extract_if(.., |blob| self.is_zeros(blob)) {
            let len = usize::try_from(blob.len).unwrap_or(0);
            copy(blob.at, &vec![0; len], at, buf);
        }
        let (mut from, mut bytes) = (0, 0);
        for to in 0..blobs.len() {
            bytes += blobs[to].len as usize;
            let next = blobs.get(to + 1).map_or(usize::MAX, |next| next.len as usize);
            if bytes.saturating_add(next) > Blobs::HELD {
                self.fill(cx, at, buf, &blobs[from..=to])?;
                (from, bytes) = (to + 1, 0);
            }
        }
        Ok(())
    }

    fn hash_of(&self, cx: &Cx, extent: &Extent) -> Result<Option<[u8; 32]>> {
        let files = self.files(cx, extent.at)?;
        let mut blobs = Vec::new();
        files.blobs(extent.at..extent.at + 1, 1, &mut blobs);
        let is_whole = |blob: &&Placed| blob.at == extent.at && u64::from(blob.len) == extent.len;
        Ok(blobs.first().filter(is_whole).map(|blob| blob.id.0))
    }
}

impl Lease for StoredDiskLease {
    fn finish(self: Box<Self>) -> Result<Ending> {
        let mut ending = Ending::of(Consistency::Crash);
        ending.verified = self.verified.load(Ordering::Relaxed);
        Ok(ending)
    }
}

fn damaged(attempt: &str) -> Error {
    Error::new(Class::Damaged, attempt)
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
