//! Trees as they are read.

use alidade_model::{Entry, Hole, Kind, Metadata, Version};

use super::entity::{Content, finish, misshapen};
use super::{Promise as P, Report, cancelled};
use crate::{
    Class, Cx, OpenFile, Piece, ReadFile, Shelf, Source, Span, TreeSource, Verdict, Visit,
};

/// The largest piece.
const PIECE: usize = 8 << 20;
/// What a cancelled read may still deliver: `Cx::check` is called per MiB.
const AFTER_CANCEL: u64 = 1 << 20;
/// "Some hundreds" of visits, generously.
const BATCH: usize = 4_096;
/// Steps in a row that add nothing, after which a walk counts as one that does not end.
const IDLE_STEPS: usize = 10_000;

pub(super) fn check(content: &Content<'_>, report: &mut Report) {
    let cx = &content.suite.cx;
    let first = walk_content(content, report);
    let second = walk_content(content, report);
    if let (Some(first), Some(second)) = (&first, &second) {
        compare(report, first, second);
    }
    if let Some(walk) = first {
        shape(report, &walk);
        for visit in &walk.visits {
            if let Visit::File(entry, file) = visit {
                check_file(cx, report, entry, &**file);
            }
        }
        if let Some(lease) = walk.lease {
            finish(report, lease);
        }
    }
    if let Some(mut reading) = content.open(report) {
        let Source::Tree(source) = &mut reading.source else { return };
        let stopped = source.next(&cancelled(cx), &mut Vec::new());
        report.fails(P::WalkCancels, "the walk", stopped, Class::Cancelled);
    }
}

/// A walk that was made.
struct Walk {
    trail: Vec<Entry>,
    visits: Vec<Visit>,
    lease: Option<Box<dyn crate::Lease>>,
}

fn walk_content(content: &Content<'_>, report: &mut Report) -> Option<Walk> {
    let reading = content.open(report)?;
    match reading.source {
        Source::Tree(mut source) => {
            let (trail, visits) = walk(&content.suite.cx, report, &mut *source)?;
            Some(Walk { trail, visits, lease: Some(reading.lease) })
        }
        other => {
            misshapen(report, &other);
            None
        }
    }
}

/// Walks a tree to its end: its trail and its visits.
pub(super) fn walk(
    cx: &Cx,
    report: &mut Report,
    source: &mut dyn TreeSource,
) -> Option<(Vec<Entry>, Vec<Visit>)> {
    let trail = source.trail().to_vec();
    let mut visits = Vec::new();
    let mut idle = 0;
    loop {
        let before = visits.len();
        let more = report.take(P::WalkBatchesAreBounded, "walk", source.next(cx, &mut visits))?;
        report.expect(P::WalkAppends, visits.len() >= before, || {
            format!("{before} visits became {}", visits.len())
        });
        let added = visits.len().saturating_sub(before);
        report.expect(P::WalkBatchesAreBounded, added <= BATCH, || format!("{added} visits"));
        if !more {
            break;
        }
        idle = if added == 0 { idle + 1 } else { 0 };
        if idle > IDLE_STEPS {
            report.expect(P::WalkBatchesAreBounded, false, || "no end in sight".to_owned());
            return None;
        }
    }
    let before = visits.len();
    for _ in 0..3 {
        let more = report.take(P::WalkEndsForEver, "walk on", source.next(cx, &mut visits))?;
        report.expect(P::WalkEndsForEver, !more && visits.len() == before, || {
            format!("more: {more}, {before} visits became {}", visits.len())
        });
    }
    Some((trail, visits))
}

