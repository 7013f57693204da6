//! What a walk finds.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use alidade_entity::{Class, Visit};
use alidade_entity_host::Limits;
use alidade_model::{Kind, OmissionKind, Rule, Time, Version};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat,
};

use crate::support::{
    How, acl, begin, cx, make_deep, need_root, remove_deep, run, scratch, scratch_in_memory, walk,
    walk_with,
};

fn file(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("create its directory");
    fs::write(path, content).expect("write a file");
}

#[test]
fn the_trail_leads_to_the_root_and_the_walk_begins_with_it() {
    let (_temp, top) = scratch();
    file(&top.join("doc/a/x"), b"1");
    file(&top.join("doc/a!"), b"2");
    symlink("nowhere", top.join("doc/b")).expect("symlink");
    let walked = walk(&top.join("doc"));
    let names: Vec<&[u8]> = walked.trail.iter().map(|entry| entry.name.as_slice()).collect();
    let expected: Vec<&[u8]> = top.iter().skip(1).map(std::ffi::OsStr::as_encoded_bytes).collect();
    assert_eq!(names, expected);
    let real = fs::metadata(&top).expect("stat");
    let last = &walked.trail.last().expect("a trail").metadata;
    assert_eq!((last.inode, last.mode), (real.ino(), real.mode() & 0o7777));
    assert_eq!(walked.paths(), ["doc", "doc/a", "doc/a/x", "doc/a!", "doc/b"]);
    assert!(walked.omitted().is_empty() && walked.ending.omissions.is_empty());
}

#[test]
fn a_root_that_is_no_directory_is_visited_itself() {
    let (_temp, top) = scratch();
    file(&top.join("plain"), b"content");
    symlink("/etc", top.join("link")).expect("symlink");
    assert_eq!(walk(&top.join("plain")).entry("plain").metadata.size, 7);
    let link = walk(&top.join("link"));
    assert_eq!(link.entry("link").metadata.link_target, b"/etc");
    assert_eq!(link.seen.len(), 1);
}

#[test]
fn a_symbolic_link_on_the_way_to_the_root_is_followed() {
    let (_temp, top) = scratch();
    file(&top.join("real/doc/x"), b"1");
    symlink("real", top.join("link")).expect("symlink");
    let walked = walk(&top.join("link/doc"));
    assert_eq!(walked.paths(), ["doc", "doc/x"]);
    assert_eq!(walked.trail.last().expect("a trail").metadata.kind, Kind::Directory);
}

#[test]
fn the_root_of_the_file_system_has_no_trail_and_no_entry_of_its_own() {
    let how = How {
        limits: Limits { names: 4096, directories: 2 },
        ..How::only(&["/usr/bin/env".into()])
    };
    let walked = walk_with(Path::new("/"), how).expect("walk /");
    assert!(walked.trail.is_empty());
    assert_eq!(walked.paths(), ["usr", "usr/bin", "usr/bin/env"]);
}

#[test]
fn our_own_name_at_the_top_is_left_out_by_a_rule_with_a_name() {
    let ours = Path::new("/.alidade");
    let made = fs::create_dir(ours).is_ok();
    let how =
        How::rules(vec![Rule::Pattern("/*".to_owned()), Rule::Pattern("!/.alidade".to_owned())]);
    let walked = walk_with(Path::new("/"), how).expect("walk /");
    if made {
        fs::remove_dir(ours).expect("remove it");
    }
    assert!(made, "this test creates /.alidade, so it needs root and that nobody else has it");
    assert_eq!(walked.paths(), Vec::<String>::new());
    assert_eq!(walked.ending.excluded.get("own name /.alidade"), Some(&1));
}

#[test]
fn a_path_that_is_not_there_is_not_found() {
    let (_temp, top) = scratch();
    let error = begin(&top.join("nothing"), How::default()).err().expect("it is not there");
    assert_eq!(error.class(), Class::NotFound);
    assert_eq!(error.to_string(), format!("open {}", top.join("nothing").display()));
}

