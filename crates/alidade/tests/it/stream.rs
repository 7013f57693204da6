//! Streams through the binary: only what is whole is stored, and only what is whole comes back.

use std::fs;
use std::process::Stdio;

use crate::world::World;

const SEQ: &str = "seq 300000";

fn sequence() -> Vec<u8> {
    (1..=300_000).flat_map(|n| format!("{n}\n").into_bytes()).collect()
}

fn stored(world: &World) -> usize {
    if world.repository().exists() { world.snapshot_files().len() } else { 0 }
}

#[test]
fn what_a_command_prints_is_stored_and_comes_back() {
    let world = World::new();
    let protect = ["protect", "--stdin-from-command", "my dump", "--", "sh", "-c", SEQ];
    let run = world.run(&protect);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.out.contains("protected stream:my_20dump"), "{run}");
    assert!(!run.out.contains("unverified"), "{run}");
    let back = world.command(&["restore", "stream:my_20dump", "--to-stdout"]).output().unwrap();
    assert!(back.status.success());
    assert!(back.stdout == sequence());
    let to_command = ["restore", "stream:my_20dump", "--to-command", "--", "sh", "-c"];
    world.ok(&[&to_command[..], &["cat > taken"]].concat());
    assert!(fs::read(world.path("taken")).unwrap() == sequence());
    let placed = world.run(&["restore", "stream:my_20dump", "--target", "x"]);
    assert_eq!(placed.code, Some(2), "{placed}");
    let failed = world.run(&[&to_command[..], &["cat > /dev/null; exit 7"]].concat());
    assert_eq!(failed.code, Some(1), "{failed}");
    assert!(failed.err.contains("exit status 7"), "{failed}");
    world.ok(&["check", "--read-data"]);
}

#[test]
fn a_command_that_fails_leaves_no_snapshot() {
    let world = World::protected();
    for (options, script, text) in [
        (&[][..], "seq 300000; exit 3", "exit status 3"),
        (&[], "seq 300000; kill -9 $$", "killed by signal 9"),
        (&["--command-timeout", "1s"], "seq 300000; sleep 60", "in the time it was given"),
    ] {
        let protect = ["protect", "--stdin-from-command", "dump"];
        let run = world.run(&[&protect[..], options, &["--", "sh", "-c", script]].concat());
        assert_eq!(run.code, Some(1), "{run}");
        assert!(run.err.contains(text), "{run}");
        assert_eq!(stored(&world), 1, "{script}");
    }
    let missing = world.run(&["protect", "--stdin-from-command", "dump", "--", "/no/program"]);
    assert_eq!(missing.code, Some(13), "{missing}");
}

#[test]
fn what_comes_on_standard_input_is_marked() {
    let world = World::new();
    let protect = |bytes: &[u8]| {
        fs::write(world.path("input"), bytes).unwrap();
        let input = fs::File::open(world.path("input")).unwrap();
        let mut command = world.command(&["protect", "--stdin", "dump"]);
        World::of(command.stdin(Stdio::from(input)).output().unwrap())
    };
    let run = protect(&sequence());
    assert_eq!(run.code, Some(0), "{run}");
    assert!(run.out.contains("producer unverified"), "{run}");
    let shown = world.ok(&["show", "stream:dump"]);
    assert!(shown.contains("producer unverified"), "{shown}");
    let second = protect(b"");
    assert_eq!(second.code, Some(0), "{second}");
    let back = world.command(&["restore", "stream:dump", "--to-stdout", "-q"]).output().unwrap();
    assert_eq!((back.status.code(), back.stdout.len()), (Some(0), 0));
}

#[test]
fn who_takes_a_stream_that_is_damaged_never_sees_its_end() {
    let world = World::new();
    world.ok(&["protect", "--stdin-from-command", "dump", "-q", "--", "sh", "-c", SEQ]);
    let pack = world.files("data").into_iter().max_by_key(|path| path.metadata().unwrap().len());
    let pack = pack.unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    let script = "cat > taken; touch done";
    let run = world.run(&["restore", "stream:dump", "--to-command", "--", "sh", "-c", script]);
    assert_eq!(run.code, Some(20), "{run}");
    assert!(!world.path("done").exists(), "it saw an end");
}

#[test]
fn words_that_make_no_stream_are_refused() {
    let world = World::protected();
    for (arguments, text) in [
        (&["protect", "--stdin-from-command", "dump"][..], "needs a command"),
        (&["protect", "src", "--", "true"], "a command is for a stream"),
        (&["protect", "--stdin", ""], "names nothing"),
        (&["protect"], "required"),
        (&["restore", "src", "--to-stdout"], "is no stream"),
        (&["restore", "src", "--to-command"], "needs a command"),
        (&["restore", "src", "--to-stdout", "-o", "json"], "not JSON"),
    ] {
        let run = world.run(arguments);
        assert_eq!(run.code, Some(2), "{run}");
        assert!(run.err.contains(text), "{arguments:?}: {run}");
    }
}
