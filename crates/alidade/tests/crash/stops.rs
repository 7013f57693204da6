//! The store stops at an operation, fills up, or turns read-only: for every operation there is.

use std::sync::Arc;

use alidade_protect::Error;
use alidade_repository::Store;
use alidade_testkit::store::{Fault, FaultStore, FullStore, Operation, ReadOnlyStore, Verb};

use crate::scene::{Scene, restic_in_lab};
use crate::soak;

/// No backup has fewer operations: lock, two packs or more, index, snapshot, their flushes, unlock.
const FEWEST: usize = 9;

/// A run through a store that stopped at its `last` operation said what it had to.
fn told(outcome: &Result<alidade_model::Outcome, Error>, last: &Operation, what: &str) {
    match outcome {
        // All was stored, and the outcome says that the lock is still there.
        Ok(outcome) => {
            assert_eq!(last.verb, Verb::Remove, "{what}: a success: {outcome:?}");
            assert!(
                outcome.notes.iter().any(|note| note.contains("lock")),
                "{what}: {:?}",
                outcome.notes
            );
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.is_empty(), "{what}");
        }
    }
}

fn every_stop(parent: bool, fault: Fault) {
    let mut scene = Scene::in_memory(parent);
    for n in 0.. {
        let store = scene.memory();
        let stopping =
            Arc::new(FaultStore::stopping_at(Arc::clone(&store) as Arc<dyn Store>, n, fault));
        scene.lab.look_through(Arc::clone(&stopping) as Arc<dyn Store>);
        let outcome = scene.protect();
        if !stopping.has_stopped() {
            assert!(outcome.is_ok() && n >= FEWEST, "{n} operations: {outcome:?}");
            return;
        }
        let last = stopping.log().last().cloned().expect("it stopped at one");
        let what = format!("stopped at {n}, {fault:?} {last:?}");
        told(&outcome, &last, &what);
        scene.survives(store, &what);
    }
}

#[test]
fn a_first_backup_survives_a_stop_before_every_operation() {
    every_stop(false, Fault::Before);
}

#[test]
fn a_first_backup_survives_a_stop_after_every_operation() {
    every_stop(false, Fault::After);
}

#[test]
fn a_later_backup_survives_a_stop_before_every_operation() {
    every_stop(true, Fault::Before);
}

#[test]
fn a_later_backup_survives_a_stop_after_every_operation() {
    every_stop(true, Fault::After);
}

#[test]
fn stock_restic_finds_nothing_wrong_after_a_stop() {
    for (parent, fault, from) in [(false, Fault::After, 3), (true, Fault::Before, 1)] {
        let mut scene = Scene::in_directory(parent);
        let step = if soak() { 1 } else { 4 };
        let from = if soak() { 0 } else { from };
        for n in (from..).step_by(step) {
            let (store, case) = scene.directory();
            let stopping =
                Arc::new(FaultStore::stopping_at(Arc::clone(&store) as Arc<dyn Store>, n, fault));
            scene.lab.look_through(Arc::clone(&stopping) as Arc<dyn Store>);
            let outcome = scene.protect();
            if !stopping.has_stopped() {
                assert!(outcome.is_ok() && n >= FEWEST, "{n} operations: {outcome:?}");
                break;
            }
            restic_in_lab(&case, &["unlock"]);
            restic_in_lab(&case, &["check"]);
            scene.survives(store, &format!("in a directory, stopped at {n}, {fault:?}"));
            restic_in_lab(&case, &["check", "--read-data"]);
        }
    }
}

#[test]
fn a_store_that_turns_read_only_at_any_operation_costs_only_the_run() {
    let mut scene = Scene::in_memory(true);
    for changes in 0.. {
        let store = scene.memory();
        let turning = Arc::new(ReadOnlyStore::after(Arc::clone(&store) as Arc<dyn Store>, changes));
        scene.lab.look_through(Arc::clone(&turning) as Arc<dyn Store>);
        let outcome = scene.protect();
        let what = format!("read-only after {changes} changes");
        match outcome {
            // The last one is the removal of the lock: it may have been refused.
            Ok(outcome) if outcome.notes.is_empty() => {
                assert!(changes >= FEWEST, "{what}: {outcome:?}");
                return;
            }
            Ok(outcome) => assert!(changes >= FEWEST - 1, "{what}: {outcome:?}"),
            Err(error) => {
                let said = format!("{error:?}");
                assert!(said.contains("ReadOnlyFilesystem"), "{what}: {said}");
            }
        }
        scene.survives(store, &what);
    }
}

#[test]
fn a_store_without_room_costs_only_the_run_and_room_mends_it() {
    let mut scene = Scene::in_memory(true);
    let step: u64 = if soak() { 256 << 10 } else { 1 << 20 };
    for steps in 0.. {
        let store = scene.memory();
        let full = Arc::new(FullStore::new(Arc::clone(&store) as Arc<dyn Store>, steps * step));
        scene.lab.look_through(Arc::clone(&full) as Arc<dyn Store>);
        let what = format!("room for {} bytes", steps * step);
        match scene.protect() {
            Ok(_) => {
                assert!(steps * step > 6 << 20, "{what} is not enough");
                return;
            }
            Err(error) => {
                let said = format!("{error:?}");
                assert!(said.contains("StorageFull"), "{what}: {said}");
            }
        }
        scene.survives(store, &what);
    }
}
