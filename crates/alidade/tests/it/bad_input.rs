//! What goes wrong, in full: the error, the hint, the exit code, and that nothing was lost.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::world::World;

#[test]
fn a_wrong_password_is_12() {
    let world = World::protected();
    world.write("pw", b"wrong\n");
    world.check("wrong_password", &world.run(&["snapshots", "--password-file", "pw"]));
    let key = world.key();
    fs::rename(&key, key.with_extension("moved")).unwrap();
    world.check("missing_key", &world.run(&["protect", "src"]));
    assert!(!key.exists(), "no new key is made for a repository that is there");
    fs::write(&key, b"not a key").unwrap();
    world.check("damaged_key", &world.run(&["protect", "src"]));
    assert_eq!(fs::read(&key).unwrap(), b"not a key", "the file is left as it is");
}

#[test]
fn no_repository_is_10_and_the_hint_makes_one() {
    let world = World::new();
    world.check("no_repository", &world.run(&["snapshots"]));
    world.write("pw", b"x\n");
    let run = world.run(&["snapshots", "-r", "else where", "--password-file", "pw"]);
    world.check("no_repository_elsewhere", &run);
    let hint = run.err.split('`').nth(1).unwrap();
    let pasted = world.paste(hint);
    assert_eq!(pasted.code, Some(0), "{hint}: {pasted}");
    assert_eq!(
        world.run(&["snapshots", "-r", "else where", "--password-file", "pw"]).code,
        Some(0)
    );
}

#[test]
fn a_repository_is_never_made_twice() {
    let world = World::protected();
    world.check("init_twice", &world.run(&["init"]));
    world.ok(&["restore", "src", "--target", "out"]);
}

#[test]
fn a_path_that_is_not_there_is_13_and_makes_no_repository() {
    let world = World::new();
    world.check("missing_path", &world.run(&["protect", "src/nowhere"]));
    assert!(!world.repository().exists());
    world.ok(&["protect", "src", "-q"]);
    world.check("unknown_snapshot", &world.run(&["show", "deadbeef"]));
    world.check("unknown_entity", &world.run(&["restore", "/no/such", "--target", "out"]));
    world.check("unknown_path", &world.run(&["cat", "src/nowhere"]));
    world.check("unknown_run", &world.run(&["runs", "nothing"]));
}

/// Three errors, one below the other, each of which says all that is below it.
#[test]
fn a_cause_is_said_once() {
    let world = World::new();
    let mut command = world.command(&["-r", "gs:bucket:/a", "snapshots"]);
    command.env("ALIDADE_PASSWORD", "x").env("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file");
    world.check("store_not_set_up", &World::of(command.output().unwrap()));
}

#[test]
fn a_target_that_is_not_empty_is_21_and_stays_as_it_is() {
    let world = World::protected();
    world.check("target_not_empty", &world.run(&["restore", "src", "--target", "src"]));
    assert_eq!(fs::read(world.path("src/a.txt")).unwrap(), b"hello\n");
}

#[test]
fn a_line_that_makes_no_sense_is_2() {
    let world = World::new();
    world.check("no_lock_with_protect", &world.run(&["protect", "src", "--no-lock"]));
    world.check("unknown_verb", &world.run(&["protct", "src"]));
    world.check("unknown_option", &world.run(&["protect", "src", "--exlude", "x"]));
    world.check("missing_target", &world.run(&["restore", "src"]));
    world.check("bad_pattern", &world.run(&["protect", "src", "--exclude", "["]));
    world.check("remote_repository", &world.run(&["-r", "b2:bucket:one", "snapshots"]));
    assert!(!world.repository().exists(), "nothing was made");
    world.ok(&["protect", "src", "-q"]);
    assert_eq!(world.run(&["snapshots", "--no-lock"]).code, Some(0), "reading verbs may");
}

