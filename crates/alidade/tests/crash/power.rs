//! The power goes at an operation, and comes back: names that were not made durable may be gone.

use std::sync::Arc;

use alidade_repository::Store;
use alidade_testkit::store::{Fault, FaultStore, PowerCutStore};

use crate::scene::Scene;
use crate::soak;

/// Runs until operation `n`, then cuts; false when the run ended before.
fn cut_at(scene: &mut Scene, n: usize, fault: Fault, seeds: std::ops::Range<u64>) -> bool {
    let store = scene.memory();
    let stopping =
        Arc::new(FaultStore::stopping_at(Arc::clone(&store) as Arc<dyn Store>, n, fault));
    scene.lab.look_through(Arc::clone(&stopping) as Arc<dyn Store>);
    let outcome = scene.protect();
    if !stopping.has_stopped() {
        outcome.unwrap();
        keeps_what_was_promised(scene, &store);
        return false;
    }
    scene.keep_catalog("cut");
    for seed in seeds {
        scene.use_catalog("cut");
        let cut = Arc::new(store.fork());
        let gone = cut.cut(seed);
        let what = format!("power cut at {n}, {fault:?}, seed {seed}, {gone} names undone");
        scene.survives_without_power(Arc::clone(&cut) as Arc<dyn Store>, &what);
        keeps_what_was_promised(scene, &cut);
    }
    true
}

/// After a run that succeeded, a cut takes nothing, whatever earlier runs left half done.
fn keeps_what_was_promised(scene: &mut Scene, store: &PowerCutStore) {
    scene.lab.look_through(Arc::new(store.fork()));
    let complete = scene.snapshots().len();
    for seed in 0..4 {
        let after = Arc::new(store.fork());
        after.cut(seed);
        scene.lab.look_through(after);
        assert_eq!(scene.damage(false), Vec::<String>::new(), "cut after a success, seed {seed}");
        assert_eq!(scene.snapshots().len(), complete, "cut after a success, seed {seed}");
    }
}

fn every_cut(parent: bool) {
    let mut scene = Scene::in_memory(parent);
    let first = u64::from(parent);
    for n in 0.. {
        // By default one fault and two seeds for each operation, other ones for the next.
        let faults: &[Fault] = match n % 2 {
            _ if soak() => &[Fault::Before, Fault::After],
            0 => &[Fault::After],
            _ => &[Fault::Before],
        };
        let seeds = if soak() { 0..8 } else { n as u64 + first..n as u64 + first + 2 };
        for fault in faults {
            if !cut_at(&mut scene, n, *fault, seeds.clone()) {
                assert!(n >= 9, "{n} operations");
                return;
            }
        }
    }
}

#[test]
fn a_first_backup_survives_a_power_cut_at_every_operation() {
    every_cut(false);
}

#[test]
fn a_later_backup_survives_a_power_cut_at_every_operation() {
    every_cut(true);
}
