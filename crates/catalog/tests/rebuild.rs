//! The catalog is derived: a rebuild brings back what a repository knows and says what is gone.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod support;

use std::fs;
use std::path::Path;

use alidade_catalog::{
    Catalog, Derived, EntityFilter, Error, RebuildReport, RunFilter, SnapshotFilter,
};
use alidade_model::Time;
use support::{catalog, evidence, hex, run, snapshot, task};

fn rows() -> Derived {
    Derived {
        snapshots: vec![
            snapshot(1, 10, "/a", 1),
            snapshot(1, 11, "/a", 2),
            snapshot(1, 12, "/b", 3),
        ],
        runs: vec![run(Some(1), "run-10", 1), run(Some(1), "run-11", 2)],
        evidence: vec![evidence(1, "e-1", 10)],
    }
}

fn report() -> RebuildReport {
    RebuildReport {
        entities: 2,
        snapshots: 3,
        runs: 2,
        evidence: 1,
        local_runs_kept: 0,
        local_runs_lost: Some(0),
        tasks_lost: Some(0),
    }
}

/// Everything the catalog says, as text.
fn contents(catalog: &Catalog) -> String {
    let all = (
        catalog.entities(&EntityFilter::default()).unwrap(),
        catalog.snapshots(&SnapshotFilter::default()).unwrap(),
        catalog.runs(&RunFilter::default(), usize::MAX).unwrap(),
        catalog.evidence_for(&hex(1), &hex(10)).unwrap(),
        catalog.tasks().unwrap(),
    );
    format!("{all:#?}")
}

#[test]
fn a_rebuild_of_an_intact_catalog_keeps_local_runs_and_tasks_and_drops_what_is_gone() {
    let catalog = catalog();
    catalog.put_snapshot(&snapshot(1, 99, "/gone", 1)).unwrap();
    catalog.put_evidence(&evidence(1, "gone", 10)).unwrap();
    catalog.put_snapshot(&snapshot(2, 20, "/other", 1)).unwrap();
    for known in ["run-10", "run-11", "failed"] {
        catalog.put_run(&run(Some(1), known, 9)).unwrap();
    }
    catalog.put_task(&task("t")).unwrap();

    let found = catalog.replace_derived(&hex(1), &rows()).unwrap();
    assert_eq!(found, RebuildReport { local_runs_kept: 1, ..report() });
    let names: Vec<_> =
        catalog.entities(&EntityFilter::default()).unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["/a", "/b", "/other"]);
    assert_eq!(catalog.evidence_for(&hex(1), &hex(10)).unwrap().len(), 1);
    assert_eq!(catalog.tasks().unwrap().len(), 1);
    let rebuilt = catalog.run("run-10").unwrap().unwrap();
    assert_eq!(rebuilt.started, Time::new(1, 0), "what the repository says wins");
}

#[test]
fn a_rebuild_is_idempotent() {
    let catalog = catalog();
    catalog.replace_derived(&hex(1), &rows()).unwrap();
    let before = contents(&catalog);
    assert_eq!(catalog.replace_derived(&hex(1), &rows()).unwrap(), report());
    assert_eq!(contents(&catalog), before);
}

#[test]
fn a_rebuild_with_a_row_that_is_refused_changes_nothing() {
    let catalog = catalog();
    catalog.replace_derived(&hex(1), &rows()).unwrap();
    let before = contents(&catalog);
    let stranger = Derived { snapshots: vec![snapshot(2, 10, "/a", 1)], ..Derived::default() };
    let mut broken = rows();
    broken.snapshots[2].file_id = "no id".into();
    for bad in [stranger, broken] {
        let error = catalog.replace_derived(&hex(1), &bad).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert_eq!(contents(&catalog), before);
    }
}

#[test]
fn a_deleted_catalog_comes_back_and_says_that_local_history_is_gone_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.sqlite");
    let seen = |catalog: &Catalog| catalog.put_repository(&hex(1), "/r", Time::new(5, 0)).unwrap();
    let first = Catalog::open(&path).unwrap();
    seen(&first);
    first.replace_derived(&hex(1), &rows()).unwrap();
    let before = contents(&first);
    drop(first);

    for suffix in ["", "-wal", "-shm"] {
        let file = directory.path().join(format!("catalog.sqlite{suffix}"));
        if file.exists() {
            fs::remove_file(file).unwrap();
        }
    }
    let second = Catalog::open(&path).unwrap();
    seen(&second);
    // A run before the rebuild does not hide that there was an earlier catalog.
    second.put_run(&run(Some(1), "run-11", 2)).unwrap();
    let unknown = RebuildReport { local_runs_lost: None, tasks_lost: None, ..report() };
    assert_eq!(second.replace_derived(&hex(1), &rows()).unwrap(), unknown);
    assert_eq!(contents(&second), before);
    let mut grown = rows();
    grown.runs.push(run(Some(1), "of-another-host", 9));
    let again = RebuildReport { runs: 3, ..report() };
    assert_eq!(second.replace_derived(&hex(1), &grown).unwrap(), again, "said once");
}

