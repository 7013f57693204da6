use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use alidade_entity::{
    Carrier, Cx, EntryEnd, EntryNo, Piece, Place, Result, SinkEnding, TreeSink, Want,
};
use alidade_model::{Entry, Kind, Omission};

/// The largest piece.
const PIECE: usize = 8 << 20;

/// A tree sink that panics when it is called against the order its documentation gives.
///
/// It hands every call on to the sink it wraps, so that any copy can be watched on its way to any sink.
#[derive(Debug)]
pub struct StrictTreeSink<S> {
    sink: S,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    entries: BTreeMap<EntryNo, Line>,
    /// The directories in which the next entry may begin, outermost first.
    open: Vec<EntryNo>,
    /// The name begun last in each of those, the top first.
    last_names: Vec<Option<Vec<u8>>>,
    /// Begun and not settled, in order.
    unsettled: VecDeque<EntryNo>,
    /// Directories that are settled and not left, outermost first.
    entered: Vec<EntryNo>,
    begins_on: Option<ThreadId>,
    settles_on: Option<ThreadId>,
    finished: bool,
}

#[derive(Debug)]
struct Line {
    place: Place,
    kind: Kind,
    /// `None` until the wrapped sink said so.
    want: Option<Want>,
    /// The spans that were ended: where each begins, where it ends.
    spans: BTreeMap<u64, u64>,
    complete: bool,
    /// What carriers may still hold back of it.
    held: usize,
}

/// Watches over one carrier.
struct StrictCarrier<'a, S> {
    strict: &'a StrictTreeSink<S>,
    carrier: Box<dyn Carrier + 'a>,
    /// The file it is at, where that began, and where its next piece begins.
    at: Option<(EntryNo, u64, u64)>,
    /// What it may hold back.
    held: Vec<EntryNo>,
}

impl<S> StrictTreeSink<S> {
    /// Watches over `sink`.
    #[must_use]
    pub fn new(sink: S) -> Self {
        let ledger = Ledger { last_names: vec![None], ..Ledger::default() };
        Self { sink, ledger: Mutex::new(ledger) }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!ledger.finished, "the sink is used after its `finish`");
        ledger
    }
}

impl Ledger {
    fn begin(&mut self, place: Place, entry: &Entry) {
        let Place { no, parent } = place;
        on_one_thread(&mut self.begins_on, "begin");
        let last = self.entries.last_key_value().map(|(no, _)| *no);
        assert!(last < Some(no), "{no:?} begins after {last:?}");
        let depth = match parent {
            None => 0,
            Some(parent) => {
                let found = self.open.iter().position(|open| *open == parent);
                1 + found
                    .unwrap_or_else(|| panic!("{no:?} begins in {parent:?}, which is not open"))
            }
        };
        self.open.truncate(depth);
        self.last_names.truncate(depth + 1);
        let before = self.last_names[depth].replace(entry.name.clone());
        assert!(before.as_ref() < Some(&entry.name), "{entry:?} begins after {before:?}");
        let kind = entry.metadata.kind;
        if kind == Kind::Directory {
            self.open.push(no);
            self.last_names.push(None);
        }
        self.unsettled.push_back(no);
        self.entries.insert(
            no,
            Line { place, kind, want: None, spans: BTreeMap::new(), complete: false, held: 0 },
        );
    }

    fn line(&mut self, no: EntryNo) -> &mut Line {
        self.entries.get_mut(&no).unwrap_or_else(|| panic!("{no:?} was never begun"))
    }

    /// The line of an entry whose content is coming.
    fn coming(&mut self, no: EntryNo) -> &mut Line {
        let line = self.line(no);
        let wanted = matches!(line.want, Some(Want::Content | Want::Changes | Want::Holes));
        assert!(wanted, "the content of {no:?} is not wanted: {:?}", line.want);
        assert!(!line.complete, "{no:?} is complete already");
        line
    }

