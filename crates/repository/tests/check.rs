//! A check finds what is wrong, names it, and goes on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use alidade_repository::envelope::encode_unpacked;
use alidade_repository::index_file::{self, PackInIndex};
use alidade_repository::key::{KeyFile, Opening};
use alidade_repository::pack_header::{self, HeaderEntry};
use alidade_repository::{
    BlobId, BlobKind, CheckOptions, Content, Error, FileId, FileKind, Finding, FindingClass,
    LockMode, LockOptions, Node, NodeKind, Repository,
};
use support::*;

struct Stored {
    root: tempfile::TempDir,
    data: FileId,
    trees: FileId,
    top: BlobId,
    blob: BlobId,
}

impl Stored {
    /// A repository of two snapshots, of which the first has one data pack and one tree pack.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let repository = created(root.path());
        let lock = lock(&repository);
        let indexed = load(&repository);
        let writer = writer(&indexed, &lock, root.path());
        let cx = cx();
        let blob = writer.save_data(&cx, &text(300_000, 1)).unwrap().id;
        let mut content = Content::new();
        content.push(blob);
        let mut below = writer.begin_tree();
        below.add(&cx, &file("file", content, 300_000)).unwrap();
        let below = below.finish(&cx).unwrap().id;
        let mut top = writer.begin_tree();
        top.add(&cx, &directory("directory", below)).unwrap();
        let top = top.finish(&cx).unwrap().id;
        writer.commit(&cx, &snapshot(&cx, top)).unwrap();
        let (data, _) = indexed.place(BlobKind::Data, &blob).unwrap();
        let (trees, _) = indexed.place(BlobKind::Tree, &top).unwrap();
        let other = writer.begin_tree().finish(&cx).unwrap().id;
        writer.commit(&cx, &snapshot(&cx, other)).unwrap();
        lock.release().unwrap();
        Self { root, data, trees, top, blob }
    }

    fn repository(&self) -> std::sync::Arc<Repository> {
        reopened(self.root.path())
    }

    fn pack(&self, id: FileId) -> PathBuf {
        let name = id.to_string();
        self.root.path().join("repository/data").join(&name[..2]).join(name)
    }

    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let folder = self.root.path().join("repository").join(folder);
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.collect();
        files.sort_by_key(|path| fs::metadata(path).unwrap().len());
        files
    }

    /// The classes of damage that a check finds without and with reading data.
    fn classes(&self) -> (Vec<FindingClass>, Vec<FindingClass>) {
        let classes = |read_data| -> Vec<FindingClass> {
            let (summary, findings) = check(&self.repository(), read_data);
            let (touched, findings): (Vec<_>, Vec<_>) =
                findings.into_iter().partition(|it| it.class == FindingClass::Touched);
            assert!(touched.is_empty() || summary.damage > 0, "{touched:?}");
            let damage = findings.iter().filter(|finding| finding.class.is_damage()).count();
            assert_eq!(summary.damage as usize, damage);
            assert_eq!(summary.hints as usize, findings.len() - damage);
            let mut classes: Vec<_> = findings.iter().map(|finding| finding.class).collect();
            classes.dedup();
            classes
        };
        (classes(false), classes(true))
    }
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_whole_repository_has_no_findings_and_everything_is_counted() {
    let stored = Stored::new();
    let (summary, findings) = check(&stored.repository(), true);
    assert_eq!(findings, []);
    assert_eq!((summary.index_files, summary.snapshots), (2, 2));
    assert_eq!((summary.packs, summary.packs_read), (3, 3));
    assert_eq!(summary.bytes_read, summary.pack_bytes);
    assert_eq!((summary.blobs, summary.blobs_read), (4, 4));
    assert_eq!((summary.trees, summary.nodes), (3, 2));
}

#[test]
fn every_byte_of_a_pack_that_is_flipped_is_found() {
    use FindingClass::{PackContent, Tree};
    let stored = Stored::new();
    for (pack, light) in [(stored.data, vec![]), (stored.trees, vec![Tree])] {
        let path = stored.pack(pack);
        let good = fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(good.len() / 23) {
            rewrite(&path, |bytes| bytes[at] ^= 0x40);
            let (without, with) = stored.classes();
            let in_header = without.is_empty();
            assert!(in_header || without == light, "byte {at}: {without:?}");
            assert_eq!(with.last(), Some(&PackContent), "byte {at}");
            rewrite(&path, |bytes| bytes.clone_from(&good));
        }
        assert_eq!(stored.classes(), (vec![], vec![]));
    }
}

