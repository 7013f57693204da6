//! The smallest copy that keeps the call order of a sink. For the suite only: engines have their own.

use std::thread;

use alidade_model::{Entry, Metadata, Omission, OmissionKind};

use super::script::SPANNED;
use crate::{
    Carrier, Class, Cx, EntryEnd, EntryNo, Error, OpenFile, Piece, Place, Result, Shelf,
    SinkEnding, Span, TreeSink, TreeSource, Verdict, Visit, Want,
};

/// How many events may wait: enough that entries after a directory begin before it is left.
const AHEAD: usize = 16;

/// Copies a tree. Contents are written by two threads; everything else by this one.
pub(super) fn copy_tree(
    cx: &Cx,
    source: &mut dyn TreeSource,
    sink: &dyn TreeSink,
) -> Result<SinkEnding> {
    let mut copy = Copy { cx, sink, next: 0, open: Vec::new(), waiting: Vec::new() };
    let trail = source.trail().to_vec();
    for entry in &trail {
        copy.enter(entry)?;
    }
    let mut visits = Vec::new();
    loop {
        let more = source.next(cx, &mut visits)?;
        for visit in visits.drain(..) {
            match visit {
                Visit::Enter(entry) => copy.enter(&entry)?,
                Visit::Leave => copy.leave()?,
                Visit::File(entry, file) => {
                    copy.begin(&entry, Some(file))?;
                }
                Visit::Leaf(entry) => {
                    copy.begin(&entry, None)?;
                }
                Visit::Omit(omission) => sink.omit(cx, &omission)?,
            }
            if copy.waiting.len() >= AHEAD {
                copy.catch_up()?;
            }
        }
        if !more {
            break;
        }
    }
    for _ in &trail {
        copy.leave()?;
    }
    copy.catch_up()?;
    sink.finish(cx)
}

struct Copy<'a> {
    cx: &'a Cx,
    sink: &'a dyn TreeSink,
    next: u64,
    /// The directories the walk is in.
    open: Vec<(EntryNo, Vec<u8>)>,
    waiting: Vec<Waiting>,
}

/// What is still to be done, in visit order.
enum Waiting {
    Settle(Box<Pending>),
    Leave(EntryNo),
}

/// An entry that was begun and is not settled.
struct Pending {
    no: EntryNo,
    entry: Entry,
    path: Vec<u8>,
    content: Option<(Box<dyn OpenFile>, Want)>,
}

