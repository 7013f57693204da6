//! `disk`: image files and loop devices.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use alidade_entity::conformance::{Creates, Fidelity, Subject, assert_conforms};
use alidade_entity::{
    Base, Basis, Class, CopyMode, CopyOptions, DiskSink, DiskSource, Ending, Error, Extent, Params,
    ProtectedEntityType, ReadOptions, Reading, Result, Sink, Source,
};
use alidade_entity_host::DiskType;
use alidade_model::{Consistency, ContentName, EntityId, EntityName, ObjectId, Shape};

use crate::support::{cx, need_root, run, scratch, wait};

/// Bytes between data and hole: no file system of these tests has larger blocks.
const BLOCK: u64 = 64 << 10;

fn id(path: &Path) -> EntityId {
    let object =
        ObjectId::encode(path.as_os_str().as_encoded_bytes()).expect("a path is an object");
    EntityName { type_name: "disk".parse().expect("a type"), object }.live()
}

fn read(path: &Path, how: &ReadOptions) -> Result<Reading> {
    let entity = wait(DiskType::new().open(&cx(), &id(path)))?;
    wait(entity.read(&cx(), &ContentName::data(), how))
}

fn live() -> ReadOptions {
    let params = Params::from([("live".to_owned(), "true".to_owned())]);
    ReadOptions { params, ..ReadOptions::default() }
}

fn disk(reading: Reading) -> (Box<dyn DiskSource>, Basis, Ending) {
    let Source::Disk(disk) = reading.source else { panic!("a disk is a disk") };
    let ending = reading.lease.finish().expect("an ending");
    (disk, reading.basis, ending)
}

fn extents(disk: &dyn DiskSource) -> Vec<Extent> {
    let (mut all, mut from) = (Vec::new(), 0);
    loop {
        let mut some = Vec::new();
        disk.extents(&cx(), from, &mut some).expect("extents");
        let Some(last) = some.last() else { return all };
        from = last.at + last.len;
        all.extend(some);
    }
}

/// An image file with data at the beginning, in the middle and at the end.
fn image(path: &Path) {
    let file = File::create(path).expect("create");
    file.set_len(40 * BLOCK + 1000).expect("set the length");
    file.write_all_at(&[1; BLOCK as usize], 0).expect("write");
    file.write_all_at(&[2; 3 * BLOCK as usize], 20 * BLOCK).expect("write");
    file.write_all_at(&[3; 1000], 40 * BLOCK).expect("write");
}

/// Lets the clock go on, so that a change just now is told from one after it.
fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(2100));
}

#[test]
fn an_image_file_is_read_and_written_as_the_sockets_promise() {
    let (_temp, top) = scratch();
    let path = top.join("a.img");
    image(&path);
    let kind = DiskType::new();
    let target = |call: usize| {
        let path = top.join(format!("made-{call}"));
        (options(&path, CopyMode::CreateNew), id(&path))
    };
    let creates = Creates {
        from: id(&top.join("from")),
        target: &target,
        content: ContentName::data(),
        shape: Shape::Disk,
        fidelity: Fidelity::full(),
    };
    let subject = Subject {
        creates: Some(creates),
        ..Subject::new(&kind, id(&path), id(&top.join("absent")))
    };
    assert_conforms(&cx(), &subject);
}

#[test]
fn the_holes_of_an_image_file_are_told_and_not_read() {
    let (_temp, top) = scratch();
    let path = top.join("a.img");
    image(&path);
    let (disk, basis, ending) = disk(read(&path, &ReadOptions::default()).expect("read"));
    assert!(matches!(basis, Basis::Full { .. }));
    assert_eq!(ending.consistency, Consistency::Crash);
    let data: u64 = extents(&*disk).iter().filter(|it| it.allocated).map(|it| it.len).sum();
    assert!((4 * BLOCK + 1000..6 * BLOCK).contains(&data), "{data}");
}

