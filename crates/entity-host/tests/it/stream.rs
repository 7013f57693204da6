//! `stream`: commands that print and commands that read.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use alidade_entity::conformance::check_stream_sink;
use alidade_entity::{
    Cancel, Class, CopyMode, CopyOptions, Cx, Error, Params, ProtectedEntity, ProtectedEntityType,
    ReadOptions, Reading, Result, Sink, Source, StreamSink, StreamSource,
};
use alidade_entity_host::StreamType;
use alidade_model::{ContentName, EntityId, encode_object};

use crate::support::{cx, scratch, wait};

fn id() -> EntityId {
    "stream:dump".parse().expect("an id")
}

fn command(words: &[&str]) -> Params {
    let words: Vec<String> = words.iter().map(|word| encode_object(word.as_bytes())).collect();
    Params::from([("command".to_owned(), words.join(" "))])
}

fn shell(script: &str) -> Params {
    command(&["sh", "-c", script])
}

fn open(params: Params) -> Result<Box<dyn StreamSource>> {
    let entity = wait(StreamType::new().open(&cx(), &id()))?;
    let how = ReadOptions { params, ..ReadOptions::default() };
    let reading = wait(entity.read(&cx(), &ContentName::data(), &how))?;
    let Source::Stream(source) = reading.source else { panic!("a stream is a stream") };
    Ok(source)
}

fn drain(cx: &Cx, source: &mut dyn StreamSource) -> Result<Vec<u8>> {
    let (mut all, mut buf) = (Vec::new(), vec![0; 10_000]);
    loop {
        match source.read(cx, &mut buf)? {
            0 => return Ok(all),
            len => all.extend_from_slice(&buf[..len]),
        }
    }
}

/// Reads all a command prints, and how it ends.
fn all(params: Params) -> (Result<Vec<u8>>, Result<bool>) {
    let mut source = open(params).expect("it starts");
    let read = drain(&cx(), &mut *source);
    (read, source.finish(&cx()))
}

fn failure<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.expect_err("it fails").chain()
}

#[test]
fn a_command_that_succeeds_vouches_for_what_it_printed() {
    let (read, vouched) = all(shell("printf 'a b'; seq 100000 >&2 2>/dev/null; printf c"));
    assert_eq!(read.expect("read"), b"a bc");
    assert!(vouched.expect("it succeeds"));
    let (read, vouched) = all(command(&["printf", "%s", "two words", ""]));
    assert_eq!(read.expect("read"), b"two words");
    assert!(vouched.expect("it succeeds"));
}

#[test]
fn a_command_that_fails_says_how() {
    for (script, text) in [
        ("echo x; exit 3", "ended with exit status 3"),
        ("echo x; kill -9 $$", "was killed by signal 9"),
    ] {
        let (read, vouched) = all(shell(script));
        assert_eq!(read.expect("read"), b"x\n");
        let found = failure(vouched);
        assert!(found.contains(text), "{found}");
    }
    let missing = failure(open(command(&["/no/such/program"])).map(|_| ()));
    assert!(missing.contains("/no/such/program"), "{missing}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "that it ends in time is what is tested")]
fn a_command_is_stopped_with_all_it_started_at_its_time_limit() {
    let (_temp, top) = scratch();
    let late = top.join("late");
    let mut params = shell(&format!("(sleep 3; touch {}) & sleep 60", late.display()));
    params.insert("timeout".to_owned(), "1".to_owned());
    let begun = Instant::now();
    let mut source = open(params).expect("it starts");
    let found = failure(drain(&cx(), &mut *source));
    assert!(found.contains("in the time it was given"), "{found}");
    drop(source);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    std::thread::sleep(Duration::from_secs(3));
    assert!(!late.exists(), "what it started is stopped, too");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "that it ends in time is what is tested")]
fn a_run_that_is_told_to_stop_stops_the_command() {
    let cancel = Cancel::default();
    let stopped = cx().cancelled_by(cancel.clone());
    let mut source = open(shell("echo x; sleep 60")).expect("it starts");
    let mut buf = [0; 10];
    assert_eq!(source.read(&stopped, &mut buf).expect("read"), 2);
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        cancel.cancel();
    });
    let begun = Instant::now();
    let error = source.read(&stopped, &mut buf).expect_err("it is told to stop");
    assert_eq!(error.class(), Class::Cancelled);
    drop(source);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn what_is_not_read_to_its_end_is_vouched_for_by_nobody() {
    let source = open(shell("echo x")).expect("it starts");
    assert!(!source.finish(&cx()).expect("finish"));
}

