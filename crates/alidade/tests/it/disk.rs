//! Disks through the binary: what is stored of them, and what comes back.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::world::World;

const MIB: u64 = 1 << 20;
/// Bytes of a cell.
const CELL: u64 = 256 << 10;

/// Bytes that do not compress, another run of them for each seed.
fn noise(len: u64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(usize::try_from(len).unwrap());
    bytes
}

fn write(path: &Path, at: u64, bytes: &[u8]) {
    let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// A disk of 100 MiB and a bit: 10 MiB of data in two places, a MiB of written zeros, holes.
fn image(world: &World, name: &str) -> String {
    let path = world.path(name);
    File::create(&path).unwrap().set_len(100 * MIB + 777).unwrap();
    write(&path, 0, &noise(4 * MIB, 1));
    write(&path, 50 * MIB + 4096, &noise(6 * MIB, 2));
    write(&path, 70 * MIB, &vec![0; MIB as usize]);
    write(&path, 100 * MIB + 700, b"the last bytes");
    format!("disk:{}", path.display())
}

/// Lets the clock go on: what changed just now is read again.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(2100));
}

fn same(a: &Path, b: &Path) -> bool {
    fs::read(a).unwrap() == fs::read(b).unwrap()
}

fn number(outcome: &serde_json::Value, field: &str) -> u64 {
    outcome["bytes"][field].as_u64().unwrap()
}

#[test]
fn a_disk_comes_back_byte_by_byte_and_hole_by_hole() {
    let world = World::new();
    let disk = image(&world, "a.img");
    let outcome = world.json(&["protect", &disk]);
    assert_eq!(outcome["status"], "done");
    assert_eq!(outcome["consistency"], "crash");
    assert_eq!(number(&outcome, "total"), 100 * MIB + 777);
    assert!(number(&outcome, "read") < 12 * MIB, "holes are not read: {outcome}");
    let added = number(&outcome, "added");
    assert!((10 * MIB..21 * MIB).contains(&added), "zeros are stored once: {outcome}");
    let restored = world.json(&["restore", &disk, "--target", "b.img", "--read-back"]);
    assert_eq!(restored["status"], "done");
    assert_eq!(restored["digest"], outcome["digest"]);
    assert_eq!(restored["checks"]["read_back"], 1);
    assert!(same(&world.path("a.img"), &world.path("b.img")));
    let blocks = |name: &str| fs::metadata(world.path(name)).unwrap().blocks() * 512;
    assert!(blocks("b.img") <= blocks("a.img"), "{} {}", blocks("b.img"), blocks("a.img"));
    world.ok(&["check", "--read-data"]);
}

#[test]
fn of_a_disk_that_changed_the_cells_that_changed_are_new() {
    let world = World::new();
    let disk = image(&world, "a.img");
    world.ok(&["protect", &disk, "-q"]);
    let path = world.path("a.img");
    write(&path, 2 * MIB + 5, b"changed");
    write(&path, 80 * MIB, b"where a hole was");
    settle();
    let outcome = world.json(&["protect", &disk]);
    assert_eq!(
        (&outcome["counts"]["changed"], &outcome["counts"]["files"]),
        (&1.into(), &1.into())
    );
    let added = number(&outcome, "added");
    assert!(added < 2 * CELL + 100_000, "two cells, and what is written down: {outcome}");
    let third = world.json(&["protect", &disk]);
    assert_eq!(number(&third, "read"), 0, "the file did not change: {third}");
    assert_eq!(third["counts"]["unchanged"], 1);
    let fourth = world.json(&["protect", &disk, "--skip-if-unchanged"]);
    assert_eq!(fourth["snapshot"], third["snapshot"], "{fourth}");
    world.ok(&["restore", &disk, "--target", "b.img", "-q"]);
    assert!(same(&path, &world.path("b.img")));
}

#[test]
fn a_map_of_changed_blocks_spares_reading_the_rest() {
    let world = World::new();
    let disk = image(&world, "a.img");
    world.ok(&["protect", &disk, "-q"]);
    let path = world.path("a.img");
    write(&path, MIB + 10, b"told");
    write(&path, 3 * MIB, b"not told");
    world.write("map", format!("{} 4\n{} {}\n", MIB + 10, 60 * MIB, MIB).as_bytes());
    let parent = world.snapshot_files()[0].clone();
    let outcome = world.json(&["protect", &disk, "--parent", &parent, "--changed-blocks", "map"]);
    assert_eq!(number(&outcome, "read"), CELL, "a cell of data, and a hole: {outcome}");
    world.ok(&["restore", &disk, "--target", "b.img", "-q"]);
    // What the map does not tell is as it was.
    let mut meant = fs::read(&path).unwrap();
    let old = noise(4 * MIB, 1);
    let at = 3 * MIB as usize;
    meant[at..at + 8].copy_from_slice(&old[at..at + 8]);
    assert!(fs::read(world.path("b.img")).unwrap() == meant);
    world.ok(&["check", "--read-data"]);
    for (map, code) in [("beyond", 21), ("absent", 13)] {
        if map == "beyond" {
            world.write(map, b"104858377 1\n");
        }
        let run = world.run(&["protect", &disk, "--parent", &parent, "--changed-blocks", map]);
        assert_eq!(run.code, Some(code), "{run}");
    }
}

