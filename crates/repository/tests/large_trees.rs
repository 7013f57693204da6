//! Trees of any size, in memory that does not grow with them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use alidade_repository::{BlobId, BlobKind, Content, Error, Node, Repository, Writer};
use support::*;

/// Says in the child process of a test what it is to do, and where.
const CHILD: &str = "ALIDADE_TEST_CHILD";

/// One blob, stored, as the content of many files.
fn one_blob(writer: &Writer) -> Content {
    let mut content = Content::new();
    content.push(writer.save_data(&cx(), b"x").unwrap().id);
    content
}

/// Ids that do not compress, so that the tree is as long sealed as may be.
fn with_noise(n: u64, content: &Content) -> Node {
    let mut node = nth_file(n, content, 1);
    node.xattrs = vec![("user.noise".to_owned(), noise(120, n))];
    node
}

fn store_directory(root: &Path, count: u64, node: impl Fn(u64, &Content) -> Node) -> BlobId {
    let repository = created(root);
    let lock = lock(&repository);
    let writer = writer(&load(&repository), &lock, root);
    let content = one_blob(&writer);
    let mut tree = writer.begin_tree();
    for n in 0..count {
        tree.add(&cx(), &node(n, &content)).unwrap();
    }
    let large = tree.finish(&cx()).unwrap();
    assert!(large.new);
    let mut top = writer.begin_tree();
    top.add(&cx(), &directory("large", large.id)).unwrap();
    let top = top.finish(&cx()).unwrap();
    writer.commit(&cx(), &snapshot(&cx(), top.id)).unwrap();
    lock.release().unwrap();
    large.id
}

fn read_directory(
    repository: &Arc<Repository>,
    tree: BlobId,
    count: u64,
    node: impl Fn(u64, &Content) -> Node,
) {
    let mut content = Content::new();
    content.push(BlobId::of(b"x"));
    let mut read = 0;
    for found in load(repository).tree(&cx(), tree).unwrap() {
        assert_eq!(found.unwrap(), node(read, &content));
        read += 1;
    }
    assert_eq!(read, count);
}

#[test]
fn a_tree_of_many_frames_reads_back_and_shares_a_pack_or_has_one_alone() {
    // 3,000 nodes are more than 1 MiB of JSON; 60,000 with noise more than 8 MiB sealed.
    for (count, packs) in [(3_000, 2), (60_000, 3)] {
        let root = tempfile::tempdir().unwrap();
        let tree = store_directory(root.path(), count, with_noise);
        let repository = reopened(root.path());
        read_directory(&repository, tree, count, with_noise);
        let (summary, findings) = check(&repository, true);
        assert_eq!(findings, []);
        assert_eq!((summary.packs, summary.trees, summary.nodes), (packs, 2, count + 1));
        if packs == 3 {
            assert!(summary.pack_bytes > 8 << 20, "{}", summary.pack_bytes);
        }
        // Nothing is left of the scratch file.
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_large_tree_that_is_known_is_not_stored_again() {
    let root = tempfile::tempdir().unwrap();
    let tree = store_directory(root.path(), 60_000, with_noise);
    let repository = reopened(root.path());
    let lock = lock(&repository);
    let writer = writer(&load(&repository), &lock, root.path());
    let content = one_blob(&writer);
    let mut again = writer.begin_tree();
    for n in 0..60_000 {
        again.add(&cx(), &with_noise(n, &content)).unwrap();
    }
    let again = again.finish(&cx()).unwrap();
    assert_eq!((again.id, again.new, again.stored), (tree, false, 0));
    writer.abandon(&cx()).unwrap();
    assert_eq!((writer.stats().trees_known, writer.stats().packs), (1, 0));
}

/// 200 trees of some 300 KiB each: 60 MB, four times what all may hold together.
#[test]
fn many_unfinished_trees_spill_and_are_all_whole_in_the_end() {
    if let Ok(task) = std::env::var(CHILD) {
        let root = Path::new(task.split_once(' ').unwrap().1);
        write_side_by_side(root);
        return report_peak(root);
    }
    let root = tempfile::tempdir().unwrap();
    let test = "many_unfinished_trees_spill_and_are_all_whole_in_the_end";
    let peak = peak_of_child(test, "write", root.path());
    println!("{peak} MiB");
    assert!(peak <= 64, "{peak} MiB");
    // Its threads take memory of their own.
    assert_eq!(check(&reopened(root.path()), true).1, []);
}

fn write_side_by_side(root: &Path) {
    let repository = created(root);
    let lock = lock(&repository);
    let writer = writer(&load(&repository), &lock, root);
    let content = one_blob(&writer);
    let mut trees: Vec<_> = (0..200).map(|_| writer.begin_tree()).collect();
    for n in 0..600 {
        for (at, tree) in trees.iter_mut().enumerate() {
            let mut node = with_noise(n, &content);
            node.inode = at as u64;
            tree.add(&cx(), &node).unwrap();
        }
    }
    let ids: Vec<_> = trees.into_iter().map(|tree| tree.finish(&cx()).unwrap().id).collect();
    let mut top = writer.begin_tree();
    for (at, id) in ids.iter().enumerate() {
        top.add(&cx(), &directory(&format!("{at:03}"), *id)).unwrap();
    }
    let top = top.finish(&cx()).unwrap();
    writer.commit(&cx(), &snapshot(&cx(), top.id)).unwrap();
    lock.release().unwrap();
    let indexed = load(&repository);
    for (at, id) in ids.iter().enumerate() {
        let nodes: Vec<_> = indexed.tree(&cx(), *id).unwrap().map(Result::unwrap).collect();
        assert_eq!(nodes.len(), 600);
        assert!(nodes.iter().all(|node| node.inode == at as u64));
    }
}

#[test]
fn a_tree_that_is_given_up_leaves_nothing_and_others_go_on() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let writer = writer(&load(&repository), &lock, root.path());
    let content = one_blob(&writer);
    let mut dropped = writer.begin_tree();
    let mut kept = writer.begin_tree();
    for n in 0..5_000 {
        dropped.add(&cx(), &with_noise(n, &content)).unwrap();
        kept.add(&cx(), &with_noise(n + 1, &content)).unwrap();
    }
    let again = kept.add(&cx(), &with_noise(1, &content));
    assert!(matches!(again, Err(Error::Usage(_))), "{again:?}");
    drop(dropped);
    let kept = kept.finish(&cx()).unwrap();
    writer.commit(&cx(), &snapshot(&cx(), kept.id)).unwrap();
    assert_eq!((writer.stats().trees_new, writer.stats().trees_known), (1, 0));
    lock.release().unwrap();
    assert_eq!(check(&repository, true).1, []);
}

#[test]
fn an_empty_tree_is_stored_as_restic_stores_it() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let indexed = load(&repository);
    let writer = writer(&indexed, &lock, root.path());
    let tree = writer.begin_tree().finish(&cx()).unwrap();
    assert_eq!(tree.id, BlobId::of(b"{\"nodes\":[]}\n"));
    writer.abandon(&cx()).unwrap();
    assert_eq!(indexed.tree(&cx(), tree.id).unwrap().count(), 0);
}

