//! The way in for one thread: contents that are cut and stored many at a time.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use alidade_entity::{Carrier, Class, Cx, EntryEnd, EntryNo, Error, Piece, Result, Verdict};
use alidade_kernels::is_zero;
use alidade_model::{Hole, Metadata};
use alidade_repository::{Batch, BlobId, MIN_CHUNK};

use crate::base_cells::{BaseCells, Kept};
use crate::disk_layout::{CELL, STRETCH};
use crate::error::as_entity;
use crate::stored_sink::{Cut, StoredSink, Taken};

/// Zero blobs inside a large hole are of this size and lie at multiples of it.
const ZERO_CELL: u64 = 8 << 20;

/// Carries contents into a repository. Memory: that of its [`Batch`], and what is known of the files
/// that were completed and not flushed.
pub(crate) struct StoredCarrier<'s, 'a> {
    sink: &'s StoredSink<'a>,
    batch: Batch<'a>,
    /// Files, the last of which may still be written to.
    files: VecDeque<File>,
    /// The number of the first of them.
    first: u64,
    /// Where the blobs go whose ids are still to come, in order.
    due: VecDeque<Due>,
}

/// What comes next of a file.
enum Due {
    /// A chunk.
    Chunk { file: u64 },
    /// What is stored already: zeros, and what the base has.
    Stored { file: u64, id: BlobId, count: u64, len: u64 },
}

struct File {
    no: EntryNo,
    taken: Taken,
    /// Its content is known, and only holes are written.
    holes_only: bool,
    /// What the base has of it.
    base: Option<Arc<BaseCells>>,
    /// Zeros of a disk that are not stored yet.
    zeros: Range<u64>,
    end: Option<End>,
}

enum End {
    Span(u64),
    Whole(Box<Metadata>, Verdict),
    /// What was written of it is of no use: it was restarted, or will not come.
    Forgotten,
}

impl<'s, 'a> StoredCarrier<'s, 'a> {
    pub(crate) fn new(sink: &'s StoredSink<'a>) -> Result<Self> {
        let batch = sink.writer().batch().map_err(stored)?;
        Ok(Self { sink, batch, files: VecDeque::new(), first: 0, due: VecDeque::new() })
    }

    /// The number of the file that is written to, begun when it is another one.
    fn current(&mut self, no: EntryNo) -> Result<u64> {
        let begun = self.files.back().is_some_and(|file| file.end.is_none());
        if !begun {
            self.files.push_back(File {
                no,
                taken: Taken::default(),
                holes_only: self.sink.is_known(no),
                base: self.sink.base_cells(no),
                zeros: 0..0,
                end: None,
            });
        }
        let last = self.files.back().filter(|file| file.no == no);
        if last.is_none() {
            let attempt = format!("write entry {} before the one before it is complete", no.0);
            return Err(Error::new(Class::Failed, attempt));
        }
        Ok(self.first + self.files.len() as u64 - 1)
    }