#[test]
fn a_pack_that_is_short_long_or_gone_is_found_without_reading_it() {
    use FindingClass::{MissingPack, PackContent, PackSize};
    for what in ["short", "long", "empty"] {
        let stored = Stored::new();
        rewrite(&stored.pack(stored.data), |bytes| match what {
            "short" => bytes.truncate(bytes.len() - 1),
            "long" => bytes.push(0),
            _ => bytes.clear(),
        });
        assert_eq!(stored.classes(), (vec![PackSize], vec![PackSize, PackContent]), "{what}");
    }
    let stored = Stored::new();
    fs::remove_file(stored.pack(stored.data)).unwrap();
    assert_eq!(stored.classes(), (vec![MissingPack], vec![MissingPack]));
    let (_, findings) = check(&stored.repository(), true);
    assert_eq!(findings[0].to_string(), format!("pack {}: it is not there", stored.data));
}

#[test]
fn a_damaged_index_is_named_and_what_it_named_is_missing() {
    use FindingClass::{Index, Reference, UnusedPack};
    let stored = Stored::new();
    let largest = stored.files("index").pop().unwrap();
    rewrite(&largest, |bytes| bytes[50] ^= 1);
    let (without, with) = stored.classes();
    assert_eq!((&without[..], &with), (&[Index, UnusedPack, Reference][..], &without));
    let (_, findings) = check(&stored.repository(), false);
    let reference = findings.iter().rfind(|it| it.class == Reference).unwrap();
    assert_eq!(reference.what, format!("tree {}", stored.top));
    // Who wants to read or write is told instead of being given half an index.
    let loaded = alidade_repository::Indexed::load(stored.repository(), &cx());
    assert!(matches!(loaded, Err(Error::Damaged { .. })));
    fs::remove_file(&largest).unwrap();
    assert_eq!(stored.classes().0, [UnusedPack, Reference]);
}

#[test]
fn a_damaged_snapshot_is_named_and_the_others_are_checked() {
    let stored = Stored::new();
    let largest = stored.files("snapshots").pop().unwrap();
    rewrite(&largest, |bytes| bytes.truncate(60));
    let (summary, findings) = check(&stored.repository(), false);
    assert_eq!(summary.snapshots, 2);
    assert_eq!(findings.len(), 1);
    let name = largest.file_name().unwrap().to_str().unwrap();
    assert_eq!(findings[0].class, FindingClass::Snapshot);
    assert_eq!(findings[0].what, format!("snapshot {name}"));
}

#[test]
fn a_pack_that_no_index_names_is_only_untidy() {
    let stored = Stored::new();
    let stray = FileId::of(b"stray");
    fs::write(stored.pack(stray), b"stray").unwrap();
    let (summary, findings) = check(&stored.repository(), true);
    assert_eq!((summary.damage, summary.hints), (0, 1));
    assert_eq!(
        findings,
        [Finding {
            class: FindingClass::UnusedPack,
            what: format!("pack {stray}"),
            why: "no index names it".to_owned(),
            pack: Some(stray),
        }]
    );
}

/// Stores a tree with that node and makes a snapshot of it.
fn with_node(node: &Node) -> Vec<Finding> {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let writer = writer(&load(&repository), &lock, root.path());
    let mut tree = writer.begin_tree();
    tree.add(&cx(), node).unwrap();
    let mut last = Node::new("zz", NodeKind::Dir);
    last.subtree = Some(BlobId([9; 32]));
    tree.add(&cx(), &last).unwrap();
    let tree = tree.finish(&cx()).unwrap();
    writer.commit(&cx(), &snapshot(&cx(), tree.id)).unwrap();
    lock.release().unwrap();
    let mut findings = check(&repository, false).1;
    // What needs the missing directory is named behind everything.
    assert!(findings.pop_if(|it| it.class == FindingClass::Touched).is_some());
    findings.retain(|it| it.class != FindingClass::Touched);
    // The check went on to the node behind.
    let behind = findings.pop().unwrap();
    assert_eq!(behind.class, FindingClass::Reference);
    assert_eq!(behind.what, format!("tree {}", BlobId([9; 32])));
    findings
}