/// A file of 200,000 blobs, each its own run: the JSON of the one node is 13 MB.
#[test]
fn a_node_of_any_length_is_encoded_in_pieces() {
    let root = tempfile::tempdir().unwrap();
    let mut content = Content::new();
    (0..200_000u32).for_each(|n| content.push(BlobId::of(&n.to_le_bytes())));
    let repository = created(root.path());
    let lock = lock(&repository);
    let indexed = load(&repository);
    let writer = writer(&indexed, &lock, root.path());
    let mut tree = writer.begin_tree();
    tree.add(&cx(), &file("image", content.clone(), 1 << 40)).unwrap();
    let saved = tree.finish(&cx()).unwrap();
    assert!(saved.stored > 6 << 20, "{}", saved.stored);
    writer.abandon(&cx()).unwrap();
    let nodes: Vec<_> = indexed.tree(&cx(), saved.id).unwrap().map(Result::unwrap).collect();
    assert_eq!(nodes[0].content, Some(content));
}

/// Runs this very test again in a process of its own and returns the most memory it had, in MiB.
fn peak_of_child(test: &str, role: &str, root: &Path) -> u64 {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{role} {}", root.display()))
        .status()
        .unwrap();
    assert!(status.success(), "{role}");
    let peak = std::fs::read_to_string(root.join("peak")).unwrap();
    peak.trim().parse().unwrap()
}

/// What a child had in memory at most, in MiB.
fn report_peak(root: &Path) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    std::fs::write(root.join("peak"), (kib / 1024).to_string()).unwrap();
}

#[test]
fn a_million_nodes_are_written_read_and_checked_in_little_memory() {
    const NODES: u64 = 1_000_000;
    let node = |n, content: &Content| nth_file(n, content, 1);
    if let Ok(task) = std::env::var(CHILD) {
        let (role, root) = task.split_once(' ').unwrap();
        let root = Path::new(root);
        match role {
            "write" => {
                let tree = store_directory(root, NODES, node);
                std::fs::write(root.join("tree"), tree.to_string()).unwrap();
            }
            "read" => {
                let tree = std::fs::read_to_string(root.join("tree")).unwrap();
                read_directory(&reopened(root), tree.parse().unwrap(), NODES, node);
            }
            _ => {
                let (summary, findings) = check(&reopened(root), true);
                assert_eq!(findings, []);
                assert_eq!(summary.nodes, NODES + 1);
            }
        }
        return report_peak(root);
    }
    let root = tempfile::tempdir().unwrap();
    let test = "a_million_nodes_are_written_read_and_checked_in_little_memory";
    for (role, most) in [("write", 24), ("read", 16), ("check", 24)] {
        let peak = peak_of_child(test, role, root.path());
        println!("{role}: {peak} MiB");
        assert!(peak <= most, "{role} took {peak} MiB, more than {most}");
    }
    let indexed = load(&reopened(root.path()));
    let tree = std::fs::read_to_string(root.path().join("tree")).unwrap().parse().unwrap();
    assert!(indexed.plain_len(BlobKind::Tree, &tree).unwrap() > 300_000_000);
}