    fn file(&mut self, number: u64) -> Result<&mut File> {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.files.get_mut(at))
            .ok_or_else(|| Error::new(Class::Failed, "store a piece of a file that is flushed"))
    }

    fn data(&mut self, cx: &Cx, file: u64, data: &[u8]) -> Result<()> {
        let cut = self.batch.push(cx, data).map_err(stored)?;
        self.await_chunks(file, cut)
    }

    /// Ends a run of data: what is not cut yet is one chunk.
    fn cut(&mut self, cx: &Cx, file: u64) -> Result<()> {
        self.store_zeros(cx, file)?;
        let cut = self.batch.end(cx).map_err(stored)?;
        self.await_chunks(file, cut)
    }

    fn await_chunks(&mut self, file: u64, count: usize) -> Result<()> {
        self.due.extend((0..count).map(|_| Due::Chunk { file }));
        self.hand_out()
    }

    /// Gives files the ids that have come.
    fn hand_out(&mut self) -> Result<()> {
        loop {
            let (number, id, count, len) = match self.due.front() {
                None => return Ok(()),
                Some(Due::Stored { file, id, count, len }) => (*file, *id, *count, *len),
                Some(Due::Chunk { file }) => {
                    let file = *file;
                    let Some(chunk) = self.batch.next_done() else { return Ok(()) };
                    if !chunk.new {
                        self.sink.count_known(u64::from(chunk.len));
                    }
                    (file, chunk.id, 1, u64::from(chunk.len))
                }
            };
            self.due.pop_front();
            let file = self.file(number)?;
            file.taken.content.push_run(id, count);
            file.taken.bytes += len * count;
        }
    }

    /// Stores a hole as zero blobs: one of 512 KiB, by which stock restic knows a sparse file, then
    /// aligned ones of up to 8 MiB.
    fn hole(&mut self, cx: &Cx, file: u64, hole: Hole) -> Result<()> {
        let end = hole.at + hole.len;
        let mut at = hole.at + MIN_CHUNK as u64;
        self.zeros(cx, file, MIN_CHUNK as u64, 1)?;
        let aligned = at.next_multiple_of(ZERO_CELL).min(end);
        if aligned > at {
            self.zeros(cx, file, aligned - at, 1)?;
            at = aligned;
        }
        let cells = (end - at) / ZERO_CELL;
        if cells > 0 {
            self.zeros(cx, file, ZERO_CELL, cells)?;
            at += cells * ZERO_CELL;
        }
        if at < end {
            self.zeros(cx, file, end - at, 1)?;
        }
        Ok(())
    }

    fn zeros(&mut self, cx: &Cx, file: u64, len: u64, count: u64) -> Result<()> {
        let saved = self.sink.writer().save_zeros(cx, len);
        let id = saved.map_err(|error| as_entity("store a hole", error))?.id;
        self.due.push_back(Due::Stored { file, id, count, len });
        self.hand_out()
    }

    /// Takes a piece of a disk.
    fn cells(&mut self, cx: &Cx, number: u64, piece: Piece, data: &[u8]) -> Result<()> {
        match piece {
            Piece::Hole(hole) => self.add_zeros(number, hole.at..hole.at + hole.len),
            Piece::Kept(range) => {
                let base = self.file(number)?.base.clone().ok_or_else(|| {
                    Error::new(Class::Failed, "keep a part of a disk that no base has")
                })?;
                self.keep(cx, number, &base, range.at..range.at + range.len)
            }
            Piece::Data { at } => {
                let mut at = at;
                for cell in data.chunks(usize::try_from(CELL).unwrap_or(usize::MAX)) {
                    let end = at + cell.len() as u64;
                    if is_zero(cell) {
                        self.add_zeros(number, at..end)?;
                    } else {
                        self.store_zeros(cx, number)?;
                        let cut = self.batch.cell(cx, cell).map_err(stored)?;
                        self.await_chunks(number, cut)?;
                    }
                    at = end;
                }
                Ok(())
            }
        }
    }

    fn keep(&mut self, cx: &Cx, number: u64, base: &BaseCells, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        for kept in base.kept(range) {
            match kept {
                Kept::Zeros(len) => {
                    self.add_zeros(number, at..at + len)?;
                    at += len;
                }
                Kept::Cells(id, len, count) => {
                    self.store_zeros(cx, number)?;
                    self.due.push_back(Due::Stored { file: number, id, count, len });
                    at += len * count;
                }
            }
        }
        self.hand_out()
    }

    /// Zeros are stored when it is known where they end.
    fn add_zeros(&mut self, number: u64, range: Range<u64>) -> Result<()> {
        let zeros = &mut self.file(number)?.zeros;
        if zeros.is_empty() {
            *zeros = range;
        } else {
            zeros.end = range.end;
        }
        Ok(())
    }

    /// Stores the zeros that came last: whole stretches, and cells before and behind them.
    fn store_zeros(&mut self, cx: &Cx, number: u64) -> Result<()> {
        let zeros = std::mem::take(&mut self.file(number)?.zeros);
        if zeros.is_empty() {
            return Ok(());
        }
        let first = zeros.start.next_multiple_of(STRETCH).min(zeros.end);
        let last = (zeros.end / STRETCH * STRETCH).max(first);
        self.zero_cells(cx, number, first - zeros.start)?;
        if last > first {
            self.zeros(cx, number, STRETCH, (last - first) / STRETCH)?;
        }
        self.zero_cells(cx, number, zeros.end - last)
    }

    fn zero_cells(&mut self, cx: &Cx, number: u64, len: u64) -> Result<()> {
        if len >= CELL {
            self.zeros(cx, number, CELL, len / CELL)?;
        }
        if !len.is_multiple_of(CELL) {
            self.zeros(cx, number, len % CELL, 1)?;
        }
        Ok(())
    }

    /// Ends the file that is written to.
    fn end(&mut self, file: u64, end: End) -> Result<()> {
        self.file(file)?.end = Some(end);
        Ok(())
    }

    fn forget(&mut self, no: EntryNo) -> Result<()> {
        let file = self.current(no)?;
        self.batch.forget();
        self.end(file, End::Forgotten)
    }
}

