//! A writer that sleeps past the life of its lock, while others do what a dead lock lets them do.

use std::sync::Arc;
use std::time::Duration;

use alidade_protect::Error;
use alidade_repository::{
    Error as RepositoryError, FileKind, LockMode, LockOptions, Password, Repository, Store,
};
use alidade_testkit::store::{PowerCutStore, Verb};
use rustix::process::{Signal, kill_process};

use crate::hook::HookStore;
use crate::program::{DONE, LOCKED, Program};
use crate::scene::{Scene, restic_in_lab};

/// Longer than any lock lives.
const LONG: Duration = Duration::from_secs(2 * 3600);
/// Where a run can be stopped so that it looks after its lock again before the snapshot.
const BEFORE_A_LOOK: [(Verb, FileKind); 3] =
    [(Verb::Put, FileKind::Pack), (Verb::Flush, FileKind::Pack), (Verb::Flush, FileKind::Index)];

/// The failure of the repository that counts.
fn reason(error: &Error) -> Option<&RepositoryError> {
    match error {
        Error::Then { first, .. } => reason(first),
        Error::Repository(error) => Some(error),
        Error::Entity(error) => {
            let mut next = std::error::Error::source(error);
            while let Some(cause) = next {
                if let Some(found) = cause.downcast_ref() {
                    return Some(found);
                }
                next = cause.source();
            }
            None
        }
        _ => None,
    }
}

#[test]
fn a_writer_that_sleeps_past_its_lock_goes_on_when_nothing_happened() {
    let mut scene = Scene::in_memory(true);
    let last = [(Verb::Put, FileKind::Index), (Verb::Put, FileKind::Snapshot)];
    for at in BEFORE_A_LOOK.into_iter().chain(last) {
        let store = scene.memory();
        let cx = scene.test.cx().clone();
        let hook = HookStore::new(store.clone(), at, move || cx.clock().sleep(LONG));
        let hook = Arc::new(hook);
        scene.lab.look_through(Arc::clone(&hook) as Arc<dyn Store>);
        let outcome = scene.protect().unwrap_or_else(|error| panic!("{at:?}: {error:?}"));
        assert!(hook.has_happened() && outcome.notes.is_empty(), "{at:?}: {outcome:?}");
        scene.lab.look_through(Arc::clone(&store) as Arc<dyn Store>);
        assert_eq!(scene.snapshots().len(), 2, "{at:?}");
        scene.survives(store, &format!("slept at {at:?}"));
    }
}

#[test]
fn a_writer_whose_lock_was_broken_and_whose_data_was_pruned_writes_no_snapshot() {
    let mut scene = Scene::in_directory(true);
    for at in BEFORE_A_LOOK {
        let (store, case) = scene.directory();
        let cx = scene.test.cx().clone();
        let hook = Arc::new(HookStore::new(store.clone(), at, move || {
            cx.clock().sleep(LONG);
            restic_in_lab(&case, &["unlock", "--remove-all"]);
            restic_in_lab(&case, &["prune", "--max-unused", "0"]);
        }));
        scene.lab.look_through(Arc::clone(&hook) as Arc<dyn Store>);
        let outcome = scene.protect();
        assert!(hook.has_happened(), "{at:?}");
        let error = outcome.expect_err("a lock that is gone is no lock");
        let reason = reason(&error);
        assert!(matches!(reason, Some(RepositoryError::LockLost)), "{at:?}: {error:?}");
        scene.lab.look_through(Arc::clone(&store) as Arc<dyn Store>);
        assert_eq!(scene.snapshots().len(), 1, "{at:?}: a snapshot was written");
        scene.survives(store, &format!("lock broken at {at:?}"));
    }
}