    /// Checks a piece by itself; returns where it begins and ends.
    fn piece(&mut self, no: EntryNo, piece: Piece, data: &[u8]) -> (u64, u64) {
        let line = self.coming(no);
        match piece {
            Piece::Data { at } => {
                assert!(!data.is_empty() && data.len() <= PIECE, "{} bytes of {no:?}", data.len());
                assert!(line.want != Some(Want::Holes), "{no:?} wants its holes alone");
                (at, at + data.len() as u64)
            }
            Piece::Hole(hole) => {
                assert!(data.is_empty() && hole.len > 0, "{hole:?} of {no:?}");
                (hole.at, hole.at + hole.len)
            }
            Piece::Kept(kept) => {
                assert!(data.is_empty() && kept.len > 0, "{kept:?} of {no:?}");
                assert!(line.want == Some(Want::Changes), "{no:?} has nothing to keep");
                (kept.at, kept.at + kept.len)
            }
        }
    }

    /// `at` is where the file ends that a carrier wrote whole.
    fn complete(&mut self, no: EntryNo, at: Option<u64>, end: &EntryEnd) {
        let line = self.coming(no);
        line.complete = true;
        let EntryEnd::Whole(metadata, _) = end else { return };
        assert!(metadata.kind == Kind::File, "{no:?} is complete as {metadata:?}");
        assert!(line.held == 0, "{no:?} is complete, and spans of it are not flushed");
        let mut written = at.unwrap_or(0);
        for (from, to) in &line.spans {
            assert!(*from == written, "{no:?}: a span from {from} after {written}");
            written = *to;
        }
        let whole = match line.want {
            Some(Want::Content) => written == metadata.size,
            _ => written <= metadata.size,
        };
        assert!(whole, "{no:?} ends at {written}, its size is {}", metadata.size);
    }

    fn settle(&mut self, no: EntryNo) {
        on_one_thread(&mut self.settles_on, "settle and leave");
        let due = self.unsettled.pop_front();
        assert!(due == Some(no), "{no:?} is settled, due is {due:?}");
        let entered = self.entered.last().copied();
        let line = self.line(no);
        assert!(line.complete || line.want == Some(Want::Nothing), "{no:?} is not complete");
        assert!(line.held == 0, "{no:?} is settled, and its carrier was not flushed");
        let parent = line.place.parent;
        assert!(parent == entered, "{no:?} is settled in {entered:?}, it is in {parent:?}");
        if line.kind == Kind::Directory {
            self.entered.push(no);
        } else {
            self.line(no).complete = true;
        }
    }

    fn leave(&mut self, no: EntryNo) {
        on_one_thread(&mut self.settles_on, "settle and leave");
        let entered = self.entered.pop();
        assert!(entered == Some(no), "{no:?} is left, entered last is {entered:?}");
        let inside = self.unsettled.front().copied();
        if let Some(inside) = inside {
            let parent = self.line(inside).place.parent;
            assert!(parent != Some(no), "{no:?} is left before {inside:?} in it is settled");
        }
        if let Some(depth) = self.open.iter().position(|open| *open == no) {
            self.open.truncate(depth);
            self.last_names.truncate(depth + 1);
        }
    }
}

fn on_one_thread(seen: &mut Option<ThreadId>, what: &str) {
    let here = thread::current().id();
    let there = *seen.get_or_insert(here);
    assert!(here == there, "{what} is called by {here:?} and by {there:?}");
}

impl<S: TreeSink> TreeSink for StrictTreeSink<S> {
    fn begin(&self, cx: &Cx, place: Place, entry: &Entry) -> Result<Want> {
        self.ledger().begin(place, entry);
        let want = self.sink.begin(cx, place, entry)?;
        assert!(
            want == Want::Nothing || entry.metadata.kind == Kind::File,
            "the sink wants the content of {entry:?}"
        );
        self.ledger().line(place.no).want = Some(want);
        Ok(want)
    }

