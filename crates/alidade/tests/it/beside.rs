//! Other runs on the same repository: those that hold a lock, those that are dead, those that live.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alidade_entity::{Cancel, Cx};
use alidade_repository::{LocalStore, Lock, LockMode, LockOptions, Password, Repository};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::world::World;

/// The whole repository to ourselves, under the lock of a living process: this one.
fn lock(world: &World) -> (Cx, Lock) {
    let cx = Cx::system(Cancel::default());
    let key = fs::read_to_string(world.key()).unwrap();
    let store = Arc::new(LocalStore::new(world.repository()));
    let opened = Repository::open(&cx, store, &Password::new(key.trim().as_bytes())).unwrap();
    let options = LockOptions::new("elsewhere", "somebody");
    let lock = opened.lock(&cx, LockMode::Exclusive, &options).unwrap();
    (cx, lock)
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how long the binary waits is what is tested")]
fn a_lock_is_waited_for_as_long_as_asked_and_then_it_is_11() {
    let world = World::protected();
    let (_cx, lock) = lock(&world);
    let begun = Instant::now();
    let run = world.run(&["protect", "src", "-q", "--retry-lock", "2s"]);
    let took = begun.elapsed();
    assert_eq!(run.code, Some(11), "{run}");
    assert!(run.err.contains("somebody") && run.err.contains("elsewhere"), "{run}");
    assert!((2..30).contains(&took.as_secs()), "{took:?}");
    // Now it goes while it is waited for.
    let waiting = world.spawn(&["protect", "src", "-q", "--retry-lock", "5m"]);
    std::thread::sleep(Duration::from_secs(2));
    let mut waiting = waiting;
    assert!(waiting.try_wait().unwrap().is_none(), "it waits");
    drop(lock);
    let run = World::of(waiting.wait_with_output().unwrap());
    assert_eq!(run.code, Some(0), "{run}");
    assert_eq!(world.snapshot_files().len(), 2);
    assert!(world.files("locks").is_empty());
}

fn temporaries(world: &World) -> Vec<PathBuf> {
    let mut all = world.files("");
    all.retain(|path| path.to_string_lossy().contains("-tmp-"));
    all
}

/// A run that is stopped in the middle of writing a pack, and the file it was writing.
fn stopped_writer(world: &World) -> (Child, Vec<PathBuf>) {
    for attempt in 0..50_u8 {
        let mut noise = vec![attempt; 24 << 20];
        let mut random = fs::File::open("/dev/urandom").unwrap();
        std::io::Read::read_exact(&mut random, &mut noise).unwrap();
        world.write("src/noise", &noise);
        let mut child = world.spawn(&["protect", "src", "-q"]);
        let pid = Pid::from_child(&child);
        while child.try_wait().unwrap().is_none() {
            if temporaries(world).iter().any(|path| path.to_string_lossy().contains("/data/")) {
                kill_process(pid, Signal::STOP).unwrap();
                // The signal is only sent: all its threads have stopped when this comes back.
                let stopped =
                    WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
                waitid(WaitId::Pid(pid), stopped).unwrap();
                let writing = temporaries(world);
                if !writing.is_empty() && writing.iter().all(|path| is_marked(path)) {
                    return (child, writing);
                }
                kill_process(pid, Signal::CONT).unwrap();
            }
        }
    }
    panic!("no run was caught while it wrote a pack");
}

/// True when its writer holds it: that comes a moment after it was made.
fn is_marked(path: &Path) -> bool {
    let file = fs::File::open(path).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
}

fn age(path: &Path) {
    let file = fs::File::open(path).unwrap();
    let then = file.metadata().unwrap().modified().unwrap() - Duration::from_secs(3600);
    file.set_modified(then).unwrap();
}

#[test]
fn the_files_of_a_killed_writer_go_with_the_next_run_and_those_of_a_living_one_stay() {
    let world = World::protected();
    let (mut child, writing) = stopped_writer(&world);
    writing.iter().for_each(|path| age(path));
    world.ok(&["protect", "src/sub", "-q"]);
    assert_eq!(temporaries(&world), writing, "its writer lives");
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    assert_eq!(temporaries(&world), writing, "a killed writer leaves them");
    world.ok(&["unlock", "-q"]);
    world.ok(&["protect", "src/sub", "-q"]);
    assert_eq!(temporaries(&world), Vec::<PathBuf>::new());
    world.ok(&["check", "--read-data", "-q"]);

    // One that goes on after such a sweep finds its file and ends well.
    let (child, writing) = stopped_writer(&world);
    writing.iter().for_each(|path| age(path));
    world.ok(&["protect", "src/sub", "-q"]);
    kill_process(Pid::from_child(&child), Signal::CONT).unwrap();
    let run = World::of(child.wait_with_output().unwrap());
    assert_eq!(run.code, Some(0), "{run}");
    assert_eq!(temporaries(&world), Vec::<PathBuf>::new());
}

#[test]
fn without_a_cache_temporary_files_have_a_private_directory_that_is_gone_in_the_end() {
    let world = World::new();
    let shared = world.path("shared");
    fs::create_dir(&shared).unwrap();
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(&shared).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let run = |arguments: &[&str]| {
        let mut command = world.command(&[arguments, &["--no-cache"]].concat());
        World::of(command.env("TMPDIR", &shared).output().unwrap())
    };
    for arguments in [&["protect", "src", "--plan"][..], &["protect", "src"], &["check"]] {
        let run = run(arguments);
        assert_eq!(run.code, Some(0), "{run}");
        assert_eq!(names(), Vec::<PathBuf>::new(), "{arguments:?}");
    }
    assert!(!world.path("home/.cache").exists(), "the cache directory is not made");

    // A run that is protecting the place of its own files leaves them out by a rule it names.
    let mut command = world.command(&["protect", "shared", "--no-cache"]);
    let own = World::of(command.env("TMPDIR", &shared).output().unwrap());
    assert!(own.code == Some(0) && own.out.contains("temporary files"), "{own}");

    // Held up where it has its directory: it waits for the lock.
    let (_cx, lock) = lock(&world);
    let waiting = |arguments: &[&str]| {
        let mut command = world.command(&[arguments, &["--no-cache"]].concat());
        command.env("TMPDIR", &shared).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let before = names();
    let mut child = waiting(&["protect", "src", "--retry-lock", "5m"]);
    while names() == before {
        std::thread::sleep(Duration::from_millis(5));
    }
    let made = names();
    assert_eq!(made.len(), 1);
    assert_eq!(fs::metadata(&made[0]).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(run(&["snapshots", "--no-lock"]).code, Some(0));
    assert_eq!(names(), made, "it lives");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(names(), made, "a killed run leaves it");
    drop(lock);
    assert_eq!(run(&["snapshots"]).code, Some(0));
    assert_eq!(names(), Vec::<PathBuf>::new(), "the next run removes it");
}
