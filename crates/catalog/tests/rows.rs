//! What is put can be asked for.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod support;

use alidade_catalog::{EntityFilter, Error, LockRow, RunFilter, SnapshotFilter};
use alidade_model::{Origin, Time};
use support::{catalog, evidence, hex, run, snapshot, task};

fn times(catalog: &alidade_catalog::Catalog, filter: &SnapshotFilter) -> Vec<i64> {
    catalog.snapshots(filter).unwrap().iter().map(|row| row.time.seconds).collect()
}

#[test]
fn a_snapshot_comes_back_as_it_was_put() {
    let catalog = catalog();
    let mut row = snapshot(1, 10, "/a", 100);
    catalog.put_snapshot(&row).unwrap();
    assert_eq!(catalog.snapshots(&SnapshotFilter::default()).unwrap(), vec![row.clone()]);

    row.status = None;
    row.digest = None;
    row.run = None;
    row.snapshot_id = None;
    row.parent = None;
    row.summary = None;
    row.tags.clear();
    row.origin = Origin::Foreign;
    row.time = Time::new(-62_135_596_800, 1);
    catalog.put_snapshot(&row).unwrap();
    assert_eq!(catalog.snapshots(&SnapshotFilter::default()).unwrap(), vec![row]);
}

#[test]
fn snapshots_are_filtered_and_come_in_the_order_of_time() {
    let catalog = catalog();
    let mut elsewhere = snapshot(1, 13, "/a", 50);
    elsewhere.host = "berta".parse().unwrap();
    for row in [
        snapshot(1, 12, "/a", 300),
        snapshot(1, 10, "/b", 100),
        snapshot(2, 10, "/a", 200),
        elsewhere,
    ] {
        catalog.put_snapshot(&row).unwrap();
    }
    let all = SnapshotFilter::default();
    assert_eq!(times(&catalog, &all), [50, 100, 200, 300]);
    let of = SnapshotFilter { repository: Some(hex(1)), ..all.clone() };
    assert_eq!(times(&catalog, &of), [50, 100, 300]);
    let of = SnapshotFilter { host: Some("anna".parse().unwrap()), ..all.clone() };
    assert_eq!(times(&catalog, &of), [100, 200, 300]);
    let of = SnapshotFilter { entity: Some("fs:/a".parse().unwrap()), ..all.clone() };
    assert_eq!(times(&catalog, &of), [50, 200, 300]);
    let of = SnapshotFilter { file_prefix: Some(hex(13)), ..all.clone() };
    assert_eq!(times(&catalog, &of), [50]);
    let of = SnapshotFilter { origin: Some(Origin::Evidence), ..all };
    assert_eq!(times(&catalog, &of), [0_i64; 0]);
}

#[test]
fn an_entity_knows_its_newest_snapshot_of_content_and_goes_with_the_last_one() {
    let catalog = catalog();
    let mut proof = snapshot(1, 12, "/a", 900);
    proof.origin = Origin::Evidence;
    for row in [snapshot(1, 10, "/a", 100), snapshot(1, 11, "/a", 100), proof] {
        catalog.put_snapshot(&row).unwrap();
    }
    catalog.put_snapshot(&snapshot(2, 10, "/z", 1)).unwrap();
    let entities = catalog.entities(&EntityFilter::default()).unwrap();
    assert_eq!(entities.len(), 2);
    assert_eq!(entities[0].snapshots, 2);
    assert_eq!(entities[0].latest, Some((Time::new(100, 7), hex(11))));

    assert_eq!(catalog.remove_snapshots_not_in(&hex(1), &[hex(12), hex(77)]).unwrap(), 2);
    let entities = catalog.entities(&EntityFilter::default()).unwrap();
    assert_eq!((entities[0].snapshots, entities[0].latest.clone()), (0, None));
    assert_eq!(catalog.remove_snapshots_not_in(&hex(1), &[]).unwrap(), 1);
    let names: Vec<_> =
        catalog.entities(&EntityFilter::default()).unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["/z"], "the other repository keeps its own");
}

#[test]
fn entities_are_filtered() {
    let catalog = catalog();
    let mut disk = snapshot(1, 11, "/dev/vda", 100);
    disk.entity = "disk:/dev/vda".parse().unwrap();
    disk.host = "berta".parse().unwrap();
    catalog.put_snapshots(&[snapshot(2, 10, "/a", 100), disk]).unwrap();
    let check = |filter: EntityFilter, expected: &str| {
        let found = catalog.entities(&filter).unwrap();
        assert_eq!(found.len(), 1, "{filter:?}");
        assert_eq!(found[0].name, expected);
    };
    check(EntityFilter { repository: Some(hex(2)), ..EntityFilter::default() }, "/a");
    check(EntityFilter { host: "berta".parse().ok(), ..EntityFilter::default() }, "/dev/vda");
    check(EntityFilter { type_name: "fs".parse().ok(), ..EntityFilter::default() }, "/a");
}

