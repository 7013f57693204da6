//! Sources that break one promise.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use alidade_entity::conformance::Promise as P;
use alidade_entity::{
    Class, Cx, DiskSource, Extent, Lent, OpenFile, Piece, ReadFile, Result, Shelf, Source, Span,
    StreamSource, TreeSource, Verdict, Visit,
};
use alidade_model::{Entry, Hole, Kind, Metadata, Omission, OmissionKind, Version};

use super::{broken as error, deaf};

/// Makes a source break a promise; `call` is another number for each source.
pub(super) fn broken(source: Source, breaks: P, since: bool, call: u64) -> Source {
    match source {
        Source::Tree(tree) => Source::Tree(Box::new(Tree::new(tree, breaks, call))),
        Source::Disk(disk) => {
            Source::Disk(Box::new(Disk { disk, breaks, since, reads: AtomicU64::new(0) }))
        }
        Source::Stream(stream) => Source::Stream(Box::new(Stream { stream, breaks, ended: false })),
    }
}

struct Tree {
    breaks: P,
    trail: Vec<Entry>,
    visits: VecDeque<Visit>,
    ended: bool,
}

impl Tree {
    fn new(mut source: Box<dyn TreeSource>, breaks: P, call: u64) -> Self {
        let mut visits = Vec::new();
        while source.next(&deaf(), &mut visits).unwrap() {}
        let mut trail = Vec::new();
        // Only the tree under test is broken, not those its sink made: it alone has this name.
        let broken =
            visits.iter().any(|visit| matches!(visit, Visit::Leaf(e) if e.name == b"link"));
        match breaks {
            _ if !broken || !matches!(visits.last(), Some(Visit::File(..))) => {}
            P::WalkTrailIsDirectories => trail.push(file()),
            P::WalkBatchesAreBounded => {
                let omission = |at: u32| Omission {
                    path: at.to_string().into_bytes(),
                    kind: OmissionKind::Unreadable,
                    reason: String::new(),
                };
                visits.extend((0..5_000).map(|at| Visit::Omit(omission(at))));
            }
            P::WalkNamesAreComponents => entry(visits.first_mut()).name = b"a/b".to_vec(),
            P::WalkNamesAscend => entry(visits.first_mut()).name = b"zzz".to_vec(),
            P::WalkNamesAreUnique => {
                let end = visits.len() - 1;
                let name = entry(visits.get_mut(end - 1)).name.clone();
                entry(visits.get_mut(end)).name = name;
            }
            P::WalkIsBalanced => {
                let leave = visits.iter().rposition(|visit| matches!(visit, Visit::Leave));
                visits.remove(leave.unwrap());
            }
            P::WalkKindsFit => entry(visits.first_mut()).metadata.kind = Kind::Fifo,
            P::WalksAgree => entry(visits.first_mut()).metadata.mtime.seconds = call as i64,
            P::VersionsAgree => {
                entry(visits.first_mut()).version = Version::Marker(call.to_le_bytes().to_vec());
            }
            _ => {}
        }
        let visits = visits.into_iter().map(|visit| match visit {
            Visit::File(entry, file) => {
                let opened = AtomicU64::new(0);
                Visit::File(entry, Box::new(File { file, breaks, opened }))
            }
            other => other,
        });
        Self { breaks, trail, visits: visits.collect(), ended: false }
    }
}

fn file() -> Entry {
    let metadata = Metadata::of(Kind::File, 0o644);
    Entry { name: b"file".to_vec(), metadata, version: Version::Unknown }
}

fn entry(visit: Option<&mut Visit>) -> &mut Entry {
    match visit {
        Some(Visit::Enter(entry) | Visit::File(entry, _) | Visit::Leaf(entry)) => entry,
        _ => panic!("the tree under test begins and ends with an entry"),
    }
}

impl TreeSource for Tree {
    fn trail(&self) -> &[Entry] {
        &self.trail
    }

    fn next(&mut self, cx: &Cx, out: &mut Vec<Visit>) -> Result<bool> {
        if self.breaks != P::WalkCancels {
            cx.check()?;
        }
        if self.breaks == P::WalkAppends {
            out.clear();
        }
        if self.ended && self.breaks == P::WalkEndsForEver {
            return Ok(true);
        }
        let step = if self.breaks == P::WalkBatchesAreBounded { 5_000 } else { 50 };
        out.extend(self.visits.drain(..self.visits.len().min(step)));
        self.ended = self.visits.is_empty();
        Ok(!self.ended)
    }
}

struct File {
    file: Box<dyn OpenFile>,
    breaks: P,
    opened: AtomicU64,
}

impl OpenFile for File {
    fn announce(&self, shelf: &mut Shelf) {
        self.file.announce(shelf);
    }

    fn has_spans(&self) -> bool {
        self.file.has_spans()
    }