#[test]
fn an_image_that_did_not_change_has_nothing_to_read_since() {
    let (_temp, top) = scratch();
    let path = top.join("a.img");
    image(&path);
    let (_, _, ending) = disk(read(&path, &ReadOptions::default()).expect("read"));
    assert_eq!(ending.next, None, "what changed just now may change again unseen");
    settle();
    let (_, _, ending) = disk(read(&path, &ReadOptions::default()).expect("read"));
    let base = ending.next.expect("a base");
    let since = ReadOptions { base: Some(base.clone()), ..ReadOptions::default() };
    let (same, basis, _) = disk(read(&path, &since).expect("read"));
    assert_eq!((basis, extents(&*same)), (Basis::Since(base.clone()), vec![]));
    File::options().write(true).open(&path).expect("open").write_all_at(b"x", 5).expect("write");
    let (_, basis, _) = disk(read(&path, &since).expect("read"));
    assert!(matches!(basis, Basis::Full { .. }), "{basis:?}");
}

#[test]
fn a_map_of_changed_blocks_says_what_is_read() {
    let (_temp, top) = scratch();
    let (path, map) = (top.join("a.img"), top.join("map"));
    image(&path);
    let how = |base: Option<Base>| {
        let map = map.to_string_lossy().into_owned();
        let params = Params::from([("changed-blocks".to_owned(), map)]);
        ReadOptions { base, params, ..ReadOptions::default() }
    };
    let base = Base(b"whatever".to_vec());
    fs::write(&map, format!("# a comment\n{} 10\n\n5 4\n7 4\n", 30 * BLOCK)).expect("write");
    let (disk, basis, _) = disk(read(&path, &how(Some(base.clone()))).expect("read"));
    assert_eq!(basis, Basis::Since(base.clone()));
    let data = Extent { at: 5, len: 6, allocated: true };
    assert_eq!(extents(&*disk), [data, Extent { at: 30 * BLOCK, len: 10, allocated: false }]);
    assert_eq!(refused(read(&path, &how(None))), Class::Conflict, "a map without a base");
    for bad in ["5", "a b", "1 99999999999", "1 2 3"] {
        fs::write(&map, bad).expect("write");
        assert_eq!(refused(read(&path, &how(Some(base.clone())))), Class::Conflict, "{bad}");
    }
    fs::remove_file(&map).expect("remove");
    assert_eq!(refused(read(&path, &how(Some(base)))), Class::NotFound);
}

#[test]
fn what_is_no_disk_is_refused_by_name() {
    let (_temp, top) = scratch();
    run("mkfifo", &[&top.join("fifo").to_string_lossy()]);
    for (path, class) in [
        (top.clone(), Class::Unsupported),
        (top.join("fifo"), Class::Unsupported),
        (PathBuf::from("/dev/null"), Class::Unsupported),
        (top.join("nothing"), Class::NotFound),
        (PathBuf::from("relative"), Class::NotFound),
    ] {
        let error = refused(read(&path, &ReadOptions::default()));
        assert_eq!(error, class, "{}", path.display());
    }
    let path = top.join("a.img");
    image(&path);
    let params = Params::from([("nonsense".to_owned(), String::new())]);
    let how = ReadOptions { params, ..ReadOptions::default() };
    assert_eq!(refused(read(&path, &how)), Class::Unsupported);
}

fn refused<T>(result: Result<T>) -> Class {
    result.err().as_ref().map(Error::class).expect("it is refused")
}

/// A loop device; detached when dropped.
struct Loop {
    device: PathBuf,
}

impl Loop {
    fn of(image: &Path) -> Self {
        let made = Command::new("losetup").args(["--find", "--show"]).arg(image).output();
        let made = made.expect("run losetup");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let device = String::from_utf8(made.stdout).expect("a path").trim_end().into();
        Self { device }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("--detach").arg(&self.device).status();
        assert!(detached.expect("run losetup").success());
    }
}

/// A mounted file system; unmounted when dropped.
struct Mounted {
    at: PathBuf,
}

impl Mounted {
    fn at(device: &Path, at: PathBuf, how: &str) -> Self {
        fs::create_dir_all(&at).expect("make the mount point");
        run("mount", &["-o", how, &device.to_string_lossy(), &at.to_string_lossy()]);
        Self { at }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[&self.at.to_string_lossy()]);
    }
}

