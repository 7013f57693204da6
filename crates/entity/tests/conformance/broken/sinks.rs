//! Sinks that break one promise, and still call the good sink below in its order.

use std::collections::BTreeMap;
use std::sync::Mutex;

use alidade_entity::conformance::Promise as P;
use alidade_entity::{
    Class, Cx, DiskSink, EntryEnd, EntryNo, Piece, Place, Result, Sink, SinkEnding, StreamSink,
    TreeSink, Verdict, Want,
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
}

impl TreeSink for Tree {
    fn begin(&self, cx: &Cx, place: Place, entry: &Entry) -> Result<Want> {
        let mut entry = entry.clone();
        if self.breaks == P::SinkKeepsEntries {
            entry.metadata.mtime.nanos = 0;
        }
        let metadata = entry.metadata.clone();
        self.begun.lock().unwrap().insert(place.no, Begun { metadata, written: 0, stale: false });
        self.sink.begin(cx, place, &entry)
    }

    fn write(&self, cx: &Cx, no: EntryNo, piece: Piece, data: &[u8]) -> Result<()> {
        if self.begun.lock().unwrap()[&no].stale {
            return Ok(());
        }
        let mut data = data.to_vec();
        let len = match piece {
            Piece::Data { .. } => data.len() as u64,
            Piece::Hole(hole) => hole.len,
        };
        self.begun.lock().unwrap().get_mut(&no).unwrap().written += len;
        match (self.breaks, piece) {
            (P::SinkKeepsContent, Piece::Data { .. }) => data[0] ^= 1,
            (P::SinkKeepsHoles, Piece::Hole(hole)) => {
                let zeros = vec![0; 1 << 16];
                for at in (0..hole.len).step_by(zeros.len()) {
                    let part = &zeros[..zeros.len().min(usize::try_from(hole.len - at).unwrap())];
                    self.sink.write(cx, no, Piece::Data { at: hole.at + at }, part)?;
                }
                return Ok(());
            }
            _ => {}
        }
        self.sink.write(cx, no, piece, &data)
    }

    fn restart(&self, cx: &Cx, no: EntryNo) -> Result<()> {
        let mut begun = self.begun.lock().unwrap();
        let begun = begun.get_mut(&no).unwrap();
        if self.breaks == P::SinkForgetsOnRestart {
            begun.stale = true;
            return Ok(());
        }
        begun.written = 0;
        self.sink.restart(cx, no)
    }

    fn complete(&self, cx: &Cx, no: EntryNo, end: EntryEnd) -> Result<()> {
        let begun = self.begun.lock().unwrap();
        let Begun { metadata: met, written, stale } = &begun[&no];
        let end = match (self.breaks, end) {
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
        self.sink.complete(cx, no, end)
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

struct Disk {
    sink: Box<dyn DiskSink>,
    breaks: P,
}

impl DiskSink for Disk {
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