/// Checks names, order and balance of a walk.
fn shape(report: &mut Report, walk: &Walk) {
    for entry in &walk.trail {
        name(report, entry);
        let kind = entry.metadata.kind;
        report.expect(P::WalkTrailIsDirectories, kind == Kind::Directory, || shown(entry));
    }
    let mut last: Vec<Option<&[u8]>> = vec![None];
    for visit in &walk.visits {
        match visit {
            Visit::Enter(entry) => {
                in_order(report, &mut last, entry);
                kind_fits(report, entry, &[Kind::Directory]);
                last.push(None);
            }
            Visit::File(entry, _) => {
                in_order(report, &mut last, entry);
                kind_fits(report, entry, &[Kind::File]);
            }
            Visit::Leaf(entry) => {
                in_order(report, &mut last, entry);
                kind_fits(report, entry, &LEAVES);
            }
            Visit::Leave => {
                report.expect(P::WalkIsBalanced, last.len() > 1, || {
                    "a directory is left that was not entered".to_owned()
                });
                if last.len() > 1 {
                    last.pop();
                }
            }
            Visit::Omit(omission) => {
                report.expect(P::WalkNamesAreComponents, !omission.path.is_empty(), || {
                    format!("{omission:?} names nothing")
                });
            }
        }
    }
    report.expect(P::WalkIsBalanced, last.len() == 1, || {
        format!("{} directories are never left", last.len() - 1)
    });
}

/// The kinds that have no bytes and hold nothing.
const LEAVES: [Kind; 5] =
    [Kind::Symlink, Kind::BlockDevice, Kind::CharDevice, Kind::Fifo, Kind::Socket];

fn in_order<'a>(report: &mut Report, last: &mut [Option<&'a [u8]>], entry: &'a Entry) {
    name(report, entry);
    let Some(before) = last.last_mut() else { return };
    if let Some(before) = before {
        report.expect(P::WalkNamesAreUnique, *before != entry.name, || shown(entry));
        report.expect(P::WalkNamesAscend, *before <= entry.name.as_slice(), || {
            format!("{} after `{}`", shown(entry), String::from_utf8_lossy(before))
        });
    }
    *before = Some(&entry.name);
}

fn name(report: &mut Report, entry: &Entry) {
    let name = &entry.name;
    let component = !name.is_empty()
        && !name.contains(&b'/')
        && !name.contains(&0)
        && name != b"."
        && name != b"..";
    report.expect(P::WalkNamesAreComponents, component, || shown(entry));
}

fn kind_fits(report: &mut Report, entry: &Entry, kinds: &[Kind]) {
    let meta = &entry.metadata;
    let well_formed = meta.mode <= 0o7777
        && [meta.mtime, meta.atime, meta.ctime].iter().all(|time| time.nanos < 1_000_000_000)
        && meta.xattrs.windows(2).all(|pair| pair[0].name < pair[1].name)
        && (meta.kind == Kind::File || meta.size == 0)
        && (meta.kind == Kind::Symlink || meta.link_target.is_empty());
    report.expect(P::WalkKindsFit, kinds.contains(&meta.kind) && well_formed, || {
        format!("{} with {meta:?}", shown(entry))
    });
}

fn shown(entry: &Entry) -> String {
    format!("{} `{}`", entry.metadata.kind.word(), String::from_utf8_lossy(&entry.name))
}

/// A visit without the way to the bytes, so that it can be compared.
#[derive(PartialEq, Eq, Debug)]
enum Seen<'a> {
    Entry(&'a [u8], Metadata),
    Leave,
    Omit(&'a [u8]),
}

fn compare(report: &mut Report, first: &Walk, second: &Walk) {
    let (a, b) = (seen(first), seen(second));
    let differs = a.iter().zip(&b).find(|(a, b)| a != b);
    report.expect(P::WalksAgree, differs.is_none() && a.len() == b.len(), || {
        format!("{} and {} visits, first difference {differs:?}", a.len(), b.len())
    });
    for (a, b) in versions(first).zip(versions(second)) {
        report.expect(P::VersionsAgree, a == b, || format!("{a:?}, then {b:?}"));
    }
}

fn seen(walk: &Walk) -> Vec<Seen<'_>> {
    let trail = walk.trail.iter().map(seen_entry);
    let visits = walk.visits.iter().map(|visit| match visit {
        Visit::Enter(entry) | Visit::File(entry, _) | Visit::Leaf(entry) => seen_entry(entry),
        Visit::Leave => Seen::Leave,
        Visit::Omit(omission) => Seen::Omit(&omission.path),
    });
    trail.chain(visits).collect()
}

