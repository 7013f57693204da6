//! Sinks of each shape, written and read back.

use std::cell::{Cell, RefCell};
use std::thread;

use alidade_model::{EntityId, Kind, Shape};

use super::copy::copy_tree;
use super::flat::{Promises, compare, read_back, written};
use super::script::{Node, Part, Pen, SPANNED, Script, ScriptEntity, Take, bytes};
use super::{Creates, Fidelity, Promise as P, ReadBack, Report, Suite, Target};
use crate::{
    Class, CopyMode, CopyOptions, Cx, DiskSink, DiskSource, ProtectedEntity, ReadOptions, Reading,
    Result, Sink, Source, StreamSink, StreamSource, Verdict,
};

/// Opens a fresh target that will take a copy of the given entity.
type Open<'a> = dyn FnMut(&dyn ProtectedEntity) -> Result<Target<'a>> + 'a;

/// Plays scripted trees through a tree sink and compares what reads back.
///
/// `open` gives a fresh, empty target at each call.
pub fn check_tree_sink(
    cx: &Cx,
    from: &EntityId,
    fidelity: Fidelity,
    open: &mut Open<'_>,
) -> Report {
    let mut report = Report::default();
    for case in cases(Pen { fidelity }) {
        tree_case(cx, &mut report, (from, fidelity), &case, open);
    }
    report
}

/// Writes a disk of a mebibyte in disorder from two threads and compares what reads back.
///
/// `open` gives a fresh target at each call, of the size in the info of the entity it is given.
pub fn check_disk_sink(cx: &Cx, from: &EntityId, open: &mut Open<'_>) -> Report {
    let mut report = Report::default();
    disk_case(cx, &mut report, from, open);
    report
}

/// Writes streams, finished and not, and compares what reads back.
///
/// `open` gives a fresh, empty target at each call.
pub fn check_stream_sink(cx: &Cx, from: &EntityId, open: &mut Open<'_>) -> Report {
    let mut report = Report::default();
    unfinished_stream(cx, &mut report, from, open);
    for len in [0, 1, 100_000] {
        stream_case(cx, &mut report, from, len, open);
    }
    report
}

pub(super) fn check(suite: &Suite<'_>, report: &mut Report) {
    let Some(creates) = &suite.subject.creates else {
        if !suite.subject.kind.capability().create {
            refuses(suite, report);
        }
        return;
    };
    let kind = suite.subject.kind;
    let calls = Cell::new(0);
    let last: RefCell<Option<CopyOptions>> = RefCell::new(None);
    let mut open = |from: &dyn ProtectedEntity| {
        let (options, written) = (creates.target)(calls.get());
        calls.set(calls.get() + 1);
        let plan = suite.wait(kind.plan(&suite.cx, from, &options))?;
        let sink = suite.wait(kind.sink(&suite.cx, &plan))?;
        *last.borrow_mut() = Some(options);
        let read_back = move |cx: &Cx| opened(suite, creates, cx, &written);
        Ok(Target { sink, read_back: Box::new(read_back) })
    };
    report.join(match creates.shape {
        Shape::Tree => check_tree_sink(&suite.cx, &creates.from, creates.fidelity, &mut open),
        Shape::Disk => check_disk_sink(&suite.cx, &creates.from, &mut open),
        Shape::Stream => check_stream_sink(&suite.cx, &creates.from, &mut open),
    });
    // The last target of every shape was finished and holds something.
    if let Some(existing) = last.take() {
        let existing = CopyOptions { mode: CopyMode::Create, ..existing };
        let from = scripted(&creates.from, creates.shape, DISK);
        let plan = suite.wait(kind.plan(&suite.cx, &from, &existing));
        report.fails(P::SinkRefusesExisting, "planning to create it", plan, Class::Conflict);
    }
}

/// Opens what was written, if there is anything.
fn opened(
    suite: &Suite<'_>,
    creates: &Creates<'_>,
    cx: &Cx,
    written: &EntityId,
) -> Result<Option<Reading>> {
    let how = ReadOptions::default();
    match suite.wait(suite.subject.kind.open(cx, written)) {
        Err(error) if error.class() == Class::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(entity) => suite.wait(entity.read(cx, &creates.content, &how)).map(Some),
    }
}