#[test]
fn a_disk_that_is_there_gets_what_differs_alone() {
    let world = World::new();
    let disk = image(&world, "a.img");
    world.ok(&["protect", &disk, "-q"]);
    fs::copy(world.path("a.img"), world.path("b.img")).unwrap();
    write(&world.path("b.img"), 2 * MIB, b"other");
    write(&world.path("b.img"), 90 * MIB, b"no hole any more");
    let refused = world.run(&["restore", &disk, "--target", "b.img"]);
    assert_eq!(refused.code, Some(21), "{refused}");
    assert!(refused.err.contains("--in-place"), "{refused}");
    let outcome = world.json(&["restore", &disk, "--target", "b.img", "--in-place"]);
    assert_eq!(number(&outcome, "written"), CELL, "{outcome}");
    assert!(same(&world.path("a.img"), &world.path("b.img")));
    let again = world.json(&["restore", &disk, "--target", "b.img", "--in-place", "--read-back"]);
    assert_eq!(number(&again, "written"), 0, "{again}");
}

#[test]
fn any_part_of_a_disk_is_restored_and_printed() {
    let world = World::new();
    let disk = image(&world, "a.img");
    world.ok(&["protect", &disk, "-q"]);
    let whole = fs::read(world.path("a.img")).unwrap();
    let part = |from: u64, len: u64| &whole[from as usize..(from + len) as usize];
    for (from, len) in [(0, 1), (50 * MIB + 4000, 500_000), (8 * MIB - 1, 2), (100 * MIB + 700, 77)]
    {
        let (offset, length) = (from.to_string(), len.to_string());
        let cat = ["cat", &disk, "--offset", &offset, "--length", &length];
        assert_eq!(world.command(&cat).output().unwrap().stdout, part(from, len), "{from} {len}");
        fs::write(world.path("b.img"), vec![9; whole.len()]).unwrap();
        let restore = ["restore", &disk, "--target", "b.img", "--in-place", "-q"];
        world.ok(&[&restore[..], &["--offset", &offset, "--length", &length]].concat());
        let mut meant = vec![9; whole.len()];
        meant[from as usize..(from + len) as usize].copy_from_slice(part(from, len));
        assert!(fs::read(world.path("b.img")).unwrap() == meant, "{from} {len}");
    }
    let beyond =
        world.run(&["restore", &disk, "-t", "c.img", "--offset", "100M", "--length", "1M"]);
    assert_eq!(beyond.code, Some(21), "{beyond}");
    let tail = ["cat", &disk, "--offset", &(100 * MIB + 700).to_string()];
    assert_eq!(world.command(&tail).output().unwrap().stdout, part(100 * MIB + 700, 77));
    assert_eq!(world.ok(&["ls", "latest"]), "/data\n");
    let cat = ["cat", "latest:/data", "--offset", "4096", "--length", "10"];
    assert_eq!(world.command(&cat).output().unwrap().stdout, part(4096, 10));
}

#[test]
fn a_huge_sparse_disk_is_protected_by_what_it_holds() {
    let world = World::new();
    let path = world.path("huge.img");
    File::create(&path).unwrap().set_len(4 << 40).unwrap();
    write(&path, 5, b"first");
    write(&path, (65 << 30) - 3, b"across");
    write(&path, (4 << 40) - 4, b"last");
    let disk = format!("disk:{}", path.display());
    let outcome = world.json(&["protect", &disk]);
    assert_eq!((number(&outcome, "total"), &outcome["counts"]["files"]), (4 << 40, &1.into()));
    assert!(number(&outcome, "read") <= 4 * CELL, "{outcome}");
    assert!(number(&outcome, "stored") < MIB, "{outcome}");
    write(&path, 2 << 40, b"middle");
    settle();
    let second = world.json(&["protect", &disk]);
    assert!(number(&second, "stored") < MIB / 2, "{second}");
    world.ok(&["restore", &disk, "--target", "back.img", "-q"]);
    let back = File::open(world.path("back.img")).unwrap();
    assert_eq!(back.metadata().unwrap().len(), 4 << 40);
    assert!(back.metadata().unwrap().blocks() < 8 * 512, "it is sparse");
    for (at, bytes) in [
        (5, &b"first"[..]),
        ((65 << 30) - 3, b"across"),
        (2 << 40, b"middle"),
        ((4 << 40) - 4, b"last"),
    ] {
        let mut found = vec![0; bytes.len()];
        back.read_exact_at(&mut found, at).unwrap();
        assert_eq!(found, bytes);
        let (offset, length) = (at.to_string(), bytes.len().to_string());
        let cat = ["cat", &disk, "--offset", &offset, "--length", &length];
        assert_eq!(world.command(&cat).output().unwrap().stdout, bytes);
    }
}

#[test]
fn what_is_no_disk_is_refused_with_a_reason() {
    let world = World::protected();
    for (what, code, text) in [
        ("disk:/", 1, "neither a file nor a block device"),
        ("disk:/no/such/disk", 13, "No such file"),
        ("disk:/dev/null", 1, "neither a file nor a block device"),
    ] {
        let run = world.run(&["protect", what]);
        assert_eq!(run.code, Some(code), "{run}");
        assert!(run.err.contains("error: ") && run.err.contains(text), "{run}");
    }
    let live = world.run(&["protect", "src", "--live"]);
    assert!(live.err.contains("`live`"), "{live}");
    let part = world.run(&["cat", "src", "--offset", "1"]);
    assert_ne!(part.code, Some(0), "{part}");
}
