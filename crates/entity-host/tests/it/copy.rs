//! A small copy from a source to a sink that keeps the documented order of calls, with entries that
//! begin ahead of the leaving of earlier directories and contents written by four threads.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use alidade_entity::{
    Carrier, Class, CopyMode, CopyOptions, Cx, EntryEnd, EntryNo, Lease, OpenFile, Params, Piece,
    Place, ProtectedEntityType, Result, Sink, SinkEnding, TreeSink, TreeSource, Verdict, Visit,
    Want,
};
use alidade_entity_host::FsType;
use alidade_model::{Entry, Kind};

use crate::support::{How, begin, cx, wait};

/// How to restore.
pub(crate) fn options(target: &Path) -> CopyOptions {
    CopyOptions {
        mode: CopyMode::CreateNew,
        target: Some(target.as_os_str().as_bytes().to_vec()),
        fsync: false,
        read_back: false,
        params: Params::new(),
    }
}

/// Plans and opens a sink; `from` is any path that exists.
pub(crate) fn sink(from: &Path, options: &CopyOptions) -> Result<Box<dyn TreeSink>> {
    let kind = FsType::new(Vec::new());
    let entity = wait(kind.open(&cx(), &kind.id(from).expect("an absolute path")))?;
    let plan = wait(kind.plan(&cx(), &*entity, options))?;
    match wait(kind.sink(&cx(), &plan))? {
        Sink::Tree(sink) => Ok(sink),
        Sink::Disk(_) | Sink::Stream(_) => panic!("a file system takes a tree"),
    }
}

/// Copies a path below a target.
pub(crate) fn copy(from: &Path, options: &CopyOptions) -> Result<SinkEnding> {
    let mut walking = begin(from, How::default())?;
    let sink = sink(from, options)?;
    let ending = copy_tree(&cx(), &mut *walking.source, &*sink)?;
    let lease: Box<dyn Lease> = walking.lease;
    lease.finish()?;
    Ok(ending)
}

enum Event {
    Settle(EntryNo),
    Leave(EntryNo),
}

struct Copy<'a> {
    cx: &'a Cx,
    sink: &'a dyn TreeSink,
    next: u64,
    open: Vec<EntryNo>,
    jobs: Vec<(EntryNo, Box<dyn OpenFile>)>,
    events: Vec<Event>,
}

pub(crate) fn copy_tree(
    cx: &Cx,
    source: &mut dyn TreeSource,
    sink: &dyn TreeSink,
) -> Result<SinkEnding> {
    let mut copy =
        Copy { cx, sink, next: 0, open: Vec::new(), jobs: Vec::new(), events: Vec::new() };
    let trail = source.trail().to_vec();
    for entry in &trail {
        copy.begin(entry, None)?;
    }
    let mut visits = Vec::new();
    let mut more = true;
    while more {
        more = source.next(cx, &mut visits)?;
        for visit in visits.drain(..) {
            match visit {
                Visit::Enter(entry) | Visit::Leaf(entry) => copy.begin(&entry, None)?,
                Visit::File(entry, file) => copy.begin(&entry, Some(file))?,
                Visit::Leave => copy.leave(),
                Visit::Omit(omission) => sink.omit(cx, &omission)?,
            }
        }
        copy.catch_up()?;
    }
    for _ in &trail {
        copy.leave();
    }
    copy.catch_up()?;
    sink.finish(cx)
}

impl Copy<'_> {
    fn begin(&mut self, entry: &Entry, file: Option<Box<dyn OpenFile>>) -> Result<()> {
        let no = EntryNo(self.next);
        self.next += 1;
        let place = Place { no, parent: self.open.last().copied() };
        let want = self.sink.begin(self.cx, place, entry)?;
        match file {
            Some(file) if want == Want::Content => self.jobs.push((no, file)),
            _ => assert!(want != Want::Holes, "a file system has no use for holes alone"),
        }
        if entry.metadata.kind == Kind::Directory {
            self.open.push(no);
        }
        self.events.push(Event::Settle(no));
        Ok(())
    }

    fn leave(&mut self) {
        self.events.push(Event::Leave(self.open.pop().expect("a directory to leave")));
    }

    fn catch_up(&mut self) -> Result<()> {
        let mut parts: Vec<Vec<_>> = (0..4).map(|_| Vec::new()).collect();
        for (at, job) in self.jobs.drain(..).enumerate() {
            parts[at % 4].push(job);
        }
        let (cx, sink) = (self.cx, self.sink);
        std::thread::scope(|scope| {
            let workers: Vec<_> = parts
                .into_iter()
                .map(|jobs| {
                    scope.spawn(move || {
                        let mut carrier = sink.carrier()?;
                        jobs.into_iter()
                            .try_for_each(|(no, file)| content(cx, &mut *carrier, no, &*file))?;
                        carrier.flush(cx)
                    })
                })
                .collect();
            workers.into_iter().try_for_each(|worker| worker.join().expect("no panic"))
        })?;
        for event in self.events.drain(..) {
            match event {
                Event::Settle(no) => sink.settle(cx, no)?,
                Event::Leave(no) => sink.leave(cx, no)?,
            }
        }
        Ok(())
    }
}

