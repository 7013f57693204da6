//! What a sink makes of a tree.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use alidade_entity::{
    Class, CopyMode, CopyOptions, EntryEnd, EntryNo, Piece, Place, Verdict, Want,
};
use alidade_model::{Entry, Kind, Metadata, OmissionKind, Time, Version};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, setxattr,
    utimensat,
};

use crate::copy::{assert_same, copy, options, sink};
use crate::support::{
    acl, cx, make_deep, need_root, remove_deep, run, scratch, scratch_in_memory, walk,
};

/// One of everything a file system can hold.
fn everything(top: &Path) -> PathBuf {
    need_root();
    let root = top.join("all");
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at("dir/sub")).expect("mkdir");
    fs::write(at("empty"), b"").expect("write");
    fs::write(at("file"), vec![7; 3_000_000]).expect("write");
    fs::hard_link(at("file"), at("hard")).expect("link");
    fs::hard_link(at("file"), at("dir/hard")).expect("link");
    symlink("y".repeat(4095), at("link")).expect("symlink");
    fs::hard_link(at("link"), at("link-hard")).expect("link");
    for (name, kind, dev) in [
        ("block", FileType::BlockDevice, rustix::fs::makedev(7, 300)),
        ("char", FileType::CharacterDevice, rustix::fs::makedev(10, 229)),
        ("fifo", FileType::Fifo, 0),
        ("sock", FileType::Socket, 0),
    ] {
        mknodat(CWD, at(name), kind, Mode::from_raw_mode(0o640), dev)
            .expect("create a device node");
        fs::set_permissions(at(name), PermissionsExt::from_mode(0o642)).expect("chmod");
        std::os::unix::fs::chown(at(name), Some(11), Some(12)).expect("chown");
    }
    let sparse = fs::File::create(at("sparse")).expect("create");
    sparse.write_all_at(&[1; 8192], 1 << 20).expect("write");
    sparse.write_all_at(&[2; 8192], 5 << 20).expect("write");
    sparse.set_len(9 << 20).expect("truncate");
    fs::write(at("suid"), b"#!").expect("write");
    std::os::unix::fs::chown(at("suid"), Some(1234), Some(5678)).expect("chown");
    fs::set_permissions(at("suid"), PermissionsExt::from_mode(0o6755)).expect("chmod");
    fs::set_permissions(at("dir/sub"), PermissionsExt::from_mode(0o3555)).expect("chmod");
    fs::write(at("secret"), b"s").expect("write");
    fs::set_permissions(at("secret"), PermissionsExt::from_mode(0o000)).expect("chmod");
    attributes(&root);
    let times = |sec, nsec| Timestamps {
        last_access: Timespec { tv_sec: sec, tv_nsec: nsec },
        last_modification: Timespec { tv_sec: sec, tv_nsec: nsec },
    };
    let follow = AtFlags::SYMLINK_NOFOLLOW;
    utimensat(CWD, at("empty"), &times(-1, 999_999_999), follow).expect("times");
    utimensat(CWD, at("link"), &times(-86_400 * 3650, 1), follow).expect("times");
    utimensat(CWD, at("fifo"), &times(1 << 32, 123_456_789), follow).expect("times");
    utimensat(CWD, at("dir/sub"), &times(1, 1), follow).expect("times");
    utimensat(CWD, at("dir"), &times(2, 2), follow).expect("times");
    root
}