#[test]
fn every_kind_of_entry_has_its_metadata() {
    need_root();
    let (_temp, top) = scratch();
    let root = top.join("all");
    file(&root.join("file"), b"12345");
    fs::hard_link(root.join("file"), root.join("hard")).expect("link");
    symlink("x".repeat(4095), root.join("link")).expect("symlink");
    let node = |name: &str, kind, mode: u32, dev| {
        let mode = Mode::from_raw_mode(mode);
        mknodat(CWD, root.join(name), kind, mode, dev).expect("create a device node");
        fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode.as_raw_mode()))
            .expect("chmod");
    };
    let (block, character) = (rustix::fs::makedev(7, 300), rustix::fs::makedev(1, 3));
    node("block", FileType::BlockDevice, 0o640, block);
    node("char", FileType::CharacterDevice, 0o666, character);
    node("fifo", FileType::Fifo, 0o600, 0);
    node("sock", FileType::Socket, 0o755, 0);
    fs::set_permissions(root.join("file"), PermissionsExt::from_mode(0o4711)).expect("chmod");
    std::os::unix::fs::chown(root.join("file"), Some(12345), Some(3)).expect("chown");
    fs::set_permissions(root.join("file"), PermissionsExt::from_mode(0o4711)).expect("chmod");
    let long_ago = Timespec { tv_sec: -86_400 * 365 * 20, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: long_ago, last_modification: long_ago };
    utimensat(CWD, root.join("file"), &times, AtFlags::empty()).expect("utimensat");

    let walked = walk(&root);
    let meta = |path: &str| walked.entry(path).metadata.clone();
    let real = fs::symlink_metadata(root.join("file")).expect("stat");
    let plain = meta("all/file");
    assert_eq!((plain.kind, plain.mode, plain.size), (Kind::File, 0o4711, 5));
    assert_eq!((plain.uid, plain.gid, plain.links), (12345, 3, 2));
    assert_eq!((plain.user.as_str(), plain.group.as_str()), ("", "sys"));
    assert_eq!(plain.mtime, Time::new(-86_400 * 365 * 20, 123_456_789));
    assert_eq!(plain.atime, plain.mtime);
    assert_eq!((plain.inode, plain.device), (real.ino(), real.dev()));
    assert_eq!(meta("all/hard"), plain);
    assert_eq!(meta("all/link").link_target, "x".repeat(4095).into_bytes());
    assert_eq!((meta("all/link").size, meta("all/link").kind), (0, Kind::Symlink));
    assert_eq!((meta("all/block").kind, meta("all/block").rdev), (Kind::BlockDevice, block));
    assert_eq!((meta("all/char").kind, meta("all/char").rdev), (Kind::CharDevice, character));
    assert_eq!((meta("all/fifo").kind, meta("all/fifo").mode), (Kind::Fifo, 0o600));
    assert_eq!((meta("all/sock").kind, meta("all/sock").mode), (Kind::Socket, 0o755));
    assert_eq!(meta("all").user, "root");
    let version =
        Version::Stat { size: 5, mtime: plain.mtime, ctime: plain.ctime, inode: Some(plain.inode) };
    assert_eq!(walked.entry("all/file").version, version);
}

