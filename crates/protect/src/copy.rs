//! The one data path: a tree source into a tree sink.
//!
//! One thread walks, one announces and settles in visit order, workers carry the content of files.
//! Between them lies a window of visits, bounded in number and in bytes, so memory does not depend on
//! the tree.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

use alidade_entity::{
    Class, Cx, EntryNo, Error, OpenFile, Place, Result, SinkEnding, Step, TreeSink, TreeSource,
    Verdict, Visit, Want,
};
use alidade_model::{Bytes, Counts, Entry, Kind, Metadata, Omission, Omissions};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use crate::carry::{Carried, Fate, FileJob, Job, SPAN, SpanJob, Worker};

/// Visits between the one announced last and the one settled last, for each worker.
const WINDOW_VISITS: usize = 4096;
/// The memory those may take together, about, for each worker.
const WINDOW_BYTES: usize = 4 << 20;
/// Steps the walk may be ahead of what is announced, of some hundreds of visits each.
const STEPS: usize = 8;
/// Small files are carried together, up to so many bytes.
const BATCH_BYTES: u64 = 16 << 20;
/// Files from this size on are carried in spans by all workers.
const DIVIDED: u64 = 2 * SPAN;

/// Who carries content, and how much at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hands {
    /// Threads.
    workers: usize,
    /// Small files that are carried together, at most.
    batch_files: usize,
}

impl Hands {
    /// A worker for each core, whose content is near.
    pub(crate) fn near(workers: usize) -> Self {
        Self { workers: workers.max(1), batch_files: 256 }
    }

    /// Where what is carried is waited for: one more works while another waits, and what is small is asked for
    /// with more of its kind. On two cores that takes a third less time at 20 ms for each answer.
    pub(crate) fn far(workers: usize) -> Self {
        Self { workers: workers.max(1) + 1, batch_files: 1024 }
    }
}

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

/// Copies everything `source` visits into `sink`.
pub(crate) fn copy_tree(
    cx: &Cx,
    source: &mut dyn TreeSource,
    sink: &dyn TreeSink,
    hands: Hands,
) -> Result<Copied> {
    let Hands { workers, batch_files } = hands;
    let stop = AtomicBool::new(false);
    let mut copied = std::thread::scope(|scope| {
        let stop = &stop;
        let hire = || Crew::hire(scope, (cx, sink, stop), workers);
        let driver = Driver {
            cx,
            sink,
            crew: hire(),
            hire: &hire,
            window: VecDeque::new(),
            room: (WINDOW_VISITS * workers, WINDOW_BYTES * workers),
            fates: HashMap::new(),
            bytes: 0,
            next: 0,
            open: Vec::new(),
            path: Vec::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            batch_files,
            in_flight: 0,
            copied: Copied::default(),
        };
        let trail = source.trail().to_vec();
        let (steps, walked) = bounded(STEPS);
        let (used, again) = bounded(STEPS);
        scope.spawn(move || walk(cx, source, &steps, &again));
        let copied = driver.run(&trail, (walked, &used));
        stop.store(copied.is_err(), Ordering::Relaxed);
        copied
    })?;
    copied.sink = sink.finish(cx)?;
    Ok(copied)
}

/// A step of a walk.
type Walked = Receiver<Result<Vec<Visit>>>;

/// Walks, ahead of what is announced. What was announced comes back `again`: memory that was taken here is
/// given back here, and does not wander from thread to thread.
fn walk(
    cx: &Cx,
    source: &mut dyn TreeSource,
    steps: &Sender<Result<Vec<Visit>>>,
    again: &Receiver<Vec<Visit>>,
) {
    let mut more = true;
    while more {
        let mut visits = again.try_recv().unwrap_or_default();
        visits.clear();
        let step = cx.check().and_then(|()| source.next(cx, &mut visits)).map(|goes_on| {
            more = goes_on;
            visits
        });
        more &= step.is_ok();
        // The other end is gone when the copy failed.
        if steps.send(step).is_err() {
            return;
        }
    }
}

