//! Checks that read a part of the data, through the binary.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use alidade_catalog::Catalog;
use alidade_testkit::server::Brand;
use serde_json::Value;

use crate::bucket::{Bucket, noise};
use crate::world::World;

/// A home with a backup of 24 MB that cannot be compressed, in packs of 4 MiB.
fn world() -> World {
    let world = World::new();
    let noise: Vec<u8> = (0..24_000_000_u64)
        .scan(7_u64, |state, _| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some((*state >> 56) as u8)
        })
        .collect();
    world.write("src/noise", &noise);
    world.ok(&["protect", "--pack-size", "4", world.path("src").to_str().unwrap()]);
    world
}

/// The proofs of earlier checks are new packs, too.
const LITTLE: u64 = 200_000;

fn is_little(doc: &Value) {
    assert!(number(doc, "bytes_read") < LITTLE, "{doc}");
}

fn check(world: &World, arguments: &[&str], code: i32) -> Value {
    let run = world.run(&[&["check"], arguments, &["-o", "json"]].concat());
    assert_eq!(run.code, Some(code), "{run}");
    let doc = serde_json::from_str(&run.out).unwrap();
    crate::schema::check("check", &doc);
    doc
}

fn number(doc: &Value, name: &str) -> u64 {
    let found = doc["summary"][name].as_u64();
    assert_eq!(number_of(doc, "packs_read"), number_of(doc, "packs_chosen"), "{doc}");
    found.unwrap()
}

fn number_of(doc: &Value, name: &str) -> Option<u64> {
    doc["summary"][name].as_u64()
}

#[test]
fn parts_that_are_read_one_after_the_other_become_everything() {
    let world = world();
    let all = number(&check(&world, &[], 0), "packs");
    assert!(all >= 6, "{all}");
    let groups: u64 = (1..=3)
        .map(|n| {
            number(&check(&world, &["--read-data-subset", &format!("{n}/3")], 0), "packs_read")
        })
        .sum();
    assert!(groups >= all, "{groups} of {all}");
    let whole = check(&world, &["--read-data"], 0);
    assert_eq!(number(&whole, "packs_read"), number(&whole, "packs"), "all of it means all of it");
    assert_eq!(whole["everything"], true);
    is_little(&check(&world, &["--not-read-for", "1d"], 0));
    assert!(number(&check(&world, &["--not-read-for", "0s"], 0), "packs_read") > all);
    // What is new was never read.
    world.write("src/more", &[1; 100]);
    world.ok(&["protect", world.path("src").to_str().unwrap()]);
    let rest = check(&world, &["--not-read-for", "1d"], 0);
    is_little(&rest);
    assert_eq!(rest["everything"], false);
    assert!(rest["outcome"]["notes"].to_string().contains("a part of the data was read"), "{rest}");
}

#[test]
fn what_was_read_longest_ago_is_read_first_whatever_its_share() {
    let world = world();
    let all = number(&check(&world, &[], 0), "packs");
    let bytes = number(&check(&world, &[], 0), "pack_bytes");
    let half = number(&check(&world, &["--read-data-subset", "50%"], 0), "bytes_read");
    assert!(half >= bytes / 2 && half < bytes, "{half} of {bytes}");
    let size = number(&check(&world, &["--read-data-subset", "1k"], 0), "packs_read");
    assert!(size < all, "{size}");
    // What is left is everything else, once.
    let rest = number(&check(&world, &["--not-read-for", "1d"], 0), "bytes_read");
    assert!(rest <= bytes - half + LITTLE, "{rest} of {bytes}, {half} before");
    is_little(&check(&world, &["--not-read-for", "1d"], 0));
}

#[test]
fn damage_is_found_again_until_it_is_gone_and_by_the_part_in_which_it_is() {
    let world = world();
    let pack = world.files("data").into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len());
    let pack = pack.unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let len = bytes.len() as u64;
    bytes[1000] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    let first = pack.file_name().unwrap().to_str().unwrap()[..2].to_owned();
    let first = u8::from_str_radix(&first, 16).unwrap();
    for n in 0..2 {
        let code = if first % 2 == n { 20 } else { 0 };
        check(&world, &["--read-data-subset", &format!("{}/2", n + 1)], code);
    }
    for _ in 0..2 {
        let rest = check(&world, &["--not-read-for", "1d"], 20);
        let read = number(&rest, "bytes_read");
        assert!(read < len + LITTLE, "only what is damaged is due, {len} bytes: {rest}");
    }
}

/// How many packs the catalog of that world says were read.
fn known_reads(world: &World, repository: &str) -> usize {
    let catalog = Catalog::open(&world.path("home/.local/share/alidade/catalog.sqlite")).unwrap();
    catalog.pack_reads(repository).unwrap().len()
}

#[test]
fn a_check_that_was_killed_is_gone_on_with() {
    let bucket = Bucket::new(Brand::Versity);
    for seed in 0..16 {
        bucket.world.write(&format!("src/{seed}"), &noise(seed));
    }
    let source = bucket.world.path("src");
    bucket.ok(&["protect", "--pack-size", "4", "-q", source.to_str().unwrap()]);
    let before = bucket.json(&["check"]);
    let all = number(&before, "pack_bytes");
    let repository = before["repository"].as_str().unwrap();
    let slowly = ["check", "--read-data", "--limit-download", "1M", "-q"];
    let mut running = bucket.command(&slowly).spawn().unwrap();
    // It ends after a quarter of a minute by itself.
    while known_reads(&bucket.world, repository) == 0 {
        assert!(running.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(50));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    let known = known_reads(&bucket.world, repository);
    let rest = bucket.json(&["check", "--not-read-for", "1d"]);
    let packs = number(&rest, "packs") as usize;
    assert!(known > 0 && known < packs, "{known} of {packs}");
    assert_eq!(number(&rest, "packs_read") as usize, packs - known, "{rest}");
    assert!(number(&rest, "bytes_read") < all, "{rest}");
    is_little(&bucket.json(&["check", "--not-read-for", "1d"]));
}

#[test]
fn what_is_no_part_is_refused() {
    let world = World::protected();
    for bad in [
        ["--read-data-subset", "0/3"].as_slice(),
        &["--read-data-subset", "4/3"],
        &["--read-data-subset", "101%"],
        &["--read-data-subset", "much"],
        &["--read-data", "--read-data-subset", "1/3"],
        &["--not-read-for", "30"],
    ] {
        let run = world.run(&[&["check"], bad].concat());
        assert_eq!(run.code, Some(2), "{run}");
        assert!(run.err.contains("error: ") && run.err.contains("hint: "), "{run}");
    }
}
