//! Locks: who may work beside whom, and what becomes of holders that sleep, die or are broken.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod fixture;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use alidade_entity::{Cancel, Cx};
use alidade_model::Time;
use alidade_repository::envelope::encode_unpacked;
use alidade_repository::{
    Error, FileId, FileKind, Lock, LockMode, LockOptions, LockRecord, Repository, Result, time,
};
use alidade_testkit::TestCx;
use alidade_testkit::store::{Fault, FaultStore, PowerCutStore};
use fixture::Fixture;

const MODES: [LockMode; 2] = [LockMode::Shared, LockMode::Exclusive];

fn here() -> LockOptions {
    LockOptions { wait: Duration::from_millis(20), ..LockOptions::new("here", "me") }
}

/// Puts the lock file of another holder.
fn foreign(made: &Fixture, cx: &Cx, exclusive: bool, host: &str, pid: i64, when: Time) -> FileId {
    let when = time::to_text(when);
    let json = format!(
        r#"{{"time":"{when}","exclusive":{exclusive},"hostname":"{host}","username":"you","pid":{pid}}}"#
    );
    made.put(FileKind::Lock, &encode_unpacked(&made.master, cx, json.as_bytes()).unwrap())
}

fn dead_pid() -> i64 {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    i64::from(child.id())
}

fn ago(cx: &Cx, minutes: i64) -> Time {
    Time::new(cx.now().seconds - minutes * 60, 0)
}

/// Waits for the renewing thread, which goes by the real clock.
#[allow(clippy::disallowed_methods, reason = "a deadline for the test itself")]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "never came: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn shared_locks_live_together_and_an_exclusive_one_lives_alone() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    for held in MODES {
        for wanted in MODES {
            let lock = made.repo.lock(test.cx(), held, &here()).unwrap();
            assert_eq!(lock.mode(), held);
            assert_eq!(made.names("locks"), [lock.id().unwrap().to_string()]);
            let other = made.repo.lock(test.cx(), wanted, &here());
            if (held, wanted) == (LockMode::Shared, LockMode::Shared) {
                assert_eq!(made.names("locks").len(), 2);
                other.unwrap().release().unwrap();
            } else {
                let Err(Error::Locked { holder, lock: id, stale }) = other else { panic!() };
                assert_eq!(id, lock.id().unwrap().to_string());
                assert!(!stale);
                let pid = std::process::id();
                let mode = if held == LockMode::Shared { "shared" } else { "exclusive" };
                let want = format!("{mode} lock of process {pid} of `me` on `here`, renewed ");
                assert!(holder.starts_with(&want) && holder.ends_with(" ago"), "{holder}");
            }
            lock.release().unwrap();
            assert_eq!(made.names("locks"), Vec::<String>::new());
        }
    }
}

#[test]
fn a_dropped_lock_is_gone() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    drop(made.repo.lock(test.cx(), LockMode::Exclusive, &here()).unwrap());
    assert_eq!(made.names("locks"), Vec::<String>::new());
}

#[test]
fn a_lock_says_what_restic_expects_of_it() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let lock = made.repo.lock(test.cx(), LockMode::Shared, &here()).unwrap();
    let entries = made.repo.locks(test.cx(), &here()).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(Some(entries[0].id), lock.id());
    let said = entries[0].lock.clone().unwrap();
    assert_eq!((said.hostname.as_str(), said.username.as_str()), ("here", "me"));
    assert_eq!(said.pid, i64::from(std::process::id()));
    assert!(!said.exclusive && !entries[0].stale);
}

#[test]
fn empty_lock_files_forbid_nothing_and_unreadable_ones_everything() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    std::fs::write(made.path("locks").join("0".repeat(64)), b"").unwrap();
    made.repo.lock(test.cx(), LockMode::Exclusive, &here()).unwrap().release().unwrap();

    let good = encode_unpacked(&made.master, test.cx(), b"{}").unwrap();
    let mut flipped = good.clone();
    flipped[20] ^= 1;
    for bad in [&good, &flipped, &good[..30].to_vec()] {
        let id = made.put(FileKind::Lock, bad);
        for mode in MODES {
            let lock = made.repo.lock(test.cx(), mode, &here());
            let Err(Error::Damaged { what, .. }) = lock else { panic!("{mode:?}: {lock:?}") };
            assert_eq!(what, format!("lock {id}"));
        }
        assert_eq!(made.names("locks").len(), 2, "nothing is left behind");
        made.repo.remove_lock(&id, &here()).unwrap();
    }
}

