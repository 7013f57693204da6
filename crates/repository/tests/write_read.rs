//! What goes in through a writer comes out again, once, and in the right order.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alidade_entity::{Cancel, Cx};
use alidade_repository::{
    BlobId, BlobKind, Compression, Content, Error, FileKind, Node, Writer, WriterOptions,
};
use support::*;

/// Contents of every kind that is stored in its own way.
fn contents() -> Vec<Vec<u8>> {
    vec![
        Vec::new(),
        b"x".to_vec(),
        text(100, 1),
        text(1 << 20, 2),
        noise(1, 3),
        noise(3 << 20, 4),
        vec![0; 8 << 20],
    ]
}

#[test]
fn what_is_stored_is_read_back_and_known_to_the_next_writer() {
    for compression in
        [Compression::Default, Compression::Fast, Compression::Best, Compression::Off]
    {
        let root = tempfile::tempdir().unwrap();
        let repository = created(root.path());
        let cx = cx();
        let lock = lock(&repository);
        let options = WriterOptions { compression, ..WriterOptions::new(root.path()) };
        let indexed = load(&repository);
        let writer = Writer::new(Arc::clone(&indexed), &lock, options.clone()).unwrap();
        let mut tree = writer.begin_tree();
        for (n, content) in contents().iter().enumerate() {
            let saved = writer.save_data(&cx, content).unwrap();
            assert!(saved.new && saved.id == BlobId::of(content) && saved.stored >= 32);
            let mut blobs = Content::new();
            blobs.push(saved.id);
            tree.add(&cx, &file(format!("{n}"), blobs, content.len() as u64)).unwrap();
        }
        let tree = tree.finish(&cx).unwrap();
        let id = writer.commit(&cx, &snapshot(&cx, tree.id)).unwrap();
        let stats = writer.stats();
        assert_eq!((stats.data_new, stats.trees_new, stats.self_checked), (7, 1, 8));
        assert_eq!((stats.data_known, stats.trees_known), (0, 0));
        let stored: usize = contents().iter().map(Vec::len).sum();
        assert!(if compression == Compression::Off {
            stats.stored as usize > stored
        } else {
            (stats.stored as usize) < 4 << 20
        });

        let repository = reopened(root.path());
        let indexed = load(&repository);
        let mut buf = Vec::new();
        for content in contents() {
            let id = BlobId::of(&content);
            indexed.read_blob(&cx, BlobKind::Data, &id, &mut buf).unwrap();
            assert_eq!(buf, content);
            let len = indexed.plain_len(BlobKind::Data, &id);
            assert_eq!(len.unwrap() as usize, content.len());
        }
        let names: Vec<_> =
            indexed.tree(&cx, tree.id).unwrap().map(|node| node.unwrap().name).collect();
        assert_eq!(names, [b"0", b"1", b"2", b"3", b"4", b"5", b"6"]);

        let writer = Writer::new(Arc::clone(&indexed), &lock, options).unwrap();
        for content in contents() {
            let saved = writer.save_data(&cx, &content).unwrap();
            assert!(!saved.new && saved.stored == 0);
        }
        writer.abandon(&cx).unwrap();
        assert_eq!((writer.stats().data_known, writer.stats().packs), (7, 0));
        lock.release().unwrap();
        let (summary, findings) = check(&repository, true);
        assert_eq!(findings, []);
        assert_eq!((summary.snapshots, summary.trees, summary.nodes), (1, 1, 7));
        assert_eq!((summary.blobs, summary.blobs_read, summary.copies), (8, 8, 0));
        assert_eq!(repository.find_snapshot(&id.to_string()[..8]).unwrap(), id);
    }
}

