//! The four plugs in memory, each put to the test as a whole.

use std::ops::Range;

use alidade_entity::conformance::{
    Creates, Fidelity, Promise, Report, Subject, assert_conforms, check,
};
use alidade_entity::{
    Class, CopyMode, CopyOptions, Cx, Params, ProtectedEntityType, ReadOptions, Source, Verdict,
    Visit,
};
use alidade_model::{ContentName, EntityId, ObjectId, Shape};
use alidade_testkit::TestCx;
use alidade_testkit::plug::{
    BareReference, ChangedBlockDisk, EtagTree, FailingStream, Node, Part, Producer,
};

pub(crate) fn object(name: &str) -> ObjectId {
    ObjectId::encode(name.as_bytes()).unwrap()
}

pub(crate) fn id(text: &str) -> EntityId {
    text.parse().unwrap()
}

fn target(kind: &str, call: usize) -> (CopyOptions, EntityId) {
    let name = format!("made-{call}");
    let written = id(&format!("{kind}:{name}"));
    let options = CopyOptions {
        mode: CopyMode::CreateNew,
        target: Some(name.into_bytes()),
        fsync: false,
        read_back: false,
        params: Params::new(),
    };
    (options, written)
}

fn creates<'a>(
    from: &str,
    shape: Shape,
    target: &'a dyn Fn(usize) -> (CopyOptions, EntityId),
) -> Option<Creates<'a>> {
    let (from, content) = (id(from), ContentName::data());
    Some(Creates { from, target, content, shape, fidelity: Fidelity::full() })
}

/// A tree with odd names, holes, and every way a directory can be empty or full.
pub(crate) fn etag_tree() -> EtagTree {
    let tree = EtagTree::new();
    let bytes = |len: usize| Part::Data((0..len).map(|at| (at % 251) as u8).collect());
    let many = (0..100).map(|at| Node::file(format!("{at:03}").as_bytes(), vec![bytes(at)]));
    let nodes = vec![
        Node::file(b"\x01\n", vec![]),
        Node::directory(b"a", vec![Node::file(b"x", vec![bytes(3)])]),
        Node::file(b"a.b", vec![bytes(40_000)]),
        Node::directory(b"empty", vec![]),
        Node::directory(b"many", many.collect()),
        Node::file(b"large", vec![bytes((1 << 20) + 50_000)]),
        Node::file(b"sparse", vec![Part::Hole(70_000), bytes(1), Part::Hole(5), Part::Hole(6)]),
        Node::symlink(b"link", b"\xFF/anywhere"),
        Node::file(b"\xC3\xA4", vec![bytes(1)]),
        Node::file(b"\xFF\xFE", vec![bytes(1)]),
    ];
    tree.add(&object("bucket"), nodes);
    tree.add(&object("another"), vec![]);
    tree.add(&object("disposable"), vec![]);
    tree
}

pub(crate) fn check_etag_tree(cx: &Cx, kind: &dyn ProtectedEntityType) -> Report {
    let target = |call| target("etag", call);
    let subject = Subject {
        disposable: Some(id("etag:disposable")),
        creates: creates("etag:source", Shape::Tree, &target),
        ..Subject::new(kind, id("etag:bucket"), id("etag:none"))
    };
    check(cx, &subject)
}

pub(crate) fn changed_block_disk() -> ChangedBlockDisk {
    let disks = ChangedBlockDisk::new();
    // A MiB and a bit: the last cell is not whole.
    let disk = disks.add(&object("disk"), (1 << 20) + 1_000);
    disks.write(&disk, 5_000, &[7; 10_000]);
    disks.write(&disk, 1 << 20, &[8; 1_000]);
    disks.write(&disk, 40_960, &[9; 8_192]);
    disks.discard(&disk, 40_960..45_056);
    disks.add(&object("other"), 4_096);
    disks.add(&object("disposable"), 4_096);
    disks
}

pub(crate) fn check_changed_block_disk(
    cx: &Cx,
    kind: &dyn ProtectedEntityType,
    disks: &ChangedBlockDisk,
) -> Report {
    let target = |call| target("cbd", call);
    let change = |_: &ContentName| -> Vec<Range<u64>> {
        let disk = id("cbd:disk");
        disks.write(&disk, 100_000, &[5; 3]);
        disks.write(&disk, (1 << 20) + 900, &[6; 100]);
        disks.discard(&disk, 5_000..12_000);
        vec![100_000..100_003, (1 << 20) + 900..(1 << 20) + 1_000, 5_000..12_000]
    };
    let subject = Subject {
        disposable: Some(id("cbd:disposable")),
        change: Some(&change),
        creates: creates("cbd:source", Shape::Disk, &target),
        ..Subject::new(kind, id("cbd:disk"), id("cbd:none"))
    };
    check(cx, &subject)
}

pub(crate) fn failing_stream(producer: Producer) -> FailingStream {
    let streams = FailingStream::new();
    streams.add(&object("dump"), &[42; 200_000], producer);
    streams.add(&object("disposable"), b"", Producer::Succeeds);
    streams
}