fn seen_entry(entry: &Entry) -> Seen<'_> {
    // Reading a tree may touch access times; that is not a change of the tree.
    let metadata = Metadata { atime: entry.metadata.mtime, ..entry.metadata.clone() };
    Seen::Entry(&entry.name, metadata)
}

fn versions(walk: &Walk) -> impl Iterator<Item = (&[u8], &Version)> {
    walk.visits.iter().filter_map(|visit| match visit {
        Visit::Enter(entry) | Visit::File(entry, _) | Visit::Leaf(entry) => {
            Some((entry.name.as_slice(), &entry.version))
        }
        Visit::Leave | Visit::Omit(_) => None,
    })
}

fn check_file(cx: &Cx, report: &mut Report, entry: &Entry, file: &dyn OpenFile) {
    let Some(first) = read(cx, report, entry, file, &[Span::WHOLE], Way::Put) else { return };
    let Some(second) = read(cx, report, entry, file, &[Span::WHOLE], Way::Put) else { return };
    report.expect(P::ReadsAgree, first == second, || {
        format!("{}: {first:?}, then {second:?}", shown(entry))
    });
    let Some(lent) = read(cx, report, entry, file, &[Span::WHOLE], Way::Lent) else { return };
    report.expect(P::LentAgrees, first == lent, || {
        format!("{}: {first:?}, lent {lent:?}", shown(entry))
    });
    if file.has_spans() {
        let (a, b) = (first.size / 3, first.size / 2);
        let spans = [(0, a), (a, b), (b, u64::MAX)].map(|(from, to)| Span { from, to });
        let Some(joined) = read(cx, report, entry, file, &spans, Way::Put) else { return };
        report.expect(P::SpansAgree, first == joined, || {
            format!("{}: {first:?}, in spans {joined:?}", shown(entry))
        });
    }
    if let Some(holes) = report.take(P::HolesAgree, "ask for holes", file.holes(cx)) {
        let ascend = holes.windows(2).all(|pair| pair[0].at + pair[0].len <= pair[1].at);
        let agree = ascend && merged(&holes) == first.holes;
        report.expect(P::HolesAgree, agree, || {
            format!("{}: said {holes:?}, shown {:?}", shown(entry), first.holes)
        });
    }
    file_cancels(cx, report, file);
}

/// What a file read as, without keeping its bytes.
#[derive(PartialEq, Eq, Debug)]
struct Contents {
    size: u64,
    /// FNV-1a over the bytes outside the holes: enough to see a difference.
    sum: u64,
    holes: Vec<Hole>,
}

/// How pieces are read.
#[derive(Clone, Copy)]
enum Way {
    /// Put into a buffer.
    Put,
    /// Every other one lent.
    Lent,
}

/// Reads the spans of a file one after the other.
fn read(
    cx: &Cx,
    report: &mut Report,
    entry: &Entry,
    file: &dyn OpenFile,
    spans: &[Span],
    way: Way,
) -> Option<Contents> {
    let mut contents = Contents { size: 0, sum: 0xcbf2_9ce4_8422_2325, holes: Vec::new() };
    for span in spans {
        read_span(cx, report, entry, (file, *span, way), &mut contents)?;
    }
    contents.holes = merged(&contents.holes);
    Some(contents)
}