    fn open(&self, cx: &Cx, shelf: &mut Shelf, span: Span) -> Result<Box<dyn ReadFile>> {
        let call = self.opened.fetch_add(1, Ordering::Relaxed);
        if self.breaks == P::FileOpens && call > 0 {
            return Err(error(Class::NotFound));
        }
        let file = self.file.open(cx, shelf, span)?;
        let mut metadata = file.metadata().clone();
        if self.breaks == P::PiecesEndAtSize {
            metadata.size += 1;
        }
        let inside = span.from > 0;
        Ok(Box::new(Read { file, metadata, breaks: self.breaks, call, inside }))
    }

    fn holes(&self, cx: &Cx) -> Result<Vec<Hole>> {
        let holes = self.file.holes(cx)?;
        Ok(if self.breaks == P::HolesAgree { Vec::new() } else { holes })
    }
}

struct Read {
    file: Box<dyn ReadFile>,
    metadata: Metadata,
    breaks: P,
    call: u64,
    inside: bool,
}

impl ReadFile for Read {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn next_piece(&mut self, cx: &Cx, buf: &mut Vec<u8>) -> Result<Option<Piece>> {
        let mut piece = match self.breaks {
            P::FileReadCancels => self.file.next_piece(&deaf(), buf)?,
            _ => self.file.next_piece(cx, buf)?,
        };
        if let Some(Piece::Data { at }) = &mut piece {
            match self.breaks {
                P::PiecesAreAdjacent => *at += 1,
                P::PiecesAreBounded => buf.clear(),
                P::SpansAgree if self.inside => buf[0] ^= 1,
                P::ReadsAgree => buf[0] ^= u8::try_from(self.call & 1).unwrap(),
                _ => {}
            }
        }
        Ok(piece)
    }

    fn lend_piece<'a>(&'a mut self, cx: &Cx, buf: &'a mut Vec<u8>) -> Result<Option<Lent<'a>>> {
        let piece = self.next_piece(cx, buf)?;
        if self.breaks == P::LentAgrees && matches!(piece, Some(Piece::Data { .. })) {
            buf[0] ^= 1;
        }
        Ok(piece.map(|piece| (piece, vec![buf.as_slice()])))
    }

    fn finish(self: Box<Self>) -> Result<Verdict> {
        let verdict = self.file.finish()?;
        Ok(if self.breaks == P::QuietFileIsSteady { Verdict::Changed } else { verdict })
    }
}

struct Disk {
    disk: Box<dyn DiskSource>,
    breaks: P,
    since: bool,
    reads: AtomicU64,
}

impl DiskSource for Disk {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn extents(&self, cx: &Cx, from: u64, out: &mut Vec<Extent>) -> Result<()> {
        let before = out.len();
        match self.breaks {
            P::DiskCancels => self.disk.extents(&deaf(), from, out)?,
            _ => self.disk.extents(cx, from, out)?,
        }
        match self.breaks {
            P::ExtentsAscend => out[before..].iter_mut().for_each(|extent| extent.len += 1),
            P::ExtentsEndAtSize => out.retain(|extent| extent.at + extent.len < self.size()),
            P::ExtentsContinue => drop(out.drain(..before)),
            P::UnallocatedIsZero => {
                out[before..].iter_mut().for_each(|extent| extent.allocated = false);
            }
            // The cell in which byte 100,000 lies.
            P::ChangesAreComplete if self.since => out.retain(|extent| extent.at != 98_304),
            P::ChangesAreOnlyChanges if self.since && from == 0 => {
                out.insert(before, Extent { at: 0, len: 512, allocated: true });
            }
            _ => {}
        }
        Ok(())
    }

    fn read_at(&self, cx: &Cx, at: u64, buf: &mut [u8]) -> Result<()> {
        let read = match self.breaks {
            P::DiskCancels => self.disk.read_at(&deaf(), at, buf),
            _ => self.disk.read_at(cx, at, buf),
        };
        match self.breaks {
            P::ReadBeyondEndFails => return Ok(()),
            P::DiskReadsAgree if !buf.is_empty() => {
                buf[0] ^= u8::try_from(self.reads.fetch_add(1, Ordering::Relaxed) & 1).unwrap();
            }
            _ => {}
        }
        read
    }
}

struct Stream {
    stream: Box<dyn StreamSource>,
    breaks: P,
    ended: bool,
}

impl StreamSource for Stream {
    fn read(&mut self, cx: &Cx, buf: &mut [u8]) -> Result<usize> {
        if self.ended && self.breaks == P::StreamEndsForEver {
            return Ok(1);
        }
        let read = match self.breaks {
            P::StreamCancels => self.stream.read(&deaf(), buf)?,
            P::StreamFits => self.stream.read(cx, buf)? + buf.len(),
            _ => self.stream.read(cx, buf)?,
        };
        self.ended = read == 0;
        Ok(read)
    }

    fn finish(self: Box<Self>, cx: &Cx) -> Result<bool> {
        let verdict = self.stream.finish(cx);
        match self.breaks {
            P::StreamVerdict => Err(error(Class::Failed)),
            P::StreamFailureIsAnError | P::StreamUnreadIsNotVouchedFor => Ok(true),
            _ => verdict,
        }
    }
}