#[test]
fn nodes_that_make_no_sense_or_need_what_is_missing_are_found_each() {
    use FindingClass::{Reference, Tree};
    let mut missing = Content::new();
    missing.push(BlobId([1; 32]));
    missing.push(BlobId([2; 32]));
    let mut no_content = file("a", Content::new(), 0);
    no_content.content = None;
    let cases = [
        (file("a", missing, 1), vec![Reference, Reference]),
        (no_content, vec![Tree]),
        (Node::new("a", NodeKind::Dir), vec![Tree]),
        (Node::new("a", NodeKind::Other("door".to_owned())), vec![Tree]),
        (Node::new("..", NodeKind::Fifo), vec![Tree]),
        (Node::new("a/b", NodeKind::Fifo), vec![Tree]),
        (Node::new("a", NodeKind::Fifo), vec![]),
    ];
    for (node, classes) in cases {
        let findings = with_node(&node);
        let found: Vec<_> = findings.iter().map(|finding| finding.class).collect();
        assert_eq!(found, classes, "{findings:?}");
    }
}

#[test]
fn a_check_that_is_told_to_stop_stops() {
    let stored = Stored::new();
    let kit = alidade_testkit::TestCx::seeded(1);
    kit.cancel();
    let options = CheckOptions::new(true);
    let stopped = stored.repository().check(kit.cx(), None, options, &mut |_: Finding| {});
    assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
    assert!(load(&stored.repository()).contains(BlobKind::Data, &stored.blob));
}

#[test]
fn a_check_whose_lock_does_not_hold_tells_nothing_of_what_it_read() {
    let stored = Stored::new();
    let kit = alidade_testkit::TestCx::seeded(1);
    let (cx, repository) = (kit.cx(), stored.repository());
    let pack = stored.pack(stored.data);
    let damaged = fs::read(&pack).unwrap().iter().map(|byte| byte ^ 1).collect::<Vec<_>>();
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, damaged).unwrap();
    let options = LockOptions::new("here", "somebody");
    for (read_data, lost) in [(false, false), (true, false), (true, true)] {
        let lock = repository.lock_early(cx, LockMode::Shared, &options).unwrap();
        if lost {
            let id = lock.id().unwrap().to_string();
            repository.store().remove(FileKind::Lock, &id).unwrap();
        }
        let mut found = 0;
        let options = CheckOptions::new(read_data);
        let checked = repository.check(cx, Some(&lock), options, &mut |_: Finding| found += 1);
        assert_eq!(matches!(checked, Err(Error::LockLost)), lost, "{checked:?}");
        assert_eq!(found > 0, read_data && !lost, "{found}");
        drop(lock);
    }
}

/// Puts a pack of one blob under a name of choice, and an index that names it; every MAC is right.
fn plant(stored: &Stored, blob: BlobId, content: &[u8], name: impl FnOnce(&[u8]) -> FileId) {
    let key = fs::read(&stored.files("keys")[0]).unwrap();
    let Opening::Key(master) = KeyFile::decode(&key).unwrap().open(PASSWORD.as_bytes()).unwrap()
    else {
        panic!("the password of the tests opens the key");
    };
    let cx = cx();
    let mut pack = master.seal(&cx, content).unwrap();
    let len = u32::try_from(pack.len()).unwrap();
    let entry = HeaderEntry { kind: BlobKind::Data, id: blob, offset: 0, len, plain_len: None };
    let header = master.seal(&cx, &pack_header::encode(&[entry])).unwrap();
    pack.extend_from_slice(&header);
    pack.extend_from_slice(&u32::try_from(header.len()).unwrap().to_le_bytes());
    let id = name(&pack);
    fs::write(stored.pack(id), pack).unwrap();
    let mut json = Vec::new();
    index_file::encode([&PackInIndex { id, blobs: vec![entry] }], &mut json).unwrap();
    let index = encode_unpacked(&master, &cx, &json).unwrap();
    let folder = stored.root.path().join("repository/index");
    fs::write(folder.join(FileId::of(&index).to_string()), index).unwrap();
}

#[test]
fn a_blob_that_opens_to_other_content_is_found_though_every_mac_is_right() {
    let stored = Stored::new();
    plant(&stored, BlobId::of(b"what its name says"), b"something else", FileId::of);
    assert_eq!(stored.classes(), (vec![], vec![FindingClass::PackContent]));
}

#[test]
fn a_pack_under_a_name_that_is_not_its_hash_is_found_though_every_blob_is_right() {
    let stored = Stored::new();
    plant(&stored, BlobId::of(b"right"), b"right", |_| FileId::of(b"another pack"));
    assert_eq!(stored.classes(), (vec![], vec![FindingClass::PackContent]));
}

#[test]
fn a_pack_that_is_planted_whole_is_no_finding() {
    let stored = Stored::new();
    plant(&stored, BlobId::of(b"right"), b"right", FileId::of);
    assert_eq!(stored.classes(), (vec![], vec![]));
}
