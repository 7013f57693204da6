//! The workers of a copy: the content of files, and of spans of large ones.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use alidade_entity::{
    Carrier, Class, Cx, EntryEnd, EntryNo, Error, OpenFile, Piece, Result, Shelf, Span, Step,
    TreeSink, Verdict,
};
use alidade_model::{Metadata, Omission, OmissionKind};
use crossbeam_channel::{Receiver, Sender, TryRecvError};

/// Bytes of a span of a large file.
pub(crate) const SPAN: u64 = 64 << 20;
/// What a worker carries before the sink must have it.
const HELD_BYTES: u64 = 16 << 20;
const HELD_FILES: usize = 1024;

/// A file on its way to a worker.
pub(crate) struct FileJob {
    pub(crate) no: EntryNo,
    pub(crate) path: Vec<u8>,
    pub(crate) file: Box<dyn OpenFile>,
    /// Set when only its holes are wanted.
    pub(crate) holes_of: Option<Box<Metadata>>,
    /// True when the sink has what did not change.
    pub(crate) only_changes: bool,
}

/// What a worker gets at a time.
pub(crate) enum Job {
    /// Files, to be carried together.
    Files(Vec<FileJob>),
    /// A span of a large file.
    Span(SpanJob),
}

/// A span of a large file, on its way to a worker.
pub(crate) struct SpanJob {
    large: Arc<Large>,
    span: Span,
}

/// A file that is carried in spans.
struct Large {
    job: FileJob,
    state: Mutex<LargeState>,
}

struct LargeState {
    /// Spans that are not in the sink yet.
    left: usize,
    /// By where they begin, what was seen when they were opened and what became of them.
    read: BTreeMap<u64, (Box<Metadata>, Verdict)>,
    /// Why it cannot be read.
    failed: Option<Error>,
}

/// What became of a file, or of a span.
pub(crate) struct Carried {
    pub(crate) no: EntryNo,
    pub(crate) read: u64,
    /// `None` for a span that was not the last of its file.
    pub(crate) result: Result<Option<Fate>>,
}

/// What became of a file.
pub(crate) enum Fate {
    /// It is in the sink.
    Whole(Verdict),
    /// It could not be read; the sink has abandoned it. True when what was stored is damaged.
    Omitted(Omission, bool),
}

impl SpanJob {
    /// The spans in a range of a file that had as many bytes as its end says when it was met; the last one goes
    /// to the file's end. The range begins where a span does, and before that end.
    pub(crate) fn all_of(job: FileJob, range: Range<u64>) -> impl Iterator<Item = Self> {
        let (first, count) = (range.start / SPAN, range.end.div_ceil(SPAN).max(1));
        let left = usize::try_from(count - first).unwrap_or(usize::MAX);
        let state = LargeState { left, read: BTreeMap::new(), failed: None };
        let large = Arc::new(Large { job, state: Mutex::new(state) });
        (first..count).map(move |at| {
            let to = if at + 1 == count { u64::MAX } else { (at + 1) * SPAN };
            Self { large: Arc::clone(&large), span: Span { from: at * SPAN, to } }
        })
    }
}

