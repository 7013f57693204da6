//! What rustic wrote, in our hands. Its repository is a fixture: rustic takes ten minutes to be built.

use std::fs;
use std::path::Path;
use std::process::Command;

use alidade_testkit::tree::{Kind, Listing};

use crate::bench::{Bench, Ran, Stock, os};

/// The fixture, unpacked as `repo` and `source`.
fn fixture() -> Bench {
    let bench = Bench::new();
    let tar = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testbench/fixtures/rustic.tar.gz");
    let unpacked = Command::new("tar").arg("-xzpf").arg(tar).arg("-C").arg(bench.path("")).status();
    assert!(unpacked.unwrap().success());
    fs::write(bench.path("password"), "rustic").unwrap();
    bench
}

/// What is restored of a snapshot by `restore`.
fn restored(bench: &Bench, name: &str, mut command: Command) -> Listing {
    let target = bench.path(name);
    command.arg("--target").arg(&target);
    Ran::of(command).done();
    // Of the directories above the files, and of the one that it was given, rustic keeps no time.
    let top = target.join("var/tmp/alidade-rustic/source");
    let time = fs::metadata(bench.source()).unwrap().modified().unwrap();
    fs::File::open(&top).unwrap().set_modified(time).unwrap();
    Listing::of(&top)
}

#[test]
fn what_rustic_wrote_is_listed_checked_restored_and_gone_on_with() {
    let bench = fixture();
    let source = bench.listing();
    let listed = bench.alidade(&["-o", "json", "snapshots"]).done().json();
    let snapshots = listed["snapshots"].as_array().unwrap().clone();
    assert_eq!(snapshots.len(), 2, "{listed}");
    assert!(snapshots.iter().all(|snapshot| snapshot["origin"] == "foreign"), "{listed}");
    bench.alidade(&["check", "--read-data"]).done();
    let last = snapshots[1]["snapshot"].as_str().unwrap();
    let ours = restored(&bench, "ours", bench.command_on("repo", &os(&["restore", last])));
    source.assert_equals(&ours, "what rustic wrote, restored by us");
    let diff =
        bench.alidade(&["-o", "json", "diff", snapshots[0]["snapshot"].as_str().unwrap(), last]);
    assert_eq!(diff.done().json()["summary"]["content"], 1);

    // Its snapshot is the parent of our next one; what it stored is known.
    let outcome = bench.protect(&["--parent", last]);
    assert_eq!(outcome["counts"]["files"], source.count(Kind::File), "{outcome}");
    assert!(outcome["bytes"]["added"].as_u64() < Some(1_000_000), "{outcome}");
    bench.alidade(&["check", "--read-data"]).done();
    bench.stock(Stock::Current, &["check", "--read-data"]).done();
    let id = outcome["snapshot"].as_str().unwrap();
    source.assert_equals(&bench.restored(id), "ours beside rustic's");
}

#[test]
fn a_wrong_password_of_rustics_repository_is_refused() {
    let bench = fixture();
    fs::write(bench.path("password"), "restic").unwrap();
    bench.alidade(&["snapshots"]).ended_with(12);
}
