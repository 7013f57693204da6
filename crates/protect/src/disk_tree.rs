//! A disk on its way in: read as the files it is stored as.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use alidade_entity::{
    Class, Cx, DiskSource, Error, Extent, OpenFile, Piece, ReadFile, Result, Shelf, Span,
    TreeSource, Verdict, Visit,
};
use alidade_model::{
    ContentName, Entry, Hole, Kind, Metadata, Omission, OmissionKind, Omissions, Sabotage,
};

use crate::disk_layout::{
    CELL, GROUP, SEGMENT, entry, group_name, has_segments, name_of, segment_name,
};

/// What is read at a time.
const PIECE: u64 = 8 << 20;
/// What is given up at a time where a disk does not read.
const BLOCK: usize = 4096;
/// Visits in one batch.
const BATCH: usize = 256;

/// A disk as a tree of one file, or of segments.
pub(crate) struct DiskTree {
    disk: Arc<Disk>,
    name: Vec<u8>,
    next: Step,
}

/// What is visited next.
#[derive(Clone, Copy)]
enum Step {
    Begin,
    Segment(u64),
    End,
}

/// The disk, and what reading it found out.
struct Disk {
    source: Box<dyn DiskSource>,
    /// True when the source lists only what changed.
    is_since: bool,
    /// The path of its files, for people.
    path: Vec<u8>,
    unreadable: Mutex<Vec<(u64, u64, String)>>,
}

/// What could not be read, when everything else was.
pub(crate) struct Unreadable {
    disk: Arc<Disk>,
}

impl DiskTree {
    /// The disk as the content of that name; `path` is that of its files in the snapshot. What cannot be
    /// read of it becomes zeros, and is told afterwards.
    pub(crate) fn new(
        source: Box<dyn DiskSource>,
        is_since: bool,
        content: &ContentName,
        path: Vec<u8>,
    ) -> (Self, Unreadable) {
        let name = name_of(content, source.size());
        let disk = Arc::new(Disk { source, is_since, path, unreadable: Mutex::default() });
        let unreadable = Unreadable { disk: Arc::clone(&disk) };
        (Self { disk, name, next: Step::Begin }, unreadable)
    }

    fn segments(&self) -> u64 {
        self.disk.source.size().div_ceil(SEGMENT)
    }

    fn file(&self, cx: &Cx, name: Vec<u8>, from: u64, len: u64) -> Result<Visit> {
        let is_same = self.disk.is_since && self.disk.first_extent(cx, from, from + len)?.is_none();
        let entry = entry(name, Kind::File, len, is_same);
        let metadata = entry.metadata.clone();
        let file = DiskFile { disk: Arc::clone(&self.disk), metadata, from };
        Ok(Visit::File(entry, Box::new(file)))
    }

    fn step(&mut self, cx: &Cx, out: &mut Vec<Visit>) -> Result<()> {
        let size = self.disk.source.size();
        self.next = match self.next {
            Step::Begin if has_segments(size) => {
                out.push(Visit::Enter(directory(self.name.clone())));
                Step::Segment(0)
            }
            Step::Begin => {
                out.push(self.file(cx, self.name.clone(), 0, size)?);
                Step::End
            }
            Step::Segment(number) => {
                if number.is_multiple_of(GROUP) {
                    out.push(Visit::Enter(directory(group_name(number / GROUP))));
                }
                let from = number * SEGMENT;
                let len = SEGMENT.min(size - from);
                out.push(self.file(cx, segment_name(number), from, len)?);
                let next = number + 1;
                if next == self.segments() {
                    out.extend([Visit::Leave, Visit::Leave]);
                    Step::End
                } else {
                    out.extend(next.is_multiple_of(GROUP).then_some(Visit::Leave));
                    Step::Segment(next)
                }
            }
            Step::End => Step::End,
        };
        Ok(())
    }
}

fn directory(name: Vec<u8>) -> Entry {
    entry(name, Kind::Directory, 0, false)
}

impl TreeSource for DiskTree {
    fn trail(&self) -> &[Entry] {
        &[]
    }

    fn next(&mut self, cx: &Cx, out: &mut Vec<Visit>) -> Result<bool> {
        cx.check()?;
        let full = out.len() + BATCH;
        while out.len() < full && !matches!(self.next, Step::End) {
            self.step(cx, out)?;
        }
        Ok(!matches!(self.next, Step::End))
    }
}

impl Disk {
    /// The first extent that is listed between two offsets.
    fn first_extent(&self, cx: &Cx, from: u64, to: u64) -> Result<Option<Extent>> {
        let mut extents = Vec::new();
        self.source.extents(cx, from, &mut extents)?;
        Ok(extents.first().copied().filter(|extent| extent.at < to))
    }

