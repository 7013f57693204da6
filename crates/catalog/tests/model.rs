//! Any sequence of calls leaves what a plain map would hold.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use alidade_catalog::{
    Catalog, Derived, EntityFilter, RunFilter, RunRow, SnapshotFilter, SnapshotRow,
};
use alidade_model::Origin;
use proptest::prelude::*;
use support::{catalog, hex, run, snapshot};

#[derive(Clone, Debug)]
enum Call {
    Put(Vec<SnapshotRow>),
    Keep(u64, BTreeSet<u64>),
    Rebuild(u64, Vec<SnapshotRow>, Vec<RunRow>),
    Run(Box<RunRow>),
}

#[derive(Default)]
struct Model {
    snapshots: BTreeMap<(String, String), SnapshotRow>,
    runs: BTreeMap<String, RunRow>,
}

impl Model {
    fn apply(&mut self, call: &Call) {
        match call {
            Call::Put(rows) => self.put(rows),
            Call::Keep(repository, files) => {
                let keep: BTreeSet<String> = files.iter().copied().map(hex).collect();
                self.snapshots
                    .retain(|(of, file), _| *of != hex(*repository) || keep.contains(file));
            }
            Call::Rebuild(repository, rows, runs) => {
                self.snapshots.retain(|(of, _), _| *of != hex(*repository));
                self.put(rows);
                for run in runs {
                    self.runs.insert(run.id.to_string(), run.clone());
                }
            }
            Call::Run(run) => {
                self.runs.insert(run.id.to_string(), RunRow::clone(run));
            }
        }
    }

    fn put(&mut self, rows: &[SnapshotRow]) {
        for row in rows {
            self.snapshots.insert((row.repository.clone(), row.file_id.clone()), row.clone());
        }
    }

    fn check(&self, catalog: &Catalog) {
        let mut expected: Vec<&SnapshotRow> = self.snapshots.values().collect();
        expected.sort_by_key(|row| (row.time, row.file_id.clone(), row.repository.clone()));
        let found = catalog.snapshots(&SnapshotFilter::default()).unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected);

        let mut entities: BTreeMap<_, Vec<&SnapshotRow>> = BTreeMap::new();
        for row in expected {
            let key = (row.repository.clone(), row.host.clone(), row.entity.clone());
            let content = entities.entry(key).or_default();
            if row.origin != Origin::Evidence {
                content.push(row);
            }
        }
        let found = catalog.entities(&EntityFilter::default()).unwrap();
        assert_eq!(found.len(), entities.len());
        for (row, (key, content)) in found.iter().zip(&entities) {
            assert_eq!((&row.repository, &row.host, &row.entity), (&key.0, &key.1, &key.2));
            assert_eq!(row.snapshots, content.len() as u64);
            let latest = content.last().map(|row| (row.time, row.file_id.clone()));
            assert_eq!(row.latest, latest);
        }

        let mut runs: Vec<&RunRow> = self.runs.values().collect();
        runs.sort_by_key(|run| std::cmp::Reverse((run.started, run.id.to_string())));
        let found = catalog.runs(&RunFilter::default(), usize::MAX).unwrap();
        assert_eq!(found.iter().collect::<Vec<_>>(), runs);
    }
}

fn any_snapshot(repository: impl Strategy<Value = u64>) -> impl Strategy<Value = SnapshotRow> {
    let object = prop::sample::select(vec!["/a", "/b"]);
    let host = prop::sample::select(vec!["anna", "berta"]);
    let origin = prop::sample::select(vec![Origin::Ours, Origin::Foreign, Origin::Evidence]);
    (repository, 1_u64..7, object, host, -2_i64..3, origin).prop_map(
        |(repository, file, object, host, seconds, origin)| {
            let mut row = snapshot(repository, file, object, seconds);
            row.host = host.parse().unwrap();
            row.origin = origin;
            row
        },
    )
}

fn any_run(repository: impl Strategy<Value = Option<u64>>) -> impl Strategy<Value = RunRow> {
    (repository, 0_u8..6, 0_i64..3)
        .prop_map(|(repository, id, seconds)| run(repository, &format!("run-{id}"), seconds))
}

fn any_call() -> impl Strategy<Value = Call> {
    let files = prop::collection::btree_set(1_u64..7, 0..5);
    let rebuild = (1_u64..3).prop_flat_map(|repository| {
        let rows = prop::collection::vec(any_snapshot(Just(repository)), 0..5);
        let runs = prop::collection::vec(any_run(Just(Some(repository))), 0..3);
        (Just(repository), rows, runs)
    });
    prop_oneof![
        prop::collection::vec(any_snapshot(1_u64..3), 1..4).prop_map(Call::Put),
        (1_u64..3, files).prop_map(|(repository, files)| Call::Keep(repository, files)),
        rebuild.prop_map(|(repository, rows, runs)| Call::Rebuild(repository, rows, runs)),
        any_run(prop::option::of(1_u64..3)).prop_map(|run| Call::Run(Box::new(run))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn any_sequence_of_calls_leaves_what_a_map_would_hold(
        calls in prop::collection::vec(any_call(), 1..12),
    ) {
        let catalog = catalog();
        let mut model = Model::default();
        for call in &calls {
            model.apply(call);
            match call {
                Call::Put(rows) => catalog.put_snapshots(rows).unwrap(),
                Call::Keep(repository, files) => {
                    let files: Vec<String> = files.iter().copied().map(hex).collect();
                    catalog.remove_snapshots_not_in(&hex(*repository), &files).unwrap();
                }
                Call::Rebuild(repository, rows, runs) => {
                    let derived = Derived {
                        snapshots: rows.clone(),
                        runs: runs.clone(),
                        evidence: Vec::new(),
                    };
                    catalog.replace_derived(&hex(*repository), &derived).unwrap();
                }
                Call::Run(run) => catalog.put_run(run).unwrap(),
            }
            model.check(&catalog);
        }
    }
}