fn attributes(root: &Path) {
    let set = |name: &str, attribute: &str, value: &[u8]| {
        setxattr(root.join(name), attribute, value, XattrFlags::empty())
            .unwrap_or_else(|error| panic!("this test sets {attribute}: {error}"));
    };
    set("file", "user.comment", b"a\0b");
    set("file", "user.empty", b"");
    set("file", "trusted.ours", b"1");
    set("secret", "user.large", &[3; 3_000]);
    set("dir", "user.of-a-directory", b"2");
    let who =
        [(1, 6, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)];
    set("empty", "system.posix_acl_access", &acl(&who));
    set("dir", "system.posix_acl_default", &acl(&who));
    lsetxattr(root.join("link"), "trusted.link", b"3", XattrFlags::empty()).expect("trusted.link");
    // cap_net_raw=ep, as `setcap` writes it.
    let capability = [0_u32, 0x2000, 0, 0, 0].map(u32::to_le_bytes).concat();
    let capability = [&[1, 0, 0, 2][..], &capability[4..]].concat();
    set("suid", "security.capability", &capability);
    set("sparse", "user.sparse", b"4");
}

#[test]
fn one_of_everything_is_restored_as_it_was() {
    let (_temp, top) = scratch();
    let root = everything(&top);
    for (target, fsync, read_back) in [("a", false, false), ("b", true, true)] {
        let target = top.join("new/er").join(target);
        let ending =
            copy(&root, &CopyOptions { fsync, read_back, ..options(&target) }).expect("copy");
        assert_eq!(ending.omissions.named(), []);
        let restored = target.join(root.strip_prefix("/").expect("absolute"));
        assert_same(&root, &restored);
        assert_eq!(ending.counts.sparse, 1);
        assert_eq!(ending.checks.read_back, if read_back { 5 } else { 0 });
        let inode = |name: &str| fs::symlink_metadata(restored.join(name)).expect("stat").ino();
        assert_eq!(inode("file"), inode("hard"));
        assert_eq!(inode("file"), inode("dir/hard"));
        assert_eq!(inode("link"), inode("link-hard"));
        let mode = fs::metadata(&target).expect("stat").mode();
        assert_eq!(mode & 0o7777, 0o700, "a new target is open to nobody else");
        // The directories above the root are restored with their metadata.
        let real = fs::metadata(&top).expect("stat");
        let above = fs::metadata(restored.parent().expect("a parent")).expect("stat");
        assert_eq!((real.mode(), real.uid()), (above.mode(), above.uid()));
    }
    let text = run(
        "getcap",
        &[&top
            .join("new/er/a")
            .join(root.strip_prefix("/").unwrap())
            .join("suid")
            .to_string_lossy()],
    );
    assert!(text.contains("cap_net_raw"), "{text}");
}

#[test]
fn names_of_any_bytes_are_restored() {
    use std::os::unix::ffi::OsStrExt;
    let (_temp, top) = scratch();
    fs::create_dir(top.join("d")).expect("mkdir");
    for name in [b"\x01\n\\".as_slice(), b"a b", &[b'n'; 255], b"\xff\xfe\x80"] {
        fs::write(top.join("d").join(std::ffi::OsStr::from_bytes(name)), name).expect("write");
    }
    copy(&top.join("d"), &options(&top.join("t"))).expect("copy");
    assert_same(&top.join("d"), &top.join("t").join(top.strip_prefix("/").unwrap()).join("d"));
}

#[test]
fn three_thousand_levels_are_restored() {
    let (_temp, top) = scratch_in_memory();
    make_deep(&top, 3_000);
    let target = top.join("t");
    let ending = copy(&top.join("deep"), &options(&target)).expect("copy");
    assert_eq!(ending.omissions.named(), []);
    assert_same(&top.join("deep"), &target.join(top.strip_prefix("/").unwrap()).join("deep"));
    remove_deep(&top.join("deep"));
    remove_deep(&target);
}

#[test]
fn many_files_are_restored_by_several_threads() {
    let (_temp, top) = scratch_in_memory();
    for n in 0..3_000 {
        let path = top.join(format!("d/{}/{n}", n % 300));
        fs::create_dir_all(path.parent().unwrap()).expect("mkdir");
        fs::write(path, format!("content {n}")).expect("write");
    }
    copy(&top.join("d"), &options(&top.join("t"))).expect("copy");
    assert_same(&top.join("d"), &top.join("t").join(top.strip_prefix("/").unwrap()).join("d"));
}