    /// Reads as much of a range as can be read; the rest becomes zeros.
    fn read(&self, cx: &Cx, at: u64, buf: &mut [u8]) -> Result<()> {
        match self.source.read_at(cx, at, buf) {
            Err(error) if error.class() == Class::Failed => {}
            read => return read,
        }
        let mut from = at;
        for block in buf.chunks_mut(BLOCK) {
            match self.source.read_at(cx, from, block) {
                Err(error) if error.class() == Class::Failed => {
                    block.fill(0);
                    self.lose(from, block.len() as u64, &error);
                }
                read => read?,
            }
            from += block.len() as u64;
        }
        Ok(())
    }

    fn lose(&self, at: u64, len: u64, error: &Error) {
        let mut lost = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        match lost.last_mut() {
            Some((from, to, _)) if *to == at && at + len - *from <= SEGMENT => *to = at + len,
            _ => lost.push((at, at + len, error.chain())),
        }
    }
}

impl Unreadable {
    /// An omission for each range that became zeros.
    pub(crate) fn omissions(&self) -> Omissions {
        let mut lost = self.disk.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let mut omissions = Omissions::default();
        lost.sort_unstable_by_key(|(from, ..)| *from);
        for (from, to, why) in lost.drain(..) {
            let reason = format!("bytes {from} to {to} are stored as zeros: {why}");
            let (path, kind) = (self.disk.path.clone(), OmissionKind::Unreadable);
            omissions.add(Omission { path, kind, reason });
        }
        omissions
    }
}

/// The disk, or a segment of it.
struct DiskFile {
    disk: Arc<Disk>,
    metadata: Metadata,
    /// Where it begins on the disk.
    from: u64,
}

impl DiskFile {
    fn reader(&self, span: Span, listed: Listed) -> Box<dyn ReadFile> {
        Box::new(DiskReader {
            disk: Arc::clone(&self.disk),
            metadata: self.metadata.clone(),
            begins: self.from,
            at: self.from + span.from,
            to: self.from + span.to.min(self.metadata.size),
            listed,
            ahead: VecDeque::new(),
            listed_to: self.from + span.from,
            is_all_listed: false,
        })
    }
}

impl OpenFile for DiskFile {
    fn has_spans(&self) -> bool {
        true
    }

    fn open(&self, _cx: &Cx, _shelf: &mut Shelf, span: Span) -> Result<Box<dyn ReadFile>> {
        // What is not listed as changed may be data all the same.
        let listed = if self.disk.is_since { Listed::Nothing } else { Listed::All };
        Ok(self.reader(span, listed))
    }

    fn open_changes(&self, cx: &Cx, shelf: &mut Shelf, span: Span) -> Result<Box<dyn ReadFile>> {
        if !self.disk.is_since {
            return self.open(cx, shelf, span);
        }
        Ok(self.reader(span, Listed::Changes))
    }

    fn holes(&self, _cx: &Cx) -> Result<Vec<Hole>> {
        Ok(Vec::new())
    }
}

/// What the extents of the source say for this reading.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listed {
    /// Where data is.
    All,
    /// What changed.
    Changes,
    /// Nothing: everything is read.
    Nothing,
}

/// What a cell is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Data,
    Hole,
    Kept,
}

/// A span of a disk, read in whole cells.
struct DiskReader {
    disk: Arc<Disk>,
    metadata: Metadata,
    /// Where the file begins on the disk.
    begins: u64,
    at: u64,
    to: u64,
    listed: Listed,
    /// Extents that end after `at`.
    ahead: VecDeque<Extent>,
    /// Where the next listing begins.
    listed_to: u64,
    is_all_listed: bool,
}

impl DiskReader {
    /// Lists until everything that begins before `end` is known.
    fn look_ahead(&mut self, cx: &Cx, end: u64) -> Result<()> {
        while !self.is_all_listed && self.listed_to < end {
            let mut extents = Vec::new();
            self.disk.source.extents(cx, self.listed_to, &mut extents)?;
            match extents.last() {
                None => self.is_all_listed = true,
                Some(last) => {
                    self.listed_to = last.at.saturating_add(last.len);
                    self.ahead.extend(extents);
                }
            }
        }
        Ok(())
    }

    /// What the cell from `at` to `end` is.
    fn cell(&mut self, cx: &Cx, at: u64, end: u64) -> Result<Cell> {
        if self.listed == Listed::Nothing {
            return Ok(Cell::Data);
        }
        self.look_ahead(cx, end)?;
        while self.ahead.front().is_some_and(|extent| extent.at + extent.len <= at) {
            self.ahead.pop_front();
        }
        let mut touching = self.ahead.iter().take_while(|extent| extent.at < end);
        let Some(first) = touching.next() else {
            return Ok(if self.listed == Listed::Changes { Cell::Kept } else { Cell::Data });
        };
        let covers = first.at <= at && first.at + first.len >= end;
        let is_hole = match self.listed {
            Listed::Changes => covers && !first.allocated,
            _ => !first.allocated && touching.all(|extent| !extent.allocated),
        };
        if Sabotage::KeepChangedCell.is_on() && self.listed == Listed::Changes {
            return Ok(Cell::Kept);
        }
        Ok(if is_hole { Cell::Hole } else { Cell::Data })
    }

