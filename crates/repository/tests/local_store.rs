//! The store in a directory: what every store promises, and what this one promises beyond.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Barrier;
use std::time::Duration;

use alidade_repository::{Body, Error, FileKind, LocalStore, Store};
use alidade_testkit::store::{conforms, name};

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn created() -> (tempfile::TempDir, LocalStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::new(dir.path());
    store.create().unwrap();
    (dir, store)
}

#[test]
fn a_directory_keeps_the_promises_of_a_store() {
    let dir = tempfile::tempdir().unwrap();
    conforms(&LocalStore::new(dir.path().join("new/repository")));
}

#[test]
fn the_layout_and_the_modes_are_restics() {
    let (dir, store) = created();
    store.put(FileKind::Config, "config", Body::Bytes(b"c")).unwrap();
    let pack = name(b"pack");
    for kind in [FileKind::Pack, FileKind::Key, FileKind::Index, FileKind::Snapshot, FileKind::Lock]
    {
        store.put(kind, &pack, Body::Bytes(b"pack")).unwrap();
    }
    // A pack has its name once it is durable, for which `put` does not wait.
    store.flush(FileKind::Pack).unwrap();
    assert_eq!(names(dir.path()), ["config", "data", "index", "keys", "locks", "snapshots"]);
    assert_eq!(names(&dir.path().join("data")).len(), 256);
    assert_eq!(names(&dir.path().join("data").join(&pack[..2])), std::slice::from_ref(&pack));
    for folder in ["keys", "index", "snapshots", "locks"] {
        assert_eq!(names(&dir.path().join(folder)), std::slice::from_ref(&pack));
        assert_eq!(mode(&dir.path().join(folder)), 0o700);
        assert_eq!(mode(&dir.path().join(folder).join(&pack)), 0o400);
    }
    assert_eq!(mode(&dir.path().join("config")), 0o400);
}

#[test]
fn a_config_the_group_may_read_opens_the_rest_to_the_group() {
    let (dir, store) = created();
    let config = dir.path().join("config");
    fs::write(&config, b"c").unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o440)).unwrap();
    let key = name(b"key");
    store.put(FileKind::Key, &key, Body::Bytes(b"key")).unwrap();
    assert_eq!(mode(&dir.path().join("keys").join(&key)), 0o440);
}

#[test]
fn what_is_no_file_of_the_repository_is_not_listed() {
    let (dir, store) = created();
    let real = name(b"real");
    store.put(FileKind::Pack, &real, Body::Bytes(b"real")).unwrap();
    let data = dir.path().join("data");
    let home = data.join(&real[..2]);
    fs::write(home.join(format!("{real}-tmp-1-1")), b"half").unwrap();
    fs::create_dir(home.join(format!("{}{}", &real[..2], "0".repeat(62)))).unwrap();
    symlink("/absent", home.join(format!("{}{}", &real[..2], "1".repeat(62)))).unwrap();
    let elsewhere = if real.starts_with("00") { "01" } else { "00" };
    fs::write(data.join(elsewhere).join(&real), b"elsewhere").unwrap();
    fs::write(data.join(&real), b"outside").unwrap();
    fs::create_dir(data.join("zz")).unwrap();

    let mut listed = Vec::new();
    store
        .list(FileKind::Pack, &mut |name, len| {
            listed.push((name.to_owned(), len));
            Ok(())
        })
        .unwrap();
    assert_eq!(listed, [(real, 4)]);
}

#[test]
fn a_missing_folder_is_made_when_it_is_needed() {
    let (dir, store) = created();
    fs::remove_dir_all(dir.path().join("data")).unwrap();
    let pack = name(b"p");
    store.put(FileKind::Pack, &pack, Body::Bytes(b"p")).unwrap();
    store.flush(FileKind::Pack).unwrap();
    assert_eq!(store.len(FileKind::Pack, &pack).unwrap(), 1);
}

#[test]
fn a_planted_pipe_or_folder_is_damage_and_holds_nobody() {
    let (dir, store) = created();
    let (pipe, folder) = (name(b"pipe"), name(b"folder"));
    let snapshots = dir.path().join("snapshots");
    rustix::fs::mkfifoat(rustix::fs::CWD, snapshots.join(&pipe), 0o600.into()).unwrap();
    fs::create_dir(snapshots.join(&folder)).unwrap();
    for planted in [&pipe, &folder] {
        let read = store.read_at(FileKind::Snapshot, planted, 0, &mut [0]);
        assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
        let len = store.len(FileKind::Snapshot, planted);
        assert!(matches!(len, Err(Error::Damaged { .. })), "{len:?}");
    }
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let (dir, store) = created();
    struct Fails;
    impl std::io::Read for Fails {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let _: &mut [u8] = buf;
            Err(std::io::Error::other("the disk is gone"))
        }
    }
    let pack = name(b"p");
    let put = store.put(FileKind::Pack, &pack, Body::Reader { reader: &mut Fails, len: 5 });
    let Err(Error::Store { attempt, source }) = put else { panic!("{put:?}") };
    assert!(attempt.starts_with("write ") && attempt.ends_with(&pack), "{attempt}");
    assert_eq!(source.to_string(), "the disk is gone");
    assert_eq!(names(&dir.path().join("data").join(&pack[..2])), Vec::<String>::new());
}

/// A file, made where it is not there, that was last written so long ago.
fn aged(path: &Path, seconds: u64) {
    if !path.exists() {
        fs::write(path, b"half").unwrap();
    }
    let file = fs::File::options().write(true).open(path).unwrap();
    let then = file.metadata().unwrap().modified().unwrap() - Duration::from_secs(seconds);
    file.set_modified(then).unwrap();
}

