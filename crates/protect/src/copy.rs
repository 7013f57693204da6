//! The one data path: a tree source into a tree sink.
//!
//! One thread walks and settles, in visit order; workers carry the content of files. Between them lies
//! a window of visits, bounded in number and in bytes, so memory does not depend on the tree.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use alidade_entity::{
    Class, Cx, EntryEnd, EntryNo, Error, OpenFile, Piece, Place, Result, SinkEnding, Step,
    TreeSink, TreeSource, Verdict, Visit, Want,
};
use alidade_model::{Bytes, Counts, Entry, Kind, Metadata, Omission, OmissionKind, Omissions};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

/// Visits between the one announced last and the one settled last, at most.
const WINDOW_VISITS: usize = 4096;
/// The memory those may take together, about.
const WINDOW_BYTES: usize = 8 << 20;

/// What a copy counted.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    /// Entries.
    pub(crate) counts: Counts,
    /// Bytes.
    pub(crate) bytes: Bytes,
    /// What the source could not give.
    pub(crate) omissions: Omissions,
    /// Files whose stored content is damaged.
    pub(crate) damaged: u64,
    /// What the sink said.
    pub(crate) sink: SinkEnding,
}

/// A file on its way to a worker.
struct Job {
    no: EntryNo,
    path: Vec<u8>,
    file: Box<dyn OpenFile>,
    /// Set when only its holes are wanted.
    holes_of: Option<Box<Metadata>>,
}

/// What became of a job.
struct Carried {
    no: EntryNo,
    read: u64,
    result: Result<Fate>,
}

enum Fate {
    /// It is in the sink.
    Whole(Verdict),
    /// It could not be read; the sink has abandoned it. True when what was stored is damaged.
    Omitted(Omission, bool),
}

/// A visit that is announced and not yet settled.
enum Pending {
    Entry(Waiting),
    Leave(EntryNo),
    Omit(Omission),
}

struct Waiting {
    no: EntryNo,
    kind: Kind,
    size: u64,
    /// What it takes of the window's memory.
    cost: usize,
    /// True while a worker has it.
    carried: bool,
    /// False for the directories above the walk, which are not counted.
    counted: bool,
}

/// Copies everything `source` visits into `sink`, with `workers` threads for content.
pub(crate) fn copy_tree(
    cx: &Cx,
    source: &mut dyn TreeSource,
    sink: &dyn TreeSink,
    workers: usize,
) -> Result<Copied> {
    let (jobs, inbox) = bounded::<Job>(workers * 2);
    let (outbox, results) = unbounded::<Carried>();
    let stop = AtomicBool::new(false);
    let mut copied = std::thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            let (inbox, outbox, stop) = (inbox.clone(), outbox.clone(), &stop);
            scope.spawn(move || {
                Worker { cx, sink, stop, buf: Vec::new(), read: 0 }.run(&inbox, &outbox);
            });
        }
        drop((inbox, outbox));
        let copied = Driver::new(cx, sink, jobs, results).run(source);
        stop.store(copied.is_err(), Ordering::Relaxed);
        copied
    })?;
    copied.sink = sink.finish(cx)?;
    Ok(copied)
}

/// The walking and settling side.
struct Driver<'a> {
    cx: &'a Cx,
    sink: &'a dyn TreeSink,
    jobs: Sender<Job>,
    results: Receiver<Carried>,
    window: VecDeque<Pending>,
    /// What became of entries that are still in the window.
    fates: HashMap<EntryNo, Fate>,
    /// What the window takes.
    bytes: usize,
    next: u64,
    open: Vec<EntryNo>,
    path: Vec<u8>,
    in_flight: usize,
    copied: Copied,
}

impl<'a> Driver<'a> {
    fn new(
        cx: &'a Cx,
        sink: &'a dyn TreeSink,
        jobs: Sender<Job>,
        results: Receiver<Carried>,
    ) -> Self {
        Self {
            cx,
            sink,
            jobs,
            results,
            window: VecDeque::new(),
            fates: HashMap::new(),
            bytes: 0,
            next: 0,
            open: Vec::new(),
            path: Vec::new(),
            in_flight: 0,
            copied: Copied::default(),
        }
    }

    fn run(mut self, source: &mut dyn TreeSource) -> Result<Copied> {
        let trail = source.trail().to_vec();
        for entry in &trail {
            self.enter(entry, false)?;
        }
        let mut batch = Vec::new();
        loop {
            self.cx.check()?;
            let more = source.next(self.cx, &mut batch)?;
            for visit in batch.drain(..) {
                self.visit(visit)?;
                self.settle_ready()?;
                while self.window.len() >= WINDOW_VISITS || self.bytes >= WINDOW_BYTES {
                    self.wait()?;
                }
            }
            if !more {
                break;
            }
        }
        for _ in &trail {
            self.leave()?;
        }
        while self.in_flight > 0 {
            self.wait()?;
        }
        self.settle_ready()?;
        if !self.window.is_empty() || !self.open.is_empty() {
            return Err(Error::new(Class::Failed, "settle a walk whose directories do not close"));
        }
        Ok(self.copied)
    }

