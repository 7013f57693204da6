//! The memory bound is structural: the real binary, on what grows without bound elsewhere.
//!
//! 256 MiB on two cores is the promise (`docs/memory.md`), in maximum RSS as the system accounts it. One
//! test at a time: the system keeps the maximum over all children of this process.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]
#![allow(clippy::print_stdout, reason = "what was measured is part of what it says")]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use nix::sys::resource::{UsageWho, getrusage};

/// The bound, in KiB, as the system counts maximum RSS.
const BOUND_KIB: i64 = 256 << 10;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs alidade in a home of its own, and holds it to the bound.
fn alidade(home: &Path, words: &[&str]) -> String {
    let run = Command::new(env!("CARGO_BIN_EXE_alidade"))
        .args(words)
        .env_clear()
        .env("HOME", home)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(run.status.success(), "{words:?}: {said}");
    let most = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    println!("{words:?}: maximum RSS so far {} MiB", most >> 10);
    assert!(most <= BOUND_KIB, "{words:?} took {} MiB", most >> 10);
    String::from_utf8_lossy(&run.stdout).into_owned()
}

/// Protects twice, checks and restores `source`; gives the second outcome.
fn all_verbs(home: &Path, source: &Path, target: &Path) -> String {
    let (source, target) = (source.to_str().unwrap(), target.to_str().unwrap());
    alidade(home, &["-o", "json", "--progress", "none", "protect", source]);
    let second = alidade(home, &["-o", "json", "--progress", "none", "protect", source]);
    alidade(home, &["check"]);
    alidade(home, &["check", "--read-data"]);
    alidade(home, &["-q", "restore", source, "--target", target]);
    second
}

#[test]
fn a_directory_of_a_million_entries_stays_within_the_bound() {
    const ENTRIES: u32 = 1_000_000;
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    for n in 0..ENTRIES {
        let mut file = File::create(source.join(format!("entry-{n:07}-of-a-million"))).unwrap();
        if n % 20 == 0 {
            write!(file, "the content of number {n}").unwrap();
        }
    }
    let target = dir.path().join("target");
    let second = all_verbs(dir.path(), &source, &target);
    assert!(second.contains("\"unchanged\": 1000000"), "{second}");
    let back = target.join(source.strip_prefix("/").unwrap());
    assert_eq!(fs::read_dir(&back).unwrap().count(), ENTRIES as usize);
    let one = fs::read_to_string(back.join("entry-0999980-of-a-million")).unwrap();
    assert_eq!(one, "the content of number 999980");
}

#[test]
fn a_sparse_file_of_four_tebibytes_stays_within_the_bound() {
    const SIZE: u64 = 4 << 40;
    let _alone = ONE_AT_A_TIME.lock();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    let file = File::create(source.join("disk")).unwrap();
    file.set_len(SIZE).unwrap();
    for at in [0, SIZE / 2 + 12_345, SIZE - 4] {
        file.write_all_at(b"data", at).unwrap();
    }
    let target = dir.path().join("target");
    all_verbs(dir.path(), &source, &target);
    let back = File::open(target.join(source.strip_prefix("/").unwrap()).join("disk")).unwrap();
    let (was, is) = (file.metadata().unwrap(), back.metadata().unwrap());
    assert_eq!((is.size(), is.blocks()), (was.size(), was.blocks()));
    for at in [0, SIZE / 2 + 12_345, SIZE - 4] {
        let mut four = [0; 4];
        back.read_exact_at(&mut four, at).unwrap();
        assert_eq!(&four, b"data");
    }
}
