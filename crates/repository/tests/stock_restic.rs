//! Stock restic reads, checks and goes on with what we write, and we with what it writes.
//!
//! `testkit::peer` says where it is.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

use alidade_repository::{BlobId, BlobKind, Content, Indexed, NodeKind, Writer};
use support::*;

/// What restic prints; it must succeed.
fn restic(root: &Path, args: &[&str]) -> Vec<u8> {
    let output = Command::new(alidade_testkit::peer("restic"))
        .arg("--no-cache")
        .arg("--repo")
        .arg(root.join("repository"))
        .args(args)
        .env("RESTIC_PASSWORD", PASSWORD)
        .current_dir(root)
        .output()
        .expect("stock restic must run");
    assert!(
        output.status.success(),
        "restic {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn save_file(writer: &Writer, bytes: &[u8]) -> Content {
    let (mut content, mut batch) = (Content::new(), writer.batch().unwrap());
    batch.push(&cx(), bytes).unwrap();
    batch.end(&cx()).unwrap();
    batch.flush(&cx()).unwrap();
    while let Some(chunk) = batch.next_done() {
        content.push(chunk.id);
    }
    content
}

/// Names that are hard to write, in the order of their bytes.
fn files() -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut mixed = noise(2 << 20, 9);
    mixed.extend(vec![0; 5 << 20]);
    mixed.extend(text(3 << 20, 10));
    [
        (&b"empty"[..], Vec::new()),
        (b"mixed", mixed),
        (b"not \xFF utf-8 \xC3\xA4", b"a".to_vec()),
        (b"we\"ird\\ <&> \x01\n name", text(70_000, 11)),
        (b"zeros", vec![0; (8 << 20) + 5]),
    ]
    .into_iter()
    .map(|(name, bytes)| (name.to_vec(), bytes))
    .collect()
}

/// Stores `files` in `/data`, and below it a directory of 60,000 names, whose tree is more than
/// 8 MiB when sealed: a pack of its own, of a dozen frames.
fn store(root: &Path) {
    let repository = created(root);
    let lock = lock(&repository);
    let indexed = load(&repository);
    let writer = writer(&indexed, &lock, root);
    let cx = cx();
    let one = save_file(&writer, b"x");
    let mut large = writer.begin_tree();
    for n in 0..60_000 {
        let mut node = nth_file(n, &one, 1);
        node.xattrs = vec![("user.noise".to_owned(), noise(120, n))];
        large.add(&cx, &node).unwrap();
    }
    let large = large.finish(&cx).unwrap();
    assert!(large.stored > 8 << 20, "{}", large.stored);
    let mut data = writer.begin_tree();
    let mut nodes: Vec<_> = files()
        .into_iter()
        .map(|(name, bytes)| file(name, save_file(&writer, &bytes), bytes.len() as u64))
        .collect();
    nodes.push(directory("large", large.id));
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes.iter().for_each(|node| data.add(&cx, node).unwrap());
    let data = data.finish(&cx).unwrap();
    let mut top = writer.begin_tree();
    top.add(&cx, &directory("data", data.id)).unwrap();
    let top = top.finish(&cx).unwrap();
    writer.commit(&cx, &snapshot(&cx, top.id)).unwrap();
    lock.release().unwrap();
}