#[test]
fn threads_that_store_the_same_blobs_store_each_once() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let indexed = load(&repository);
    let options = WriterOptions { pack_size: 4 << 20, ..WriterOptions::new(root.path()) };
    let writer = Writer::new(indexed, &lock, options).unwrap();
    let blobs: Vec<Vec<u8>> = (0..400).map(|n| noise(60_000 + n, n as u64)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (writer, blobs) = (&writer, &blobs);
            scope.spawn(move || {
                for n in 0..blobs.len() {
                    let n = (n * 7 + thread * 101) % blobs.len();
                    writer.save_data(&cx(), &blobs[n]).unwrap();
                }
            });
        }
    });
    let mut tree = writer.begin_tree();
    let mut content = Content::new();
    blobs.iter().for_each(|blob| content.push(BlobId::of(blob)));
    tree.add(&cx(), &file("all", content, 0)).unwrap();
    let tree = tree.finish(&cx()).unwrap();
    writer.commit(&cx(), &snapshot(&cx(), tree.id)).unwrap();
    let stats = writer.stats();
    assert_eq!((stats.data_new, stats.data_known), (400, 1200));
    assert!(stats.packs >= 6, "{}", stats.packs);
    lock.release().unwrap();
    let (summary, findings) = check(&reopened(root.path()), true);
    assert_eq!(findings, []);
    assert_eq!((summary.blobs, summary.copies, summary.packs), (401, 0, stats.packs));
}

#[test]
fn zeros_of_a_length_are_stored_once_and_then_cost_nothing() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let writer = writer(&load(&repository), &lock, root.path());
    for (len, new) in [(1 << 19, true), (8 << 20, true), (1 << 19, false), (8 << 20, false)] {
        let saved = writer.save_zeros(&cx(), len).unwrap();
        assert_eq!((saved.id, saved.new), (BlobId::of(&vec![0; len as usize]), new));
    }
    assert!(matches!(
        writer.save_zeros(&cx(), (128 << 20) + 1),
        Err(Error::Unrepresentable { .. })
    ));
    writer.abandon(&cx()).unwrap();
    assert!(writer.stats().stored < 2000);
}

/// Packs, then the index, then the snapshot, each durable before the next.
#[test]
fn a_snapshot_is_written_after_its_index_and_that_after_its_packs() {
    let root = tempfile::tempdir().unwrap();
    let store = Watched::new(root.path());
    let repository = init(Arc::clone(&store) as _);
    let lock = lock(&repository);
    let writer = writer(&load(&repository), &lock, root.path());
    store.take_log();
    writer.save_data(&cx(), b"content").unwrap();
    let tree = writer.begin_tree().finish(&cx()).unwrap();
    assert_eq!(store.take_log(), [""; 0]);
    writer.commit(&cx(), &snapshot(&cx(), tree.id)).unwrap();
    let log = store.take_log();
    let first = |what: &str| log.iter().position(|step| step == what).unwrap();
    let last = |what: &str| log.iter().rposition(|step| step == what).unwrap();
    let order = [
        last("put pack"),
        first("flush pack"),
        first("put index"),
        last("put index"),
        last("flush index"),
        first("put snapshot"),
        last("flush snapshot"),
    ];
    assert!(order.is_sorted(), "{log:?}");
    assert_eq!(log.iter().filter(|step| step.starts_with("put")).count(), 4, "{log:?}");
}

#[test]
fn after_a_failure_nothing_more_is_written() {
    for kind in [FileKind::Pack, FileKind::Index, FileKind::Snapshot] {
        let root = tempfile::tempdir().unwrap();
        let store = Watched::new(root.path());
        let repository = init(Arc::clone(&store) as _);
        let lock = lock(&repository);
        let writer = writer(&load(&repository), &lock, root.path());
        writer.save_data(&cx(), b"content").unwrap();
        let tree = writer.begin_tree().finish(&cx()).unwrap();
        store.fail_put_of(Some(kind));
        let failed = writer.commit(&cx(), &snapshot(&cx(), tree.id)).unwrap_err();
        assert_eq!(failed.to_string(), format!("put {kind}"));
        store.fail_put_of(None);
        store.take_log();
        let again = [
            writer.save_data(&cx(), b"more").map(|_| ()),
            writer.begin_tree().finish(&cx()).map(|_| ()),
            writer.abandon(&cx()),
            writer.commit(&cx(), &snapshot(&cx(), tree.id)).map(|_| ()),
        ];
        for result in again {
            assert_eq!(result.unwrap_err().to_string(), format!("put {kind}"));
        }
        assert_eq!(store.take_log(), [""; 0]);
        lock.release().unwrap();
        let (summary, findings) = check(&repository, true);
        assert!(findings.iter().all(|finding| !finding.class.is_damage()), "{findings:?}");
        assert_eq!(summary.snapshots, 0);
    }
}