#[test]
fn a_conflict_is_named_even_beside_an_unreadable_lock() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    made.put(FileKind::Lock, b"garbage");
    foreign(&made, test.cx(), true, "there", 1, test.cx().now());
    let lock = made.repo.lock(test.cx(), LockMode::Shared, &here());
    assert!(matches!(lock, Err(Error::Locked { stale: false, .. })), "{lock:?}");
}

#[test]
fn dead_locks_are_recognised_and_removed_by_unlock_alone() {
    let test = TestCx::seeded(1);
    let cx = test.cx();
    let made = Fixture::new(cx);
    let alive = i64::from(std::process::id());
    let cases = [
        ("another machine, fresh", "there", dead_pid(), ago(cx, 29), false),
        ("another machine, old", "there", alive, ago(cx, 31), true),
        ("this machine, alive", "here", alive, ago(cx, 29), false),
        ("this machine, gone", "here", dead_pid(), ago(cx, 1), true),
        ("this machine, alive and old", "here", alive, ago(cx, 31), true),
        ("the clocks differ", "there", alive, ago(cx, -600), false),
        ("no process id", "here", -1, ago(cx, 1), false),
        ("no process id", "here", i64::MAX, ago(cx, 1), false),
    ];
    for (what, host, pid, when, dead) in cases {
        let id = foreign(&made, cx, true, host, pid, when);
        let lock = made.repo.lock(cx, LockMode::Shared, &here());
        let Err(Error::Locked { holder, stale, .. }) = lock else { panic!("{what}: {lock:?}") };
        assert_eq!(stale, dead, "{what}: {holder}");
        assert_eq!(holder.ends_with("; its holder looks dead"), dead, "{what}: {holder}");
        let gone = made.repo.unlock(cx, &here(), false).unwrap();
        assert_eq!(
            gone.iter().map(|entry| entry.id).collect::<Vec<_>>(),
            if dead { vec![id] } else { vec![] }
        );
        assert_eq!(made.names("locks").is_empty(), dead, "{what}");
        let gone = made.repo.unlock(cx, &here(), true).unwrap();
        assert_eq!(gone.len(), usize::from(!dead), "{what}");
        assert_eq!(made.names("locks"), Vec::<String>::new());
    }
}

#[test]
fn unlocking_all_removes_what_cannot_be_read_too() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    made.put(FileKind::Lock, b"garbage");
    std::fs::write(made.path("locks").join("0".repeat(64)), b"").unwrap();
    foreign(&made, test.cx(), false, "there", 1, test.cx().now());
    let entries = made.repo.locks(test.cx(), &here()).unwrap();
    assert_eq!(entries.iter().filter(|entry| entry.lock.is_err()).count(), 2);
    assert_eq!(made.repo.unlock(test.cx(), &here(), false).unwrap().len(), 0);
    assert_eq!(made.repo.unlock(test.cx(), &here(), true).unwrap().len(), 3);
    assert_eq!(made.names("locks"), Vec::<String>::new());
}

#[test]
fn a_hostile_lock_cannot_steer_the_terminal() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    foreign(&made, test.cx(), true, r#"\u001b[2J\n\""#, 1, test.cx().now());
    let Err(Error::Locked { holder, .. }) = made.repo.lock(test.cx(), LockMode::Shared, &here())
    else {
        panic!()
    };
    assert!(!holder.chars().any(char::is_control), "{holder:?}");
}

#[test]
fn a_lock_is_waited_for_as_long_as_asked() {
    let cx = Cx::system(Cancel::default());
    let made = Fixture::new(&cx);
    let held = made.repo.lock(&cx, LockMode::Exclusive, &here()).unwrap();
    let patient = LockOptions { retry_for: Duration::from_secs(30), ..here() };
    thread::scope(|scope| {
        let waiting = scope.spawn(|| made.repo.lock(&cx, LockMode::Shared, &patient));
        thread::sleep(Duration::from_millis(100));
        held.release().unwrap();
        waiting.join().unwrap().unwrap().release().unwrap();
    });

    let test = TestCx::seeded(2);
    foreign(&made, test.cx(), true, "there", 1, test.cx().now());
    let start = test.cx().clock().elapsed();
    let refused = made.repo.lock(test.cx(), LockMode::Shared, &patient);
    assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    let waited = test.cx().clock().elapsed() - start;
    assert!((30..31).contains(&waited.as_secs()), "{waited:?}");
}