#[test]
fn deep_and_wide_trees_need_no_more_than_256_descriptors() {
    let program = std::env::current_exe().expect("this program");
    let tests = [
        "sink::three_thousand_levels_are_restored",
        "sink::many_files_are_restored_by_several_threads",
        "walk::three_thousand_levels_of_long_names_are_walked_and_read",
    ];
    let program = program.to_string_lossy();
    let mut arguments = vec!["--nofile=256:256", &*program, "--exact", "--test-threads=1"];
    arguments.extend(tests);
    let text = run("prlimit", &arguments);
    assert!(text.contains("3 passed"), "{text}");
}

#[test]
fn files_that_are_written_all_at_once_are_not_all_kept_open() {
    let (_temp, top) = scratch_in_memory();
    let target = top.join("t");
    let sink = sink(&top, &options(&target)).expect("sink");
    let name = |no: u64| format!("{no}").into_bytes();
    for no in 0..300 {
        let mut file = entry(&name(no), Kind::File, 0o644);
        file.metadata.size = 2;
        sink.begin(&cx(), place(no, None), &file).expect("begin");
        sink.carrier()
            .expect("a carrier")
            .write(&cx(), EntryNo(no), Piece::Data { at: 0 }, &[1])
            .expect("write");
    }
    let open = fs::read_dir("/proc/self/fd")
        .expect("list open files")
        .filter_map(|fd| fs::read_link(fd.expect("an open file").path()).ok())
        .filter(|path| path.starts_with(&target) && *path != target)
        .count();
    assert!((1..=64).contains(&open), "{open} files are open");
    for no in 0..300 {
        sink.carrier()
            .expect("a carrier")
            .write(&cx(), EntryNo(no), Piece::Data { at: 1 }, &[2])
            .expect("write");
        let mut metadata = Metadata::of(Kind::File, 0o644);
        metadata.size = 2;
        let end = EntryEnd::Whole(Box::new(metadata), Verdict::Steady);
        sink.carrier().expect("a carrier").complete(&cx(), EntryNo(no), end).expect("complete");
        assert_eq!(fs::read(target.join(no.to_string())).expect("read"), [1, 2]);
    }
}

#[test]
fn a_target_that_is_not_empty_is_a_conflict() {
    let (_temp, top) = scratch();
    fs::create_dir(top.join("full")).expect("mkdir");
    fs::write(top.join("full/x"), b"").expect("write");
    fs::create_dir(top.join("empty")).expect("mkdir");
    let refused = |target: &str, class: Class, text: &str| {
        let target = top.join(target);
        let error = sink(&top, &options(&target)).err().expect("refused");
        assert_eq!(
            (error.class(), error.to_string()),
            (class, text.replace('@', &target.to_string_lossy()))
        );
    };
    refused("full", Class::Conflict, "restore into @, which is not empty");
    refused("full/x", Class::Conflict, "restore into @, which is no directory");
    refused(
        "full/x/y",
        Class::Conflict,
        "restore into @, which is no directory"
            .replace("@", &top.join("full/x/y").to_string_lossy())
            .as_str(),
    );
    assert!(sink(&top, &options(&top.join("empty"))).is_ok());
    let update = CopyOptions { mode: CopyMode::Update, ..options(&top.join("empty")) };
    assert_eq!(sink(&top, &update).err().expect("refused").class(), Class::Unsupported);
    let nowhere = CopyOptions { target: None, ..options(&top) };
    assert_eq!(sink(&top, &nowhere).err().expect("refused").class(), Class::Unsupported);
}

fn entry(name: &[u8], kind: Kind, mode: u32) -> Entry {
    let mut metadata = Metadata::of(kind, mode);
    metadata.mtime = Time::new(1_000, 1);
    metadata.atime = metadata.mtime;
    Entry { name: name.to_vec(), metadata, version: Version::Unknown }
}