    fn visit(&mut self, visit: Visit) -> Result<()> {
        match visit {
            Visit::Enter(entry) => self.enter(&entry, true),
            Visit::Leave => self.leave(),
            Visit::Leaf(entry) => {
                let no = self.number();
                self.begin(no, &entry)?;
                self.push(no, &entry, false, true);
                Ok(())
            }
            Visit::File(entry, file) => self.file(&entry, file),
            Visit::Omit(omission) => {
                self.window.push_back(Pending::Omit(omission));
                Ok(())
            }
        }
    }

    fn enter(&mut self, entry: &Entry, counted: bool) -> Result<()> {
        let no = self.number();
        self.begin(no, entry)?;
        self.push(no, entry, false, counted);
        self.open.push(no);
        self.path.push(b'/');
        self.path.extend_from_slice(&entry.name);
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let no = self
            .open
            .pop()
            .ok_or_else(|| Error::new(Class::Failed, "leave a directory that was not entered"))?;
        let up = self.path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        self.path.truncate(up);
        self.window.push_back(Pending::Leave(no));
        self.settle_ready()
    }

    fn file(&mut self, entry: &Entry, file: Box<dyn OpenFile>) -> Result<()> {
        let no = self.number();
        let want = self.begin(no, entry)?;
        self.push(no, entry, want != Want::Nothing, true);
        if want == Want::Nothing {
            self.cx.report(Step::Bytes(entry.metadata.size));
            return Ok(());
        }
        let mut path = self.path.clone();
        path.push(b'/');
        path.extend_from_slice(&entry.name);
        let holes_of = (want == Want::Holes).then(|| Box::new(entry.metadata.clone()));
        let mut job = Job { no, path, file, holes_of };
        self.in_flight += 1;
        loop {
            match self.jobs.try_send(job) {
                Ok(()) => return Ok(()),
                Err(refused) => {
                    if refused.is_disconnected() {
                        return Err(Error::new(Class::Failed, "hand a file to a worker"));
                    }
                    job = refused.into_inner();
                    self.wait()?;
                }
            }
        }
    }

    fn number(&mut self) -> EntryNo {
        self.next += 1;
        EntryNo(self.next)
    }

    fn begin(&mut self, no: EntryNo, entry: &Entry) -> Result<Want> {
        let place = Place { no, parent: self.open.last().copied() };
        self.sink.begin(self.cx, place, entry)
    }

    fn push(&mut self, no: EntryNo, entry: &Entry, carried: bool, counted: bool) {
        let cost = cost_of(entry);
        self.bytes += cost;
        let Metadata { kind, size, .. } = entry.metadata;
        self.window.push_back(Pending::Entry(Waiting { no, kind, size, cost, carried, counted }));
        if counted && entry.metadata.is_hard_linked() {
            self.copied.counts.hard_links += 1;
        }
    }

    /// Takes one worker's result and settles what it made ready.
    fn wait(&mut self) -> Result<()> {
        let carried = self
            .results
            .recv()
            .map_err(|error| Error::with_source(Class::Failed, "wait for a worker", error))?;
        self.in_flight -= 1;
        self.copied.bytes.read += carried.read;
        self.fates.insert(carried.no, carried.result?);
        self.settle_ready()
    }