fn refuses(suite: &Suite<'_>, report: &mut Report) {
    let from = scripted(&suite.subject.present, Shape::Stream, 0);
    let options = CopyOptions {
        mode: CopyMode::CreateNew,
        target: None,
        fsync: false,
        read_back: false,
        params: crate::Params::new(),
    };
    let plan = suite.wait(suite.subject.kind.plan(&suite.cx, &from, &options));
    report.fails(P::UnsupportedIsSaid, "planning to create", plan, Class::Unsupported);
}

/// An entity to plan from, whose bytes the suite plays itself.
fn scripted(id: &EntityId, shape: Shape, size: u64) -> ScriptEntity {
    let content = (alidade_model::ContentName::data(), shape);
    ScriptEntity { id: id.clone(), content, size, script: Script::default() }
}

/// A scripted tree, and which promises a difference breaks.
struct Case {
    name: &'static str,
    script: Script,
    entries: P,
    content: P,
}

fn case(name: &'static str, nodes: Vec<Node>) -> Case {
    let script = Script { trail: Vec::new(), nodes };
    Case { name, script, entries: P::SinkKeepsEntries, content: P::SinkKeepsContent }
}

fn cases(pen: Pen) -> Vec<Case> {
    let mut trailed = case("a trail", vec![pen.file(b"file", vec![Part::Data(bytes(1, 10))])]);
    trailed.script.trail =
        vec![pen.entry(b"outer", Kind::Directory), pen.entry(b"inner", Kind::Directory)];
    vec![
        case("an empty tree", Vec::new()),
        every_kind(pen),
        trailed,
        deep(pen),
        wide(pen),
        hard_links(pen),
        holes(pen),
        abandoned(pen),
        restarted(pen),
        grown(pen),
        spanned(pen),
    ]
}

fn every_kind(pen: Pen) -> Case {
    let longest = vec![b'z'; 255];
    let mut special = pen.entry(b"run", Kind::File);
    special.metadata.mode = 0o4755;
    special.metadata.mtime = alidade_model::Time::new(-1, 999_999_999);
    let inner = vec![
        pen.directory(b"empty", Vec::new()),
        pen.leaf(b"link", Kind::Symlink),
        pen.leaf(b"pipe", Kind::Fifo),
        Node::File(
            special.clone(),
            vec![Take::Reads(special.metadata, Vec::new(), Verdict::Steady)],
        ),
    ];
    // Names ascend by byte: a capital before a small letter, `dir` before `dir.` before `dir0`.
    let nodes = vec![
        pen.file(b"\x01\n", vec![Part::Data(bytes(1, 1))]),
        pen.file(b"Z", vec![Part::Data(bytes(2, 4_096))]),
        pen.directory(b"dir", inner),
        pen.file(b"dir.", Vec::new()),
        pen.file(b"dir0", vec![Part::Data(bytes(3, 3_000_000)), Part::Data(bytes(4, 5))]),
        pen.file(&longest, vec![Part::Data(bytes(5, 4_097))]),
        pen.file(b"\xC3\xA4", vec![Part::Data(bytes(6, 100))]),
        pen.file(b"\xFF\xFE", vec![Part::Data(bytes(7, 100))]),
    ];
    case("every kind of entry", nodes)
}

/// Deeper than PATH_MAX: 64 levels of 80 bytes.
fn deep(pen: Pen) -> Case {
    let mut nodes = vec![pen.file(b"bottom", vec![Part::Data(bytes(8, 1_000))])];
    for _ in 0..64 {
        nodes = vec![pen.directory(&[b'd'; 80], nodes), pen.file(b"e", Vec::new())];
    }
    case("a deep tree", nodes)
}

fn wide(pen: Pen) -> Case {
    let files = |count: usize| {
        (0..count)
            .map(|at| {
                pen.file(format!("{at:05}").as_bytes(), vec![Part::Data(bytes(9, at % 50 + 1))])
            })
            .collect()
    };
    case("a wide tree", vec![pen.directory(b"few", files(3)), pen.directory(b"many", files(1_000))])
}