/// Workers, and the ways to them and back.
struct Crew<'scope> {
    jobs: Sender<Job>,
    results: Receiver<Vec<Carried>>,
    threads: Vec<ScopedJoinHandle<'scope, ()>>,
}

impl<'scope> Crew<'scope> {
    fn hire<'env>(
        scope: &'scope Scope<'scope, 'env>,
        (cx, sink, stop): (&'scope Cx, &'scope dyn TreeSink, &'scope AtomicBool),
        workers: usize,
    ) -> Self {
        let (jobs, inbox) = bounded::<Job>(workers);
        let (outbox, results) = unbounded::<Vec<Carried>>();
        let threads = (0..workers).map(|_| {
            let (inbox, outbox) = (inbox.clone(), outbox.clone());
            scope.spawn(move || Worker::new(cx, sink, stop).run(&inbox, &outbox))
        });
        Self { jobs, results, threads: threads.collect() }
    }

    /// Waits until the workers, who have nothing to do, are gone, and with them their carriers.
    fn dismiss(&mut self) {
        self.jobs = bounded(0).0;
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

/// The announcing and settling side.
struct Driver<'a, 'scope> {
    cx: &'a Cx,
    sink: &'a dyn TreeSink,
    crew: Crew<'scope>,
    hire: &'a dyn Fn() -> Crew<'scope>,
    window: VecDeque<Pending>,
    /// Visits and bytes the window may take.
    room: (usize, usize),
    /// What became of entries that are still in the window.
    fates: HashMap<EntryNo, Fate>,
    /// What the window takes.
    bytes: usize,
    next: u64,
    open: Vec<EntryNo>,
    path: Vec<u8>,
    /// Small files that are carried together.
    batch: Vec<FileJob>,
    batch_bytes: u64,
    batch_files: usize,
    /// Files, and spans of them, that a worker has.
    in_flight: usize,
    copied: Copied,
}

impl Driver<'_, '_> {
    fn run(
        mut self,
        trail: &[Entry],
        (walked, used): (Walked, &Sender<Vec<Visit>>),
    ) -> Result<Copied> {
        for entry in trail {
            self.enter(entry, false)?;
        }
        for step in walked {
            self.cx.check()?;
            let mut visits = step?;
            for visit in &mut visits {
                self.visit(visit)?;
                self.settle_ready()?;
                while self.window.len() >= self.room.0 || self.bytes >= self.room.1 {
                    self.wait()?;
                }
            }
            // When the walk has enough of them, or has ended, this one is of no use.
            drop(used.try_send(visits));
            self.rest()?;
        }
        for _ in trail {
            self.leave()?;
        }
        self.wait_for_all()?;
        if !self.window.is_empty() || !self.open.is_empty() {
            return Err(Error::new(Class::Failed, "settle a walk whose directories do not close"));
        }
        Ok(self.copied)
    }

    fn wait_for_all(&mut self) -> Result<()> {
        while self.in_flight > 0 || !self.batch.is_empty() {
            self.wait()?;
        }
        self.settle_ready()
    }

    /// Lets the sink rest when it is due, with nothing under way.
    fn rest(&mut self) -> Result<()> {
        if !self.sink.is_rest_due(self.cx) {
            return Ok(());
        }
        self.wait_for_all()?;
        self.crew.dismiss();
        self.sink.rest(self.cx)?;
        self.crew = (self.hire)();
        Ok(())
    }

    /// Announces a visit, and takes out of it what is needed for longer.
    fn visit(&mut self, visit: &mut Visit) -> Result<()> {
        match visit {
            Visit::Enter(entry) => self.enter(entry, true),
            Visit::Leave => self.leave(),
            Visit::Leaf(entry) => {
                let no = self.number();
                self.begin(no, entry)?;
                self.push(no, entry, false, true);
                Ok(())
            }
            Visit::File(entry, _) => {
                let no = self.number();
                let want = self.begin(no, entry)?;
                self.push(no, entry, want != Want::Nothing, true);
                if want == Want::Nothing {
                    self.cx.report(Step::Bytes(entry.metadata.size));
                    return Ok(());
                }
                match std::mem::replace(visit, Visit::Leave) {
                    Visit::File(entry, file) => self.file((no, want), &entry, file),
                    _ => Ok(()),
                }
            }
            Visit::Omit(omission) => {
                self.window.push_back(Pending::Omit(omission.clone()));
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

    /// Has the content of a file carried.
    fn file(
        &mut self,
        (no, want): (EntryNo, Want),
        entry: &Entry,
        file: Box<dyn OpenFile>,
    ) -> Result<()> {
        let mut path = self.path.clone();
        path.push(b'/');
        path.extend_from_slice(&entry.name);
        let from = match want {
            Want::From(at) => Some(at),
            _ => None,
        };
        let holes_of = (want == Want::Holes).then(|| Box::new(entry.metadata.clone()));
        let is_read = holes_of.is_none();
        let job = FileJob { no, path, file, holes_of, only_changes: want == Want::Changes };
        let size = entry.metadata.size;
        if is_read && size >= DIVIDED && self.sink.takes_spans() && job.file.has_spans() {
            return self.divide(job, from.unwrap_or(0)..size);
        }
        if from.is_some() {
            let attempt = "go on in the midst of a file that comes in one piece";
            return Err(Error::new(Class::Failed, attempt));
        }
        self.batch.push(job);
        self.batch_bytes += if is_read { size } else { 0 };
        if self.batch.len() >= self.batch_files || self.batch_bytes >= BATCH_BYTES {
            self.send_batch()?;
        }
        Ok(())
    }

    /// Hands a large file to the workers, span by span.
    fn divide(&mut self, job: FileJob, range: Range<u64>) -> Result<()> {
        self.send_batch()?;
        self.cx.report(Step::Bytes(range.start));
        for job in SpanJob::all_of(job, range) {
            self.rest()?;
            self.send(Job::Span(job), 1)?;
        }
        Ok(())
    }

    fn send_batch(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let files = batch.len();
        self.send(Job::Files(batch), files)
    }

    fn send(&mut self, mut job: Job, files: usize) -> Result<()> {
        loop {
            match self.crew.jobs.try_send(job) {
                Ok(()) => {
                    self.in_flight += files;
                    return Ok(());
                }
                Err(refused) => {
                    if refused.is_disconnected() {
                        // A worker that failed says why.
                        self.wait()?;
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

    /// Takes a worker's results and settles what they made ready.
    fn wait(&mut self) -> Result<()> {
        if self.in_flight == 0 {
            // Nothing else can come: what waits for company goes alone.
            self.send_batch()?;
        }
        let carried = self
            .crew
            .results
            .recv()
            .map_err(|error| Error::with_source(Class::Failed, "wait for a worker", error))?;
        for carried in carried {
            // A worker that failed had perhaps no file.
            self.in_flight = self.in_flight.saturating_sub(1);
            self.copied.bytes.read += carried.read;
            if let Some(fate) = carried.result? {
                self.fates.insert(carried.no, fate);
            }
        }
        self.settle_ready()
    }

    /// Settles from the front of the window until something there is still being carried.
    fn settle_ready(&mut self) -> Result<()> {
        while let Some(pending) = self.window.pop_front() {
            match pending {
                Pending::Leave(no) => self.sink.leave(self.cx, no)?,
                Pending::Omit(omission) => self.omit(omission)?,
                Pending::Entry(waiting) => {
                    let fate = if waiting.carried {
                        self.fates.remove(&waiting.no)
                    } else {
                        Some(Fate::Whole(Verdict::Steady))
                    };
                    let Some(fate) = fate else {
                        self.window.push_front(Pending::Entry(waiting));
                        return Ok(());
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