impl Copy<'_> {
    fn begin(&mut self, entry: &Entry, file: Option<Box<dyn OpenFile>>) -> Result<EntryNo> {
        let no = EntryNo(self.next);
        self.next += 1;
        let place = Place { no, parent: self.open.last().map(|(no, _)| *no) };
        let want = self.sink.begin(self.cx, place, entry)?;
        let content = match (want, file) {
            (Want::Content | Want::Changes | Want::Holes | Want::From(_), Some(file)) => {
                Some((file, want))
            }
            (Want::Nothing, _) => None,
            (Want::Content | Want::Changes | Want::Holes | Want::From(_), None) => {
                let attempt = "copy an entry without bytes whose content the sink wants";
                return Err(Error::new(Class::Failed, attempt));
            }
        };
        let names: Vec<_> =
            self.open.iter().map(|(_, name)| name.as_slice()).chain([&*entry.name]).collect();
        let pending = Pending { no, entry: entry.clone(), path: names.join(&b'/'), content };
        self.waiting.push(Waiting::Settle(Box::new(pending)));
        Ok(no)
    }

    fn enter(&mut self, entry: &Entry) -> Result<()> {
        let no = self.begin(entry, None)?;
        self.open.push((no, entry.name.clone()));
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let Some((no, _)) = self.open.pop() else {
            return Err(Error::new(Class::Failed, "leave a directory that was not entered"));
        };
        self.waiting.push(Waiting::Leave(no));
        Ok(())
    }

    /// Completes everything that was begun, then settles and leaves in order.
    fn catch_up(&mut self) -> Result<()> {
        let (cx, sink) = (self.cx, self.sink);
        let half = self.waiting.len().div_ceil(2).max(1);
        let omissions: Result<Vec<Vec<Omission>>> = thread::scope(|scope| {
            let workers: Vec<_> = self
                .waiting
                .chunks_mut(half)
                .map(|chunk| scope.spawn(move || contents(cx, sink, chunk)))
                .collect();
            workers
                .into_iter()
                .map(|worker| {
                    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect()
        });
        for omission in omissions?.iter().flatten() {
            sink.omit(cx, omission)?;
        }
        for event in self.waiting.drain(..) {
            match event {
                Waiting::Settle(entry) => sink.settle(cx, entry.no)?,
                Waiting::Leave(no) => sink.leave(cx, no)?,
            }
        }
        Ok(())
    }
}

fn contents(cx: &Cx, sink: &dyn TreeSink, waiting: &mut [Waiting]) -> Result<Vec<Omission>> {
    let mut omissions = Vec::new();
    let (mut carrier, mut other) = (sink.carrier()?, sink.carrier()?);
    for event in waiting {
        let Waiting::Settle(entry) = event else { continue };
        let Some((file, want)) = entry.content.take() else { continue };
        if want == Want::Holes {
            holes(cx, &mut *carrier, entry, &*file)?;
            continue;
        }
        let done = if sink.takes_spans() && file.has_spans() {
            spans(cx, (&mut *carrier, &mut *other), entry.no, &*file)?
        } else {
            content(cx, &mut *carrier, entry.no, &*file)?
        };
        if let Err(error) = done {
            carrier.complete(cx, entry.no, EntryEnd::Abandoned)?;
            let kind = match error.class() {
                Class::NotFound => OmissionKind::Vanished,
                _ => OmissionKind::Unreadable,
            };
            let path = entry.path.clone();
            omissions.push(Omission { path, kind, reason: error.chain() });
        }
    }
    carrier.flush(cx)?;
    Ok(omissions)
}

/// Copies one content: the outer error is the sink's and ends the copy, the inner one the source's.
fn content(
    cx: &Cx,
    carrier: &mut dyn Carrier,
    no: EntryNo,
    file: &dyn OpenFile,
) -> Result<Result<()>> {
    let mut again = true;
    loop {
        let (metadata, verdict) = match span(cx, carrier, no, (file, Span::WHOLE))? {
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        if verdict == Verdict::Changed && again {
            again = false;
            carrier.restart(cx, no)?;
            continue;
        }
        carrier.complete(cx, no, EntryEnd::Whole(metadata, verdict))?;
        return Ok(Ok(()));
    }
}

/// Copies one content in three spans, the last of them first, through two carriers.
fn spans(
    cx: &Cx,
    (carrier, other): (&mut dyn Carrier, &mut dyn Carrier),
    no: EntryNo,
    file: &dyn OpenFile,
) -> Result<Result<()>> {
    let (a, b) = (SPANNED / 2, SPANNED - 5);
    let mut last = None;
    for (turn, (from, to)) in [(b, u64::MAX), (0, a), (a, b)].into_iter().enumerate() {
        let carrier: &mut dyn Carrier = if turn % 2 == 0 { &mut *other } else { &mut *carrier };
        last = Some(match span(cx, carrier, no, (file, Span { from, to }))? {
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        });
        carrier.end_span(cx, no, from)?;
        carrier.flush(cx)?;
    }
    if let Some((metadata, verdict)) = last {
        carrier.complete(cx, no, EntryEnd::Whole(metadata, verdict))?;
    }
    Ok(Ok(()))
}

/// Carries one span, or the whole file.
fn span(
    cx: &Cx,
    carrier: &mut dyn Carrier,
    no: EntryNo,
    (file, span): (&dyn OpenFile, Span),
) -> Result<Result<(Box<Metadata>, Verdict)>> {
    let mut buf = Vec::new();
    let mut open = match file.open(cx, &mut Shelf::default(), span) {
        Ok(open) => open,
        Err(error) => return source_failed(error),
    };
    let metadata = Box::new(open.metadata().clone());
    loop {
        match open.next_piece(cx, &mut buf) {
            Ok(Some(piece)) => carrier.write(cx, no, piece, &buf)?,
            Ok(None) => break,
            Err(error) => return source_failed(error),
        }
    }
    match open.finish() {
        Ok(verdict) => Ok(Ok((metadata, verdict))),
        Err(error) => source_failed(error),
    }
}

fn source_failed<T>(error: Error) -> Result<Result<T>> {
    if error.class() == Class::Cancelled { Err(error) } else { Ok(Err(error)) }
}

/// Tells the holes of a content the sink has already.
fn holes(cx: &Cx, carrier: &mut dyn Carrier, entry: &Pending, file: &dyn OpenFile) -> Result<()> {
    for hole in file.holes(cx)? {
        carrier.write(cx, entry.no, Piece::Hole(hole), &[])?;
    }
    let metadata = Box::new(entry.entry.metadata.clone());
    carrier.complete(cx, entry.no, EntryEnd::Whole(metadata, Verdict::Steady))
}
