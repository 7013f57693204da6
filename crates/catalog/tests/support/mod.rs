//! Rows to begin with.

#![allow(dead_code, reason = "each test file uses its part")]

use alidade_catalog::{Catalog, EvidenceRow, RunRow, SnapshotRow, TaskRow};
use alidade_model::{Origin, Time};

/// A valid id of 64 hex digits.
pub(crate) fn hex(number: u64) -> String {
    format!("{number:064x}")
}

/// A catalog in memory that knows the repositories 1 and 2.
pub(crate) fn catalog() -> Catalog {
    let catalog = Catalog::in_memory().unwrap();
    for number in [1, 2] {
        catalog.put_repository(&hex(number), "/somewhere", Time::new(5, 0)).unwrap();
    }
    catalog
}

pub(crate) fn snapshot(repository: u64, file: u64, object: &str, seconds: i64) -> SnapshotRow {
    SnapshotRow {
        repository: hex(repository),
        file_id: hex(file),
        host: "anna".parse().unwrap(),
        entity: format!("fs:{object}").parse().unwrap(),
        name: object.to_owned(),
        snapshot_id: Some("s-1".parse().unwrap()),
        time: Time::new(seconds, 7),
        parent: Some(hex(999)),
        tree: hex(1000 + file),
        tags: vec!["a".into(), "b, \"c\"".into()],
        origin: Origin::Ours,
        run: Some(format!("run-{file}").parse().unwrap()),
        digest: Some("sha256:00".into()),
        status: Some("done".into()),
        summary: Some("{\"files\":1}".into()),
    }
}

pub(crate) fn run(repository: Option<u64>, id: &str, seconds: i64) -> RunRow {
    RunRow {
        id: id.parse().unwrap(),
        repository: repository.map(hex),
        verb: "protect".into(),
        entity: Some("fs:/a".parse().unwrap()),
        host: "anna".parse().unwrap(),
        snapshot_file: None,
        started: Time::new(seconds, 0),
        ended: Some(Time::new(seconds + 1, 999_999_999)),
        status: "failed".into(),
        exit_code: Some(1),
        outcome: Some("{}".into()),
    }
}

pub(crate) fn evidence(repository: u64, id: &str, file: u64) -> EvidenceRow {
    EvidenceRow {
        repository: hex(repository),
        id: id.into(),
        run: None,
        host: "anna".parse().unwrap(),
        entity: "fs:/a".parse().unwrap(),
        snapshot_file: hex(file),
        kind: "verify".into(),
        time: Time::new(3, 4),
        detail: "{}".into(),
    }
}

pub(crate) fn task(id: &str) -> TaskRow {
    TaskRow {
        id: id.into(),
        kind: "copy".into(),
        state: "running".into(),
        created: Time::new(1, 0),
        updated: Time::new(2, 0),
        detail: "{}".into(),
    }
}
