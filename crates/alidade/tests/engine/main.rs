//! The engine with its plugs on a directory, in this process.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use alidade_entity::{Cancel, Cx};
use alidade_model::{Counts, OmissionKind, Status};
use alidade_protect::{Parent, Planning, ProtectOptions, RestoreOptions};
use alidade_repository::{BlobId, FileKind, Indexed, LockMode};
use alidade_testkit::plug::{EtagTree, Node, Part};
use alidade_testkit::tree::{Acl, Content, Dress, Fill, Limits, Listing, Make, Plan, Thing, plans};
use alidade_testkit::{Lab, lab::run};
use proptest::prelude::*;

mod stored;

fn cx() -> Cx {
    Cx::system(Cancel::default())
}

fn filled(lab: &Lab) {
    let source = lab.source();
    fs::create_dir_all(source.join("a/b/c")).unwrap();
    fs::write(source.join("a/hello"), "hello").unwrap();
    fs::write(source.join("a/empty"), "").unwrap();
    let noise: Vec<u8> =
        (0..6_000_000u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    fs::write(source.join("a/b/big"), &noise).unwrap();
    fs::write(source.join("a/b/c/we\"ird\\name &<>"), "x").unwrap();
    fs::hard_link(source.join("a/hello"), source.join("a/b/link")).unwrap();
    symlink("nowhere/at all", source.join("a/sym")).unwrap();
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    fs::set_permissions(source.join("a/hello"), fs::Permissions::from_mode(0o4751)).unwrap();
}

fn same(a: &Path, b: &Path) {
    let diff =
        Command::new("diff").arg("-r").arg("--no-dereference").arg(a).arg(b).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
}

#[test]
fn a_plan_counts_what_will_be_restored_and_holds_its_lock_until_then() {
    let lab = Lab::new(&cx());
    lab.init().unwrap();
    filled(&lab);
    fs::create_dir(lab.source().join("empty")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        lab.source().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    lab.protect().unwrap();
    let (engine, stored) = (lab.engine().unwrap(), lab.latest().unwrap());
    let whole = RestoreOptions {
        target: Some(lab.path("target").into_os_string().into_encoded_bytes()),
        ..RestoreOptions::default()
    };
    let walked = RestoreOptions { exclude: vec!["no such name".to_owned()], ..whole.clone() };
    let plan =
        |how: &RestoreOptions, planning| run(engine.plan_restore(&stored, how, planning)).unwrap();
    let alone = || {
        let options = engine.lock_options(Duration::ZERO);
        run(async { engine.repository().lock(&cx(), LockMode::Exclusive, &options) })
    };
    let (shown, counted) = (plan(&whole, Planning::ToShow), plan(&walked, Planning::ToShow));
    assert_eq!((shown.counts, shown.bytes), (counted.counts, counted.bytes));
    alone().unwrap().release().unwrap();
    let held = plan(&whole, Planning::ToRun);
    assert!(matches!(alone(), Err(alidade_repository::Error::Locked { .. })));
    let restored = run(engine.restore(held)).unwrap();
    alone().unwrap().release().unwrap();
    let Counts { files, directories, symlinks, specials, .. } = restored.counts;
    let of = shown.counts;
    assert_eq!((files, directories), (of.files, of.directories));
    assert_eq!((symlinks, specials), (of.symlinks, of.specials));
    assert_eq!(restored.bytes.total, shown.bytes);
    assert!(files > 0 && directories > 0 && symlinks > 0 && specials > 0, "{of:?}");
    let beside = |name: &str| RestoreOptions {
        target: Some(lab.path(name).into_os_string().into_encoded_bytes()),
        ..RestoreOptions::default()
    };
    let unheld = plan(&beside("beside"), Planning::ToShow);
    assert_eq!(run(engine.restore(unheld)).unwrap().status, Status::Done);
    let broken = plan(&beside("broken"), Planning::ToRun);
    let store = engine.repository().store();
    let mut locks = Vec::new();
    store
        .list(FileKind::Lock, &mut |name, _| {
            locks.push(name.to_owned());
            Ok(())
        })
        .unwrap();
    locks.iter().for_each(|name| store.remove(FileKind::Lock, name).unwrap());
    let lost = run(engine.restore(broken));
    assert!(format!("{lost:?}").contains("LockLost"), "{lost:?}");
    assert!(!lab.path("broken").exists(), "nothing is written under a lock that does not hold");
}

#[test]
fn a_tree_comes_back_as_it_was_and_a_second_run_reads_nothing() {
    let lab = Lab::new(&cx());
    lab.init().unwrap();
    filled(&lab);
    let first = lab.protect().unwrap();
    assert_eq!(first.status, Status::Done, "{first:?}");
    assert_eq!(first.counts.files, 6);
    assert_eq!(first.counts.sparse, 1);
    assert_eq!(first.counts.new, 6);
    assert!(first.digest.is_some());
    assert_eq!(lab.check(true).unwrap(), Vec::<String>::new());

    let target = lab.path("target");
    let restored = lab.restore(&lab.latest().unwrap(), &target).unwrap();
    assert_eq!(restored.status, Status::Done, "{restored:?}");
    assert_eq!(restored.digest, first.digest);
    let back = target.join(lab.source().strip_prefix("/").unwrap());
    same(&lab.source(), &back);
    let sparse = fs::metadata(back.join("sparse")).unwrap();
    assert_eq!((sparse.size(), sparse.blocks()), (64 << 20, 0));
    let (one, two) =
        (fs::metadata(back.join("a/hello")).unwrap(), fs::metadata(back.join("a/b/link")).unwrap());
    assert_eq!(one.ino(), two.ino());
    assert_eq!(one.mode() & 0o7777, 0o4751);

    let second = lab.protect().unwrap();
    assert_eq!(second.counts.unchanged, 6);
    assert_eq!(second.bytes.read, 0);
    assert_eq!(second.digest, first.digest);
    assert_eq!(second.counts.sparse, 1, "the hole map is carried over");
}

#[test]
fn a_file_that_is_carried_in_spans_comes_back_with_its_holes() {
    use std::os::unix::fs::FileExt;
    let lab = Lab::new(&cx());
    lab.init().unwrap();
    fs::create_dir_all(lab.source()).unwrap();
    let file = fs::File::create(lab.source().join("large")).unwrap();
    // Data over the edges of the spans, which are 64 MiB long, and holes over two of them.
    let data: Vec<u8> =
        (0..30u32 << 18).flat_map(|n| (n.wrapping_mul(n) ^ n).to_le_bytes()).collect();
    for at in [0, 50 << 20, 170 << 20] {
        file.write_all_at(&data, at).unwrap();
    }
    file.set_len((210 << 20) + 5).unwrap();
    let first = lab.protect().unwrap();
    assert_eq!((first.status, first.counts.files), (Status::Done, 1), "{first:?}");
    assert_eq!(first.bytes.read, 90 << 20);
    assert_eq!(lab.check(true).unwrap(), Vec::<String>::new());
    let target = lab.path("target");
    let restored = lab.restore(&lab.latest().unwrap(), &target).unwrap();
    assert_eq!((restored.status, restored.digest), (Status::Done, first.digest), "{restored:?}");
    let back = target.join(lab.source().strip_prefix("/").unwrap());
    same(&lab.source(), &back);
    let blocks = |path: &Path| fs::metadata(path.join("large")).unwrap().blocks();
    assert!(blocks(&back) <= blocks(&lab.source()) + 16);
    let second = lab.protect().unwrap();
    assert_eq!((second.bytes.read, second.digest), (0, first.digest));
}

/// The tree that the newest snapshot has of the source.
fn tree_of_source(lab: &Lab) -> BlobId {
    let indexed = Indexed::load(lab.open().unwrap(), &cx()).unwrap();
    let path = lab.source();
    let root = lab.latest().unwrap().snapshot.tree;
    path.strip_prefix("/").unwrap().iter().fold(root, |tree, name| {
        let nodes = indexed.tree(&cx(), tree).unwrap();
        let found = nodes.map(Result::unwrap).find(|node| node.name == name.as_bytes());
        found.and_then(|node| node.subtree).unwrap()
    })
}

#[test]
fn a_run_that_compares_stores_the_same_trees_as_one_that_reads_everything() {
    let lab = Lab::new(&cx());
    lab.init().unwrap();
    let at = |name: &str| lab.source().join(name);
    for directory in ["a", "m/in/deep", "m/not", "z"] {
        fs::create_dir_all(at(directory)).unwrap();
        for n in 10..20 {
            fs::write(at(directory).join(format!("{n}")), format!("{directory} {n}")).unwrap();
        }
    }
    let edits: [(&str, &dyn Fn()); 15] = [
        ("nothing", &|| {}),
        ("a new file in the middle", &|| fs::write(at("m/in/deep/155"), "new").unwrap()),
        ("a new file at the front", &|| fs::write(at("m/in/0"), "new").unwrap()),
        ("a new file at the end", &|| fs::write(at("z/99"), "new").unwrap()),
        ("nothing since", &|| {}),
        ("the first is gone", &|| fs::remove_file(at("a/10")).unwrap()),
        ("the last is gone", &|| fs::remove_file(at("a/19")).unwrap()),
        ("another content of the same length", &|| fs::write(at("m/in/deep/12"), "M").unwrap()),
        ("another mode", &|| {
            fs::set_permissions(at("m/not/13"), fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("a directory under another name", &|| fs::rename(at("m/not"), at("m/yes")).unwrap()),
        ("a symlink", &|| symlink("m\u{fffd}\"<", at("m/sym")).unwrap()),
        ("another symlink", &|| {
            fs::remove_file(at("m/sym")).unwrap();
            symlink("elsewhere", at("m/sym")).unwrap();
        }),
        ("an empty file and one that is a hole", &|| {
            fs::write(at("a/empty"), "").unwrap();
            fs::File::create(at("a/hole")).unwrap().set_len(1 << 20).unwrap();
        }),
        ("a directory where a file was", &|| {
            fs::remove_file(at("z/15")).unwrap();
            fs::create_dir(at("z/15")).unwrap();
        }),
        ("an empty directory", &|| fs::remove_dir_all(at("m/in/deep")).unwrap()),
    ];
    lab.protect().unwrap();
    for (edit, make) in edits {
        make();
        let engine = lab.engine().unwrap();
        let compared = lab.protect().unwrap();
        let tree = tree_of_source(&lab);
        let how = ProtectOptions { parent: Parent::None, ..ProtectOptions::standard() };
        let read = lab.protect_entity(&engine, &lab.entity(), &how).unwrap();
        assert_eq!((compared.digest, tree), (read.digest, tree_of_source(&lab)), "{edit}");
        assert_eq!(compared.counts.sparse, read.counts.sparse, "{edit}");
        let counts = compared.counts;
        assert_eq!(counts.unchanged + counts.changed + counts.new, counts.files, "{edit}");
        if edit.starts_with("nothing") {
            assert_eq!((compared.bytes.read, counts.unchanged), (0, counts.files), "{edit}");
        }
    }
    assert_eq!(lab.check(true).unwrap(), Vec::<String>::new());
}

#[test]
fn the_catalog_comes_back_from_the_repository_alone() {
    let lab = Lab::new(&cx());
    lab.init().unwrap();
    filled(&lab);
    lab.protect().unwrap();
    lab.check(true).unwrap();
    let before = lab.engine().unwrap().catalog().runs(&Default::default(), 10).unwrap();
    fs::remove_file(lab.path("catalog.sqlite")).unwrap();
    let engine = lab.engine().unwrap();
    let (report, broken) = engine.rebuild_catalog().unwrap();
    assert_eq!(broken, vec![]);
    assert_eq!((report.entities, report.runs, report.evidence), (1, 2, 1));
    let after = engine.catalog().runs(&Default::default(), 10).unwrap();
    let ids = |runs: &[alidade_catalog::RunRow]| {
        runs.iter().map(|run| run.id.clone()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&after), ids(&before));
}

#[test]
fn what_cannot_be_read_is_an_omission_and_not_a_success() {
    let lab = Lab::new(&cx());
    lab.init().unwrap();
    let types = EtagTree::new();
    let nodes = vec![
        Node::file(b"gone", vec![Part::Data(b"x".to_vec())]),
        Node::file(b"kept", vec![Part::Data(b"y".to_vec())]),
    ];
    let id = types.add(&"bucket".parse().unwrap(), nodes);
    types.vanishes(&id, &[b"gone"]);
    let engine = lab.engine_with(|registry| registry.add(std::sync::Arc::new(types))).unwrap();
    let outcome = lab.protect_entity(&engine, &id.name, &ProtectOptions::standard()).unwrap();
    assert_eq!(outcome.status, Status::Omissions);
    assert_eq!(outcome.omissions.counts().collect::<Vec<_>>(), vec![(OmissionKind::Vanished, 1)]);
    assert!(outcome.omissions.named()[0].path.ends_with(b"/bucket/gone"));
    assert_eq!(outcome.counts.files, 1);
}

/// Protects and restores the lab's source; everything but what the engine says it omitted must be equal.
fn round_trip(lab: &Lab) {
    let outcome = lab.protect().unwrap();
    assert_eq!(outcome.status, Status::Done, "{outcome:?}");
    let target = lab.path("target");
    let restored = lab.restore(&lab.latest().unwrap(), &target).unwrap();
    assert_eq!(restored.status, Status::Done, "{restored:?}");
    assert_eq!(restored.digest, outcome.digest);
    let back = target.join(lab.source().strip_prefix("/").unwrap());
    Listing::of(&lab.source()).assert_equals(&Listing::of(&back), "what came back");
}

/// A lab whose source is what the plan says.
fn planned(plan: &Plan) -> Lab {
    let lab = Lab::new(&cx());
    lab.init().unwrap();
    fs::remove_dir(lab.source()).unwrap();
    plan.build(&lab.source());
    lab
}

fn thing(name: &[u8], make: Make, dress: Dress) -> Thing {
    Thing { parent: 0, name: name.to_vec(), make, dress }
}

#[test]
fn attributes_acls_and_nanoseconds_come_back() {
    let file = || Make::File(Content::new(3_000_000, Fill::Random(7)));
    let acl = Acl { user: (1234, 7), group: (4321, 5), default: false };
    let attributes = vec![(b"user.a".to_vec(), b"value".to_vec()), (b"user.b".to_vec(), vec![])];
    let things = vec![
        thing(b"attributes", file(), Dress { attributes, ..Dress::default() }),
        thing(b"acl", file(), Dress { acl: Some(acl), ..Dress::default() }),
        thing(b"times", file(), Dress { mtime: (-5, 999_999_999), ..Dress::default() }),
        thing(b"link", Make::Symlink(b"to\xff".to_vec()), Dress::default()),
        thing(b"socket", Make::Socket, Dress::default()),
        thing(b"fifo", Make::Fifo, Dress::default()),
    ];
    round_trip(&planned(&Plan { root: Dress::default(), things }));
}

#[test]
fn a_path_longer_than_any_system_call_takes_comes_back() {
    let names: Vec<Vec<u8>> = (0..30).map(|n| vec![b'a' + n; 250]).collect();
    round_trip(&planned(&Plan::deep(&names, Content::new(10, Fill::Zeros))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]
    #[test]
    fn any_tree_comes_back(plan in plans(Limits::default())) {
        round_trip(&planned(&plan));
    }
}

/// Root is never refused, so this test runs again as somebody else.
#[test]
fn who_may_not_read_a_file_is_told_so() {
    let marker = "ALIDADE_TEST_UNPRIVILEGED";
    if std::env::var_os(marker).is_none() {
        let here = std::env::current_exe().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("test");
        fs::copy(here, &copy).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let run = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(copy)
            .args(["--exact", "who_may_not_read_a_file_is_told_so"])
            .env(marker, "1")
            .env("TMPDIR", dir.path())
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        return;
    }
    let lab = Lab::new(&cx());
    lab.init().unwrap();
    filled(&lab);
    fs::create_dir(lab.source().join("closed")).unwrap();
    for closed in ["a/hello", "closed"] {
        fs::set_permissions(lab.source().join(closed), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let outcome = lab.protect().unwrap();
    assert_eq!(outcome.status, Status::Omissions);
    let counted: Vec<_> = outcome.omissions.counts().collect();
    // The file has two names, and the directory cannot be listed.
    assert_eq!(counted, vec![(OmissionKind::PermissionDenied, 3)]);
}
