//! A disk into a disk: any range of it, what differs alone where the target holds something.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use alidade_entity::{Class, Cx, DiskSink, DiskSource, Error, Extent, Result, SinkEnding, Step};
use alidade_kernels::{hash_together, is_zero};
use alidade_model::{Omission, OmissionKind, Omissions};

/// Data that a worker takes at a time, about, and the largest extent.
const TAKEN: u64 = 16 << 20;
/// Zeros that a worker takes at a time.
const ZEROS: u64 = 1 << 30;
/// What is looked at together where a range should be zeros.
const STEP: u64 = 1 << 20;

/// What a copy counted, in bytes.
#[derive(Debug, Default)]
pub(crate) struct CopiedDisk {
    /// The range.
    pub(crate) total: u64,
    /// Written as data.
    pub(crate) written: u64,
    /// Data that was there already.
    pub(crate) same: u64,
    /// Ranges whose stored content is damaged; what lay there was left.
    pub(crate) omissions: Omissions,
    /// What the sink said.
    pub(crate) sink: SinkEnding,
}

/// Copies a range of a disk to the same place in another.
///
/// Cost: a worker holds 32 MiB beside what the source takes. Nothing is read of what the target holds
/// already, as far as the source knows hashes.
///
/// # Errors
/// When either end fails for another reason than damage.
pub(crate) fn copy_disk(
    cx: &Cx,
    source: &dyn DiskSource,
    sink: &dyn DiskSink,
    part: Range<u64>,
    workers: usize,
) -> Result<CopiedDisk> {
    let copied = Mutex::new(CopiedDisk { total: part.end - part.start, ..CopiedDisk::default() });
    all_of(cx, source, part, workers, || {
        let mut worker = Worker { cx, source, sink, copied: &copied, buf: Vec::new() };
        move |extents: &mut Vec<Extent>| worker.copy(extents)
    })?;
    let mut copied = copied.into_inner().unwrap_or_else(PoisonError::into_inner);
    copied.sink = sink.finish(cx)?;
    Ok(copied)
}

/// Reads a range of both and compares.
///
/// # Errors
/// [`Class::Damaged`] where they differ.
pub(crate) fn compare_disk(
    cx: &Cx,
    source: &dyn DiskSource,
    sink: &dyn DiskSink,
    part: Range<u64>,
    workers: usize,
) -> Result<()> {
    let copied = Mutex::default();
    all_of(cx, source, part, workers, || {
        let mut worker = Worker { cx, source, sink, copied: &copied, buf: Vec::new() };
        move |extents: &mut Vec<Extent>| worker.compare(extents)
    })
}