pub(crate) fn check_failing_stream(cx: &Cx, kind: &dyn ProtectedEntityType, fails: bool) -> Report {
    let target = |call| target("pipe", call);
    let subject = Subject {
        disposable: Some(id("pipe:disposable")),
        failing: fails.then(ContentName::data).into_iter().collect(),
        creates: creates("pipe:source", Shape::Stream, &target),
        ..Subject::new(kind, id("pipe:dump"), id("pipe:none"))
    };
    check(cx, &subject)
}

#[test]
fn a_tree_of_etags_conforms() {
    let test = TestCx::seeded(1);
    check_etag_tree(test.cx(), &etag_tree()).result().unwrap();
}

#[test]
fn a_disk_that_knows_its_changes_conforms() {
    let (test, disks) = (TestCx::seeded(1), changed_block_disk());
    check_changed_block_disk(test.cx(), &disks, &disks).result().unwrap();
    assert!(disks.held_by(&id("cbd:disk")).is_empty(), "the suite leaves nothing frozen");
}

#[test]
fn a_stream_conforms_however_its_producer_ends() {
    let test = TestCx::seeded(1);
    let cases = [
        (Producer::Succeeds, false),
        (Producer::SaysNothing, false),
        (Producer::BreaksAfter(0), true),
        (Producer::BreaksAfter(70_000), true),
        (Producer::ExitsBadlyAfter(0), true),
        (Producer::ExitsBadlyAfter(70_000), true),
        (Producer::ExitsBadlyAfter(200_000), true),
    ];
    for (producer, fails) in cases {
        let report = check_failing_stream(test.cx(), &failing_stream(producer), fails);
        assert_eq!(report.result(), Ok(()), "{producer:?}");
    }
}

#[test]
fn an_entity_without_content_conforms_with_one_line() {
    let test = TestCx::seeded(1);
    let mut references = BareReference::new();
    let parts = [id("etag:bucket"), id("cbd:disk:frozen")];
    let present = references.add(&object("service"), &parts);
    references.add(&object("lonely"), &[]);
    assert_conforms(test.cx(), &Subject::new(&references, present, id("reference:none")));
}

#[test]
fn together_the_four_plugs_put_every_promise_to_the_test() {
    let test = TestCx::seeded(1);
    let disks = changed_block_disk();
    let reports = [
        check_etag_tree(test.cx(), &etag_tree()),
        check_changed_block_disk(test.cx(), &disks, &disks),
        check_failing_stream(test.cx(), &failing_stream(Producer::Succeeds), false),
        check_failing_stream(test.cx(), &failing_stream(Producer::BreaksAfter(9)), true),
    ];
    let untested = |promise: &&Promise| {
        // A tree of etags has no directories above it.
        **promise != Promise::WalkTrailIsDirectories
            && !reports.iter().any(|report| report.asked().contains_key(promise))
    };
    let untested: Vec<_> = Promise::ALL.iter().filter(untested).collect();
    assert!(untested.is_empty(), "{untested:?}");
}

/// The visit of a file in a fresh walk of the tree.
fn file(cx: &Cx, tree: &EtagTree, name: &[u8]) -> Box<dyn alidade_entity::OpenFile> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let bucket = runtime.block_on(tree.open(cx, &id("etag:bucket"))).unwrap();
    let how = ReadOptions::default();
    let reading = runtime.block_on(bucket.read(cx, &ContentName::data(), &how)).unwrap();
    let Source::Tree(mut walk) = reading.source else { panic!("a tree of etags is a tree") };
    let mut visits = Vec::new();
    while walk.next(cx, &mut visits).unwrap() {}
    let found = visits.into_iter().find_map(|visit| match visit {
        Visit::File(entry, file) if entry.name == name => Some(file),
        _ => None,
    });
    found.unwrap()
}

fn verdict(cx: &Cx, file: &dyn alidade_entity::OpenFile) -> Verdict {
    let mut open = file.open_whole(cx).unwrap();
    while open.next_piece(cx, &mut Vec::new()).unwrap().is_some() {}
    open.finish().unwrap()
}

#[test]
fn files_vanish_change_and_grow_when_they_are_told_to() {
    let (test, tree) = (TestCx::seeded(1), etag_tree());
    let (cx, bucket) = (test.cx(), id("etag:bucket"));
    tree.changes_while_read(&bucket, &[b"large"]);
    tree.grows_while_read(&bucket, &[b"a.b"]);
    tree.vanishes(&bucket, &[b"a", b"x"]);
    let large = file(cx, &tree, b"large");
    assert_eq!(verdict(cx, &*large), Verdict::Changed);
    assert_eq!(verdict(cx, &*large), Verdict::Steady);
    assert_eq!(verdict(cx, &*file(cx, &tree, b"a.b")), Verdict::Grew);
    let gone = file(cx, &tree, b"x").open_whole(cx).err().unwrap();
    assert_eq!(gone.class(), Class::NotFound);
}
