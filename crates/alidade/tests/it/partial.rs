//! Runs that are killed in the midst, and the next ones that go on.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::world::{Run, World, same_tree};

/// A home with an empty repository, so that snapshot files are what runs write.
fn world() -> World {
    let world = World::new();
    fs::remove_dir_all(world.path("src")).unwrap();
    fs::create_dir(world.path("src")).unwrap();
    world.ok(&["init"]);
    world
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Many small files in some directories, written for that round.
fn small_files(world: &World, round: u64, each: impl Fn(u64) -> bool) {
    for n in 0..40 {
        fs::create_dir_all(world.path(&format!("src/d{n:02}"))).unwrap();
    }
    for n in (0..4000).filter(|n| each(*n)) {
        world.write(&format!("src/d{:02}/f{n:04}", n / 100), &noise(20_000, round * 10_000 + n));
    }
}

/// Begins a backup and kills it when it has made so many partial snapshots.
fn killed(world: &World, entity: &str, partial: usize) {
    let before: BTreeSet<_> = world.files("snapshots").into_iter().collect();
    let mut child = world.spawn(&["protect", "--checkpoint", "1ms", entity]);
    let mut seen = BTreeSet::new();
    for _ in 0..120_000 {
        if seen.len() >= partial {
            break;
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended too early: {seen:?}");
        let is_named = |path: &std::path::PathBuf| path.file_name().unwrap().len() == 64;
        let now = world.files("snapshots").into_iter().filter(is_named);
        seen.extend(now.filter(|path| !before.contains(path)));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(seen.len() >= partial, "no partial snapshots after two minutes");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn protect(world: &World, entity: &str) -> Value {
    let doc = world.json(&["protect", entity]);
    crate::schema::check("outcome", &doc);
    doc
}

fn origins(world: &World) -> Vec<String> {
    let doc = world.json(&["snapshots"]);
    let snapshots = doc["snapshots"].as_array().unwrap();
    snapshots.iter().map(|it| it["origin"].as_str().unwrap().to_owned()).collect()
}

fn restic(world: &World, words: &[&str]) {
    let mut command = Command::new(alidade_testkit::peer("restic"));
    command.args(["--no-cache", "-r", world.repository().to_str().unwrap(), "-p"]).arg(world.key());
    command.args(words).env_clear().env("HOME", world.path("home"));
    let run = World::of(command.output().unwrap());
    assert_eq!(run.code, Some(0), "{run}");
}

fn is_restored(world: &World, entity: &str) {
    let target = world.path("back");
    let run: Run = world.run(&["restore", entity, "--target", target.to_str().unwrap()]);
    assert_eq!(run.code, Some(0), "{run}");
    let source = world.path("src");
    assert!(same_tree(&source, &target.join(source.strip_prefix("/").unwrap())));
    fs::remove_dir_all(target).unwrap();
}

fn read(doc: &Value) -> u64 {
    doc["bytes"]["read"].as_u64().unwrap()
}

fn total(doc: &Value) -> u64 {
    doc["bytes"]["total"].as_u64().unwrap()
}

#[test]
fn a_first_backup_that_was_killed_goes_on_where_it_stopped() {
    let world = world();
    small_files(&world, 1, |_| true);
    let source = world.path("src");
    let source = source.to_str().unwrap();
    killed(&world, source, 3);
    assert_eq!(origins(&world).last().map(String::as_str), Some("partial"));
    world.ok(&["unlock"]);
    restic(&world, &["check", "--read-data"]);
    // It is no state of the entity for who does not name it.
    assert_eq!(world.json(&["list"])["entities"].as_array().map(Vec::len), Some(0));
    let plan = world.json(&["protect", "--plan", source]);
    // Two, when it was killed before it removed the one before.
    let from = plan["goes_on_from"].as_array().map(Vec::len);
    assert!(matches!(from, Some(1 | 2)), "{plan}");
    let doc = protect(&world, source);
    assert_eq!(total(&doc), 4000 * 20_000);
    assert!(read(&doc) < total(&doc), "{doc}");
    assert_eq!(origins(&world), ["ours"]);
    is_restored(&world, source);
    world.ok(&["check", "--read-data"]);
    restic(&world, &["check", "--read-data"]);
}

#[test]
fn a_partial_snapshot_gives_what_it_has_and_says_that_it_is_not_all() {
    let world = world();
    small_files(&world, 1, |_| true);
    let source = world.path("src");
    killed(&world, source.to_str().unwrap(), 3);
    world.ok(&["unlock"]);
    let id = world.snapshot_files().pop().unwrap();
    let target = world.path("part");
    let run = world.run(&["restore", &id, "--target", target.to_str().unwrap()]);
    assert_eq!(run.code, Some(3), "{run}");
    assert!(run.out.contains("did not come to its end"), "{run}");
    let part = target.join(source.strip_prefix("/").unwrap());
    let mut files = 0;
    for directory in fs::read_dir(&part).unwrap() {
        for file in fs::read_dir(directory.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let original = source.join(path.strip_prefix(&part).unwrap());
            assert_eq!(fs::read(&path).unwrap(), fs::read(original).unwrap(), "{}", path.display());
            files += 1;
        }
    }
    assert!(files > 0 && files < 4000, "{files}");
}

#[test]
fn an_incremental_backup_that_was_killed_reads_neither_what_it_nor_what_its_parent_stored() {
    let world = world();
    small_files(&world, 1, |_| true);
    let source = world.path("src");
    let source = source.to_str().unwrap();
    protect(&world, source);
    small_files(&world, 2, |n| n % 2 == 0);
    let changed = 2000 * 20_000;
    killed(&world, source, 3);
    // Once more, shorter: what the first one had is not lost by that.
    killed(&world, source, 1);
    world.ok(&["unlock"]);
    let partial = origins(&world).iter().filter(|origin| *origin == "partial").count();
    assert!((2..=4).contains(&partial), "{partial}");
    let doc = protect(&world, source);
    assert!(read(&doc) < changed, "{doc}");
    assert_eq!(origins(&world), ["ours", "ours"]);
    is_restored(&world, source);
    restic(&world, &["check", "--read-data"]);
}

#[test]
fn a_large_file_is_gone_on_with_in_its_midst() {
    let world = world();
    let size: usize = 330 << 20;
    world.write("src/large", &noise(size, 7));
    let source = world.path("src");
    let source = source.to_str().unwrap();
    // The second one is made when a span is stored.
    killed(&world, source, 2);
    world.ok(&["unlock"]);
    let doc = protect(&world, source);
    assert_eq!(total(&doc), size as u64);
    assert!(read(&doc) <= size as u64 - (64 << 20), "{doc}");
    is_restored(&world, source);
    // Cut as if nothing had happened: a second repository holds the same pieces.
    let digest = doc["digest"].clone();
    assert!(digest.is_string(), "{doc}");
    let again = world.json(&["protect", "--force", source]);
    assert_eq!(again["digest"], digest);
    assert_eq!(
        again["bytes"]["added"].as_u64().map(|added| added < 1 << 20),
        Some(true),
        "{again}"
    );
}

#[test]
fn a_large_file_that_changed_meanwhile_is_read_from_its_beginning() {
    let world = world();
    let size: usize = 200 << 20;
    world.write("src/large", &noise(size, 7));
    let source = world.path("src");
    let source = source.to_str().unwrap();
    killed(&world, source, 2);
    world.ok(&["unlock"]);
    world.write("src/large", &noise(size, 8));
    let doc = protect(&world, source);
    assert_eq!(read(&doc), size as u64, "{doc}");
    is_restored(&world, source);
}

#[test]
fn a_directory_of_many_files_is_gone_on_with_in_its_midst() {
    let world = world();
    // Its node text is some MiB: more than is held in memory.
    for n in 0..12_000 {
        world.write(&format!("src/file-{n:05}"), &noise(100, n));
    }
    let source = world.path("src");
    let source = source.to_str().unwrap();
    killed(&world, source, 10);
    world.ok(&["unlock"]);
    restic(&world, &["check", "--read-data"]);
    let id = world.snapshot_files().pop().unwrap();
    let stored = world.json(&["ls", &id])["entries"].as_array().unwrap().len();
    // About 400 bytes of node for each.
    assert!(stored > 3000, "{stored}: no more than is held in memory");
    let doc = protect(&world, source);
    assert!(read(&doc) < total(&doc), "{doc}");
    is_restored(&world, source);
}

#[test]
fn without_checkpoints_there_is_nothing_partial() {
    let world = world();
    small_files(&world, 1, |n| n < 500);
    let source = world.path("src");
    world.ok(&["protect", "--checkpoint", "0s", source.to_str().unwrap()]);
    assert_eq!(origins(&world), ["ours"]);
    let run = world.run(&["protect", "--checkpoint", "soon", source.to_str().unwrap()]);
    assert_eq!(run.code, Some(2), "{run}");
}