fn hard_links(pen: Pen) -> Case {
    let mut nodes = Vec::new();
    for name in [b"first", b"other"] {
        let mut file = pen.file(name, vec![Part::Data(bytes(10, 70_000))]);
        if let Node::File(entry, takes) = &mut file {
            let metadata = &mut entry.metadata;
            (metadata.inode, metadata.device, metadata.links) = (77, 7, 2);
            if let Some(Take::Reads(opened, ..)) = takes.first_mut() {
                *opened = metadata.clone();
            }
        }
        nodes.push(file);
    }
    case("two names of one file", nodes)
}

fn holes(pen: Pen) -> Case {
    let (hole, data) = (Part::Hole(1 << 20), || Part::Data(bytes(11, 1 << 16)));
    let nodes = vec![
        pen.file(b"all", vec![hole.clone()]),
        pen.file(b"behind", vec![data(), hole.clone()]),
        pen.file(b"between", vec![data(), hole.clone(), data(), hole.clone(), data()]),
        pen.file(b"huge", vec![Part::Hole(1 << 24), data()]),
        pen.file(b"none", vec![data(), Part::Data(vec![0; 1 << 16])]),
    ];
    case("files with holes", nodes)
}

fn abandoned(pen: Pen) -> Case {
    let parts = || vec![Part::Data(bytes(12, 100_000)), Part::Hole(1 << 16)];
    let changed = pen.take(parts(), Verdict::Changed);
    let nodes = vec![
        pen.directory(b"all", vec![pen.played(b"a", vec![Take::Vanished])]),
        pen.played(b"broke", vec![pen.breaks(parts())]),
        pen.played(b"broke-at-once", vec![pen.breaks(Vec::new())]),
        pen.played(b"changed-and-vanished", vec![changed, Take::Vanished]),
        pen.file(b"stays", parts()),
        pen.played(b"vanished", vec![Take::Vanished]),
    ];
    Case { entries: P::SinkDropsAbandoned, ..case("abandoned entries", nodes) }
}

fn restarted(pen: Pen) -> Case {
    let long = || vec![Part::Data(bytes(13, 200_000)), Part::Hole(1 << 16)];
    let short = || vec![Part::Data(bytes(14, 1_000))];
    let play = |name, parts: Vec<(Vec<Part>, Verdict)>| {
        let takes = parts.into_iter().map(|(parts, verdict)| pen.take(parts, verdict)).collect();
        pen.played(name, takes)
    };
    let nodes = vec![
        play(b"becomes-empty", vec![(long(), Verdict::Changed), (Vec::new(), Verdict::Steady)]),
        play(b"becomes-long", vec![(short(), Verdict::Changed), (long(), Verdict::Steady)]),
        play(b"becomes-short", vec![(long(), Verdict::Changed), (short(), Verdict::Steady)]),
        play(b"never-rests", vec![(long(), Verdict::Changed), (short(), Verdict::Changed)]),
    ];
    Case {
        entries: P::SinkForgetsOnRestart,
        content: P::SinkForgetsOnRestart,
        ..case("entries read again", nodes)
    }
}

/// A file that changed between the walk and its opening.
fn grown(pen: Pen) -> Case {
    let mut node =
        pen.played(b"log", vec![pen.take(vec![Part::Data(bytes(15, 900))], Verdict::Grew)]);
    if let Node::File(entry, _) = &mut node {
        entry.metadata.size = 3;
        entry.metadata.mode = 0o600;
        entry.metadata.mtime.seconds -= 5;
    }
    Case {
        entries: P::SinkTakesLastMetadata,
        content: P::SinkTakesLastMetadata,
        ..case("a file that grew", vec![node])
    }
}

/// Files that come in spans where the sink takes them.
fn spanned(pen: Pen) -> Case {
    let size = usize::try_from(SPANNED).unwrap_or(0);
    let data = |len| Part::Data(bytes(21, len));
    let nodes = vec![
        pen.file(b"data", vec![data(size), data(70_000)]),
        pen.file(b"hole", vec![Part::Hole(SPANNED)]),
        pen.file(b"mixed", vec![data(1 << 16), Part::Hole(SPANNED), data(200)]),
    ];
    Case { entries: P::SinkTakesSpans, content: P::SinkTakesSpans, ..case("files in spans", nodes) }
}