#[test]
fn a_device_is_refused_while_it_is_mounted_for_writing() {
    need_root();
    let (_temp, top) = scratch();
    let path = top.join("fs.img");
    File::create(&path).expect("create").set_len(16 << 20).expect("set the length");
    run("mkfs.ext4", &["-q", &path.to_string_lossy()]);
    let attached = Loop::of(&path);
    {
        let _mounted = Mounted::at(&attached.device, top.join("mnt"), "rw");
        for disk in [&attached.device, &path] {
            let error = read(disk, &ReadOptions::default()).err().expect("it is refused");
            assert_eq!(error.class(), Class::Conflict);
            let text = error.chain();
            assert!(text.contains("is mounted read-write at") && text.contains("mnt"), "{text}");
        }
        let (_, _, ending) = disk(read(&attached.device, &live()).expect("read"));
        assert_eq!(ending.consistency, Consistency::Torn);
        let refused = refused(sink(&attached.device, CopyMode::Update, 16 << 20));
        assert_eq!(refused, Class::Conflict, "nothing is written below a mounted file system");
    }
    {
        let _mounted = Mounted::at(&attached.device, top.join("mnt"), "ro,noload");
        read(&attached.device, &ReadOptions::default()).expect("nobody writes");
        assert_eq!(refused(sink(&attached.device, CopyMode::Update, 16 << 20)), Class::Conflict);
    }
    let (_, _, ending) = disk(read(&attached.device, &live()).expect("read"));
    assert_eq!(ending.consistency, Consistency::Crash, "nobody wrote");
}

#[test]
fn a_loop_device_has_the_holes_of_its_file() {
    need_root();
    let (_temp, top) = scratch();
    let path = top.join("a.img");
    image(&path);
    File::options().write(true).open(&path).expect("open").set_len(64 * BLOCK).expect("set");
    let attached = Loop::of(&path);
    // What is written to the device lies in its cache first.
    let device = File::options().write(true).open(&attached.device).expect("open");
    device.write_all_at(&[9; BLOCK as usize], 60 * BLOCK).expect("write");
    let (disk, ..) = disk(read(&attached.device, &ReadOptions::default()).expect("read"));
    assert_eq!(disk.size(), 64 * BLOCK);
    let all = extents(&*disk);
    let data: u64 = all.iter().filter(|it| it.allocated).map(|it| it.len).sum();
    assert!((5 * BLOCK..8 * BLOCK).contains(&data), "{all:?}");
    let end = all.iter().rfind(|it| it.allocated).map(|it| it.at + it.len);
    assert!(end >= Some(61 * BLOCK), "what was just written is data: {all:?}");
}

#[test]
fn a_loop_device_whose_file_was_replaced_is_read_whole() {
    need_root();
    let (_temp, top) = scratch();
    let path = top.join("a.img");
    fs::write(&path, vec![7; (64 * BLOCK) as usize]).expect("write");
    let attached = Loop::of(&path);
    // Another file has the name now, with holes where the device has data.
    let other = top.join("b.img");
    File::create(&other).expect("create").set_len(64 * BLOCK).expect("set the length");
    fs::rename(&other, &path).expect("rename");
    let (disk, ..) = disk(read(&attached.device, &ReadOptions::default()).expect("read"));
    let mut bytes = vec![0; (64 * BLOCK) as usize];
    disk.read_at(&cx(), 0, &mut bytes).expect("read");
    assert!(bytes.iter().all(|byte| *byte == 7));
    let all = extents(&*disk);
    let data: u64 = all.iter().filter(|it| it.allocated).map(|it| it.len).sum();
    assert_eq!(data, 64 * BLOCK, "nothing of it is a hole: {all:?}");
}

fn options(path: &Path, mode: CopyMode) -> CopyOptions {
    CopyOptions {
        mode,
        target: Some(path.as_os_str().as_encoded_bytes().to_vec()),
        fsync: false,
        read_back: false,
        params: Params::new(),
    }
}

/// A sink for a disk of that size.
fn sink(path: &Path, mode: CopyMode, size: u64) -> Result<Box<dyn DiskSink>> {
    let (_temp, top) = scratch();
    let from = top.join("from.img");
    File::create(&from).expect("create").set_len(size).expect("set the length");
    let kind = DiskType::new();
    let from = wait(kind.open(&cx(), &id(&from)))?;
    let plan = wait(kind.plan(&cx(), &*from, &options(path, mode)))?;
    let Sink::Disk(sink) = wait(kind.sink(&cx(), &plan))? else { panic!("a disk is a disk") };
    Ok(sink)
}

