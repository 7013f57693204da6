//! A stream on its way in: read as the one file it is stored as.

use std::sync::{Arc, Mutex, PoisonError};

use alidade_entity::{
    Class, Cx, Error, OpenFile, Piece, ReadFile, Result, Shelf, Span, StreamSource, TreeSource,
    Verdict, Visit,
};
use alidade_model::{ContentName, Entry, Hole, Kind, Metadata};

use crate::disk_layout::entry;

/// What is read at a time.
const PIECE: usize = 1 << 20;

/// A stream as a tree of one file.
pub(crate) struct StreamTree {
    file: Option<(Entry, StreamFile)>,
}

/// What became of the producer.
#[derive(Clone, Default)]
pub(crate) struct Vouched {
    verdict: Arc<Mutex<Option<bool>>>,
}

impl Vouched {
    /// True when the producer vouches for the whole stream.
    pub(crate) fn is_vouched(&self) -> bool {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) == Some(true)
    }

    fn set(&self, verdict: bool) {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
    }
}

impl StreamTree {
    /// The stream as the content of that name.
    pub(crate) fn new(source: Box<dyn StreamSource>, content: &ContentName) -> (Self, Vouched) {
        let vouched = Vouched::default();
        let entry = entry(content.as_str().as_bytes().to_vec(), Kind::File, 0, false);
        let file = StreamFile { source: Mutex::new(Some(source)), vouched: vouched.clone() };
        (Self { file: Some((entry, file)) }, vouched)
    }
}

impl TreeSource for StreamTree {
    fn trail(&self) -> &[Entry] {
        &[]
    }

    fn next(&mut self, cx: &Cx, out: &mut Vec<Visit>) -> Result<bool> {
        cx.check()?;
        out.extend(self.file.take().map(|(entry, file)| Visit::File(entry, Box::new(file))));
        Ok(false)
    }
}

/// A stream that is not read yet.
struct StreamFile {
    source: Mutex<Option<Box<dyn StreamSource>>>,
    vouched: Vouched,
}

impl OpenFile for StreamFile {
    fn open(&self, cx: &Cx, _shelf: &mut Shelf, _span: Span) -> Result<Box<dyn ReadFile>> {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner).take();
        let source = source.ok_or_else(|| Error::new(Class::Failed, "read a stream again"))?;
        let metadata = entry(Vec::new(), Kind::File, 0, false).metadata;
        let (cx, vouched) = (cx.clone(), self.vouched.clone());
        Ok(Box::new(StreamReader { cx, source, metadata, vouched }))
    }

    fn holes(&self, _cx: &Cx) -> Result<Vec<Hole>> {
        Ok(Vec::new())
    }
}

struct StreamReader {
    cx: Cx,
    source: Box<dyn StreamSource>,
    /// Its size is what was read so far.
    metadata: Metadata,
    vouched: Vouched,
}

impl ReadFile for StreamReader {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn next_piece(&mut self, cx: &Cx, buf: &mut Vec<u8>) -> Result<Option<Piece>> {
        buf.resize(PIECE, 0);
        let mut filled = 0;
        // A pipe gives little at a time.
        while filled < PIECE {
            match self.source.read(cx, &mut buf[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        buf.truncate(filled);
        let at = self.metadata.size;
        self.metadata.size += filled as u64;
        Ok((filled > 0).then_some(Piece::Data { at }))
    }

    fn finish(self: Box<Self>) -> Result<Verdict> {
        self.vouched.set(self.source.finish(&self.cx)?);
        Ok(Verdict::Steady)
    }
}