fn place(no: u64, parent: Option<u64>) -> Place {
    Place { no: EntryNo(no), parent: parent.map(EntryNo) }
}

#[test]
fn a_name_that_is_a_path_is_damage_and_nothing_is_written() {
    let (_temp, top) = scratch();
    let target = top.join("t");
    let sink = sink(&top, &options(&target)).expect("sink");
    for name in [b"".as_slice(), b".", b"..", b"../x", b"/x", b"a/b", b"a\0b"] {
        for kind in [Kind::File, Kind::Directory, Kind::Symlink, Kind::Fifo] {
            let error = sink.begin(&cx(), place(0, None), &entry(name, kind, 0o644)).err();
            assert_eq!(error.expect("refused").class(), Class::Damaged, "{name:?}");
        }
    }
    assert_eq!(fs::read_dir(&target).expect("list").count(), 0);
    assert_eq!(fs::read_dir(&top).expect("list").count(), 1);
}

#[test]
fn a_symbolic_link_in_the_tree_leads_nothing_out_of_the_target() {
    let (_temp, top) = scratch();
    let (target, outside) = (top.join("t"), top.join("outside"));
    fs::create_dir(&outside).expect("mkdir");
    let sink = sink(&top, &options(&target)).expect("sink");
    let mut link = entry(b"d", Kind::Symlink, 0o777);
    link.metadata.link_target = outside.as_os_str().as_encoded_bytes().to_vec();
    sink.begin(&cx(), place(0, None), &link).expect("a link");
    sink.begin(&cx(), place(1, None), &entry(b"d", Kind::Directory, 0o755)).expect("omitted");
    let want =
        sink.begin(&cx(), place(2, Some(1)), &entry(b"x", Kind::File, 0o644)).expect("omitted");
    assert_eq!(want, Want::Nothing);
    for no in [0, 1, 2] {
        sink.settle(&cx(), EntryNo(no)).expect("settle");
    }
    sink.leave(&cx(), EntryNo(1)).expect("leave");
    let ending = sink.finish(&cx()).expect("finish");
    let kinds: Vec<_> = ending.omissions.counts().collect();
    assert_eq!(kinds, [(OmissionKind::Unwritable, 2)]);
    assert_eq!(fs::read_dir(&outside).expect("list").count(), 0);
}

#[test]
fn hostile_metadata_is_omitted_and_the_entry_kept() {
    let (_temp, top) = scratch();
    let target = top.join("t");
    let sink = sink(&top, &options(&target)).expect("sink");
    let mut odd = entry(b"odd", Kind::Fifo, 0o644);
    odd.metadata.uid = u32::MAX;
    odd.metadata.mtime.nanos = 0x3fff_ffff;
    odd.metadata.xattrs.push(alidade_model::Xattr { name: b"nonsense".to_vec(), value: vec![1] });
    odd.metadata.xattrs.push(alidade_model::Xattr { name: b"user.\0".to_vec(), value: vec![1] });
    sink.begin(&cx(), place(0, None), &odd).expect("kept");
    let mut huge = entry(b"huge", Kind::File, 0o644);
    huge.metadata.size = u64::MAX;
    sink.begin(&cx(), place(1, None), &huge).expect("begin");
    sink.carrier()
        .expect("a carrier")
        .write(&cx(), EntryNo(1), Piece::Data { at: 0 }, b"x")
        .expect("omitted");
    let end = EntryEnd::Whole(Box::new(huge.metadata.clone()), Verdict::Steady);
    sink.carrier().expect("a carrier").complete(&cx(), EntryNo(1), end).expect("complete");
    let mut empty = entry(b"link", Kind::Symlink, 0o777);
    empty.metadata.link_target = b"a\0b".to_vec();
    sink.begin(&cx(), place(2, None), &empty).expect("omitted");
    let ending = sink.finish(&cx()).expect("finish");
    let reasons: Vec<&str> = ending.omissions.named().iter().map(|o| o.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "set owner 4294967295 and group 0: Invalid argument (os error 22)",
            "set extended attribute nonsense: Operation not supported (os error 95)",
            "set extended attribute user.\0: Invalid argument (os error 22)",
            "set times: Invalid argument (os error 22)",
            "its content has 1 bytes, its entry says 18446744073709551615",
            "create symlink: Invalid argument (os error 22)",
        ]
    );
    let names: Vec<_> =
        fs::read_dir(&target).expect("list").map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["odd"]);
}

