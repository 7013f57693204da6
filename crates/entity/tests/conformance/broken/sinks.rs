//! Sinks that break one promise, and still call the good sink below in its order.

use std::collections::BTreeMap;
use std::sync::Mutex;

use alidade_entity::conformance::Promise as P;
use alidade_entity::{
    Carrier, Class, Cx, DiskSink, EntryEnd, EntryNo, Piece, Place, Result, Sink, SinkEnding,
    StreamSink, TreeSink, Verdict, Want,
};
use alidade_model::{Entry, Metadata, Omission};

use super::{broken as error, deaf};

/// Makes a sink break a promise.
pub(super) fn broken(sink: Sink, breaks: P) -> Sink {
    match sink {
        Sink::Tree(sink) => Sink::Tree(Box::new(Tree { sink, breaks, begun: Mutex::default() })),
        Sink::Disk(sink) => Sink::Disk(Box::new(Disk { sink, breaks })),
        Sink::Stream(sink) => Sink::Stream(Box::new(Stream { sink: Some(sink), breaks })),
    }
}

struct Tree {
    sink: Box<dyn TreeSink>,
    breaks: P,
    begun: Mutex<BTreeMap<EntryNo, Begun>>,
}

struct Begun {
    metadata: Metadata,
    written: u64,
    stale: bool,
    /// It did not begin at 0.
    in_spans: bool,
}

struct Way<'a> {
    tree: &'a Tree,
    carrier: Box<dyn Carrier + 'a>,
}

impl TreeSink for Tree {
    fn begin(&self, cx: &Cx, place: Place, entry: &Entry) -> Result<Want> {
        let mut entry = entry.clone();
        if self.breaks == P::SinkKeepsEntries {
            entry.metadata.mtime.nanos = 0;
        }
        let metadata = entry.metadata.clone();
        self.begun
            .lock()
            .unwrap()
            .insert(place.no, Begun { metadata, written: 0, stale: false, in_spans: false });
        self.sink.begin(cx, place, &entry)
    }

    fn carrier(&self) -> Result<Box<dyn Carrier + '_>> {
        Ok(Box::new(Way { tree: self, carrier: self.sink.carrier()? }))
    }

    fn takes_spans(&self) -> bool {
        self.sink.takes_spans()
    }

    fn settle(&self, cx: &Cx, no: EntryNo) -> Result<()> {
        self.sink.settle(cx, no)
    }

    fn leave(&self, cx: &Cx, no: EntryNo) -> Result<()> {
        self.sink.leave(cx, no)
    }

    fn omit(&self, cx: &Cx, omission: &Omission) -> Result<()> {
        self.sink.omit(cx, omission)
    }

    fn finish(&self, cx: &Cx) -> Result<SinkEnding> {
        match self.breaks {
            P::SinkTakesEverything => Err(error(Class::Failed)),
            _ => self.sink.finish(cx),
        }
    }
}

impl Carrier for Way<'_> {
    fn write(&mut self, cx: &Cx, no: EntryNo, piece: Piece, data: &[u8]) -> Result<()> {
        if self.tree.begun.lock().unwrap()[&no].stale {
            return Ok(());
        }
        let mut data = data.to_vec();
        let len = match piece {
            Piece::Data { .. } => data.len() as u64,
            Piece::Hole(range) | Piece::Kept(range) => range.len,
        };
        let in_spans = {
            let mut begun = self.tree.begun.lock().unwrap();
            let begun = begun.get_mut(&no).unwrap();
            let at = match piece {
                Piece::Data { at } => at,
                Piece::Hole(range) | Piece::Kept(range) => range.at,
            };
            begun.in_spans |= begun.written == 0 && at > 0;
            begun.written += len;
            begun.in_spans
        };
        match (self.tree.breaks, piece) {
            (P::SinkKeepsContent, Piece::Data { .. }) => data[0] ^= 1,
            (P::SinkTakesSpans, Piece::Data { .. }) if in_spans => data[0] ^= 1,
            (P::SinkKeepsHoles, Piece::Hole(hole)) => {
                let zeros = vec![0; 1 << 16];
                for at in (0..hole.len).step_by(zeros.len()) {
                    let part = &zeros[..zeros.len().min(usize::try_from(hole.len - at).unwrap())];
                    self.carrier.write(cx, no, Piece::Data { at: hole.at + at }, part)?;
                }
                return Ok(());
            }
            _ => {}
        }
        self.carrier.write(cx, no, piece, &data)
    }

    fn restart(&mut self, cx: &Cx, no: EntryNo) -> Result<()> {
        let mut begun = self.tree.begun.lock().unwrap();
        let begun = begun.get_mut(&no).unwrap();
        if self.tree.breaks == P::SinkForgetsOnRestart {
            begun.stale = true;
            return Ok(());
        }
        begun.written = 0;
        self.carrier.restart(cx, no)
    }

    fn complete(&mut self, cx: &Cx, no: EntryNo, end: EntryEnd) -> Result<()> {
        let begun = self.tree.begun.lock().unwrap();
        let Begun { metadata: met, written, stale, .. } = &begun[&no];
        let end = match (self.tree.breaks, end) {
            (P::SinkDropsAbandoned, EntryEnd::Abandoned) => {
                let metadata = Metadata { size: *written, ..met.clone() };
                EntryEnd::Whole(Box::new(metadata), Verdict::Steady)
            }
            (P::SinkForgetsOnRestart, EntryEnd::Whole(metadata, verdict)) if *stale => {
                EntryEnd::Whole(Box::new(Metadata { size: *written, ..*metadata }), verdict)
            }
            (P::SinkTakesLastMetadata, EntryEnd::Whole(metadata, verdict)) => {
                let metadata = Metadata { size: metadata.size, ..met.clone() };
                EntryEnd::Whole(Box::new(metadata), verdict)
            }
            (_, end) => end,
        };
        self.carrier.complete(cx, no, end)
    }

    fn end_span(&mut self, cx: &Cx, no: EntryNo, from: u64) -> Result<()> {
        self.carrier.end_span(cx, no, from)
    }

    fn flush(&mut self, cx: &Cx) -> Result<()> {
        self.carrier.flush(cx)
    }
}

struct Disk {
    sink: Box<dyn DiskSink>,
    breaks: P,
}

impl DiskSink for Disk {
    fn read_at(&self, cx: &Cx, at: u64, buf: &mut [u8]) -> Result<()> {
        self.sink.read_at(cx, at, buf)
    }

    fn write_at(&self, cx: &Cx, at: u64, data: &[u8]) -> Result<()> {
        self.sink.write_at(cx, at, data)
    }

    fn zero(&self, cx: &Cx, at: u64, len: u64) -> Result<()> {
        match self.breaks {
            P::SinkKeepsContent => Ok(()),
            _ => self.sink.zero(cx, at, len),
        }
    }

    fn finish(&self, cx: &Cx) -> Result<SinkEnding> {
        self.sink.finish(cx)
    }
}

struct Stream {
    sink: Option<Box<dyn StreamSink>>,
    breaks: P,
}

impl StreamSink for Stream {
    fn write(&mut self, cx: &Cx, data: &[u8]) -> Result<()> {
        self.sink.as_mut().unwrap().write(cx, data)
    }

    fn finish(mut self: Box<Self>, cx: &Cx) -> Result<SinkEnding> {
        self.sink.take().unwrap().finish(cx)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.breaks == P::SinkUnfinishedIsNotWhole
            && let Some(sink) = self.sink.take()
        {
            sink.finish(&deaf()).unwrap();
        }
    }
}
