//! The system calls of the real binary, in order: what a power cut finds is whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::program::{DONE, Program};

/// One call that succeeded: when it began and ended, by line of the trace, from 1.
#[derive(Debug)]
struct Call {
    began: usize,
    ended: usize,
    what: What,
}

#[derive(Debug, PartialEq)]
enum What {
    /// A file or directory was made durable.
    Sync(PathBuf),
    /// A file got its name.
    Name { from: PathBuf, to: PathBuf },
}

/// Reads what strace wrote. A call that another thread interrupted stands in two lines.
fn calls(trace: &str) -> Vec<Call> {
    let mut pending: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    let mut calls = Vec::new();
    for (number, line) in (1..).zip(trace.lines()) {
        let (process, rest) = line.split_once(' ').expect("a process id first");
        let rest = rest.trim_start();
        let (began, whole) = if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            pending.insert(process, (number, begun.to_owned()));
            continue;
        } else if rest.starts_with("<... ") {
            let (_, end) = rest.split_once(" resumed>").expect("it says what is resumed");
            let (began, begun) = pending.remove(process).expect("it was begun");
            (began, begun + end)
        } else {
            (number, rest.to_owned())
        };
        if !whole.trim_end().ends_with("= 0") {
            continue;
        }
        if let Some(what) = what(&whole) {
            calls.push(Call { began, ended: number, what });
        }
    }
    calls
}

fn what(call: &str) -> Option<What> {
    let (name, arguments) = call.split_once('(')?;
    match name {
        "fsync" | "fdatasync" => {
            let (_, path) = arguments.split_once('<')?;
            Some(What::Sync(PathBuf::from(path.split_once('>')?.0)))
        }
        "rename" | "renameat" | "renameat2" | "link" | "linkat" => {
            let mut quoted = arguments.split('"').skip(1).step_by(2);
            let (from, to) = (quoted.next()?, quoted.next()?);
            Some(What::Name { from: PathBuf::from(from), to: PathBuf::from(to) })
        }
        _ => None,
    }
}

/// The calls that gave files in that directory of the repository their names.
fn named<'a>(calls: &'a [Call], below: &Path) -> Vec<(&'a Call, &'a Path, &'a Path)> {
    let of = |call: &'a Call| match &call.what {
        What::Name { from, to } if to.starts_with(below) => {
            Some((call, from.as_path(), to.as_path()))
        }
        _ => None,
    };
    calls.iter().filter_map(of).collect()
}

/// That path was made durable between these two calls.
#[track_caller]
fn durable_between(calls: &[Call], path: &Path, after: usize, before: usize) {
    let found = calls.iter().any(|call| {
        call.what == What::Sync(path.to_owned()) && call.began > after && call.ended < before
    });
    let path = path.display();
    assert!(found, "{path} was not made durable between line {after} and line {before}");
}

/// Runs the program under strace and asserts the order of its run; says how many packs it wrote.
fn ordered_run(program: &Program) -> usize {
    let file = program.path("trace");
    let wrapper = [
        "strace",
        "-f",
        "-y",
        "-s",
        "4096",
        "-e",
        "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat,syncfs",
        "-o",
        file.to_str().unwrap(),
    ];
    let protecting = program.protecting();
    let mut command = program.wrapped(&wrapper, &protecting.each_ref().map(String::as_str));
    let output = command.output().expect("strace starts: the package strace");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(DONE), "{said}");
    let trace = fs::read_to_string(&file).unwrap();
    let calls = calls(&trace);
    let repository = program.repository();
    let of = |kind: &str| named(&calls, &repository.join(kind));
    let (packs, indexes, snapshots) = (of("data"), of("index"), of("snapshots"));
    assert_eq!((indexes.len(), snapshots.len()), (1, 1), "one index and one snapshot: {trace}");
    assert!(!packs.is_empty());

    for kind in ["data", "index", "snapshots", "keys", "locks"] {
        for (call, from, _) in of(kind) {
            durable_between(&calls, from, 0, call.began);
        }
    }
    let (index, snapshot) = (indexes[0].0, snapshots[0].0);
    for (pack, _, to) in &packs {
        assert!(pack.ended < index.began, "a pack after the index");
        durable_between(&calls, to.parent().unwrap(), pack.ended, index.began);
    }
    durable_between(&calls, &repository.join("index"), index.ended, snapshot.began);
    durable_between(&calls, &repository.join("snapshots"), snapshot.ended, usize::MAX);
    packs.len()
}

#[test]
fn packs_are_durable_before_the_index_and_that_before_the_snapshot() {
    let program = Program::new();
    for number in 0..4 {
        program.put_noise(&format!("noise-{number}"), number, 3 << 20);
    }
    let packs = ordered_run(&program);
    assert!(packs >= 3, "{packs} packs");
    let trace = fs::read_to_string(program.path("trace")).unwrap();
    first_run_is_ordered(&program, &calls(&trace));

    program.put_noise("noise-1", 99, 5 << 20);
    assert!(ordered_run(&program) >= 2);
    // Nothing new but the record of the run: that has its own pack, and the same order.
    assert!(ordered_run(&program) >= 1);
}

/// The key is on disk before anything is sealed with it, and the config is the last of what makes a
/// repository.
fn first_run_is_ordered(program: &Program, calls: &[Call]) {
    let repository = program.repository();
    let config = named(calls, &repository.join("config"));
    let (config, from, _) = config.first().expect("the config was written");
    durable_between(calls, from, 0, config.began);
    let keys = named(calls, &repository.join("keys"));
    let key = keys.first().expect("a key was written").0;
    assert!(key.ended < config.began, "the config before its key");
    durable_between(calls, &repository.join("keys"), key.ended, config.began);
    durable_between(calls, &repository, config.ended, usize::MAX);
    let home = program.path(".config/alidade");
    let own = named(calls, &home);
    match own.first() {
        Some((named, from, _)) => {
            durable_between(calls, from, 0, named.began);
            durable_between(calls, &home, named.ended, key.began);
        }
        None => {
            durable_between(calls, &home.join("key"), 0, key.began);
            durable_between(calls, &home, 0, key.began);
        }
    }
}

#[test]
fn a_trace_is_read_with_its_calls_in_two_lines() {
    let trace = "\
7  renameat2(AT_FDCWD</w>, \"/r/data/ab/abc-tmp-1\", AT_FDCWD</w>, \"/r/data/ab/abc\", RENAME_NOREPLACE <unfinished ...>
8  fsync(5</r/data/ab>) = 0
7  <... renameat2 resumed>) = 0
7  fsync(4</r/x>) = -1 EIO (Input/output error)
7  +++ exited with 0 +++
";
    let calls = calls(trace);
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert_eq!((calls[0].began, calls[0].ended), (2, 2));
    assert_eq!(calls[0].what, What::Sync("/r/data/ab".into()));
    assert_eq!((calls[1].began, calls[1].ended), (1, 3));
    let (from, to) = ("/r/data/ab/abc-tmp-1".into(), "/r/data/ab/abc".into());
    assert_eq!(calls[1].what, What::Name { from, to });
}
