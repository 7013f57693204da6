//! The listing tells every difference, and the builder builds what was planned.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use alidade_testkit::tree::{
    Acl, Content, Dress, Fill, Kind, Limits, Listing, Make, Plan, Thing, plans,
};
use proptest::prelude::*;
use proptest::test_runner::Config;

fn file(name: &str, content: Content) -> Thing {
    let dress = Dress { mode: 0o644, ..Dress::default() };
    Thing { parent: 0, name: name.into(), make: Make::File(content), dress }
}

fn small() -> Plan {
    let attributes = vec![(b"user.colour".to_vec(), b"green".to_vec())];
    let mut holes = Content::new(3 << 20, Fill::Random(1));
    holes.holes = vec![(1 << 20, 1 << 20)];
    let mut plain = file("plain", Content::new(5000, Fill::Text(1)));
    plain.dress.attributes = attributes;
    plain.dress.acl = Some(Acl { user: (1000, 7), group: (100, 4), default: false });
    let link = Thing { make: Make::HardLink(0), ..file("second", Content::new(0, Fill::Zeros)) };
    let symlink = Thing {
        make: Make::Symlink(b"\xff".to_vec()),
        ..file("symlink", Content::new(0, Fill::Zeros))
    };
    let fifo = Thing { make: Make::Fifo, ..file("fifo", Content::new(0, Fill::Zeros)) };
    let things = vec![plain, file("holes", holes), link, symlink, fifo];
    Plan { root: Dress::default(), things }
}

#[test]
fn what_is_built_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    small().build(&root);
    let found = Listing::of(&root);
    let paths: Vec<&[u8]> = found.paths().collect();
    assert_eq!(paths, [&b"fifo"[..], b"holes", b"plain", b"second", b"symlink"]);
    let plain = found.get(b"plain").unwrap();
    assert_eq!(
        (plain.kind, plain.size, plain.mtime),
        (Kind::File, 5000, (1_700_000_000, 123_456_789))
    );
    assert_eq!(plain.attributes[&b"user.colour"[..]], b"green");
    assert!(plain.attributes.contains_key(&b"system.posix_acl_access"[..]));
    assert_eq!(plain.linked.as_deref(), Some(&b"plain"[..]));
    assert_eq!(found.get(b"second").unwrap().linked, plain.linked);
    assert_eq!(found.get(b"holes").unwrap().holes, [(1 << 20, 2 << 20)]);
    assert_eq!(found.get(b"symlink").unwrap().target.as_deref(), Some(&b"\xff"[..]));
}

#[test]
fn every_single_change_is_told() {
    let path = |root: &Path, name: &str| root.join(name);
    let touch = |path: &Path, nanos| {
        let file = std::fs::File::open(path).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, nanos);
        file.set_modified(time).unwrap();
    };
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    let write = |root: &Path, name: &str, bytes: &[u8]| {
        let keep = std::fs::metadata(root).unwrap().modified().unwrap();
        std::fs::write(path(root, name), bytes).unwrap();
        std::fs::File::open(root).unwrap().set_modified(keep).unwrap();
        touch(&path(root, name), 123_456_789);
    };
    let sample = tempfile::tempdir().unwrap();
    small().build(&sample.path().join("root"));
    let same = std::fs::read(sample.path().join("root/plain")).unwrap();
    let mut other = same.clone();
    other[4999] ^= 1;
    type Change<'a> = (&'a str, Box<dyn Fn(&Path) + 'a>);
    let changes: Vec<Change<'_>> = vec![
        ("mtime", Box::new(|root| touch(&path(root, "plain"), 123_456_788))),
        ("content", Box::new(|root| write(root, "plain", &other))),
        ("size", Box::new(|root| write(root, "plain", &same[..4999]))),
        ("should not be there", Box::new(|root| write(root, "new", b""))),
        (
            "attribute user.colour",
            Box::new(|root| set(&path(root, "plain"), "user.colour", b"red")),
        ),
        ("attribute user.more", Box::new(|root| set(&path(root, "plain"), "user.more", b""))),
        ("is missing", Box::new(|root| std::fs::remove_file(path(root, "fifo")).unwrap())),
        (
            "mode 0644, 4644",
            Box::new(|root| {
                let mode = std::fs::Permissions::from_mode(0o4644);
                std::fs::set_permissions(path(root, "holes"), mode).unwrap();
            }),
        ),
        (
            "holes",
            Box::new(|root| {
                let bytes = std::fs::read(path(root, "holes")).unwrap();
                write(root, "holes", &bytes);
            }),
        ),
        (
            "target",
            Box::new(|root| {
                std::fs::remove_file(path(root, "symlink")).unwrap();
                symlink("elsewhere", path(root, "symlink")).unwrap();
            }),
        ),
        (
            "hard link of",
            Box::new(|root| {
                let bytes = std::fs::read(path(root, "second")).unwrap();
                std::fs::remove_file(path(root, "second")).unwrap();
                write(root, "second", &bytes);
            }),
        ),
    ];
    for (told, change) in changes {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        small().build(&root);
        let before = Listing::of(&root);
        change(&root);
        let differences = before.differences(&Listing::of(&root));
        assert!(differences.contains(told), "`{told}` is not told: {differences}");
    }
}

#[test]
fn paths_longer_than_one_call_takes_are_built_and_found() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    let names: Vec<Vec<u8>> = (0..20).map(|n| vec![b'a' + n; 255]).collect();
    Plan::deep(&names, Content::new(7, Fill::Text(1))).build(&root);
    let found = Listing::of(&root);
    assert_eq!(found.count(Kind::Directory), 21);
    let (longest, last) = found.entries().last().unwrap();
    assert!(longest.len() > 4096 && last.size == 7);
}

proptest! {
    #![proptest_config(Config::with_cases(6))]

    #[test]
    fn a_copy_by_the_systems_own_tool_is_equal(plan in plans(Limits { file_size: 1 << 20, ..Limits::default() })) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        let copy = scratch.path().join("copy");
        plan.build(&root);
        let found = Listing::of(&root);
        let ended = Command::new("cp").args(["-a", "--sparse=always"]).args([&root, &copy]).status().unwrap();
        prop_assert!(ended.success());
        let differences = found.without_holes().differences(&Listing::of(&copy).without_holes());
        prop_assert!(differences.is_empty(), "{}", differences);
        prop_assert_eq!(std::fs::metadata(&root).unwrap().mtime(), plan.root.mtime.0);
    }
}