#[test]
fn a_new_image_is_there_when_it_is_whole_and_not_before() {
    let (_temp, top) = scratch();
    let (path, partial) = (top.join("new.img"), top.join("new.img.alidade-partial"));
    let disk = sink(&path, CopyMode::CreateNew, 64 * BLOCK).expect("a sink");
    assert!(!disk.holds());
    // Half of what is written is zeros, and stays a hole.
    let bytes = [[7; BLOCK as usize], [0; BLOCK as usize]].concat();
    disk.write_at(&cx(), 10 * BLOCK, &bytes).expect("write");
    disk.zero(&cx(), 0, 10 * BLOCK).expect("zeros");
    drop(disk);
    assert!(!path.exists() && partial.exists());
    let disk = sink(&path, CopyMode::CreateNew, 64 * BLOCK).expect("it goes on");
    assert!(disk.holds());
    let mut found = vec![0; BLOCK as usize];
    disk.read_at(&cx(), 10 * BLOCK, &mut found).expect("read");
    assert_eq!(found, [7; BLOCK as usize]);
    disk.finish(&cx()).expect("finish");
    let written = fs::metadata(&path).expect("it is there");
    assert_eq!(written.len(), 64 * BLOCK);
    assert!(written.blocks() * 512 <= 2 * BLOCK, "{} blocks", written.blocks());
    assert!(!partial.exists());
    assert_eq!(refused(sink(&path, CopyMode::CreateNew, 64 * BLOCK)), Class::Conflict);
}

#[test]
fn into_what_is_there_only_what_is_asked_is_written() {
    let (_temp, top) = scratch();
    let path = top.join("a.img");
    image(&path);
    let disk = sink(&path, CopyMode::Update, 64 * BLOCK).expect("a sink");
    assert!(disk.holds());
    disk.zero(&cx(), 20 * BLOCK, 2 * BLOCK).expect("zeros");
    disk.write_at(&cx(), 30 * BLOCK, &[4; 100]).expect("write");
    assert!(disk.write_at(&cx(), 64 * BLOCK, &[1]).is_err(), "beyond the end");
    disk.finish(&cx()).expect("finish");
    let found = fs::read(&path).expect("read");
    let at = |block: u64| &found[usize::try_from(block * BLOCK).expect("small")..][..100];
    assert_eq!(found.len() as u64, 64 * BLOCK);
    for (block, byte) in [(0, 1), (20, 0), (21, 0), (22, 2), (30, 4), (40, 3)] {
        assert_eq!(at(block), [byte; 100], "{block}");
    }
}

#[test]
fn a_device_is_written_over_and_zeros_are_zeros_there() {
    need_root();
    let (_temp, top) = scratch();
    let path = top.join("a.img");
    fs::write(&path, vec![5; 16 << 20]).expect("write");
    let attached = Loop::of(&path);
    assert_eq!(refused(sink(&attached.device, CopyMode::CreateNew, 16 << 20)), Class::Conflict);
    assert_eq!(refused(sink(&attached.device, CopyMode::Update, 17 << 20)), Class::Conflict);
    assert_eq!(refused(sink(&path, CopyMode::Update, 16 << 20)), Class::Conflict, "it is attached");
    let disk = sink(&attached.device, CopyMode::Update, 15 << 20).expect("a sink");
    disk.zero(&cx(), 1 << 20, 3 << 20).expect("zeros");
    disk.write_at(&cx(), 8 << 20, &[6; 1000]).expect("write");
    disk.finish(&cx()).expect("finish");
    drop(disk);
    let found = fs::read(&attached.device).expect("read");
    let mut meant = vec![5; 16 << 20];
    meant[1 << 20..4 << 20].fill(0);
    meant[8 << 20..][..1000].fill(6);
    assert!(found == meant);
}

#[test]
fn block_devices_are_listed() {
    let page = wait(DiskType::new().list(&cx(), None, 1000)).expect("list");
    assert!(page.items.iter().all(|id| id.to_string().starts_with("disk:/dev/")), "{page:?}");
    assert!(page.items.is_sorted_by_key(ToString::to_string));
}