    /// The next run of equal cells and where it ends.
    fn run(&mut self, cx: &Cx) -> Result<(Cell, u64)> {
        let end_of = |at: u64, to: u64| (at / CELL + 1).saturating_mul(CELL).min(to);
        let mut end = end_of(self.at, self.to);
        let first = self.cell(cx, self.at, end)?;
        while end < self.to && (first != Cell::Data || end - self.at < PIECE) {
            let next = end_of(end, self.to);
            if self.cell(cx, end, next)? != first {
                break;
            }
            end = next;
        }
        Ok((first, end))
    }
}

impl ReadFile for DiskReader {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn next_piece(&mut self, cx: &Cx, buf: &mut Vec<u8>) -> Result<Option<Piece>> {
        buf.clear();
        cx.check()?;
        if self.at >= self.to {
            return Ok(None);
        }
        let (cell, end) = self.run(cx)?;
        if Sabotage::DropHole.is_on() && cell == Cell::Hole {
            self.at = end;
            return self.next_piece(cx, buf);
        }
        let (at, len) = (self.at - self.begins, end - self.at);
        let piece = match cell {
            Cell::Hole => Piece::Hole(Hole { at, len }),
            Cell::Kept => Piece::Kept(Hole { at, len }),
            Cell::Data => {
                buf.resize(usize::try_from(len).unwrap_or(0), 0);
                self.disk.read(cx, self.at, buf)?;
                Piece::Data { at }
            }
        };
        self.at = end;
        Ok(Some(piece))
    }

