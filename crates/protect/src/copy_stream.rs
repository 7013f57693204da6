//! A stream into a stream.

use alidade_entity::{Cx, Result, SinkEnding, Step, StreamSink, StreamSource};
use alidade_model::Sabotage;

/// What is read at a time.
const PIECE: usize = 1 << 20;

/// What a copy counted.
#[derive(Debug, Default)]
pub(crate) struct CopiedStream {
    pub(crate) bytes: u64,
    pub(crate) sink: SinkEnding,
}

/// Copies a stream. Its last bytes are handed over only when the source has come to its end and nothing
/// failed: who takes a stream that broke off never sees its end.
///
/// # Errors
/// When either end fails.
pub(crate) fn copy_stream(
    cx: &Cx,
    mut source: Box<dyn StreamSource>,
    mut sink: Box<dyn StreamSink>,
) -> Result<CopiedStream> {
    let (mut held, mut next) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    loop {
        cx.check()?;
        next.resize(PIECE, 0);
        let read = match source.read(cx, &mut next) {
            Err(_) if Sabotage::EndBrokenStream.is_on() => break,
            read => read?,
        };
        if read == 0 {
            break;
        }
        next.truncate(read);
        sink.write(cx, &held)?;
        cx.report(Step::Bytes(held.len() as u64));
        bytes += read as u64;
        std::mem::swap(&mut held, &mut next);
    }
    source.finish(cx)?;
    sink.write(cx, &held)?;
    cx.report(Step::Bytes(held.len() as u64));
    Ok(CopiedStream { bytes, sink: sink.finish(cx)? })
}