#[test]
fn a_stream_that_nothing_produces_is_refused() {
    let class = |params| open(params).map(|_| ()).map_err(|error: Error| error.class());
    assert_eq!(class(Params::new()), Err(Class::Conflict));
    let nonsense = Params::from([("nonsense".to_owned(), String::new())]);
    assert_eq!(class(nonsense), Err(Class::Unsupported));
    assert_eq!(class(Params::from([("command".to_owned(), String::new())])), Err(Class::Conflict));
    let mut timeout = shell("true");
    timeout.insert("timeout".to_owned(), "soon".to_owned());
    assert_eq!(class(timeout), Err(Class::Conflict));
}

fn options(params: Params) -> CopyOptions {
    CopyOptions { mode: CopyMode::CreateNew, target: None, fsync: false, read_back: false, params }
}

fn sink(from: &dyn ProtectedEntity, params: Params) -> Result<Box<dyn StreamSink>> {
    let kind = StreamType::new();
    let plan = wait(kind.plan(&cx(), from, &options(params)))?;
    let Sink::Stream(sink) = wait(kind.sink(&cx(), &plan))? else { panic!("a stream") };
    Ok(sink)
}

fn to(path: &Path) -> Params {
    // What is there counts only when the end was seen.
    shell(&format!("cat > {0}.part && mv {0}.part {0}", path.display()))
}

#[test]
fn a_command_takes_streams_as_the_sockets_promise() {
    let (_temp, top) = scratch();
    let mut count = 0;
    let mut open = |from: &dyn ProtectedEntity| {
        count += 1;
        let path = top.join(format!("taken-{count}"));
        let sink = Sink::Stream(sink(from, to(&path))?);
        let read_back = move |_: &Cx| -> Result<Option<Reading>> {
            if !path.exists() {
                return Ok(None);
            }
            let entity = wait(StreamType::new().open(&cx(), &id()))?;
            let params = command(&["cat", &path.to_string_lossy()]);
            let how = ReadOptions { params, ..ReadOptions::default() };
            wait(entity.read(&cx(), &ContentName::data(), &how)).map(Some)
        };
        let read_back = Box::new(read_back);
        Ok(alidade_entity::conformance::Target { sink, read_back })
    };
    let report = check_stream_sink(&cx(), &id(), &mut open);
    assert_eq!(report.failures(), []);
}

#[test]
fn a_command_that_does_not_take_all_fails_the_restore() {
    let from = wait(StreamType::new().open(&cx(), &id())).expect("open");
    let mut refusing = sink(&*from, shell("exit 4")).expect("it starts");
    let error = (0..1000).find_map(|_| refusing.write(&cx(), &[0; 10_000]).err());
    let found = error.expect("its pipe is closed").chain();
    assert!(found.contains("exit status 4"), "{found}");
    let mut sated = sink(&*from, command(&["head", "-c", "1"])).expect("it starts");
    let error = (0..1000).find_map(|_| sated.write(&cx(), &[0; 10_000]).err());
    assert!(error.is_some(), "it did not take all");
    let failing = sink(&*from, shell("cat >/dev/null; exit 5")).expect("it starts");
    let found = failing.finish(&cx()).map(drop).expect_err("it failed").chain();
    assert!(found.contains("exit status 5"), "{found}");
}

#[test]
fn streams_are_opened_by_any_name_and_listed_never() {
    let kind = StreamType::new();
    assert!(wait(kind.list(&cx(), None, 10)).expect("list").items.is_empty());
    let (_temp, top) = scratch();
    let file = top.join("x");
    fs::write(&file, b"x").expect("write");
    let native: EntityId = "stream:dump:snapshot".parse().expect("an id");
    let found = wait(kind.open(&cx(), &native)).map(|_| ()).map_err(|error| error.class());
    assert_eq!(found, Err(Class::NotFound));
}
