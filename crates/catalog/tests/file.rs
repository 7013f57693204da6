//! The file: its modes, its version, several processes at once, and a kill at any instant.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use alidade_catalog::{Catalog, Derived, Error, RunFilter, SCHEMA_VERSION, SnapshotFilter};
use alidade_model::Time;
use support::{evidence, hex, run, snapshot};

const CHILD: &str = "ALIDADE_CATALOG_TEST_CHILD";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_directory_and_the_files_are_for_their_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("deep/alidade");
    let path = home.join("catalog.sqlite");
    let catalog = Catalog::open(&path).unwrap();
    catalog.put_repository(&hex(1), "/r", Time::new(1, 0)).unwrap();
    assert_eq!(mode(&home), 0o700);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&home.join("catalog.sqlite-wal")), 0o600);
    drop(catalog);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    Catalog::open(&path).unwrap();
    assert_eq!(mode(&path), 0o600, "a file that was opened up is closed again");
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.sqlite");
    drop(Catalog::open(&path).unwrap());
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    drop(raw);
    let before = fs::read(&path).unwrap();
    let error = Catalog::open(&path).unwrap_err();
    assert!(
        matches!(error, Error::Newer { found, .. } if found == SCHEMA_VERSION + 1),
        "{error:?}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn the_database_of_another_program_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.sqlite");
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("CREATE TABLE letters (a)").unwrap();
    drop(raw);
    let before = fs::read(&path).unwrap();
    let error = Catalog::open(&path).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Catalog::open(&file.join("sub/catalog.sqlite")).unwrap_err();
    assert!(matches!(&error, Error::File { path, .. } if path.starts_with(&file)), "{error:?}");
}

#[test]
fn threads_that_open_the_same_new_file_at_once_all_succeed() {
    for _ in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.sqlite");
        std::thread::scope(|scope| {
            for number in 0..6_u64 {
                let path = &path;
                scope.spawn(move || {
                    let catalog = Catalog::open(path).unwrap();
                    catalog.put_run(&run(None, &format!("r-{number}"), 1)).unwrap();
                });
            }
        });
        let catalog = Catalog::open(&path).unwrap();
        assert_eq!(catalog.runs(&RunFilter::default(), 99).unwrap().len(), 6);
    }
}

#[test]
fn two_processes_that_write_at_once_both_succeed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.sqlite");
    let children: Vec<Child> =
        ["a", "b"].into_iter().map(|name| child(&path, &format!("runs {name}"))).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let catalog = Catalog::open(&path).unwrap();
    assert_eq!(catalog.runs(&RunFilter::default(), usize::MAX).unwrap().len(), 2 * RUNS);
    catalog.check().unwrap();
}

#[test]
fn killed_at_any_instant_it_holds_the_old_rows_or_the_new_ones() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.sqlite");
    let catalog = Catalog::open(&path).unwrap();
    catalog.put_repository(&hex(1), "/r", Time::new(1, 0)).unwrap();
    catalog.replace_derived(&hex(1), &generation(0)).unwrap();
    drop(catalog);
    let mut seen = std::collections::BTreeSet::new();
    for delay in 0..20 {
        let mut writer = child(&path, "rebuild");
        let ready = path.with_extension("ready");
        while !ready.exists() {
            sleep(Duration::from_millis(1));
        }
        sleep(Duration::from_millis(delay * 3));
        writer.kill().unwrap();
        writer.wait().unwrap();
        fs::remove_file(&ready).unwrap();

        let catalog = Catalog::open(&path).unwrap();
        catalog.check().unwrap();
        let snapshots = catalog.snapshots(&SnapshotFilter::default()).unwrap();
        let number = u64::try_from(snapshots[0].time.seconds).unwrap();
        seen.insert(number);
        assert_eq!(snapshots, generation(number).snapshots);
        assert_eq!(catalog.evidence_for(&hex(1), &hex(1)).unwrap(), generation(number).evidence);
    }
    assert!(seen.len() > 1, "the writer was always killed before it wrote: {seen:?}");
}

#[test]
fn a_transaction_that_another_process_left_open_is_rolled_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.sqlite");
    let mut writer = child(&path, "open transaction");
    while !path.with_extension("ready").exists() {
        sleep(Duration::from_millis(1));
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
    let catalog = Catalog::open(&path).unwrap();
    catalog.check().unwrap();
    assert!(catalog.repositories().unwrap().is_empty());
    catalog.put_repository(&hex(1), "/r", Time::new(1, 0)).unwrap();
}

/// How many runs a child records.
const RUNS: usize = 40;

/// Rows that all name the same number, so that a mixture is seen.
fn generation(number: u64) -> Derived {
    let seconds = i64::try_from(number).unwrap();
    let mut proof = evidence(1, "e", 1);
    proof.detail = number.to_string();
    Derived {
        snapshots: (1..200).map(|file| snapshot(1, file, "/a", seconds)).collect(),
        runs: Vec::new(),
        evidence: vec![proof],
    }
}

/// Runs this test binary again, as the other process.
fn child(path: &Path, work: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_process", "--nocapture"])
        .env(CHILD, format!("{work}\n{}", path.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Not a test of its own: what [`child`] runs. Without the variable it does nothing.
#[test]
fn the_other_process() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (work, path) = task.split_once('\n').unwrap();
    let path = PathBuf::from(path);
    let catalog = Catalog::open(&path).unwrap();
    let ready = || fs::write(path.with_extension("ready"), b"").unwrap();
    match work {
        "rebuild" => {
            let number = catalog.snapshots(&SnapshotFilter::default()).unwrap()[0].time.seconds;
            ready();
            for number in u64::try_from(number).unwrap() + 1.. {
                catalog.replace_derived(&hex(1), &generation(number)).unwrap();
            }
        }
        "open transaction" => {
            let raw = rusqlite::Connection::open(&path).unwrap();
            raw.execute_batch("PRAGMA cache_size = 1; BEGIN IMMEDIATE").unwrap();
            for number in 0..2000 {
                raw.execute(
                    "INSERT INTO repositories VALUES (?1, ?2, 0, 0, 0, 0, 0)",
                    [hex(number), "x".repeat(2000)],
                )
                .unwrap();
            }
            ready();
            sleep(Duration::from_secs(600));
        }
        runs => {
            for number in 0..RUNS {
                let id = format!("{}-{number}", runs.replace(' ', "-"));
                catalog.put_run(&run(None, &id, 1)).unwrap();
            }
        }
    }
}