fn tree_case(
    cx: &Cx,
    report: &mut Report,
    (from, fidelity): (&EntityId, Fidelity),
    case: &Case,
    open: &mut Open<'_>,
) {
    let mut entity = scripted(from, Shape::Tree, 0);
    entity.script = case.script.clone();
    let Some(target) = report.take(P::SinkTakesEverything, case.name, open(&entity)) else {
        return;
    };
    let Sink::Tree(sink) = target.sink else {
        report.expect(P::SinkTakesEverything, false, || "the sink takes no tree".to_owned());
        return;
    };
    let copied = copy_tree(cx, &mut case.script.play(), &*sink);
    let Some(ending) = report.take(P::SinkTakesEverything, case.name, copied) else { return };
    report.expect(P::SinkTakesEverything, ending.omissions.is_empty(), || {
        format!("{}: {:?}", case.name, ending.omissions.named())
    });
    drop(sink);
    let reading = match (target.read_back)(cx) {
        Ok(reading) => reading,
        Err(error) => {
            report.expect(case.entries, false, || format!("{}: {}", case.name, error.chain()));
            return;
        }
    };
    let Some(Reading { source: Source::Tree(mut source), .. }) = reading else {
        report.expect(case.entries, false, || format!("{}: no tree is there", case.name));
        return;
    };
    let Some(found) = read_back(cx, report, &mut *source) else { return };
    let expected = written(&case.script);
    let promises = Promises { entries: case.entries, content: case.content, fidelity };
    compare(report, case.name, &promises, (&expected, &found));
}

/// The size of the disk that is written.
const DISK: u64 = 1 << 20;

fn disk_case(cx: &Cx, report: &mut Report, from: &EntityId, open: &mut Open<'_>) {
    let opened = open(&scripted(from, Shape::Disk, DISK));
    let Some(target) = report.take(P::SinkTakesEverything, "open a disk sink", opened) else {
        return;
    };
    let Sink::Disk(sink) = target.sink else {
        report.expect(P::SinkTakesEverything, false, || "the sink takes no disk".to_owned());
        return;
    };
    let mut disk = vec![0; usize::try_from(DISK).unwrap_or(0)];
    let done = write_disk(cx, &*sink, &mut disk).and_then(|()| sink.finish(cx));
    if report.take(P::SinkTakesEverything, "write a disk", done).is_none() {
        return;
    }
    drop(sink);
    let reading = report.take(P::SinkKeepsContent, "read the disk back", (target.read_back)(cx));
    let Some(Some(Reading { source: Source::Disk(source), .. })) = reading else {
        report.expect(P::SinkKeepsContent, false, || "no disk is there".to_owned());
        return;
    };
    report.expect(P::SinkKeepsContent, source.size() == DISK, || {
        format!("the disk has {} bytes, not {DISK}", source.size())
    });
    let mut found = vec![0xA5; disk.len()];
    let read = source.read_at(cx, 0, &mut found);
    if report.take(P::SinkKeepsContent, "read the disk back", read).is_some() {
        let differs = found.iter().zip(&disk).position(|(a, b)| a != b);
        report
            .expect(P::SinkKeepsContent, differs.is_none(), || format!("byte {differs:?} differs"));
    }
    unallocated(cx, report, &*source);
}

/// Asks that what never was written, or was made zero, is not worse than zeros.
fn unallocated(cx: &Cx, report: &mut Report, source: &dyn DiskSource) {
    let mut extents = Vec::new();
    let listed = source.extents(cx, 0, &mut extents);
    if report.take(P::SinkKeepsHoles, "list extents", listed).is_none() {
        return;
    }
    for extent in extents.iter().filter(|extent| !extent.allocated) {
        let mut buf = vec![0xA5; usize::try_from(extent.len.min(DISK)).unwrap_or(0)];
        let zeros = source.read_at(cx, extent.at, &mut buf).is_ok() && buf.iter().all(|b| *b == 0);
        report.expect(P::SinkKeepsHoles, zeros, || format!("{extent:?} is not zeros"));
    }
}