#[test]
fn a_row_of_an_unknown_repository_or_with_a_bad_id_is_refused_and_leaves_nothing() {
    let catalog = catalog();
    let mut bad = snapshot(1, 11, "/b", 2);
    bad.file_id = "XYZ".into();
    for rows in [vec![snapshot(3, 10, "/a", 1)], vec![snapshot(1, 10, "/a", 1), bad]] {
        assert!(matches!(catalog.put_snapshots(&rows), Err(Error::Refused { .. })));
    }
    assert!(catalog.put_repository("ff", "/x", Time::new(0, 0)).is_err());
    assert!(catalog.put_run(&run(Some(3), "r", 1)).is_err());
    assert!(catalog.put_evidence(&evidence(3, "e", 1)).is_err());
    assert!(catalog.snapshots(&SnapshotFilter::default()).unwrap().is_empty());
    assert!(catalog.entities(&EntityFilter::default()).unwrap().is_empty());
}

#[test]
fn runs_come_newest_first_and_stop_at_the_limit() {
    let catalog = catalog();
    let mut begun = run(None, "early", 1);
    begun.ended = None;
    begun.entity = None;
    begun.exit_code = None;
    begun.outcome = None;
    catalog.put_run(&begun).unwrap();
    for (id, seconds) in [("middle", 5), ("late", 9)] {
        catalog.put_run(&run(Some(1), id, seconds)).unwrap();
    }
    let ids = |filter: &RunFilter, limit| -> Vec<String> {
        catalog.runs(filter, limit).unwrap().into_iter().map(|r| r.id.to_string()).collect()
    };
    let all = RunFilter::default();
    assert_eq!(ids(&all, usize::MAX), ["late", "middle", "early"]);
    assert_eq!(ids(&all, 2), ["late", "middle"]);
    assert_eq!(ids(&RunFilter { repository: Some(hex(1)), ..all.clone() }, 9), ["late", "middle"]);
    assert_eq!(ids(&RunFilter { entity: "fs:/a".parse().ok(), ..all.clone() }, 9).len(), 2);
    assert_eq!(ids(&RunFilter { entity: "fs:/b".parse().ok(), ..all.clone() }, 9).len(), 0);
    assert_eq!(ids(&RunFilter { verb: Some("check".into()), ..all.clone() }, 9).len(), 0);
    assert_eq!(ids(&RunFilter { status: Some("failed".into()), ..all.clone() }, 9).len(), 3);
    assert_eq!(ids(&RunFilter { host: "berta".parse().ok(), ..all }, 9).len(), 0);
    assert_eq!(catalog.run("early").unwrap(), Some(begun.clone()));

    begun.ended = Some(Time::new(3, 0));
    catalog.put_run(&begun).unwrap();
    assert_eq!(catalog.run("early").unwrap(), Some(begun));
}

#[test]
fn a_run_is_found_by_the_beginning_of_its_id_when_that_is_enough() {
    let catalog = catalog();
    for id in ["ab", "abc", "abd", "x_y"] {
        catalog.put_run(&run(None, id, 1)).unwrap();
    }
    let found = |prefix: &str| catalog.run(prefix).unwrap().map(|run| run.id.to_string());
    assert_eq!(found("abc").as_deref(), Some("abc"));
    assert_eq!(found("ab").as_deref(), Some("ab"), "the whole id wins over a longer one");
    assert_eq!(found("x").as_deref(), Some("x_y"));
    assert_eq!(found("q"), None);
    assert_eq!(found("x%"), None, "nothing is a wildcard");
    assert!(matches!(catalog.run("a"), Err(Error::AmbiguousRun { .. })));
}

#[test]
fn evidence_tasks_and_locks_come_back_as_they_were_put() {
    let catalog = catalog();
    let found = evidence(1, "e-1", 10);
    catalog.put_evidence(&found).unwrap();
    catalog.put_evidence(&evidence(1, "e-2", 11)).unwrap();
    catalog.put_evidence(&evidence(2, "e-1", 10)).unwrap();
    assert_eq!(catalog.evidence_for(&hex(1), &hex(10)).unwrap(), [found]);

    let mut wanted = task("t-1");
    catalog.put_task(&wanted).unwrap();
    wanted.state = "done".into();
    catalog.put_task(&wanted).unwrap();
    assert_eq!(catalog.tasks().unwrap(), [wanted]);

    let lock = LockRow {
        repository: hex(3),
        file_id: hex(4),
        pid: u32::MAX,
        boot_id: "b-1".into(),
        start_ticks: u64::from(u32::MAX) * 9,
        created: Time::new(8, 1),
    };
    catalog.record_lock(&lock).unwrap();
    let later = LockRow { file_id: hex(5), created: Time::new(9, 0), ..lock.clone() };
    catalog.record_lock(&later).unwrap();
    assert_eq!(catalog.recorded_locks(&hex(3)).unwrap(), [lock, later.clone()]);
    catalog.forget_lock(&hex(3), &hex(6)).unwrap();
    catalog.forget_lock(&hex(3), &hex(4)).unwrap();
    assert_eq!(catalog.recorded_locks(&hex(3)).unwrap(), [later]);
    catalog.forget_lock(&hex(3), &hex(5)).unwrap();
    assert!(catalog.recorded_locks(&hex(3)).unwrap().is_empty());
}

#[test]
fn a_repository_keeps_when_it_was_seen_first() {
    let catalog = catalog();
    catalog.put_repository(&hex(1), "/moved", Time::new(9, 1)).unwrap();
    let row = &catalog.repositories().unwrap()[0];
    assert_eq!(
        (row.location.as_str(), row.first_seen, row.last_seen),
        ("/moved", Time::new(5, 0), Time::new(9, 1))
    );
}