    /// Settles from the front of the window until something there is still being carried.
    fn settle_ready(&mut self) -> Result<()> {
        while let Some(pending) = self.window.pop_front() {
            match pending {
                Pending::Leave(no) => self.sink.leave(self.cx, no)?,
                Pending::Omit(omission) => self.omit(omission)?,
                Pending::Entry(waiting) => {
                    let fate = match (waiting.carried, self.fates.remove(&waiting.no)) {
                        (false, _) => Fate::Whole(Verdict::Steady),
                        (true, Some(fate)) => fate,
                        (true, None) => {
                            self.window.push_front(Pending::Entry(waiting));
                            return Ok(());
                        }
                    };
                    self.settle(&waiting, fate)?;
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, waiting: &Waiting, fate: Fate) -> Result<()> {
        self.bytes -= waiting.cost;
        self.sink.settle(self.cx, waiting.no)?;
        self.cx.report(Step::Entries(1));
        match fate {
            Fate::Whole(verdict) => {
                self.copied.counts.grew += u64::from(verdict == Verdict::Grew);
                self.copied.counts.inconsistent += u64::from(verdict == Verdict::Changed);
                if waiting.counted {
                    self.count(waiting.kind, waiting.size);
                }
                Ok(())
            }
            Fate::Omitted(omission, damaged) => {
                self.copied.damaged += u64::from(damaged);
                self.omit(omission)
            }
        }
    }

    fn omit(&mut self, omission: Omission) -> Result<()> {
        self.sink.omit(self.cx, &omission)?;
        self.copied.omissions.add(omission);
        Ok(())
    }

    fn count(&mut self, kind: Kind, size: u64) {
        let counts = &mut self.copied.counts;
        match kind {
            Kind::File => {
                counts.files += 1;
                self.copied.bytes.total += size;
            }
            Kind::Directory => counts.directories += 1,
            Kind::Symlink => counts.symlinks += 1,
            Kind::BlockDevice | Kind::CharDevice | Kind::Fifo | Kind::Socket => {
                counts.specials += 1;
            }
        }
    }
}

/// About how many bytes an entry takes while it waits.
fn cost_of(entry: &Entry) -> usize {
    let meta = &entry.metadata;
    let xattrs: usize = meta.xattrs.iter().map(|x| x.name.len() + x.value.len() + 64).sum();
    512 + 2 * (entry.name.len() + meta.link_target.len() + xattrs)
}

/// Carries the content of files, one after the other.
struct Worker<'a> {
    cx: &'a Cx,
    sink: &'a dyn TreeSink,
    stop: &'a AtomicBool,
    buf: Vec<u8>,
    read: u64,
}

impl Worker<'_> {
    fn run(mut self, inbox: &Receiver<Job>, outbox: &Sender<Carried>) {
        for job in inbox {
            self.read = 0;
            let result = self.carry(&job);
            if outbox.send(Carried { no: job.no, read: self.read, result }).is_err() {
                return;
            }
        }
    }

    /// Carries one file; an `Err` is the sink's, or an interruption, and ends the copy.
    fn carry(&mut self, job: &Job) -> Result<Fate> {
        if let Some(metadata) = &job.holes_of {
            return self.carry_holes(job, metadata);
        }
        let fate = match self.content(job)? {
            // Retried once: a file that was replaced or rewritten meanwhile is often still now.
            Attempt::Read(_, Verdict::Changed) => {
                self.sink.restart(self.cx, job.no)?;
                self.content(job)?
            }
            first => first,
        };
        match fate {
            Attempt::Read(metadata, verdict) => {
                self.sink.complete(self.cx, job.no, EntryEnd::Whole(metadata, verdict))?;
                Ok(Fate::Whole(verdict))
            }
            Attempt::Failed(error) => self.abandon(job, error),
        }
    }

    fn carry_holes(&mut self, job: &Job, metadata: &Metadata) -> Result<Fate> {
        let holes = match job.file.holes(self.cx) {
            Ok(holes) => holes,
            Err(error) => return self.abandon(job, error),
        };
        for hole in holes {
            self.sink.write(self.cx, job.no, Piece::Hole(hole), &[])?;
        }
        let end = EntryEnd::Whole(Box::new(metadata.clone()), Verdict::Steady);
        self.sink.complete(self.cx, job.no, end)?;
        self.cx.report(Step::Bytes(metadata.size));
        Ok(Fate::Whole(Verdict::Steady))
    }

    /// Reads a file once into the sink.
    fn content(&mut self, job: &Job) -> Result<Attempt> {
        let mut file = match job.file.open(self.cx) {
            Ok(file) => file,
            Err(error) => return Ok(Attempt::Failed(error)),
        };
        loop {
            self.cx.check()?;
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::cancelled());
            }
            match file.next_piece(self.cx, &mut self.buf) {
                Ok(Some(piece)) => {
                    let data = self.buf.len() as u64;
                    self.read += data;
                    self.sink.write(self.cx, job.no, piece, &self.buf)?;
                    let through = match piece {
                        Piece::Data { .. } => data,
                        Piece::Hole(hole) => hole.len,
                    };
                    self.cx.report(Step::Bytes(through));
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
    fn abandon(&self, job: &Job, error: Error) -> Result<Fate> {
        let (kind, damaged) = match error.class() {
            Class::Cancelled => return Err(error),
            Class::NotFound => (OmissionKind::Vanished, false),
            Class::Denied => (OmissionKind::PermissionDenied, false),
            Class::Damaged => (OmissionKind::Unreadable, true),
            _ => (OmissionKind::Unreadable, false),
        };
        self.sink.complete(self.cx, job.no, EntryEnd::Abandoned)?;
        let omission = Omission { path: job.path.clone(), kind, reason: error.chain() };
        Ok(Fate::Omitted(omission, damaged))
    }
}

/// One reading of a file.
enum Attempt {
    Read(Box<Metadata>, Verdict),
    Failed(Error),
}