#[test]
fn attributes_and_acls_are_read_whole_and_in_order() {
    need_root();
    let (_temp, top) = scratch();
    let root = top.join("d");
    file(&root.join("f"), b"x");
    symlink("f", root.join("link")).expect("symlink");
    let set = |name: &str, attribute: &str, value: &[u8]| {
        lsetxattr(root.join(name), attribute, value, XattrFlags::empty())
            .unwrap_or_else(|error| panic!("this test sets {attribute}: {error}"));
    };
    let large = [9; 3_000];
    set("f", "user.z", b"");
    set("f", "user.a", &large);
    set("f", "trusted.t", b"\0\xff");
    set("link", "trusted.l", b"of the link");
    run("setfacl", &["-m", "u:1234:r", &root.join("f").to_string_lossy()]);
    run("setfacl", &["-d", "-m", "u:1234:r", &root.to_string_lossy()]);
    let walked = walk(&root);
    let xattrs = |path: &str| -> Vec<(String, Vec<u8>)> {
        let found = walked.entry(path).metadata.xattrs.iter();
        found.map(|x| (String::from_utf8_lossy(&x.name).into_owned(), x.value.clone())).collect()
    };
    // Version 2, then tag, permissions and id of owner, user 1234, group, mask and others.
    let none = u32::MAX;
    let entries = [(1, 6, none), (2, 4, 1234), (4, 4, none), (16, 4, none), (32, 4, none)];
    assert_eq!(
        xattrs("d/f"),
        [
            ("system.posix_acl_access".to_owned(), acl(&entries)),
            ("trusted.t".to_owned(), b"\0\xff".to_vec()),
            ("user.a".to_owned(), large.to_vec()),
            ("user.z".to_owned(), Vec::new()),
        ]
    );
    assert_eq!(xattrs("d/link"), [("trusted.l".to_owned(), b"of the link".to_vec())]);
    assert_eq!(xattrs("d").len(), 1);
    assert_eq!(xattrs("d")[0].0, "system.posix_acl_default");
    let opened = walked.file("d/f").open_whole(&cx()).expect("open");
    assert_eq!(opened.metadata().xattrs, walked.entry("d/f").metadata.xattrs);
}

#[test]
fn names_of_any_bytes_are_kept() {
    use std::os::unix::ffi::OsStrExt;
    let (_temp, top) = scratch();
    let names: [&[u8]; 4] = [b"\x01\n\\", b"a b", &[b'n'; 255], b"\xff\xfe\x80"];
    for name in names {
        file(&top.join("d").join(std::ffi::OsStr::from_bytes(name)), name);
    }
    let walked = walk(&top.join("d"));
    let found: Vec<&[u8]> =
        walked.entries().into_iter().skip(1).map(|(_, e)| e.name.as_slice()).collect();
    assert_eq!(found, names);
}

#[test]
fn twenty_thousand_names_are_walked_in_order_through_a_tiny_window() {
    let (_temp, top) = scratch_in_memory();
    let root = top.join("many");
    let mut expected = vec!["many".to_owned()];
    for n in 0..20_000 {
        file(&root.join(format!("f{n}")), b"");
        expected.push(format!("many/f{n}"));
    }
    for n in 0..50 {
        file(&root.join(format!("d{n}/x")), b"");
        expected.extend([format!("many/d{n}"), format!("many/d{n}/x")]);
    }
    expected.sort();
    let limits = Limits { names: 64 * 1024, directories: 2 };
    let walked = walk_with(&root, How { limits, ..How::default() }).expect("walk");
    assert_eq!(walked.paths(), expected);
}

#[test]
fn a_window_that_is_forgotten_is_listed_again_from_where_it_was() {
    let (_temp, top) = scratch();
    let root = top.join("r");
    let mut expected = vec!["r".to_owned()];
    for a in 0..30 {
        expected.push(format!("r/{a:02}"));
        for b in 0..30 {
            expected.push(format!("r/{a:02}/{b:02}"));
            for c in 0..10 {
                file(&root.join(format!("{a:02}/{b:02}/{c}")), b"");
                expected.push(format!("r/{a:02}/{b:02}/{c}"));
            }
        }
    }
    for names in [0, 64, 500, 1500, 4000] {
        let limits = Limits { names, directories: 2 };
        let walked = walk_with(&root, How { limits, ..How::default() }).expect("walk");
        assert_eq!(walked.paths(), expected, "with {names} bytes for names");
    }
}