impl Carrier for StoredCarrier<'_, '_> {
    fn write(&mut self, cx: &Cx, no: EntryNo, piece: Piece, data: &[u8]) -> Result<()> {
        let number = self.current(no)?;
        if matches!(self.sink.cut(), Cut::Cells { .. }) {
            return self.cells(cx, number, piece, data);
        }
        let hole = match piece {
            Piece::Hole(hole) => hole,
            Piece::Data { .. } => return self.data(cx, number, data),
            Piece::Kept(_) => {
                return Err(Error::new(Class::Failed, "keep a part of a file that no base has"));
            }
        };
        let file = self.file(number)?;
        file.taken.holes.push(hole);
        if file.holes_only {
            return Ok(());
        }
        if hole.len < MIN_CHUNK as u64 {
            let zeros = vec![0; usize::try_from(hole.len).unwrap_or(MIN_CHUNK)];
            return self.data(cx, number, &zeros);
        }
        self.cut(cx, number)?;
        self.hole(cx, number, hole)
    }

    fn restart(&mut self, _cx: &Cx, no: EntryNo) -> Result<()> {
        self.sink.forget_spans(no);
        self.forget(no)
    }

    fn end_span(&mut self, cx: &Cx, no: EntryNo, from: u64) -> Result<()> {
        let number = self.current(no)?;
        self.cut(cx, number)?;
        self.end(number, End::Span(from))
    }

    fn complete(&mut self, cx: &Cx, no: EntryNo, end: EntryEnd) -> Result<()> {
        match end {
            EntryEnd::Abandoned => {
                self.forget(no)?;
                self.sink.abandon(no)
            }
            EntryEnd::Whole(metadata, verdict) => {
                let number = self.current(no)?;
                self.cut(cx, number)?;
                self.end(number, End::Whole(metadata, verdict))
            }
        }
    }

    fn flush(&mut self, cx: &Cx) -> Result<()> {
        self.batch.flush(cx).map_err(stored)?;
        self.hand_out()?;
        if !self.due.is_empty() {
            let attempt = format!("store {} pieces of files: they did not come", self.due.len());
            return Err(Error::new(Class::Failed, attempt));
        }
        while self.files.front().is_some_and(|file| file.end.is_some()) {
            let Some(file) = self.files.pop_front() else { break };
            self.first += 1;
            match file.end {
                Some(End::Span(from)) => self.sink.keep_span(file.no, from, file.taken),
                Some(End::Whole(metadata, verdict)) => {
                    self.sink.complete(file.no, file.taken, *metadata, verdict)?;
                }
                Some(End::Forgotten) | None => {}
            }
        }
        Ok(())
    }
}

fn stored(error: alidade_repository::Error) -> Error {
    as_entity("store a piece of a file", error)
}