/// Carries the content of files.
pub(crate) struct Worker<'a> {
    cx: &'a Cx,
    sink: &'a dyn TreeSink,
    stop: &'a AtomicBool,
    shelf: Shelf,
    buf: Vec<u8>,
    read: u64,
    /// Files that the carrier has and the sink may not have yet.
    held: Vec<Carried>,
    held_bytes: u64,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(cx: &'a Cx, sink: &'a dyn TreeSink, stop: &'a AtomicBool) -> Self {
        let (shelf, buf, held) = (Shelf::default(), Vec::new(), Vec::new());
        Self { cx, sink, stop, shelf, buf, read: 0, held, held_bytes: 0 }
    }

    /// Works until there are no more jobs, or one failed; everything is told to `outbox`.
    pub(crate) fn run(mut self, inbox: &Receiver<Job>, outbox: &Sender<Vec<Carried>>) {
        let done = self.sink.carrier().and_then(|mut carrier| {
            let done = self.work(&mut *carrier, inbox, outbox);
            drop(carrier);
            done
        });
        if let Err(error) = done {
            let failed = Carried { no: EntryNo(0), read: 0, result: Err(error) };
            // The other end is gone only when the copy has ended already.
            drop(outbox.send(vec![failed]));
        }
    }

    fn work(
        &mut self,
        carrier: &mut dyn Carrier,
        inbox: &Receiver<Job>,
        outbox: &Sender<Vec<Carried>>,
    ) -> Result<()> {
        loop {
            let job = match inbox.try_recv() {
                Ok(job) => job,
                Err(TryRecvError::Disconnected) => return self.flush(carrier, outbox),
                Err(TryRecvError::Empty) => {
                    // The driver may be waiting for what is held.
                    self.flush(carrier, outbox)?;
                    match inbox.recv() {
                        Ok(job) => job,
                        Err(_ended) => return Ok(()),
                    }
                }
            };
            match job {
                Job::Files(files) => self.files(carrier, &files)?,
                Job::Span(span) => self.span(carrier, &span, outbox)?,
            }
            if self.held_bytes >= HELD_BYTES || self.held.len() >= HELD_FILES {
                self.flush(carrier, outbox)?;
            }
        }
    }

    fn flush(&mut self, carrier: &mut dyn Carrier, outbox: &Sender<Vec<Carried>>) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        carrier.flush(self.cx)?;
        self.held_bytes = 0;
        // The other end is gone only when the copy has ended.
        outbox
            .send(std::mem::take(&mut self.held))
            .map_err(|_ended| Error::new(Class::Cancelled, "go on with a copy that has ended"))
    }

    fn files(&mut self, carrier: &mut dyn Carrier, files: &[FileJob]) -> Result<()> {
        for job in files.iter().filter(|job| job.holes_of.is_none()) {
            job.file.announce(&mut self.shelf);
        }
        for job in files {
            self.read = 0;
            let fate = self.carry(carrier, job)?;
            self.hold(job.no, Some(fate));
        }
        Ok(())
    }

    fn hold(&mut self, no: EntryNo, fate: Option<Fate>) {
        self.held_bytes += self.read;
        self.held.push(Carried { no, read: self.read, result: Ok(fate) });
    }

    /// Carries one file; an `Err` is the sink's, or an interruption, and ends the copy.
    fn carry(&mut self, carrier: &mut dyn Carrier, job: &FileJob) -> Result<Fate> {
        if let Some(metadata) = &job.holes_of {
            return self.carry_holes(carrier, job, metadata);
        }
        let fate = match self.content(carrier, job, Span::WHOLE)? {
            // Retried once: a file that was replaced or rewritten meanwhile is often still now.
            Attempt::Read(_, Verdict::Changed) => {
                carrier.restart(self.cx, job.no)?;
                self.content(carrier, job, Span::WHOLE)?
            }
            first => first,
        };
        self.end(carrier, job, fate)
    }

    fn end(&self, carrier: &mut dyn Carrier, job: &FileJob, attempt: Attempt) -> Result<Fate> {
        match attempt {
            Attempt::Read(metadata, verdict) => {
                carrier.complete(self.cx, job.no, EntryEnd::Whole(metadata, verdict))?;
                Ok(Fate::Whole(verdict))
            }
            Attempt::Failed(error) => self.abandon(carrier, job, error),
        }
    }

    fn carry_holes(
        &self,
        carrier: &mut dyn Carrier,
        job: &FileJob,
        metadata: &Metadata,
    ) -> Result<Fate> {
        let holes = match job.file.holes(self.cx) {
            Ok(holes) => holes,
            Err(error) => return self.abandon(carrier, job, error),
        };
        for hole in holes {
            carrier.write(self.cx, job.no, Piece::Hole(hole), &[])?;
        }
        let end = EntryEnd::Whole(Box::new(metadata.clone()), Verdict::Steady);
        carrier.complete(self.cx, job.no, end)?;
        self.cx.report(Step::Bytes(metadata.size));
        Ok(Fate::Whole(Verdict::Steady))
    }

    /// Carries a span. Who carries the last one that is missing completes the file.
    fn span(
        &mut self,
        carrier: &mut dyn Carrier,
        job: &SpanJob,
        outbox: &Sender<Vec<Carried>>,
    ) -> Result<()> {
        let SpanJob { large, span } = job;
        let no = large.job.no;
        self.read = 0;
        let failed = large.lock().failed.is_some();
        let attempt = if failed {
            None
        } else {
            let attempt = self.content(carrier, &large.job, *span)?;
            carrier.end_span(self.cx, no, span.from)?;
            carrier.flush(self.cx)?;
            Some(attempt)
        };
        let fate = match large.ended(span.from, attempt) {
            None => None,
            Some(attempt) => Some(self.last_span(carrier, &large.job, attempt)?),
        };
        self.hold(no, fate);
        self.flush(carrier, outbox)
    }

    fn last_span(
        &mut self,
        carrier: &mut dyn Carrier,
        job: &FileJob,
        attempt: Attempt,
    ) -> Result<Fate> {
        let attempt = match attempt {
            Attempt::Read(_, Verdict::Changed) => {
                carrier.restart(self.cx, job.no)?;
                self.content(carrier, job, Span::WHOLE)?
            }
            attempt => attempt,
        };
        self.end(carrier, job, attempt)
    }

    /// Reads a file, or a span of it, once into the sink.
    fn content(&mut self, carrier: &mut dyn Carrier, job: &FileJob, span: Span) -> Result<Attempt> {
        let opened = if job.only_changes {
            job.file.open_changes(self.cx, &mut self.shelf, span)
        } else {
            job.file.open(self.cx, &mut self.shelf, span)
        };
        let mut file = match opened {
            Ok(file) => file,
            Err(error) => return Ok(Attempt::Failed(error)),
        };
        loop {
            self.cx.check()?;
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::cancelled());
            }
            match file.lend_piece(self.cx, &mut self.buf) {
                Ok(Some((piece @ (Piece::Hole(range) | Piece::Kept(range)), _))) => {
                    carrier.write(self.cx, job.no, piece, &[])?;
                    self.cx.report(Step::Bytes(range.len));
                }
                Ok(Some((Piece::Data { at }, parts))) => {
                    let len = parts.iter().map(|part| part.len() as u64).sum();
                    self.read += len;
                    carrier.write_parts(self.cx, job.no, at, &parts)?;
                    self.cx.report(Step::Bytes(len));
                }
                Ok(None) => break,
                Err(error) => return Ok(Attempt::Failed(error)),
            }
        }
        let metadata = Box::new(file.metadata().clone());
        Ok(match file.finish() {
            Ok(verdict) => Attempt::Read(metadata, verdict),
            Err(error) => Attempt::Failed(error),
        })
    }

    /// The source failed: the sink forgets the entry, and it becomes an omission.
    fn abandon(&self, carrier: &mut dyn Carrier, job: &FileJob, error: Error) -> Result<Fate> {
        let (kind, damaged) = match error.class() {
            Class::Cancelled => return Err(error),
            Class::NotFound => (OmissionKind::Vanished, false),
            Class::Denied => (OmissionKind::PermissionDenied, false),
            Class::Damaged => (OmissionKind::Unreadable, true),
            _ => (OmissionKind::Unreadable, false),
        };
        carrier.complete(self.cx, job.no, EntryEnd::Abandoned)?;
        let omission = Omission { path: job.path.clone(), kind, reason: error.chain() };
        Ok(Fate::Omitted(omission, damaged))
    }
}