/// A file system of that kind on a loop device, mounted.
struct FileSystem {
    mounted: Mounted,
    _attached: Loop,
    _temp: tempfile::TempDir,
}

impl FileSystem {
    fn make(mkfs: &str, options: &[&str]) -> Self {
        let (temp, top) = scratch();
        let path = top.join("fs.img");
        File::create(&path).expect("create").set_len(512 << 20).expect("set the length");
        let path = path.to_string_lossy().into_owned();
        run(mkfs, &[options, &[&path]].concat());
        let attached = Loop::of(Path::new(&path));
        let mounted = Mounted::at(&attached.device, top.join("mnt"), "rw");
        Self { mounted, _attached: attached, _temp: temp }
    }
}

fn cloned(base: Option<Base>) -> ReadOptions {
    let params = Params::from([("clone".to_owned(), "true".to_owned())]);
    ReadOptions { base, params, ..ReadOptions::default() }
}

fn clones(top: &Path) -> usize {
    let names = fs::read_dir(top).expect("list").map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().contains(".alidade-")).count()
}

#[test]
fn of_a_clone_only_what_changed_since_the_last_one_is_read() {
    need_root();
    for (mkfs, options) in [("mkfs.btrfs", &["-q"][..]), ("mkfs.xfs", &["-q"])] {
        let system = FileSystem::make(mkfs, options);
        let top = &system.mounted.at;
        let path = top.join("a.img");
        image(&path);
        let (first, basis, ending) = disk(read(&path, &cloned(None)).expect("read"));
        assert!(matches!(basis, Basis::Full { .. }));
        assert_eq!(ending.consistency, Consistency::Crash);
        let base = ending.next.expect("a base");
        // What is written now is not in the clone that is open.
        let file = File::options().write(true).open(&path).expect("open");
        file.write_all_at(&[7; 4096], 21 * BLOCK).expect("write");
        file.write_all_at(&[8; 100], 30 * BLOCK).expect("write where a hole is");
        let mut found = [0; 4096];
        first.read_at(&cx(), 21 * BLOCK, &mut found).expect("read");
        assert_eq!(found, [2; 4096], "{mkfs}");
        let (second, basis, ending) = disk(read(&path, &cloned(Some(base.clone()))).expect("read"));
        assert_eq!(basis, Basis::Since(base.clone()), "{mkfs}");
        let listed = extents(&*second);
        let bytes: u64 = listed.iter().map(|it| it.len).sum();
        assert!(bytes <= 2 * BLOCK, "{mkfs}: {listed:?}");
        for at in [21 * BLOCK, 30 * BLOCK] {
            assert!(
                listed.iter().any(|it| it.at <= at && at < it.at + it.len),
                "{mkfs}: {listed:?}"
            );
        }
        // Nothing else differs: what was, with what is listed, is what is.
        let mut patched = vec![0; usize::try_from(first.size()).expect("small")];
        first.read_at(&cx(), 0, &mut patched).expect("read");
        for it in &listed {
            let range = usize::try_from(it.at).expect("small")
                ..usize::try_from(it.at + it.len).expect("small");
            second.read_at(&cx(), it.at, &mut patched[range]).expect("read");
        }
        assert!(patched == fs::read(&path).expect("read"), "{mkfs}");
        let next = ending.next.expect("a base");
        assert_eq!(clones(top), 2, "the old one goes when the new one is a base");
        let (third, basis, _) = disk(read(&path, &cloned(Some(next.clone()))).expect("read"));
        assert_eq!((basis, extents(&*third)), (Basis::Since(next), vec![]), "{mkfs}");
        assert_eq!(clones(top), 2);
        let (_, basis, _) = disk(read(&path, &cloned(Some(base))).expect("read"));
        assert!(matches!(basis, Basis::Full { .. }), "the clone of that base is gone");
        drop(read(&path, &cloned(None)).expect("read"));
        assert_eq!(clones(top), 0, "who is not done keeps nothing");
    }
}

#[test]
fn where_there_are_no_clones_it_is_said() {
    need_root();
    let system = FileSystem::make("mkfs.ext4", &["-q"]);
    let path = system.mounted.at.join("a.img");
    image(&path);
    assert_eq!(refused(read(&path, &cloned(None))), Class::Unsupported);
    assert_eq!(clones(&system.mounted.at), 0);
}