#[test]
fn an_interrupted_run_keeps_what_it_stored_for_the_next() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let writer = writer(&load(&repository), &lock, root.path());
    let cancel = Cancel::default();
    let running = Cx::system(cancel.clone());
    writer.save_data(&running, b"content").unwrap();
    cancel.cancel();
    assert!(matches!(writer.save_data(&running, b"more"), Err(Error::Cancelled)));
    writer.abandon(&cx()).unwrap();
    let indexed = load(&reopened(root.path()));
    assert!(indexed.contains(BlobKind::Data, &BlobId::of(b"content")));
    assert!(!indexed.contains(BlobKind::Data, &BlobId::of(b"more")));
}

#[test]
fn a_snapshot_of_a_tree_that_is_not_stored_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let writer = writer(&load(&repository), &lock, root.path());
    let refused = writer.commit(&cx(), &snapshot(&cx(), BlobId([7; 32])));
    assert!(matches!(refused, Err(Error::Usage(_))));
    assert_eq!(fs::read_dir(root.path().join("repository/snapshots")).unwrap().count(), 0);
}

#[test]
fn a_lock_that_was_broken_stops_the_index_and_the_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let writer = writer(&load(&repository), &lock, root.path());
    let tree = writer.begin_tree().finish(&cx()).unwrap();
    for file in fs::read_dir(root.path().join("repository/locks")).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let refused = writer.commit(&cx(), &snapshot(&cx(), tree.id));
    assert!(matches!(refused, Err(Error::LockLost)), "{refused:?}");
    for folder in ["index", "snapshots"] {
        assert_eq!(fs::read_dir(root.path().join("repository").join(folder)).unwrap().count(), 0);
    }
}

#[test]
fn an_index_file_is_written_once_a_minute_while_packs_are() {
    let root = tempfile::tempdir().unwrap();
    let kit = alidade_testkit::TestCx::seeded(1);
    let repository = created(root.path());
    let lock = lock(&repository);
    let options = WriterOptions { pack_size: 4 << 20, ..WriterOptions::new(root.path()) };
    let writer = Writer::new(load(&repository), &lock, options).unwrap();
    let index_files = || fs::read_dir(root.path().join("repository/index")).unwrap().count();
    for n in 0..24 {
        writer.save_data(kit.cx(), &noise(1 << 20, n)).unwrap();
    }
    assert!(writer.stats().packs >= 4);
    assert_eq!(index_files(), 0);
    kit.clock().advance(Duration::from_secs(61));
    for n in 24..40 {
        writer.save_data(kit.cx(), &noise(1 << 20, n)).unwrap();
    }
    assert_eq!(index_files(), 1);
    writer.abandon(kit.cx()).unwrap();
    assert_eq!(index_files(), 2);
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_copy_of_a_blob_is_passed_over_for_a_whole_one() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    // Two writers that do not know of each other store the same twice.
    let (one, two) = (load(&repository), load(&repository));
    for indexed in [&one, &two] {
        let writer = writer(indexed, &lock, root.path());
        writer.save_data(&cx(), b"content").unwrap();
        let mut tree = writer.begin_tree();
        tree.add(&cx(), &Node::new("f", alidade_repository::NodeKind::Fifo)).unwrap();
        tree.finish(&cx()).unwrap();
        writer.abandon(&cx()).unwrap();
    }
    let indexed = load(&repository);
    let (pack, _) = indexed.place(BlobKind::Data, &BlobId::of(b"content")).unwrap();
    let name = pack.to_string();
    let path = root.path().join("repository/data").join(&name[..2]).join(&name);
    flip(&path, 20);
    let mut buf = Vec::new();
    indexed.read_blob(&cx(), BlobKind::Data, &BlobId::of(b"content"), &mut buf).unwrap();
    assert_eq!(buf, b"content");
    let (summary, findings) = check(&repository, true);
    assert_eq!((summary.copies, summary.damage), (2, 2), "{findings:?}");
    fs::remove_file(&path).unwrap();
    indexed.read_blob(&cx(), BlobKind::Data, &BlobId::of(b"content"), &mut buf).unwrap();
    let nothing = indexed.read_blob(&cx(), BlobKind::Tree, &BlobId::of(b"content"), &mut buf);
    assert!(matches!(nothing, Err(Error::NotFound { .. })));
}