/// An exclusive lock of somebody else's: taken on a copy of the repository where ours is gone.
fn foreign_exclusive_lock(scene: &Scene, store: &PowerCutStore) -> (String, Vec<u8>) {
    let elsewhere = Arc::new(store.fork());
    let cx = scene.test.cx();
    let repository =
        Repository::open(cx, Arc::clone(&elsewhere) as Arc<dyn Store>, &Password::new("lab"))
            .unwrap();
    let options = LockOptions::new("elsewhere", "somebody");
    repository.unlock(cx, &options, true).unwrap();
    let lock = repository.lock(cx, LockMode::Exclusive, &options).unwrap();
    let name = lock.id().expect("it is held").to_string();
    let len = elsewhere.len(FileKind::Lock, &name).unwrap();
    let mut content = vec![0; usize::try_from(len).unwrap()];
    elsewhere.read_at(FileKind::Lock, &name, 0, &mut content).unwrap();
    (name, content)
}

#[test]
fn a_writer_that_wakes_up_to_a_foreign_exclusive_lock_gives_up() {
    let mut scene = Scene::in_memory(true);
    for at in BEFORE_A_LOOK {
        let store = scene.memory();
        let cx = scene.test.cx().clone();
        let theirs = Arc::clone(&store);
        // Renewed while we slept, so that it is alive when we look.
        cx.clock().sleep(LONG);
        let (name, content) = foreign_exclusive_lock(&scene, &store);
        let put = name.clone();
        let hook = Arc::new(HookStore::new(store.clone(), at, move || {
            cx.clock().sleep(LONG);
            let body = alidade_repository::Body::Bytes(&content);
            theirs.put(FileKind::Lock, &put, body).unwrap();
        }));
        scene.lab.look_through(Arc::clone(&hook) as Arc<dyn Store>);
        let outcome = scene.protect();
        assert!(hook.has_happened(), "{at:?}");
        let error = outcome.expect_err("an exclusive lock stops others");
        let reason = reason(&error);
        assert!(matches!(reason, Some(RepositoryError::Locked { .. })), "{at:?}: {error:?}");
        scene.lab.look_through(Arc::clone(&store) as Arc<dyn Store>);
        assert_eq!(scene.snapshots().len(), 1, "{at:?}: a snapshot was written");
        let locked = scene.protect().expect_err("the foreign lock is still there");
        assert!(matches!(self::reason(&locked), Some(RepositoryError::Locked { .. })));
        store.remove(FileKind::Lock, &name).unwrap();
        scene.survives(store, &format!("foreign lock at {at:?}"));
    }
}

/// Content for ten packs.
fn fill(program: &Program) {
    for number in 0..10 {
        program.put_noise(&format!("noise-{number}"), number, 5 << 20);
    }
}

#[test]
fn the_program_goes_on_after_sigstop_and_sigcont() {
    let program = Program::new();
    fill(&program);
    let (run, pid) = program.stopped_in_a_run();
    std::thread::sleep(Duration::from_millis(300));
    kill_process(pid, Signal::CONT).unwrap();
    let ended = run.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(DONE), "{ended:?}");
    assert_eq!(program.snapshots().len(), 1);
    program.has_no_locks("after a stop");
    program.reads_back("after a stop");
}

#[test]
fn the_program_that_lost_its_lock_while_stopped_fails_as_locked_and_the_next_run_succeeds() {
    let program = Program::new();
    std::fs::write(program.source().join("small"), "small").unwrap();
    program.protect().ends_with(DONE, "before");
    let first = program.snapshots();
    fill(&program);
    let (run, pid) = program.stopped_in_a_run();
    program.restic(&["unlock", "--remove-all"]);
    program.restic(&["prune", "--max-unused", "0"]);
    kill_process(pid, Signal::CONT).unwrap();
    let ended = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(LOCKED), "{said}");
    assert!(said.contains("error: ") && said.contains("hint: run it again"), "{said}");
    assert_eq!(program.snapshots(), first, "a snapshot was written");
    program.passes_check("lock lost");
    program.passes_check_of_restic();
    program.protect().ends_with(DONE, "the next run");
    program.has_no_locks("the next run");
    program.reads_back("the next run");
    program.restic(&["check", "--read-data"]);
}