#[test]
fn what_vanishes_between_listing_and_looking_is_omitted() {
    let (_temp, top) = scratch();
    let root = top.join("d");
    for n in 0..600 {
        file(&root.join(format!("{n:03}")), b"");
    }
    let mut walking = begin(&root, How::default()).expect("begin");
    let mut visits = Vec::new();
    assert!(walking.source.next(&cx(), &mut visits).expect("next"));
    assert!(visits.len() < 500);
    fs::remove_file(root.join("599")).expect("remove");
    while walking.source.next(&cx(), &mut visits).expect("next") {}
    let omitted: Vec<_> = visits
        .iter()
        .filter_map(|visit| if let Visit::Omit(omission) = visit { Some(omission) } else { None })
        .collect();
    assert_eq!(omitted.len(), 1);
    assert_eq!(omitted[0].kind, OmissionKind::Vanished);
    assert_eq!(omitted[0].path, root.join("599").as_os_str().as_encoded_bytes());
}

#[test]
fn a_directory_that_is_replaced_while_the_walk_is_deep_in_it_is_omitted_not_mixed_up() {
    let (_temp, top) = scratch();
    let root = top.join("d");
    let mut deep = root.join("a");
    for _ in 0..40 {
        deep = deep.join("x");
    }
    for n in 0..600 {
        file(&deep.join(format!("{n:03}")), b"");
    }
    file(&root.join("a/z"), b"old");
    let limits = Limits { directories: 4, ..Limits::default() };
    let mut walking = begin(&root, How { limits, ..How::default() }).expect("begin");
    let mut visits = Vec::new();
    assert!(walking.source.next(&cx(), &mut visits).expect("next"));
    fs::rename(root.join("a/x/x"), top.join("elsewhere")).expect("rename");
    fs::rename(root.join("a"), top.join("old")).expect("rename");
    file(&root.join("a/z"), b"new");
    while walking.source.next(&cx(), &mut visits).expect("next") {}
    let omitted = visits.iter().filter(|visit| matches!(visit, Visit::Omit(_))).count();
    let files = visits
        .iter()
        .filter(|visit| matches!(visit, Visit::File(entry, _) if entry.name == b"z"))
        .count();
    assert_eq!((omitted, files), (1, 0), "the rest of `a`");
}

#[test]
fn rules_leave_out_what_they_say_and_are_counted() {
    let (_temp, top) = scratch();
    let root = top.join("r");
    for path in
        ["a.o", "a.c", "keep.o", "sub/b.o", "sub/c.c", "cache/CACHEDIR.TAG", "cache/x", "cache/y/z"]
    {
        file(&root.join(path), b"Signature: 8a477f597d28d172789f06886806bc55");
    }
    file(&root.join("notcache/CACHEDIR.TAG"), b"nothing");
    file(&root.join("large"), &[1; 100]);
    file(&root.join("own/repo"), b"");
    file(&root.join("own2/repo"), b"");
    let rules = vec![
        Rule::Pattern("*.o".to_owned()),
        Rule::Pattern("!keep.o".to_owned()),
        Rule::IfPresent {
            name: "CACHEDIR.TAG".to_owned(),
            header: "Signature: 8a477f597d28d172789f06886806bc55".to_owned(),
        },
        Rule::LargerThan(99),
        Rule::Own {
            what: "repository".to_owned(),
            path: root.join("own").into_os_string().into_encoded_bytes(),
        },
    ];
    let own = rules[4].name();
    let walked = walk_with(&root, How::rules(rules)).expect("walk");
    let expected = [
        "r",
        "r/a.c",
        "r/cache",
        "r/cache/CACHEDIR.TAG",
        "r/keep.o",
        "r/notcache",
        "r/notcache/CACHEDIR.TAG",
        "r/own2",
        "r/own2/repo",
        "r/sub",
        "r/sub/c.c",
    ];
    assert_eq!(walked.paths(), expected);
    let excluded = &walked.ending.excluded;
    assert_eq!(excluded.get("exclude *.o"), Some(&2));
    assert_eq!(excluded.get("exclude-caches"), Some(&2));
    assert_eq!(excluded.get("exclude-larger-than 99"), Some(&1));
    assert_eq!(excluded.get(&own), Some(&1));
    assert_eq!(excluded.len(), 4);
}