#[test]
fn what_is_abandoned_or_incomplete_is_not_left_behind() {
    let (_temp, top) = scratch();
    let target = top.join("t");
    let sink = sink(&top, &options(&target)).expect("sink");
    let mut linked = entry(b"a", Kind::File, 0o644);
    linked.metadata.size = 5;
    (linked.metadata.inode, linked.metadata.device, linked.metadata.links) = (9, 9, 2);
    let second = Entry { name: b"b".to_vec(), ..linked.clone() };
    let mut short = entry(b"short", Kind::File, 0o644);
    short.metadata.size = 10;
    assert_eq!(sink.begin(&cx(), place(0, None), &linked).expect("begin"), Want::Content);
    assert_eq!(sink.begin(&cx(), place(1, None), &second).expect("begin"), Want::Nothing);
    sink.begin(&cx(), place(2, None), &short).expect("begin");
    sink.carrier()
        .expect("a carrier")
        .write(&cx(), EntryNo(0), Piece::Data { at: 0 }, b"12345")
        .expect("write");
    assert!(target.join("a").exists());
    sink.carrier()
        .expect("a carrier")
        .complete(&cx(), EntryNo(0), EntryEnd::Abandoned)
        .expect("abandon");
    sink.carrier()
        .expect("a carrier")
        .write(&cx(), EntryNo(2), Piece::Data { at: 0 }, b"12345")
        .expect("write");
    let end = EntryEnd::Whole(Box::new(short.metadata.clone()), Verdict::Steady);
    sink.carrier().expect("a carrier").complete(&cx(), EntryNo(2), end).expect("complete");
    for no in [0, 1, 2] {
        sink.settle(&cx(), EntryNo(no)).expect("settle");
    }
    let ending = sink.finish(&cx()).expect("finish");
    assert_eq!(fs::read_dir(&target).expect("list").count(), 0);
    let omitted: Vec<_> =
        ending.omissions.named().iter().map(|o| (o.path.as_slice(), o.kind)).collect();
    let unreadable = OmissionKind::Unreadable;
    assert_eq!(omitted, [(b"/short".as_slice(), unreadable), (b"/b".as_slice(), unreadable)]);
}