#[test]
fn a_lock_taken_early_finds_at_its_first_check_who_came_at_the_same_moment() {
    let test = TestCx::seeded(1);
    let (cx, made) = (test.cx(), Fixture::new(test.cx()));
    let repository = &made.repo;
    let options = here();
    let early = repository.lock_early(cx, LockMode::Shared, &options).unwrap();
    early.check(cx).unwrap();
    early.check(cx).unwrap();
    early.release().unwrap();
    let early = repository.lock_early(cx, LockMode::Shared, &options).unwrap();
    let other = foreign(&made, cx, true, "there", 1, cx.now());
    assert!(matches!(early.check(cx), Err(Error::Locked { .. })));
    assert!(matches!(early.check(cx), Err(Error::Locked { .. })), "it is not sure by itself");
    repository.store().remove(FileKind::Lock, &other.to_string()).unwrap();
    early.check(cx).unwrap();
    early.release().unwrap();
    foreign(&made, cx, true, "there", 1, cx.now());
    let refused = repository.lock_early(cx, LockMode::Shared, &options);
    assert!(matches!(refused, Err(Error::Locked { .. })), "who is there already is seen at once");
    assert_eq!(repository.locks(cx, &options).unwrap().len(), 1);
}

#[test]
fn who_is_told_to_stop_while_waiting_leaves_no_lock() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let id = foreign(&made, test.cx(), true, "there", 1, test.cx().now());
    test.cancel();
    let patient = LockOptions { retry_for: Duration::from_secs(30), ..here() };
    let lock = made.repo.lock(test.cx(), LockMode::Shared, &patient);
    assert!(matches!(lock, Err(Error::Cancelled)), "{lock:?}");
    assert_eq!(made.names("locks"), [id.to_string()]);
}

#[test]
fn of_many_that_want_it_alone_at_most_one_holds_it() {
    const THREADS: usize = 6;
    const ATTEMPTS: usize = 40;
    let cx = Cx::system(Cancel::default());
    let made = Fixture::new(&cx);
    let options = here();
    let (holding, others, got): (AtomicUsize, AtomicUsize, AtomicUsize) = Default::default();
    let wrong = Mutex::new(Vec::new());
    let together = Barrier::new(THREADS);
    let attempt = |early: bool| {
        if !early {
            return made.repo.lock(&cx, LockMode::Exclusive, &options);
        }
        let lock = made.repo.lock_early(&cx, LockMode::Exclusive, &options)?;
        lock.check(&cx).map(|()| lock)
    };
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (attempt, together, wrong) = (&attempt, &together, &wrong);
            let (holding, others, got) = (&holding, &others, &got);
            scope.spawn(move || {
                for round in 0..ATTEMPTS {
                    together.wait();
                    match attempt((number + round) % 2 == 0) {
                        Ok(lock) => {
                            others.fetch_max(
                                holding.fetch_add(1, Ordering::SeqCst),
                                Ordering::SeqCst,
                            );
                            got.fetch_add(1, Ordering::SeqCst);
                            thread::sleep(Duration::from_millis(2));
                            holding.fetch_sub(1, Ordering::SeqCst);
                            wrong.lock().unwrap().extend(lock.release().err());
                        }
                        Err(Error::Locked { .. }) => {}
                        Err(error) => wrong.lock().unwrap().push(error),
                    }
                }
            });
        }
    });
    assert!(wrong.lock().unwrap().is_empty(), "{wrong:?}");
    assert_eq!(others.load(Ordering::SeqCst), 0, "others held it, too");
    assert_eq!(made.names("locks"), Vec::<String>::new());
    println!("{} of {} attempts held it", got.load(Ordering::SeqCst), THREADS * ATTEMPTS);
}

/// A lock whose renewing thread looks at the test's clock every millisecond.
fn quick() -> LockOptions {
    LockOptions { refresh: Duration::from_millis(8), expiry: Duration::from_secs(60), ..here() }
}