    fn finish(self: Box<Self>) -> Result<Verdict> {
        Ok(Verdict::Steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alidade_testkit::TestCx;

    const CELL: u64 = super::CELL;

    /// A disk of ones with these extents, parts of which do not read.
    struct Fake {
        size: u64,
        extents: Vec<Extent>,
        broken: std::ops::Range<u64>,
    }

    impl DiskSource for Fake {
        fn size(&self) -> u64 {
            self.size
        }

        fn extents(&self, _cx: &Cx, from: u64, out: &mut Vec<Extent>) -> Result<()> {
            let mut rest = self.extents.iter().filter(|extent| extent.at + extent.len > from);
            // One at a time: nobody may need more.
            out.extend(rest.next().map(|extent| {
                let (at, end) = (extent.at.max(from), extent.at + extent.len);
                Extent { at, len: end - at, ..*extent }
            }));
            Ok(())
        }

        fn read_at(&self, _cx: &Cx, at: u64, buf: &mut [u8]) -> Result<()> {
            let end = at + buf.len() as u64;
            if at < self.broken.end && self.broken.start < end {
                return Err(Error::new(Class::Failed, "read: a bad sector"));
            }
            buf.fill(1);
            Ok(())
        }
    }

    fn data(at: u64, len: u64) -> Extent {
        Extent { at, len, allocated: true }
    }

    fn hole(at: u64, len: u64) -> Extent {
        Extent { at, len, allocated: false }
    }

    /// The only file of a disk.
    fn file(fake: Fake, is_since: bool) -> (Entry, Box<dyn OpenFile>, Unreadable) {
        let test = TestCx::seeded(1);
        let content = ContentName::data();
        let (mut tree, unreadable) =
            DiskTree::new(Box::new(fake), is_since, &content, b"/disk/a/data".to_vec());
        let mut visits = Vec::new();
        assert!(!tree.next(test.cx(), &mut visits).unwrap());
        match visits.pop() {
            Some(Visit::File(entry, file)) if visits.is_empty() => (entry, file, unreadable),
            _ => panic!("a small disk is one file"),
        }
    }

    /// The pieces of a file: `d`, `h` or `k`, and where each ends, in cells.
    fn pieces(file: &dyn OpenFile, only_changes: bool, span: Span) -> String {
        let test = TestCx::seeded(1);
        let mut shelf = Shelf::default();
        let mut reader = if only_changes {
            file.open_changes(test.cx(), &mut shelf, span).unwrap()
        } else {
            file.open(test.cx(), &mut shelf, span).unwrap()
        };
        let (mut text, mut buf, mut next) = (String::new(), Vec::new(), span.from);
        while let Some(piece) = reader.next_piece(test.cx(), &mut buf).unwrap() {
            let (what, at, len) = match piece {
                Piece::Data { at } => ('d', at, buf.len() as u64),
                Piece::Hole(hole) => ('h', hole.at, hole.len),
                Piece::Kept(kept) => ('k', kept.at, kept.len),
            };
            assert_eq!(at, next, "pieces are adjacent");
            next = at + len;
            text.push_str(&format!("{what}{} ", next.div_ceil(CELL)));
        }
        assert_eq!(next, reader.metadata().size.min(span.to));
        text
    }

    fn fake(cells: u64, extents: Vec<Extent>) -> Fake {
        Fake { size: cells * CELL - 100, extents, broken: 0..0 }
    }

    #[test]
    fn a_cell_that_data_touches_is_read_whole() {
        let end = 10 * CELL - 100;
        let extents = vec![
            data(0, 1),
            hole(1, 3 * CELL - 1),
            data(3 * CELL, CELL),
            hole(4 * CELL, CELL / 2),
            hole(4 * CELL + CELL / 2, CELL / 2),
            data(5 * CELL, CELL / 2),
            hole(5 * CELL + CELL / 2, end - 5 * CELL - CELL / 2),
        ];
        let (entry, file, _) = file(fake(10, extents), false);
        assert_eq!(entry.version, alidade_model::Version::Unknown);
        assert_eq!(pieces(&*file, false, Span::WHOLE), "d1 h3 d4 h5 d6 h10 ");
        let middle = Span { from: 2 * CELL, to: 8 * CELL };
        assert_eq!(pieces(&*file, true, middle), "h3 d4 h5 d6 h8 ");
    }

    #[test]
    fn what_is_not_listed_as_changed_is_kept() {
        let extents = vec![
            data(CELL + 5, 2),
            hole(3 * CELL, 2 * CELL),
            hole(6 * CELL, 10),
            data(9 * CELL, CELL - 100),
        ];
        let (entry, file, _) = file(fake(10, extents), true);
        assert_eq!(entry.version, alidade_model::Version::Unknown);
        assert_eq!(pieces(&*file, true, Span::WHOLE), "k1 d2 k3 h5 k6 d7 k9 d10 ");
        assert_eq!(pieces(&*file, false, Span::WHOLE), "d10 ", "who has no base needs all");
    }

    #[test]
    fn a_disk_without_changes_is_what_it_was() {
        let (entry, ..) = file(fake(3, Vec::new()), true);
        let (again, ..) = file(fake(3, Vec::new()), true);
        assert!(entry.version.matches(&again.version));
    }

    #[test]
    fn what_does_not_read_becomes_zeros_and_is_told() {
        let test = TestCx::seeded(1);
        let size = 2 * CELL - 100;
        let extents = vec![data(0, size)];
        let broken = 5000..13_000;
        let (_, file, unreadable) = file(Fake { size, extents, broken }, false);
        let mut reader = file.open_whole(test.cx()).unwrap();
        let mut buf = Vec::new();
        reader.next_piece(test.cx(), &mut buf).unwrap().unwrap();
        let zeros: Vec<usize> = (0..buf.len()).filter(|&at| buf[at] == 0).collect();
        assert_eq!(
            (zeros.first(), zeros.last(), zeros.len()),
            (Some(&4096), Some(&16_383), 12_288)
        );
        let omissions = unreadable.omissions();
        let named = omissions.named();
        assert_eq!(named.len(), 1);
        assert!(named[0].reason.contains("bytes 4096 to 16384"), "{}", named[0].reason);
        assert!(named[0].reason.contains("a bad sector"));
    }

    #[test]
    fn a_large_disk_lies_in_segments() {
        let test = TestCx::seeded(1);
        let size = 65 * SEGMENT + 5;
        let changed = vec![data(64 * SEGMENT - 1, 2)];
        let disk = Fake { size, extents: changed, broken: 0..0 };
        let (mut tree, _) = DiskTree::new(Box::new(disk), true, &ContentName::data(), Vec::new());
        let mut visits = Vec::new();
        while tree.next(test.cx(), &mut visits).unwrap() {}
        let mut shown = Vec::new();
        for visit in &visits {
            match visit {
                Visit::Enter(entry) => {
                    shown.push(String::from_utf8_lossy(&entry.name).into_owned());
                }
                Visit::Leave => shown.push("/".to_owned()),
                Visit::File(entry, _) if entry.version == alidade_model::Version::Unknown => {
                    let name = String::from_utf8_lossy(&entry.name);
                    shown.push(format!("{name}:{}", entry.metadata.size));
                }
                Visit::File(..) | Visit::Leaf(_) | Visit::Omit(_) => {}
            }
        }
        let whole = SEGMENT;
        let meant = format!("data.d 000000 63:{whole} / 000001 00:{whole} / /");
        assert_eq!(shown.join(" "), meant);
        let files = visits.iter().filter(|visit| matches!(visit, Visit::File(..))).count();
        assert_eq!(files, 66);
    }
}