/// Hands the extents of a range to workers, some at a time.
fn all_of<W>(
    cx: &Cx,
    source: &dyn DiskSource,
    part: Range<u64>,
    workers: usize,
    worker: impl Fn() -> W + Sync,
) -> Result<()>
where
    W: FnMut(&mut Vec<Extent>) -> Result<()>,
{
    let lister = Mutex::new(Lister { next: part.start, end: part.end, ahead: VecDeque::new() });
    let stop = AtomicBool::new(false);
    let work = || {
        let (mut work, mut extents) = (worker(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            extents.clear();
            lock(&lister).take(cx, source, &mut extents)?;
            if extents.is_empty() {
                break;
            }
            work(&mut extents)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.max(1))
            .map(|_| {
                scope.spawn(|| {
                    let done = work();
                    stop.fetch_or(done.is_err(), Ordering::Relaxed);
                    done
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Lists the extents of a range.
struct Lister {
    next: u64,
    end: u64,
    ahead: VecDeque<Extent>,
}

impl Lister {
    /// Takes the next extents: zeros, or data.
    fn take(&mut self, cx: &Cx, source: &dyn DiskSource, out: &mut Vec<Extent>) -> Result<()> {
        let (mut data, mut zeros) = (0, 0);
        while data < TAKEN && zeros < ZEROS {
            let Some(extent) = self.following(cx, source)? else { return Ok(()) };
            let most = if extent.allocated { TAKEN } else { ZEROS };
            let now = Extent { len: extent.len.min(most), ..extent };
            if now.len < extent.len {
                let (at, len) = (extent.at + now.len, extent.len - now.len);
                self.ahead.push_front(Extent { at, len, ..extent });
            }
            *(if now.allocated { &mut data } else { &mut zeros }) += now.len;
            out.push(now);
        }
        Ok(())
    }

    fn following(&mut self, cx: &Cx, source: &dyn DiskSource) -> Result<Option<Extent>> {
        if self.ahead.is_empty() && self.next < self.end {
            let mut extents = Vec::new();
            source.extents(cx, self.next, &mut extents)?;
            self.next = extents.last().map_or(self.end, |last| last.at + last.len);
            self.ahead.extend(extents);
        }
        let Some(extent) = self.ahead.pop_front().filter(|extent| extent.at < self.end) else {
            self.ahead.clear();
            return Ok(None);
        };
        Ok(Some(Extent { len: extent.len.min(self.end - extent.at), ..extent }))
    }
}

/// One thread of a copy.
struct Worker<'a> {
    cx: &'a Cx,
    source: &'a dyn DiskSource,
    sink: &'a dyn DiskSink,
    copied: &'a Mutex<CopiedDisk>,
    buf: Vec<u8>,
}

impl Worker<'_> {
    fn copy(&mut self, extents: &mut Vec<Extent>) -> Result<()> {
        for hole in extents.extract_if(.., |extent| !extent.allocated) {
            self.sink.zero(self.cx, hole.at, hole.len)?;
            self.cx.report(Step::Bytes(hole.len));
        }
        if self.sink.holds() {
            let all = bytes_of(extents);
            let equal = self.equal(extents)?;
            let mut equal = equal.into_iter();
            extents.retain(|_| equal.next() != Some(true));
            let same = all - bytes_of(extents);
            lock(self.copied).same += same;
            self.cx.report(Step::Bytes(same));
        }
        let mut rest = extents.as_slice();
        while !rest.is_empty() {
            let (run, later) = rest.split_at(adjacent(rest));
            self.copy_run(run)?;
            rest = later;
        }
        Ok(())
    }

    /// Whether the target has each extent already, as far as the source knows its hash.
    fn equal(&mut self, extents: &[Extent]) -> Result<Vec<bool>> {
        let mut wanted = Vec::with_capacity(extents.len());
        for extent in extents {
            wanted.push(self.source.hash_of(self.cx, extent)?);
        }
        let len = usize::try_from(bytes_of(extents)).unwrap_or(0);
        self.buf.resize(len, 0);
        let (mut parts, mut rest) = (Vec::with_capacity(extents.len()), self.buf.as_mut_slice());
        for (extent, hash) in extents.iter().zip(&wanted) {
            let (part, later) = rest.split_at_mut(usize::try_from(extent.len).unwrap_or(0));
            if hash.is_some() {
                self.sink.read_at(self.cx, extent.at, part)?;
                parts.push(&*part);
            }
            rest = later;
        }
        let mut hashes = vec![[0; 32]; parts.len()];
        hash_together(&parts, &mut hashes, &mut []);
        let mut found = hashes.into_iter();
        Ok(wanted.into_iter().map(|hash| hash.is_some() && hash == found.next()).collect())
    }

    /// Copies extents that follow one another.
    fn copy_run(&mut self, run: &[Extent]) -> Result<()> {
        let (at, len) = (run[0].at, bytes_of(run));
        self.buf.resize(usize::try_from(len).unwrap_or(0), 0);
        match self.source.read_at(self.cx, at, &mut self.buf) {
            Err(error) if error.class() == Class::Damaged && run.len() > 1 => {
                return run
                    .iter()
                    .try_for_each(|extent| self.copy_run(std::slice::from_ref(extent)));
            }
            Err(error) if error.class() == Class::Damaged => {
                self.omit(at, len, &error);
                return Ok(());
            }
            read => read?,
        }
        self.sink.write_at(self.cx, at, &self.buf)?;
        lock(self.copied).written += len;
        self.cx.report(Step::Bytes(len));
        Ok(())
    }

    fn omit(&self, at: u64, len: u64, error: &Error) {
        let reason = format!("bytes {at} to {} are not restored: {}", at + len, error.chain());
        let (path, kind) = (b"/data".to_vec(), OmissionKind::Unreadable);
        lock(self.copied).omissions.add(Omission { path, kind, reason });
    }

    fn compare(&mut self, extents: &mut Vec<Extent>) -> Result<()> {
        for hole in extents.extract_if(.., |extent| !extent.allocated) {
            self.compare_zeros(&hole)?;
        }
        let equal = self.equal(extents)?;
        for (extent, equal) in extents.iter().zip(equal) {
            if !equal && !self.is_equal(extent)? {
                return Err(differs(extent));
            }
        }
        Ok(())
    }

    fn compare_zeros(&mut self, hole: &Extent) -> Result<()> {
        let (mut at, end) = (hole.at, hole.at + hole.len);
        while at < end {
            let len = STEP.min(end - at);
            self.buf.resize(usize::try_from(len).unwrap_or(0), 0);
            self.sink.read_at(self.cx, at, &mut self.buf)?;
            if !is_zero(&self.buf) {
                return Err(differs(&Extent { at, len, allocated: false }));
            }
            at += len;
        }
        Ok(())
    }

    /// The same byte by byte, for extents whose hash nobody knows.
    fn is_equal(&mut self, extent: &Extent) -> Result<bool> {
        let len = usize::try_from(extent.len).unwrap_or(0);
        let mut other = vec![0; len];
        self.buf.resize(len, 0);
        self.source.read_at(self.cx, extent.at, &mut self.buf)?;
        self.sink.read_at(self.cx, extent.at, &mut other)?;
        Ok(other == self.buf)
    }
}

fn differs(extent: &Extent) -> Error {
    let end = extent.at + extent.len;
    let attempt = format!("read back bytes {} to {end} of the target: they differ", extent.at);
    Error::new(Class::Damaged, attempt)
}

fn bytes_of(extents: &[Extent]) -> u64 {
    extents.iter().map(|extent| extent.len).sum()
}

/// How many of the first extents follow one another.
fn adjacent(extents: &[Extent]) -> usize {
    let apart = extents.windows(2).position(|pair| pair[0].at + pair[0].len != pair[1].at);
    apart.map_or(extents.len(), |at| at + 1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