#[test]
fn a_lock_is_renewed_while_time_passes() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let lock = made.repo.lock(test.cx(), LockMode::Shared, &quick()).unwrap();
    for _ in 0..3 {
        let before = lock.id();
        test.clock().advance(Duration::from_secs(30));
        until("a new lock file", || lock.id() != before && made.names("locks").len() == 1);
        let said = made.repo.locks(test.cx(), &quick()).unwrap();
        assert_eq!(said[0].lock.clone().unwrap().time, test.cx().now());
        lock.check(test.cx()).unwrap();
    }
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_renewal() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let lock = made.repo.lock(test.cx(), LockMode::Shared, &quick()).unwrap();
    let before = lock.id();
    test.clock().set(Time::new(test.cx().now().seconds - 86_400, 0));
    test.clock().advance(Duration::from_secs(1));
    until("a new lock file", || lock.id() != before);
}

#[test]
fn a_broken_lock_is_noticed_before_the_next_write() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let lock = made.repo.lock(test.cx(), LockMode::Shared, &here()).unwrap();
    lock.check(test.cx()).unwrap();
    made.repo.unlock(test.cx(), &here(), true).unwrap();
    for _ in 0..2 {
        let checked = lock.check(test.cx());
        assert!(matches!(checked, Err(Error::LockLost)), "{checked:?}");
    }
    lock.release().unwrap();
    assert_eq!(made.names("locks"), Vec::<String>::new());
}

/// Suspends the machine until others may have judged the lock dead, with a thread that is too slow
/// to notice first.
fn suspended(test: &TestCx, made: &Fixture) -> Lock {
    let slow = LockOptions { refresh: Duration::from_secs(86_400), ..here() };
    let lock = made.repo.lock(test.cx(), LockMode::Shared, &slow).unwrap();
    test.clock().set(Time::new(test.cx().now().seconds + 3_600, 0));
    lock
}

#[test]
fn who_slept_past_expiry_goes_on_when_nobody_broke_the_lock() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let lock = suspended(&test, &made);
    foreign(&made, test.cx(), false, "there", 1, test.cx().now());
    lock.check(test.cx()).unwrap();
    let renewed = made.repo.locks(test.cx(), &here()).unwrap();
    assert_eq!(renewed.len(), 2);
    assert!(renewed.iter().all(|entry| !entry.stale), "{renewed:?}");
    lock.release().unwrap();
    assert_eq!(made.names("locks").len(), 1);
}

#[test]
fn who_slept_past_expiry_stops_when_the_lock_was_broken() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let lock = suspended(&test, &made);
    assert_eq!(made.repo.unlock(test.cx(), &here(), false).unwrap().len(), 1);
    let checked = lock.check(test.cx());
    assert!(matches!(checked, Err(Error::LockLost)), "{checked:?}");
    assert_eq!(made.names("locks"), Vec::<String>::new());
}

#[test]
fn who_slept_past_expiry_stops_when_somebody_works_alone_now() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let lock = suspended(&test, &made);
    let other = foreign(&made, test.cx(), true, "there", 1, test.cx().now());
    let checked = lock.check(test.cx());
    assert!(matches!(checked, Err(Error::Locked { .. })), "{checked:?}");
    lock.release().unwrap();
    assert_eq!(made.names("locks"), [other.to_string()]);
}

#[test]
fn a_stopped_run_is_told_at_the_check() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let lock = made.repo.lock(test.cx(), LockMode::Shared, &here()).unwrap();
    test.cancel();
    assert!(matches!(lock.check(test.cx()), Err(Error::Cancelled)));
    lock.release().unwrap();
    assert_eq!(made.names("locks"), Vec::<String>::new());
}

#[test]
fn a_store_that_is_away_for_a_while_costs_nothing_and_for_long_stops_the_run() {
    let test = TestCx::seeded(1);
    let store = Arc::new(FaultStore::new(Arc::new(PowerCutStore::new())));
    let repo = Repository::init(test.cx(), store.clone(), &fixture::password(), &fixture::light())
        .unwrap();
    let lock = repo.lock(test.cx(), LockMode::Shared, &quick()).unwrap();
    let before = lock.id();
    store.stop();
    test.clock().advance(Duration::from_secs(50));
    let checked = lock.check(test.cx());
    assert!(matches!(checked, Err(Error::Store { .. })), "{checked:?}");
    store.heal();
    test.clock().advance(Duration::from_secs(1));
    until("a new lock file", || lock.id() != before);
    lock.check(test.cx()).unwrap();
    lock.release().unwrap();
    assert!(repo.locks(test.cx(), &quick()).unwrap().is_empty());
}