#[test]
fn a_hard_link_that_the_target_refuses_becomes_a_file_of_its_own() {
    need_root();
    let (_temp, top) = scratch();
    let target = top.join("t");
    let sink = sink(&top, &options(&target)).expect("sink");
    let mut first = entry(b"a", Kind::File, 0o640);
    first.metadata.size = 3 << 20;
    (first.metadata.inode, first.metadata.device, first.metadata.links) = (9, 9, 2);
    let second = Entry { name: b"b".to_vec(), ..first.clone() };
    sink.begin(&cx(), place(0, None), &first).expect("begin");
    sink.begin(&cx(), place(1, None), &entry(b"d", Kind::Directory, 0o755)).expect("begin");
    // Another file system: nothing there can be a name of what is here.
    let elsewhere = target.join("d");
    run("mount", &["-t", "tmpfs", "tmpfs", &elsewhere.to_string_lossy()]);
    let done = (|| {
        sink.begin(&cx(), place(2, Some(1)), &second)?;
        sink.carrier().expect("a carrier").write(
            &cx(),
            EntryNo(0),
            Piece::Data { at: 0 },
            &[7; 1 << 20],
        )?;
        let hole = alidade_model::Hole { at: 1 << 20, len: 2 << 20 };
        sink.carrier().expect("a carrier").write(&cx(), EntryNo(0), Piece::Hole(hole), &[])?;
        let end = EntryEnd::Whole(Box::new(first.metadata.clone()), Verdict::Steady);
        sink.carrier().expect("a carrier").complete(&cx(), EntryNo(0), end)?;
        (0..3).try_for_each(|no| sink.settle(&cx(), EntryNo(no)))?;
        sink.leave(&cx(), EntryNo(1))?;
        sink.finish(&cx())
    })();
    let one = fs::read(target.join("a"));
    let other = fs::read(elsewhere.join("b"));
    let stat = fs::metadata(elsewhere.join("b"));
    drop(sink);
    run("umount", &[&elsewhere.to_string_lossy()]);
    let reasons: Vec<String> =
        done.expect("the copy").omissions.named().iter().map(|o| o.reason.clone()).collect();
    let words = "create hard link: Invalid cross-device link (os error 18); \
                 it is kept as a file of its own";
    assert_eq!(reasons, [words]);
    assert!(one.expect("read") == other.expect("read"));
    let stat = stat.expect("stat");
    assert_eq!((stat.mode() & 0o7777, stat.mtime(), stat.mtime_nsec()), (0o640, 1_000, 1));
    assert!(stat.blocks() < 4_096, "the hole is kept");
}

#[test]
fn a_hole_written_after_a_restart_holds_nothing_of_what_was_written_before() {
    let (_temp, top) = scratch();
    let target = top.join("t");
    let options = CopyOptions { read_back: true, ..options(&target) };
    let sink = sink(&top, &options).expect("sink");
    let mut file = entry(b"f", Kind::File, 0o644);
    file.metadata.size = 20_000;
    sink.begin(&cx(), place(0, None), &file).expect("begin");
    sink.carrier()
        .expect("a carrier")
        .write(&cx(), EntryNo(0), Piece::Data { at: 0 }, &[1; 20_000])
        .expect("write");
    sink.carrier().expect("a carrier").restart(&cx(), EntryNo(0)).expect("restart");
    let hole = alidade_model::Hole { at: 0, len: 10_000 };
    sink.carrier()
        .expect("a carrier")
        .write(&cx(), EntryNo(0), Piece::Hole(hole), &[])
        .expect("write");
    sink.carrier()
        .expect("a carrier")
        .write(&cx(), EntryNo(0), Piece::Data { at: 10_000 }, &[2; 5_000])
        .expect("write");
    file.metadata.size = 15_000;
    let end = EntryEnd::Whole(Box::new(file.metadata), Verdict::Steady);
    sink.carrier().expect("a carrier").complete(&cx(), EntryNo(0), end).expect("complete");
    let content = [vec![0; 10_000], vec![2; 5_000]].concat();
    assert!(fs::read(target.join("f")).expect("read") == content);
}

#[test]
fn an_inode_number_given_twice_costs_no_content() {
    let (_temp, top) = scratch();
    let target = top.join("t");
    let sink = sink(&top, &options(&target)).expect("sink");
    for (no, content) in [(0, b"first".as_slice()), (1, b"the second")] {
        let mut file = entry(&[b'0' + u8::try_from(no).unwrap()], Kind::File, 0o644);
        file.metadata.size = content.len() as u64;
        (file.metadata.inode, file.metadata.device, file.metadata.links) = (9, 9, 2);
        assert_eq!(sink.begin(&cx(), place(no, None), &file).expect("begin"), Want::Content);
        sink.carrier()
            .expect("a carrier")
            .write(&cx(), EntryNo(no), Piece::Data { at: 0 }, content)
            .expect("write");
        let end = EntryEnd::Whole(Box::new(file.metadata), Verdict::Steady);
        sink.carrier().expect("a carrier").complete(&cx(), EntryNo(no), end).expect("complete");
    }
    assert_eq!(fs::read(target.join("0")).expect("read"), b"first");
    assert_eq!(fs::read(target.join("1")).expect("read"), b"the second");
}