fn content(cx: &Cx, carrier: &mut dyn Carrier, no: EntryNo, file: &dyn OpenFile) -> Result<()> {
    let mut buf = Vec::new();
    for attempt in 0..2 {
        let mut reading = match file.open_whole(cx) {
            Ok(reading) => reading,
            Err(error) if matches!(error.class(), Class::NotFound | Class::Denied) => {
                return carrier.complete(cx, no, EntryEnd::Abandoned);
            }
            Err(error) => return Err(error),
        };
        if attempt == 1 {
            carrier.restart(cx, no)?;
        }
        while let Some(piece) = reading.next_piece(cx, &mut buf)? {
            carrier.write(cx, no, piece, &buf)?;
        }
        let metadata = Box::new(reading.metadata().clone());
        let verdict = reading.finish()?;
        if attempt == 1 || verdict != Verdict::Changed {
            return carrier.complete(cx, no, EntryEnd::Whole(metadata, verdict));
        }
    }
    Ok(())
}

/// Everything a file holds, with its holes.
pub(crate) fn read(file: &dyn OpenFile) -> (Vec<Piece>, Vec<u8>) {
    let (mut pieces, mut content, mut buf) = (Vec::new(), Vec::new(), Vec::new());
    let mut reading = file.open_whole(&cx()).expect("open");
    while let Some(piece) = reading.next_piece(&cx(), &mut buf).expect("read") {
        if let Piece::Hole(hole) = piece {
            assert!(buf.is_empty());
            let len = usize::try_from(hole.len.min(1 << 24)).expect("small");
            content.resize(content.len() + len, 0);
        }
        content.extend_from_slice(&buf);
        pieces.push(piece);
    }
    assert_eq!(reading.finish().expect("finish"), Verdict::Steady);
    (pieces, content)
}

/// Asserts that two trees hold the same, step by step: paths of a deep tree would fill the memory.
pub(crate) fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (visits(one), visits(other));
    assert_eq!(one.len(), other.len());
    for (a, b) in one.iter().zip(&other) {
        match (a, b) {
            (Visit::Enter(a), Visit::Enter(b)) | (Visit::Leaf(a), Visit::Leaf(b)) => {
                assert_eq!(comparable(a), comparable(b));
            }
            (Visit::File(a, one), Visit::File(b, other)) => {
                assert_eq!(comparable(a), comparable(b));
                assert!(
                    read(&**one) == read(&**other),
                    "the content of {:?}",
                    a.name.escape_ascii()
                );
            }
            (Visit::Leave, Visit::Leave) => {}
            _ => panic!("one tree has what the other has not"),
        }
    }
}

fn visits(path: &Path) -> Vec<Visit> {
    let mut walking = begin(path, How::default()).expect("walk");
    let mut visits = Vec::new();
    while walking.source.next(&cx(), &mut visits).expect("next") {}
    assert!(visits.iter().all(|visit| !matches!(visit, Visit::Omit(_))));
    assert!(walking.lease.finish().expect("finish").omissions.is_empty());
    visits
}

/// What of an entry does not belong to its place.
pub(crate) fn comparable(entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    entry.version = alidade_model::Version::Unknown;
    let metadata = &mut entry.metadata;
    (metadata.inode, metadata.device) = (0, 0);
    metadata.ctime = alidade_model::Time::default();
    if metadata.kind == Kind::Directory {
        // How file systems count these is their own.
        metadata.links = 0;
    }
    entry
}