#[test]
fn what_killed_writers_left_is_gone_after_the_next_write_and_nothing_else_is() {
    let (dir, store) = created();
    let (id, hour) = (name(b"left"), 3600);
    let dead =
        ["config", "keys", "locks", "snapshots", "index", "data"].map(|folder| match folder {
            "config" => dir.path().join("config-tmp-7-0"),
            "data" => dir.path().join("data").join(&id[..2]).join(format!("{id}-tmp-7-12")),
            _ => dir.path().join(folder).join(format!("{id}-tmp-7-1")),
        });
    let kept = [
        (dir.path().join("index").join(format!("{id}-tmp-7-2")), 20 * 60),
        (dir.path().join("index").join(format!("{id}-tmp-123456789")), hour),
        (dir.path().join("index").join("notes-tmp-7-1"), hour),
        (dir.path().join(format!("{id}-tmp-7-1-old")), hour),
    ];
    let folder = dir.path().join("keys").join(format!("{id}-tmp-7-9"));
    let link = dir.path().join("keys").join(format!("{id}-tmp-7-8"));
    dead.iter().for_each(|path| aged(path, hour));
    // Killed between its last byte and its name.
    fs::set_permissions(&dead[5], fs::Permissions::from_mode(0o400)).unwrap();
    kept.iter().for_each(|(path, age)| aged(path, *age));
    fs::create_dir(&folder).unwrap();
    symlink("/etc/passwd", &link).unwrap();

    store.put(FileKind::Lock, &name(b"lock"), Body::Bytes(b"lock")).unwrap();
    assert!(dead.iter().all(|path| path.exists()), "who only reads does not tidy");
    store.put(FileKind::Snapshot, &name(b"s"), Body::Bytes(b"s")).unwrap();
    for path in &dead {
        assert!(!path.exists(), "{}", path.display());
    }
    for path in kept.iter().map(|(path, _)| path).chain([&folder, &link]) {
        assert!(fs::symlink_metadata(path).is_ok(), "{}", path.display());
    }
}

#[test]
fn what_is_being_written_stays_however_long_it_takes() {
    let (dir, store) = created();
    let pack = name(b"slow");
    struct Slow<'a>(&'a Barrier, &'a [u8]);
    impl std::io::Read for Slow<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0.wait();
            self.0.wait();
            self.1.read(buf)
        }
    }
    let turn = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let body = Body::Reader { reader: &mut Slow(&turn, b"slow"), len: 4 };
            store.put(FileKind::Pack, &pack, body).unwrap();
        });
        turn.wait();
        let home = dir.path().join("data").join(&pack[..2]);
        let written = home.join(&names(&home)[0]);
        aged(&written, 24 * 3600);
        let other = LocalStore::new(dir.path());
        other.put(FileKind::Index, &name(b"i"), Body::Bytes(b"i")).unwrap();
        // Looked at before, told after: a failure here must not leave the writer waiting.
        let kept = written.exists();
        turn.wait();
        assert!(kept, "it is being written");
    });
    assert_eq!(store.len(FileKind::Pack, &pack).unwrap(), 4);
}

#[test]
fn many_writers_of_one_name_leave_one_whole_file() {
    let (dir, store) = created();
    let content = vec![7; 300_000];
    let (index, start) = (name(&content), Barrier::new(8));
    let configs: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    store.put(FileKind::Index, &index, Body::Bytes(&content)).unwrap();
                    usize::from(store.put(FileKind::Config, "config", Body::Bytes(b"c")).is_ok())
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(configs, 1, "one config is stored, whoever comes first");
    assert_eq!(names(&dir.path().join("index")), std::slice::from_ref(&index));
    assert_eq!(store.len(FileKind::Index, &index).unwrap(), 300_000);
    assert_eq!(names(dir.path()), ["config", "data", "index", "keys", "locks", "snapshots"]);
}

#[test]
fn the_answer_of_the_system_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    let store = LocalStore::new(dir.path().join("file/below"));
    let Err(Error::Store { source, .. }) = store.create() else { panic!("created below a file") };
    assert_eq!(source.kind(), std::io::ErrorKind::NotADirectory);
    let read = store.len(FileKind::Config, "config");
    assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
}

#[test]
fn more_packs_than_are_kept_open_are_read_and_removed_ones_are_gone() {
    let (_dir, store) = created();
    let packs: Vec<_> = (0..100_u8).map(|n| [n; 50]).collect();
    for pack in &packs {
        store.put(FileKind::Pack, &name(pack), Body::Bytes(pack)).unwrap();
    }
    for round in 0..2 {
        for pack in &packs {
            let mut back = [0; 50];
            store.read_at(FileKind::Pack, &name(pack), 0, &mut back).unwrap();
            assert_eq!(&back, pack, "round {round}");
        }
    }
    for pack in &packs {
        store.remove(FileKind::Pack, &name(pack)).unwrap();
        let read = store.read_at(FileKind::Pack, &name(pack), 0, &mut [0]);
        assert!(matches!(read, Err(Error::NotFound { .. })), "{read:?}");
    }
}

#[test]
fn a_listing_is_trusted_only_where_one_kernel_looks_after_the_directory() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = LocalStore::new(dir.path());
    assert!(!store.lists_at_once(), "nothing is known of what is not there");
    store.create().unwrap();
    assert!(store.lists_at_once());
    fs::remove_dir(dir.path().join("locks")).unwrap();
    symlink("/proc", dir.path().join("locks")).unwrap();
    assert!(!store.lists_at_once(), "the locks lie somewhere else");
}
