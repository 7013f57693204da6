//! A stored stream, read as any other stream: blob after blob, each verified.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use alidade_entity::{Cx, Ending, Lease, OpenFile, ReadFile, Result, Shelf, Span, StreamSource};
use alidade_model::Consistency;

use crate::stored_file::StoredFile;
use crate::stored_source::Findings;

/// A stored stream.
pub(crate) struct StoredStream {
    reader: Box<dyn ReadFile>,
    is_vouched: bool,
    piece: Vec<u8>,
    at: usize,
    is_at_end: bool,
}

/// Says how much was verified.
pub(crate) struct StoredStreamLease {
    findings: Arc<Findings>,
}

impl StoredStream {
    /// The stream that is that file; its producer vouched for it, or not.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn open(
        cx: &Cx,
        file: &StoredFile,
        findings: Arc<Findings>,
        is_vouched: bool,
    ) -> Result<(Self, StoredStreamLease)> {
        let reader = file.open(cx, &mut Shelf::default(), Span::WHOLE)?;
        let stream = Self { reader, is_vouched, piece: Vec::new(), at: 0, is_at_end: false };
        Ok((stream, StoredStreamLease { findings }))
    }
}

impl StreamSource for StoredStream {
    fn read(&mut self, cx: &Cx, buf: &mut [u8]) -> Result<usize> {
        while self.at == self.piece.len() && !self.is_at_end {
            self.at = 0;
            self.is_at_end = self.reader.next_piece(cx, &mut self.piece)?.is_none();
        }
        let len = buf.len().min(self.piece.len() - self.at);
        buf[..len].copy_from_slice(&self.piece[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }

    fn finish(self: Box<Self>, _cx: &Cx) -> Result<bool> {
        Ok(self.is_at_end && self.is_vouched)
    }
}

impl Lease for StoredStreamLease {
    fn finish(self: Box<Self>) -> Result<Ending> {
        let mut ending = Ending::of(Consistency::Crash);
        ending.verified = self.findings.verified.load(Ordering::Relaxed);
        Ok(ending)
    }
}