#[test]
fn stock_restic_checks_lists_dumps_and_restores_what_we_wrote() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    store(root);
    restic(root, &["check", "--read-data"]);
    let listed = restic(root, &["ls", "--json", "latest"]);
    assert_eq!(
        listed.iter().filter(|byte| **byte == b'\n').count(),
        60_000 + files().len() + 3,
        "with the line of the snapshot"
    );
    for (name, bytes) in files() {
        if let Ok(name) = std::str::from_utf8(&name) {
            assert!(restic(root, &["dump", "latest", &format!("/data/{name}")]) == bytes, "{name}");
        }
    }
    restic(root, &["restore", "latest", "--target", "restored", "--exclude", "/data/large"]);
    for (name, bytes) in files() {
        let path = root.join("restored/data").join(OsStr::from_bytes(&name));
        assert!(fs::read(path).unwrap() == bytes, "{}", name.escape_ascii());
    }
    restic(
        root,
        &["restore", "latest", "--target", "one", "--include", "/data/large/file 00059999"],
    );
    assert_eq!(fs::read(root.join("one/data/large/file 00059999")).unwrap(), b"x");

    // It goes on with it: another snapshot, and a prune that rewrites packs.
    fs::create_dir(root.join("more")).unwrap();
    fs::write(root.join("more/file"), text(100_000, 12)).unwrap();
    restic(root, &["backup", "more"]);
    let ours = restic(root, &["snapshots", "--json", "--path", "/data"]);
    assert!(String::from_utf8(ours).unwrap().contains(r#""paths":["/data"]"#));
    restic(root, &["prune", "--max-unused", "0"]);
    restic(root, &["check", "--read-data"]);
    let (summary, findings) = check(&reopened(root), true);
    assert_eq!(findings, []);
    assert_eq!(summary.snapshots, 2);
}

/// Path and content of every file below a tree.
fn read_files(indexed: &Indexed, tree: BlobId, path: &Path, all: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    for node in indexed.tree(&cx(), tree).unwrap() {
        let node = node.unwrap();
        let path = path.join(OsStr::from_bytes(&node.name));
        match node.kind {
            NodeKind::Dir => read_files(indexed, node.subtree.unwrap(), &path, all),
            NodeKind::File => {
                let (mut bytes, mut blob) = (Vec::new(), Vec::new());
                for id in node.content.unwrap().iter() {
                    indexed.read_blob(&cx(), BlobKind::Data, &id, &mut blob).unwrap();
                    bytes.extend_from_slice(&blob);
                }
                all.insert(path.as_os_str().as_bytes().to_vec(), bytes);
            }
            _ => {}
        }
    }
}

#[test]
fn we_check_read_and_go_on_with_what_stock_restic_wrote() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let source = root.join("source");
    fs::create_dir(&source).unwrap();
    for (name, bytes) in files() {
        fs::write(source.join(OsStr::from_bytes(&name)), bytes).unwrap();
    }
    let many = source.join("many");
    fs::create_dir(&many).unwrap();
    for n in 0..3_000 {
        fs::write(many.join(format!("a file with a long name, number {n:0100}")), b"x").unwrap();
    }
    restic(root, &["init"]);
    restic(root, &["backup", "source"]);
    let repository = reopened(root);
    let (summary, findings) = check(&repository, true);
    assert_eq!(findings, []);
    assert_eq!(summary.snapshots, 1);
    let listed = restic(root, &["snapshots", "--json"]);
    let listed = String::from_utf8(listed).unwrap();
    let (_, tree) = listed.split_once(r#""tree":""#).unwrap();
    let tree: BlobId = tree[..64].parse().unwrap();
    let indexed = load(&repository);
    let mut read = BTreeMap::new();
    read_files(&indexed, tree, Path::new(""), &mut read);
    assert_eq!(read.len(), 3_000 + files().len());
    for (name, bytes) in files() {
        let path = [b"source/", &name[..]].concat();
        assert!(read[&path] == bytes, "{}", name.escape_ascii());
    }

    // The same nodes written by us are the same tree.
    let lock = lock(&repository);
    let writer = writer(&indexed, &lock, root);
    let mut open = vec![tree];
    while let Some(id) = open.pop() {
        let mut again = writer.begin_tree();
        for node in indexed.tree(&cx(), id).unwrap() {
            let node = node.unwrap();
            open.extend(node.subtree);
            again.add(&cx(), &node).unwrap();
        }
        assert_eq!(again.finish(&cx()).unwrap().id, id);
    }
    assert_eq!((writer.stats().trees_new, writer.stats().trees_known), (0, 3));
    let content = save_file(&writer, &text(2 << 20, 77));
    let mut top = writer.begin_tree();
    top.add(&cx(), &file("ours", content, 2 << 20)).unwrap();
    let top = top.finish(&cx()).unwrap();
    writer.commit(&cx(), &snapshot(&cx(), top.id)).unwrap();
    lock.release().unwrap();
    restic(root, &["check", "--read-data"]);
    assert_eq!(check(&reopened(root), true).1, []);
}