    fn carrier(&self) -> Result<Box<dyn Carrier + '_>> {
        let carrier = self.sink.carrier()?;
        Ok(Box::new(StrictCarrier { strict: self, carrier, at: None, held: Vec::new() }))
    }

    fn takes_spans(&self) -> bool {
        self.sink.takes_spans()
    }

    fn settle(&self, cx: &Cx, no: EntryNo) -> Result<()> {
        self.ledger().settle(no);
        self.sink.settle(cx, no)
    }

    fn leave(&self, cx: &Cx, no: EntryNo) -> Result<()> {
        self.ledger().leave(no);
        self.sink.leave(cx, no)
    }

    fn omit(&self, cx: &Cx, omission: &Omission) -> Result<()> {
        drop(self.ledger());
        self.sink.omit(cx, omission)
    }

    fn finish(&self, cx: &Cx) -> Result<SinkEnding> {
        {
            let mut ledger = self.ledger();
            assert!(ledger.unsettled.is_empty(), "{:?} are not settled", ledger.unsettled);
            assert!(ledger.entered.is_empty(), "{:?} are not left", ledger.entered);
            ledger.finished = true;
        }
        self.sink.finish(cx)
    }
}

impl<S: TreeSink> Carrier for StrictCarrier<'_, S> {
    fn write(&mut self, cx: &Cx, no: EntryNo, piece: Piece, data: &[u8]) -> Result<()> {
        let mut ledger = self.strict.ledger();
        let (from, to) = ledger.piece(no, piece, data);
        let line = ledger.coming(no);
        match self.at.filter(|(file, ..)| *file == no) {
            Some((_, _, at)) if line.want == Some(Want::Holes) => {
                assert!(from >= at, "{no:?}: a hole at {from} before {at}");
            }
            Some((_, _, at)) => assert!(from == at, "{no:?}: {from} after {at}"),
            None if line.want == Some(Want::Holes) => {}
            None => {
                let may = from == 0 || self.strict.sink.takes_spans();
                assert!(may, "{no:?} begins at {from}");
            }
        }
        let began = self.at.filter(|(file, ..)| *file == no).map_or(from, |(_, began, _)| began);
        self.at = Some((no, began, to));
        drop(ledger);
        self.carrier.write(cx, no, piece, data)
    }

    fn restart(&mut self, cx: &Cx, no: EntryNo) -> Result<()> {
        self.strict.ledger().coming(no).spans.clear();
        self.at = None;
        self.carrier.restart(cx, no)
    }

    fn end_span(&mut self, cx: &Cx, no: EntryNo, from: u64) -> Result<()> {
        let (began, to) = match self.at.take() {
            Some((file, began, to)) if file == no => (began, to),
            _ => (from, from),
        };
        assert!(began == from, "{no:?}: a span from {began} is ended as one from {from}");
        {
            let mut ledger = self.strict.ledger();
            let line = ledger.coming(no);
            line.held += 1;
            if to > from {
                let other = line.spans.insert(from, to);
                assert!(other.is_none(), "{no:?}: the span from {from} was ended twice");
            }
        }
        self.held.push(no);
        self.carrier.end_span(cx, no, from)
    }

    fn complete(&mut self, cx: &Cx, no: EntryNo, end: EntryEnd) -> Result<()> {
        let at = self.at.take().filter(|(file, ..)| *file == no).map(|(.., to)| to);
        {
            let mut ledger = self.strict.ledger();
            ledger.complete(no, at, &end);
            ledger.line(no).held += 1;
        }
        self.held.push(no);
        self.carrier.complete(cx, no, end)
    }

    fn flush(&mut self, cx: &Cx) -> Result<()> {
        self.carrier.flush(cx)?;
        let mut ledger = self.strict.ledger();
        for no in self.held.drain(..) {
            ledger.line(no).held -= 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use alidade_entity::{Class, Error, Verdict};
    use alidade_model::{Metadata, Version};

    use super::*;
    use crate::TestCx;

    /// Wants the content of every file, in spans or not, and keeps nothing.
    struct Anything(bool);

    impl Carrier for &Anything {
        fn write(&mut self, _cx: &Cx, _no: EntryNo, _piece: Piece, _data: &[u8]) -> Result<()> {
            Ok(())
        }
        fn restart(&mut self, _cx: &Cx, _no: EntryNo) -> Result<()> {
            Ok(())
        }
        fn end_span(&mut self, _cx: &Cx, _no: EntryNo, _from: u64) -> Result<()> {
            Ok(())
        }
        fn complete(&mut self, _cx: &Cx, _no: EntryNo, _end: EntryEnd) -> Result<()> {
            Ok(())
        }
        fn flush(&mut self, _cx: &Cx) -> Result<()> {
            Ok(())
        }
    }

    impl TreeSink for Anything {
        fn begin(&self, _cx: &Cx, _place: Place, entry: &Entry) -> Result<Want> {
            let file = entry.metadata.kind == Kind::File;
            Ok(if file { Want::Content } else { Want::Nothing })
        }
        fn carrier(&self) -> Result<Box<dyn Carrier + '_>> {
            Ok(Box::new(self))
        }
        fn takes_spans(&self) -> bool {
            self.0
        }
        fn settle(&self, _cx: &Cx, _no: EntryNo) -> Result<()> {
            Ok(())
        }
        fn leave(&self, _cx: &Cx, _no: EntryNo) -> Result<()> {
            Ok(())
        }
        fn omit(&self, _cx: &Cx, _omission: &Omission) -> Result<()> {
            Err(Error::new(Class::Unsupported, "keep an omission"))
        }
        fn finish(&self, _cx: &Cx) -> Result<SinkEnding> {
            Ok(SinkEnding::default())
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Call {
        Directory(u64, Option<u64>, &'static str),
        File(u64, Option<u64>, &'static str),
        Write(u64, u64, usize),
        Restart(u64),
        EndSpan(u64, u64),
        Complete(u64, u64),
        Flush(u64),
        Whole(u64, u64),
        Abandon(u64),
        Settle(u64),
        Leave(u64),
        Finish,
    }
    use Call::*;

    type Ways<'a> = BTreeMap<u64, Box<dyn Carrier + 'a>>;

    fn way<'a, 'w>(
        ways: &'w mut Ways<'a>,
        sink: &'a StrictTreeSink<Anything>,
        no: u64,
    ) -> &'w mut dyn Carrier {
        &mut **ways.entry(no).or_insert_with(|| sink.carrier().unwrap())
    }

    /// Plays calls; each file has a carrier of its own.
    fn play(spans: bool, calls: &[Call]) {
        let (test, sink) = (TestCx::seeded(1), StrictTreeSink::new(Anything(spans)));
        let mut carriers = Ways::new();
        let cx = test.cx();
        let begin = |no, parent: Option<u64>, name: &str, kind| {
            let metadata = Metadata::of(kind, 0o644);
            let entry = Entry { name: name.into(), metadata, version: Version::Unknown };
            sink.begin(cx, Place { no: EntryNo(no), parent: parent.map(EntryNo) }, &entry).unwrap();
        };
        for call in calls {
            let whole = |size| {
                let metadata = Metadata { size, ..Metadata::of(Kind::File, 0o644) };
                EntryEnd::Whole(Box::new(metadata), Verdict::Steady)
            };
            match *call {
                Directory(no, parent, name) => begin(no, parent, name, Kind::Directory),
                File(no, parent, name) => begin(no, parent, name, Kind::File),
                Write(no, at, len) => {
                    let data = vec![1; len];
                    way(&mut carriers, &sink, no)
                        .write(cx, EntryNo(no), Piece::Data { at }, &data)
                        .unwrap();
                }
                Restart(no) => way(&mut carriers, &sink, no).restart(cx, EntryNo(no)).unwrap(),
                EndSpan(no, from) => {
                    way(&mut carriers, &sink, no).end_span(cx, EntryNo(no), from).unwrap();
                }
                Complete(no, size) => {
                    way(&mut carriers, &sink, no).complete(cx, EntryNo(no), whole(size)).unwrap();
                }
                Flush(no) => way(&mut carriers, &sink, no).flush(cx).unwrap(),
                Whole(no, size) => {
                    way(&mut carriers, &sink, no).complete(cx, EntryNo(no), whole(size)).unwrap();
                    way(&mut carriers, &sink, no).flush(cx).unwrap();
                }
                Abandon(no) => {
                    way(&mut carriers, &sink, no)
                        .complete(cx, EntryNo(no), EntryEnd::Abandoned)
                        .unwrap();
                    way(&mut carriers, &sink, no).flush(cx).unwrap();
                }
                Settle(no) => sink.settle(cx, EntryNo(no)).unwrap(),
                Leave(no) => sink.leave(cx, EntryNo(no)).unwrap(),
                Finish => drop(sink.finish(cx).unwrap()),
            }
        }
    }

    #[test]
    fn calls_in_order_pass() {
        play(false, &[Finish]);
        let spans = [Write(0, 7, 2), EndSpan(0, 7), Write(0, 0, 7), EndSpan(0, 0), EndSpan(0, 9)];
        let spans =
            [&[File(0, None, "a")], &spans[..], &[Flush(0), Whole(0, 9), Settle(0), Finish]];
        play(true, &spans.concat());
        let calls = [
            Directory(0, None, "a"),
            File(1, Some(0), "x"),
            File(2, None, "b"),
            Write(2, 0, 3),
            Write(1, 0, 5),
            Restart(1),
            Write(1, 0, 4),
            Whole(1, 4),
            Abandon(2),
            Settle(0),
            Settle(1),
            Leave(0),
            Settle(2),
            Finish,
        ];
        play(false, &calls);
        play(true, &calls);
    }

    #[test]
    fn every_call_out_of_order_panics() {
        let file = File(0, None, "a");
        let directory = Directory(0, None, "a");
        let cases: &[&[Call]] = &[
            &[File(1, None, "a"), File(0, None, "b")],
            &[File(0, None, "b"), File(1, None, "a")],
            &[File(0, None, "a"), File(1, None, "a")],
            &[File(0, Some(7), "a")],
            &[directory, Directory(1, None, "b"), File(2, Some(0), "x")],
            &[directory, Settle(0), Leave(0), File(1, Some(0), "x")],
            &[Write(0, 0, 1)],
            &[directory, Write(0, 0, 1)],
            &[file, Write(0, 1, 1)],
            &[file, Write(0, 0, 2), Write(0, 1, 2)],
            &[file, Write(0, 0, 0)],
            &[file, Write(0, 0, PIECE + 1)],
            &[file, Write(0, 0, 1), Whole(0, 2)],
            &[file, Whole(0, 0), Write(0, 0, 1)],
            &[file, Whole(0, 0), Restart(0)],
            &[file, Whole(0, 0), Whole(0, 0)],
            &[file, Settle(0)],
            &[file, Complete(0, 0), Settle(0)],
            &[file, Write(0, 0, 2), EndSpan(0, 1)],
            &[file, Write(0, 0, 2), EndSpan(0, 0), Complete(0, 2)],
            &[file, Write(0, 0, 2), EndSpan(0, 0), Flush(0), Complete(0, 3)],
            &[file, Write(0, 0, 2), EndSpan(0, 0), Write(0, 0, 2), EndSpan(0, 0)],
            &[
                file,
                Write(0, 0, 2),
                EndSpan(0, 0),
                Write(0, 3, 2),
                EndSpan(0, 3),
                Flush(0),
                Complete(0, 5),
            ],
            &[file, Whole(0, 0), Settle(0), Settle(0)],
            &[file, File(1, None, "b"), Whole(0, 0), Whole(1, 0), Settle(1)],
            &[directory, Leave(0)],
            &[directory, File(1, Some(0), "x"), Settle(0), Leave(0)],
            &[directory, File(1, None, "b"), Whole(1, 0), Settle(0), Settle(1)],
            &[directory, Settle(0), Leave(0), Leave(0)],
            &[directory, Settle(0), Finish],
            &[file, Finish],
            &[Finish, Finish],
            &[Finish, file],
        ];
        for calls in cases {
            let spans = calls.iter().any(|call| matches!(call, EndSpan(..)));
            let played = catch_unwind(AssertUnwindSafe(|| play(spans, calls)));
            assert!(played.is_err(), "{calls:?} went through");
        }
    }
}