#[test]
fn a_foreign_exclusive_lock_is_11_and_is_never_removed_by_itself() {
    let world = World::protected();
    let restic = alidade_testkit::peer("restic");
    let mut holder = std::process::Command::new(restic)
        .args(["-r", world.repository().to_str().unwrap(), "--no-cache", "prune"])
        .env("RESTIC_PASSWORD", fs::read_to_string(world.key()).unwrap().trim())
        .env("HOME", world.path("home"))
        .spawn()
        .unwrap();
    // Stopped as soon as its lock is there, it holds on to it.
    let lock = loop {
        let named = |path: &std::path::PathBuf| path.file_name().unwrap().len() == 64;
        if let Some(lock) = world.files("locks").into_iter().find(named) {
            break lock;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let pid = rustix::process::Pid::from_child(&holder);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let run = world.run(&["protect", "src", "-q"]);
    assert!(lock.exists(), "it is not ours to remove");
    world.check("locked", &run);
    let reading = world.run(&["snapshots", "--no-lock"]);
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    holder.wait().unwrap();
    assert_eq!(reading.code, Some(0), "{reading}");
    // Its process is gone now, and still nothing but `unlock` removes it.
    assert_eq!(world.run(&["protect", "src", "-q"]).code, Some(11));
    assert!(lock.exists());
    world.check("unlock_stale", &world.run(&["unlock"]));
    assert!(!lock.exists());
    world.ok(&["protect", "src", "-q"]);
}

#[test]
fn a_damaged_pack_is_20_in_check_and_in_restore() {
    let world = World::protected();
    // The largest pack holds the file contents.
    let packs = world.files("data");
    let pack = packs.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    fs::set_permissions(pack, fs::Permissions::from_mode(0o600)).unwrap();
    let mut file = fs::OpenOptions::new().read(true).write(true).open(pack).unwrap();
    let mut byte = [0];
    // In its middle lies the large file, whichever else is in it.
    let middle = SeekFrom::Start(file.metadata().unwrap().len() / 2);
    file.seek(middle).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(middle).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
    assert_eq!(world.run(&["check"]).code, Some(0), "structure alone is sound");
    world.check("damaged_check", &world.run(&["check", "--read-data"]));
    world.check("damaged_restore", &world.run(&["restore", "src", "--target", "out"]));
}

#[test]
fn a_missing_pack_is_20_in_check() {
    let world = World::protected();
    let packs = world.files("data");
    let pack = packs.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    fs::remove_file(pack).unwrap();
    world.check("missing_pack", &world.run(&["check"]));
}

#[test]
fn a_damaged_snapshot_is_20_and_hides_no_other() {
    let world = World::protected();
    world.ok(&["protect", "src", "-q"]);
    let file = world.files("snapshots").remove(0);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, b"damaged").unwrap();
    let run = world.run(&["snapshots", "-o", "json"]);
    assert_eq!(run.code, Some(20), "{run}");
    let listed: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    crate::schema::check("snapshots", &listed);
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1);
    assert_eq!(listed["damaged"].as_array().unwrap().len(), 1);
}

#[test]
fn a_damaged_catalog_stands_in_the_way_of_no_restore() {
    let world = World::protected();
    let catalog = world.path("home/.local/share/alidade/catalog.sqlite");
    for end in ["-wal", "-shm"] {
        let path = world.path(&format!("home/.local/share/alidade/catalog.sqlite{end}"));
        if path.exists() {
            fs::remove_file(path).unwrap();
        }
    }
    fs::write(&catalog, vec![7; 8192]).unwrap();
    assert_eq!(world.run(&["restore", "src", "--target", "out", "-q"]).code, Some(0));
    let run = world.run(&["protect", "src"]);
    world.check("damaged_catalog", &run);
    let hint = run.err.split('`').nth(1).unwrap();
    let pasted = world.paste(hint);
    assert_eq!(pasted.code, Some(0), "{hint}: {pasted}");
    world.ok(&["protect", "src", "-q"]);
}

#[test]
fn what_cannot_be_read_is_omitted_by_name_and_the_code_is_3() {
    let world = World::new();
    fs::set_permissions(world.path("src/a.txt"), fs::Permissions::from_mode(0o000)).unwrap();
    world.check("omission", &world.run_unprivileged(&["protect", "src"]));
}

#[test]
fn a_signal_ends_the_run_with_130_and_the_next_run_succeeds() {
    let world = World::protected();
    let noise: Vec<u8> = {
        let mut bytes = vec![0; 64 << 20];
        fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
        bytes
    };
    for n in 0..4_u8 {
        world.write(&format!("src/big{n}"), &[&noise[..], &[n]].concat());
    }
    let child = world.spawn(&["protect", "src"]);
    // Its lock is there once it works; before, the signal would end it as any program.
    while world.files("locks").is_empty() {
        std::thread::sleep(Duration::from_millis(2));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let run = World::of(child.wait_with_output().unwrap());
    assert_eq!(run.code, Some(130), "{run}");
    assert!(run.err.contains("error: the run was interrupted"), "{run}");
    assert!(world.files("locks").is_empty(), "its lock is gone");
    assert_eq!(world.snapshot_files().len(), 1, "no snapshot of half a tree");
    world.ok(&["protect", "src", "-q"]);
}

#[test]
fn a_first_run_that_was_killed_after_the_key_converges() {
    let world = World::new();
    world.ok(&["protect", "src", "-q"]);
    let key = fs::read(world.key()).unwrap();
    fs::remove_dir_all(world.repository()).unwrap();
    world.ok(&["protect", "src", "-q"]);
    assert_eq!(fs::read(world.key()).unwrap(), key, "the key that is there is used");
    // Killed while the repository was being made: its key file is there, its config is not.
    fs::remove_dir_all(world.repository()).unwrap();
    fs::create_dir_all(world.repository().join("keys")).unwrap();
    world.ok(&["protect", "src", "-q"]);
    world.ok(&["restore", "src", "--target", "out"]);
}

#[test]
fn two_first_runs_at_once_both_succeed_with_one_key() {
    let world = World::new();
    let children: Vec<_> = (0..4).map(|_| world.spawn(&["protect", "src", "-q"])).collect();
    for child in children {
        let run = World::of(child.wait_with_output().unwrap());
        assert_eq!(run.code, Some(0), "{run}");
    }
    assert_eq!(world.snapshot_files().len(), 4);
    world.ok(&["check", "--read-data"]);
}
