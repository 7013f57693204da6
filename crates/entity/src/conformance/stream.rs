//! Streams as they are read.

use super::entity::{Content, finish, misshapen};
use super::{Promise as P, Report, cancelled};
use crate::{Class, Cx, Lease, Result, Source, StreamSource};

/// More than any stream under test holds.
const ENDLESS: u64 = 1 << 32;

pub(super) fn check(content: &Content<'_>, report: &mut Report) {
    let cx = &content.suite.cx;
    if content.suite.subject.failing.contains(content.name) {
        for size in [64 << 10, 7] {
            let Some((stream, _)) = open(content, report) else { return };
            let read = read_all(cx, report, stream, size);
            report.expect(P::StreamFailureIsAnError, read.is_err(), || {
                format!("{read:?} of a producer that failed")
            });
        }
    } else {
        let mut lengths = Vec::new();
        for size in [64 << 10, 7] {
            let Some((stream, lease)) = open(content, report) else { return };
            let read = read_all(cx, report, stream, size);
            let Some((len, _)) = report.take(P::StreamVerdict, "read to the end", read) else {
                return;
            };
            lengths.push(len);
            finish(report, lease);
        }
        if lengths[0] > 1 {
            unread(content, report);
        }
    }
    if let Some((mut stream, _)) = open(content, report) {
        let stopped = stream.read(&cancelled(cx), &mut [0; 64]);
        report.fails(P::StreamCancels, "reading", stopped, Class::Cancelled);
    }
}

fn open(
    content: &Content<'_>,
    report: &mut Report,
) -> Option<(Box<dyn StreamSource>, Box<dyn Lease>)> {
    let reading = content.open(report)?;
    match reading.source {
        Source::Stream(stream) => Some((stream, reading.lease)),
        other => {
            misshapen(report, &other);
            None
        }
    }
}

/// Reads to the end and asks for the verdict: the length, and whether the producer vouches for it.
fn read_all(
    cx: &Cx,
    report: &mut Report,
    mut stream: Box<dyn StreamSource>,
    size: usize,
) -> Result<(u64, bool)> {
    let mut buf = vec![0; size];
    let mut len = 0;
    loop {
        let read = stream.read(cx, &mut buf)?;
        report.expect(P::StreamFits, read <= size, || format!("{read} bytes in {size}"));
        len += read as u64;
        if read == 0 || read > size {
            break;
        }
        if len > ENDLESS {
            report.expect(P::StreamEndsForEver, false, || "no end in sight".to_owned());
            break;
        }
    }
    for _ in 0..3 {
        let read = stream.read(cx, &mut buf)?;
        report.expect(P::StreamEndsForEver, read == 0, || format!("{read} bytes after the end"));
    }
    Ok((len, stream.finish(cx)?))
}

fn unread(content: &Content<'_>, report: &mut Report) {
    let Some((mut stream, _)) = open(content, report) else { return };
    let read = stream.read(&content.suite.cx, &mut [0]);
    report.take(P::StreamVerdict, "read the first byte", read);
    let verdict = stream.finish(&content.suite.cx);
    report.expect(P::StreamUnreadIsNotVouchedFor, !matches!(verdict, Ok(true)), || {
        "the producer vouches for a stream of which one byte was read".to_owned()
    });
}