#[test]
fn reading_back_finds_content_that_is_not_what_was_written() {
    let (_temp, top) = scratch();
    let target = top.join("t");
    let options = CopyOptions { read_back: true, ..options(&target) };
    let sink = sink(&top, &options).expect("sink");
    let mut file = entry(b"f", Kind::File, 0o644);
    file.metadata.size = 10_000;
    sink.begin(&cx(), place(0, None), &file).expect("begin");
    sink.carrier()
        .expect("a carrier")
        .write(&cx(), EntryNo(0), Piece::Data { at: 0 }, &[1; 10_000])
        .expect("write");
    let raw = fs::OpenOptions::new().write(true).open(target.join("f")).expect("open");
    raw.write_all_at(&[2], 9_999).expect("damage");
    let end = EntryEnd::Whole(Box::new(file.metadata.clone()), Verdict::Steady);
    let error = sink
        .carrier()
        .expect("a carrier")
        .complete(&cx(), EntryNo(0), end)
        .expect_err("damage is found");
    assert_eq!(error.class(), Class::Damaged);
    assert_eq!(error.to_string(), "read back /f, whose content is not what was written");
}

#[test]
fn a_default_acl_of_the_target_is_not_inherited_by_what_is_restored() {
    need_root();
    let (_temp, top) = scratch();
    fs::create_dir_all(top.join("d/sub")).expect("mkdir");
    fs::write(top.join("d/f"), b"x").expect("write");
    fs::write(top.join("d/sub/g"), b"x").expect("write");
    let target = top.join("t");
    fs::create_dir(&target).expect("mkdir");
    run("setfacl", &["-d", "-m", "u:1234:rwx", &target.to_string_lossy()]);
    let options = CopyOptions { read_back: true, ..options(&target) };
    let ending = copy(&top.join("d"), &options).expect("copy");
    assert_eq!(ending.omissions.named(), []);
    assert_same(&top.join("d"), &target.join(top.strip_prefix("/").unwrap()).join("d"));
}

#[test]
fn a_full_target_ends_the_copy() {
    need_root();
    let (_temp, top) = scratch();
    fs::write(top.join("big"), vec![1; 3 << 20]).expect("write");
    let target = top.join("t");
    fs::create_dir(&target).expect("mkdir");
    run("mount", &["-t", "tmpfs", "-o", "size=1M", "tmpfs", &target.to_string_lossy()]);
    let copied = copy(&top.join("big"), &options(&target));
    run("umount", &[&target.to_string_lossy()]);
    let error = copied.expect_err("there is no room");
    let path = top.join("big");
    assert_eq!(error.to_string(), format!("write file {}", path.display()));
    assert!(error.chain().contains("No space left on device"));
}

#[test]
fn holes_of_terabytes_are_restored_without_being_written() {
    let (_temp, top) = scratch();
    let file = fs::File::create(top.join("huge")).expect("create");
    file.set_len(4 << 40).expect("this test needs a file system with files of 4 TiB");
    file.write_all_at(&[5; 4096], 1 << 40).expect("write");
    let options = CopyOptions { read_back: true, ..options(&top.join("t")) };
    let ending = copy(&top.join("huge"), &options).expect("copy");
    assert_eq!((ending.counts.sparse, ending.checks.read_back), (1, 1));
    let restored = top.join("t").join(top.strip_prefix("/").unwrap()).join("huge");
    let stat = fs::metadata(&restored).expect("stat");
    assert_eq!(stat.len(), 4 << 40);
    assert!(stat.blocks() <= 64, "{} blocks", stat.blocks());
    let mut byte = [0];
    let raw = fs::File::open(&restored).expect("open");
    raw.read_exact_at(&mut byte, (1 << 40) + 4095).expect("read");
    assert_eq!(byte, [5]);
    assert_eq!(walk(&restored).entry("huge").metadata.size, 4 << 40);
}