fn read_span(
    cx: &Cx,
    report: &mut Report,
    entry: &Entry,
    (file, span, way): (&dyn OpenFile, Span, Way),
    contents: &mut Contents,
) -> Option<()> {
    let mut shelf = Shelf::default();
    file.announce(&mut shelf);
    let opened = file.open(cx, &mut shelf, span);
    let mut open = report.take(P::FileOpens, &shown(entry), opened)?;
    let meta = open.metadata().clone();
    report.expect(P::WalkKindsFit, meta.kind == Kind::File, || shown(entry));
    let (mut buf, mut lends) = (Vec::new(), matches!(way, Way::Lent));
    while let Some(piece) = step(cx, report, &mut *open, &mut buf, lends)? {
        lends = !lends && matches!(way, Way::Lent);
        let (at, len) = match piece {
            Piece::Data { at } => (at, buf.len() as u64),
            Piece::Hole(range) | Piece::Kept(range) => (range.at, range.len),
        };
        report.expect(P::PiecesAreAdjacent, at == contents.size, || {
            format!("{}: a piece at {at} after {}", shown(entry), contents.size)
        });
        let fits = match piece {
            Piece::Data { .. } => !buf.is_empty() && buf.len() <= PIECE,
            Piece::Hole(_) => buf.is_empty() && len > 0,
            // Nobody here has what it was.
            Piece::Kept(_) => false,
        };
        report.expect(P::PiecesAreBounded, fits, || {
            format!("{}: {piece:?} with {} bytes in the buffer", shown(entry), buf.len())
        });
        if len == 0 {
            return None;
        }
        for byte in &buf {
            contents.sum = (contents.sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Piece::Hole(hole) = piece {
            contents.holes.push(hole);
        }
        contents.size = at.saturating_add(len);
    }
    let end = meta.size.min(span.to);
    report.expect(P::PiecesEndAtSize, contents.size == end, || {
        format!("{}: pieces end at {}, size {}", shown(entry), contents.size, meta.size)
    });
    let verdict = report.take(P::QuietFileIsSteady, "finish a file", open.finish())?;
    report.expect(P::QuietFileIsSteady, verdict == Verdict::Steady, || {
        format!("{}: {verdict:?}", shown(entry))
    });
    Some(())
}

/// Reads a piece into a buffer that still holds something, as it does in the engine.
fn step(
    cx: &Cx,
    report: &mut Report,
    open: &mut dyn ReadFile,
    buf: &mut Vec<u8>,
    lends: bool,
) -> Option<Option<Piece>> {
    buf.clear();
    buf.extend_from_slice(b"left from the piece before");
    if !lends {
        return report.take(P::PiecesAreAdjacent, "read a piece", open.next_piece(cx, buf));
    }
    let mut own = buf.clone();
    let lent = report.take(P::LentAgrees, "lend a piece", open.lend_piece(cx, &mut own))?;
    buf.clear();
    Some(lent.map(|(piece, data)| {
        data.into_iter().for_each(|part| buf.extend_from_slice(part));
        piece
    }))
}

/// The same holes, adjacent ones joined.
fn merged(holes: &[Hole]) -> Vec<Hole> {
    let mut out: Vec<Hole> = Vec::new();
    for hole in holes {
        match out.last_mut() {
            Some(last) if last.at + last.len == hole.at => last.len += hole.len,
            _ => out.push(*hole),
        }
    }
    out
}

fn file_cancels(cx: &Cx, report: &mut Report, file: &dyn OpenFile) {
    let Some(mut open) = report.take(P::FileOpens, "open a file again", file.open_whole(cx)) else {
        return;
    };
    let stopped = cancelled(cx);
    let mut delivered = 0;
    let mut buf = Vec::new();
    loop {
        match open.next_piece(&stopped, &mut buf) {
            Err(error) => {
                report.expect(P::FileReadCancels, error.class() == Class::Cancelled, || {
                    error.chain()
                });
                return;
            }
            Ok(Some(Piece::Data { .. })) if delivered <= AFTER_CANCEL => {
                delivered += buf.len() as u64;
            }
            Ok(Some(Piece::Hole(_))) if delivered <= AFTER_CANCEL => {}
            Ok(_) => break,
        }
    }
    report.expect(P::FileReadCancels, delivered <= AFTER_CANCEL, || {
        format!("{delivered} bytes were read after it")
    });
}