#[test]
fn only_the_named_paths_are_walked_and_what_is_missing_of_them_is_reported() {
    let (_temp, top) = scratch();
    let root = top.join("r");
    for path in ["a/x", "a/y", "a!/x", "b/c/d", "b/c2", "e"] {
        file(&root.join(path), b"");
    }
    symlink("b", root.join("link")).expect("symlink");
    let paths = ["a/x", "b/c", "gone", "link/c", "e/f"].map(|path| root.join(path));
    let walked = walk_with(&root, How::only(&paths)).expect("walk");
    assert_eq!(walked.paths(), ["r", "r/a", "r/a/x", "r/b", "r/b/c", "r/b/c/d"]);
    let mut missing: Vec<_> = walked.ending.omissions.named().to_vec();
    missing.sort();
    let kinds: Vec<_> = missing
        .iter()
        .map(|o| (String::from_utf8_lossy(&o.path).replace(&*root.to_string_lossy(), ""), o.kind))
        .collect();
    let expected = [
        ("/e/f".to_owned(), OmissionKind::Unreadable),
        ("/gone".to_owned(), OmissionKind::Vanished),
        ("/link/c".to_owned(), OmissionKind::Unreadable),
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn one_file_system_keeps_the_mount_point_and_nothing_below() {
    need_root();
    let (_temp, top) = scratch();
    let root = top.join("r");
    file(&root.join("a"), b"");
    fs::create_dir(root.join("mnt")).expect("mkdir");
    let mounted = root.join("mnt");
    run("mount", &["-t", "tmpfs", "tmpfs", &mounted.to_string_lossy()]);
    file(&mounted.join("inside"), b"");
    let one = walk_with(&root, How::rules(vec![Rule::OneFileSystem]));
    let all = walk_with(&root, How::default());
    run("umount", &[&mounted.to_string_lossy()]);
    let (one, all) = (one.expect("walk"), all.expect("walk"));
    assert_eq!(one.paths(), ["r", "r/a", "r/mnt"]);
    assert_eq!(one.ending.excluded.get("one-file-system"), Some(&1));
    assert_eq!(all.paths(), ["r", "r/a", "r/mnt", "r/mnt/inside"]);
}

#[test]
fn three_thousand_levels_of_long_names_are_walked_and_read() {
    let (_temp, top) = scratch_in_memory();
    let levels = 3_000;
    make_deep(&top, levels);
    let mut walking = begin(&top.join("deep"), How::default()).expect("begin");
    let (mut visits, mut entered, mut left, mut files) = (Vec::new(), 0, 0, 0);
    let mut more = true;
    while more {
        more = walking.source.next(&cx(), &mut visits).expect("next");
        for visit in visits.drain(..) {
            match visit {
                Visit::Enter(_) => entered += 1,
                Visit::Leave => left += 1,
                Visit::File(_, file) => {
                    let mut opened = file.open_whole(&cx()).expect("open 600 KB of path");
                    let mut buf = Vec::new();
                    opened.next_piece(&cx(), &mut buf).expect("read");
                    assert_eq!(buf, b"deep");
                    files += 1;
                }
                Visit::Leaf(_) => panic!("no leaf was made"),
                Visit::Omit(omission) => panic!("{}", omission.reason),
            }
        }
    }
    assert_eq!((entered, left), (levels + 1, levels + 1));
    assert_eq!(files, levels / 100);
    remove_deep(&top.join("deep"));
}

#[test]
fn a_walk_that_is_told_to_stop_stops() {
    let (_temp, top) = scratch();
    let mut walking = begin(&top, How::default()).expect("begin");
    let cx = cx();
    cx.cancel().cancel();
    let error = walking.source.next(&cx, &mut Vec::new()).expect_err("cancelled");
    assert_eq!(error.class(), Class::Cancelled);
}