impl Large {
    fn lock(&self) -> std::sync::MutexGuard<'_, LargeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A span has ended, `None` when it was not tried any more. For the last one, what became of all.
    fn ended(&self, from: u64, attempt: Option<Attempt>) -> Option<Attempt> {
        let mut state = self.lock();
        state.left -= 1;
        match attempt {
            Some(Attempt::Read(metadata, verdict)) => {
                state.read.insert(from, (metadata, verdict));
            }
            Some(Attempt::Failed(error)) => {
                state.failed.get_or_insert(error);
            }
            None => {}
        }
        if state.left > 0 {
            return None;
        }
        if let Some(error) = state.failed.take() {
            return Some(Attempt::Failed(error));
        }
        let mut spans = std::mem::take(&mut state.read).into_values();
        let (metadata, mut whole) = spans.next()?;
        for (other, verdict) in spans {
            let same = (other.size, other.mtime, other.ctime)
                == (metadata.size, metadata.mtime, metadata.ctime);
            whole = match (whole, verdict) {
                _ if !same => Verdict::Changed,
                (Verdict::Changed, _) | (_, Verdict::Changed) => Verdict::Changed,
                (Verdict::Grew, _) | (_, Verdict::Grew) => Verdict::Grew,
                (Verdict::Steady, Verdict::Steady) => Verdict::Steady,
            };
        }
        Some(Attempt::Read(metadata, whole))
    }
}

/// One reading of a file.
enum Attempt {
    Read(Box<Metadata>, Verdict),
    Failed(Error),
}