/// Writes from two threads, backwards and not aligned to anything, then zeroes some of it again.
fn write_disk(cx: &Cx, sink: &dyn DiskSink, disk: &mut [u8]) -> Result<()> {
    let mut writes: Vec<(usize, Vec<u8>)> = (0..16_u8)
        .map(|at| (usize::from(at) * 50_001 + 3, bytes(at, 20_000 + usize::from(at) * 100)))
        .collect();
    writes.reverse();
    for (at, data) in &writes {
        disk[*at..*at + data.len()].copy_from_slice(data);
    }
    let (first, second) = writes.split_at(writes.len() / 2);
    let write = |part: &[(usize, Vec<u8>)]| {
        part.iter().try_for_each(|(at, data)| sink.write_at(cx, *at as u64, data))
    };
    thread::scope(|scope| {
        let worker = scope.spawn(|| write(second));
        let here = write(first);
        let there = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        here.and(there)
    })?;
    for (at, len) in [(0, 10), (60_000, 123_457), (1_000_000, 48_576)] {
        sink.zero(cx, at as u64, len as u64)?;
        disk[at..at + len].fill(0);
    }
    // What was made zero may be written again.
    disk[70_000..70_100].fill(9);
    sink.write_at(cx, 70_000, &[9; 100])
}

/// Opens a stream sink.
fn stream<'a>(
    report: &mut Report,
    from: &EntityId,
    open: &mut Open<'a>,
) -> Option<(Box<dyn StreamSink>, ReadBack<'a>)> {
    let opened = open(&scripted(from, Shape::Stream, 0));
    let target = report.take(P::SinkTakesEverything, "open a stream sink", opened)?;
    match target.sink {
        Sink::Stream(sink) => Some((sink, target.read_back)),
        Sink::Tree(_) | Sink::Disk(_) => {
            report.expect(P::SinkTakesEverything, false, || "the sink takes no stream".to_owned());
            None
        }
    }
}

fn stream_case(cx: &Cx, report: &mut Report, from: &EntityId, len: usize, open: &mut Open<'_>) {
    let Some((mut sink, read_back)) = stream(report, from, open) else { return };
    let data = bytes(16, len);
    let done = data
        .chunks(30_000)
        .chain([[].as_slice()])
        .try_for_each(|chunk| sink.write(cx, chunk))
        .and_then(|()| sink.finish(cx));
    if report.take(P::SinkTakesEverything, "write a stream", done).is_none() {
        return;
    }
    let reading = report.take(P::SinkKeepsContent, "read the stream back", read_back(cx));
    let Some(Some(Reading { source: Source::Stream(source), .. })) = reading else {
        report.expect(P::SinkKeepsContent, false, || "no stream is there".to_owned());
        return;
    };
    let read = read_stream(cx, source, len);
    if let Some(found) = report.take(P::SinkKeepsContent, "read the stream back", read) {
        report.expect(P::SinkKeepsContent, found == data, || {
            format!("{} bytes were written, {} others read back", data.len(), found.len())
        });
    }
}

fn unfinished_stream(cx: &Cx, report: &mut Report, from: &EntityId, open: &mut Open<'_>) {
    let Some((mut sink, read_back)) = stream(report, from, open) else { return };
    let wrote = sink.write(cx, &bytes(17, 1_000));
    report.take(P::SinkTakesEverything, "write a stream", wrote);
    drop(sink);
    if let Ok(Some(Reading { source: Source::Stream(source), .. })) = read_back(cx) {
        let read = read_stream(cx, source, 1_000);
        report.expect(P::SinkUnfinishedIsNotWhole, read.is_err(), || {
            "it reads to its end and its producer did not fail".to_owned()
        });
    } else {
        report.expect(P::SinkUnfinishedIsNotWhole, true, String::new);
    }
}

/// Reads a stream to its end, but not far beyond what was written.
fn read_stream(cx: &Cx, mut source: Box<dyn StreamSource>, len: usize) -> Result<Vec<u8>> {
    let mut found = Vec::new();
    let mut buf = vec![0; 10_000];
    while found.len() <= len {
        let read = source.read(cx, &mut buf)?;
        if read == 0 {
            break;
        }
        found.extend(buf.iter().take(read));
    }
    source.finish(cx)?;
    Ok(found)
}
