//! The cells of a file of a disk in the base: what did not change is taken from there.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use alidade_repository::{BlobId, BlobKind, Indexed};

use crate::disk_layout::{CELL, STRETCH, ZeroIds};

/// What the base has of a file. Memory: 48 bytes for each cell that is not zeros.
#[derive(Debug)]
pub(crate) struct BaseCells {
    runs: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    at: u64,
    len: u64,
    count: u64,
    /// `None` for zeros.
    id: Option<BlobId>,
}

impl Run {
    fn end(&self) -> u64 {
        self.at + self.len * self.count
    }
}

/// A part of what is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// So many bytes of zeros.
    Zeros(u64),
    /// Cells: the blob, the bytes of one, and how many there are.
    Cells(BlobId, u64, u64),
}

impl BaseCells {
    /// The cells of a file of `size` bytes; `None` when the base has it in another form, or a blob of it
    /// is missing.
    pub(crate) fn of(
        indexed: &Indexed,
        zeros: &Mutex<ZeroIds>,
        content: impl Iterator<Item = (BlobId, u64)>,
        size: u64,
    ) -> Option<Self> {
        let mut zeros = zeros.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut runs, mut at) = (Vec::new(), 0u64);
        for (id, count) in content {
            let len = u64::from(indexed.plain_len(BlobKind::Data, &id)?);
            let end = at.checked_add(len.checked_mul(count)?)?;
            let is_last = end == size && count == 1;
            let is_zeros = zeros.is(&id, len);
            let fits = match len {
                CELL => at.is_multiple_of(CELL),
                STRETCH => at.is_multiple_of(STRETCH) && is_zeros,
                len => is_last && len < CELL && at.is_multiple_of(CELL),
            };
            if !fits {
                return None;
            }
            runs.push(Run { at, len, count, id: (!is_zeros).then_some(id) });
            at = end;
        }
        (at == size).then_some(Self { runs })
    }

    /// What lies in a range of whole cells.
    pub(crate) fn kept(&self, range: Range<u64>) -> impl Iterator<Item = Kept> {
        let first = self.runs.partition_point(|run| run.end() <= range.start);
        let inside = self.runs[first..].iter().take_while(move |run| run.at < range.end);
        inside.map(move |run| {
            let len = run.end().min(range.end) - run.at.max(range.start);
            match run.id {
                None => Kept::Zeros(len),
                Some(id) => Kept::Cells(id, run.len, len / run.len),
            }
        })
    }
}