#[test]
fn a_recreated_catalog_takes_nothing_from_the_log_of_the_old_one_and_counts_what_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source.sqlite");
    let open = Catalog::open(&source).unwrap();
    open.put_repository(&hex(1), "/r", Time::new(5, 0)).unwrap();
    open.put_run(&run(Some(1), "in-the-log", 7)).unwrap();
    // What a killed process leaves: a database and a log that was not played into it.
    let path = directory.path().join("catalog.sqlite");
    for suffix in ["", "-wal"] {
        let name = |base: &str| directory.path().join(format!("{base}{suffix}"));
        fs::copy(name("source.sqlite"), name("catalog.sqlite")).unwrap();
    }
    let log = fs::read(directory.path().join("catalog.sqlite-wal")).unwrap();
    assert!(!log.is_empty());

    let catalog = Catalog::recreate(&path).unwrap().catalog;
    assert!(catalog.repositories().unwrap().is_empty());
    assert_eq!(fs::read(directory.path().join("catalog.sqlite.broken-1-wal")).unwrap(), log);
    catalog.put_repository(&hex(1), "/r", Time::new(5, 0)).unwrap();
    let found = catalog.replace_derived(&hex(1), &Derived::default()).unwrap();
    assert_eq!(found.local_runs_lost, Some(1));
}

/// Writes a catalog with one rebuilt run, two local runs and a task, and closes it.
fn written(path: &Path) {
    let catalog = Catalog::open(path).unwrap();
    catalog.put_repository(&hex(1), "/r", Time::new(5, 0)).unwrap();
    for id in ["run-10", "local-1", "local-2"] {
        catalog.put_run(&run(Some(1), id, 7)).unwrap();
    }
    catalog.put_run(&run(None, "nowhere", 7)).unwrap();
    catalog.put_task(&task("t")).unwrap();
}

fn broken_files(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| {
            name.contains(".broken-") && !name.contains("broken-1-") && !name.contains("broken-2-")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_recreated_catalog_counts_what_the_old_one_knew_alone_and_keeps_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.sqlite");
    written(&path);
    let recreated = Catalog::recreate(&path).unwrap();
    assert_eq!(recreated.moved_to, Some(directory.path().join("catalog.sqlite.broken-1")));
    let catalog = recreated.catalog;
    catalog.put_repository(&hex(1), "/r", Time::new(5, 0)).unwrap();
    let mut known = rows();
    known.runs.truncate(1);
    let expected =
        RebuildReport { runs: 1, local_runs_lost: Some(3), tasks_lost: Some(1), ..report() };
    assert_eq!(catalog.replace_derived(&hex(1), &known).unwrap(), expected);
    let again = RebuildReport { local_runs_lost: Some(0), tasks_lost: Some(0), ..expected };
    assert_eq!(catalog.replace_derived(&hex(1), &known).unwrap(), again, "said once");
    drop(catalog);

    Catalog::recreate(&path).unwrap();
    assert_eq!(
        broken_files(directory.path()),
        ["catalog.sqlite.broken-1", "catalog.sqlite.broken-2"]
    );
    let old = Catalog::open(&directory.path().join("catalog.sqlite.broken-1")).unwrap();
    assert_eq!(old.tasks().unwrap().len(), 1, "nothing was taken from the old file");
}

type Damage = fn(&mut Vec<u8>);

#[test]
fn every_kind_of_damage_is_named_and_a_rebuild_gets_past_it() {
    let damages: [(&str, Damage); 4] = [
        ("other bytes", |bytes| {
            *bytes = b"this is not a database, it is a letter to a friend".repeat(90);
        }),
        ("a broken header", |bytes| bytes[..64].fill(0xA5)),
        ("cut in the middle", |bytes| bytes.truncate(bytes.len() / 2)),
        ("pages overwritten", |bytes| bytes[1024..].fill(0x5A)),
    ];
    for (name, damage) in damages {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.sqlite");
        written(&path);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();

        let error = match Catalog::open(&path) {
            Err(error) => error,
            Ok(catalog) => catalog.check().expect_err(name),
        };
        assert!(matches!(error, Error::Corrupt { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains("alidade catalog rebuild"), "{name}: {error}");

        let recreated = Catalog::recreate(&path).unwrap();
        assert!(recreated.moved_to.is_some(), "{name}");
        recreated.catalog.put_repository(&hex(1), "/r", Time::new(5, 0)).unwrap();
        let found = recreated.catalog.replace_derived(&hex(1), &rows()).unwrap();
        let unknown = RebuildReport { local_runs_lost: None, tasks_lost: None, ..report() };
        assert_eq!(found, unknown, "{name}");
        recreated.catalog.check().unwrap();
    }
}

#[test]
fn a_damaged_row_is_damage_and_not_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.sqlite");
    written(&path);
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("UPDATE runs SET host = 'two words' WHERE id = 'local-1'", []).unwrap();
    drop(raw);
    let catalog = Catalog::open(&path).unwrap();
    let error = catalog.runs(&RunFilter::default(), 9).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
}