#[test]
fn a_taker_that_dies_anywhere_leaves_nothing_that_is_not_on_record() {
    for fault in [Fault::Before, Fault::After] {
        for n in 0..10 {
            let (test, memory) = (TestCx::seeded(n), Arc::new(PowerCutStore::new()));
            let (password, key) = (fixture::password(), fixture::light());
            Repository::init(test.cx(), memory.clone(), &password, &key).unwrap();
            let at = usize::try_from(n).unwrap();
            let dying = Arc::new(FaultStore::stopping_at(memory.clone(), at, fault));
            let record = Arc::new(Record::default());
            let options = LockOptions { record: record.clone(), ..here() };
            let repo = Repository::open(test.cx(), dying, &password).unwrap();
            let done = repo.lock(test.cx(), LockMode::Shared, &options).and_then(Lock::release);
            let survivor = Repository::open(test.cx(), memory, &password).unwrap();
            let left = survivor.locks(test.cx(), &here()).unwrap();
            for entry in &left {
                assert!(record.ours().contains(&entry.id), "{n} {fault:?}: {entry:?}");
            }
            assert!(done.is_err() || left.is_empty());
            for id in record.ours() {
                survivor.remove_lock(&id, &options).unwrap();
            }
            assert!(survivor.locks(test.cx(), &here()).unwrap().is_empty());
        }
    }
}

#[derive(Default)]
struct Record {
    events: Mutex<Vec<(&'static str, FileId)>>,
    refuses: bool,
}

impl Record {
    fn ours(&self) -> Vec<FileId> {
        let mut ours = Vec::new();
        for (event, id) in self.events.lock().unwrap().iter() {
            match *event {
                "will write" => ours.push(*id),
                _ => ours.retain(|other| other != id),
            }
        }
        ours
    }
}

impl LockRecord for Record {
    fn will_write(&self, id: &FileId) -> Result<()> {
        if self.refuses {
            return Err(Error::System { attempt: "record the lock".into() });
        }
        self.events.lock().unwrap().push(("will write", *id));
        Ok(())
    }

    fn removed(&self, id: &FileId) -> Result<()> {
        self.events.lock().unwrap().push(("removed", *id));
        Ok(())
    }
}

#[test]
fn every_lock_file_is_on_record_before_it_is_written_until_it_is_gone() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let record = Arc::new(Record::default());
    let options = LockOptions { record: record.clone(), ..quick() };
    let lock = made.repo.lock(test.cx(), LockMode::Shared, &options).unwrap();
    assert_eq!(record.ours(), [lock.id().unwrap()]);
    let before = lock.id();
    test.clock().advance(Duration::from_secs(1));
    until("the record of a renewal", || {
        lock.id() != before && record.ours() == Vec::from_iter(lock.id())
    });
    // A killed process leaves its file and its record; its successor needs no more than that.
    let left = lock.id().unwrap();
    std::mem::forget(lock);
    made.repo.remove_lock(&left, &options).unwrap();
    made.repo.remove_lock(&left, &options).unwrap();
    assert_eq!(record.ours(), []);
    assert_eq!(made.names("locks"), Vec::<String>::new());

    foreign(&made, test.cx(), true, "there", 1, test.cx().now());
    made.repo.lock(test.cx(), LockMode::Shared, &options).unwrap_err();
    assert_eq!(record.ours(), []);
}

#[test]
fn what_cannot_be_recorded_is_not_written() {
    let test = TestCx::seeded(1);
    let made = Fixture::new(test.cx());
    let record = Arc::new(Record { refuses: true, ..Record::default() });
    let options = LockOptions { record, ..here() };
    let lock = made.repo.lock(test.cx(), LockMode::Shared, &options);
    assert!(matches!(lock, Err(Error::System { .. })), "{lock:?}");
    assert_eq!(made.names("locks"), Vec::<String>::new());
}
