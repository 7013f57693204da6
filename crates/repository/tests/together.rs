//! Blobs that are read together, wherever they lie and however they were stored.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use alidade_repository::{BlobId, BlobKind, Blobs};
use support::*;

/// What some blobs hold: noise, which is stored as it is, and text, which is compressed, of many lengths
/// and alternating; then stretches of one of them alone.
fn contents() -> Vec<Vec<u8>> {
    let mixed = (0..60u64).map(|n| {
        let len = 1 + (n as usize * 7919) % 200_000;
        if n % 3 == 0 { noise(len, n) } else { text(len, n) }
    });
    let raw = (100..104).map(|n| noise(3 << 20, n));
    let folded = (200..204).map(|n| text(2 << 20, n));
    mixed.chain(raw).chain(folded).chain([Vec::new()]).collect()
}

#[test]
fn what_is_read_together_is_what_was_stored_and_the_memory_can_be_used_again() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let indexed = load(&repository);
    let writer = writer(&indexed, &lock, root.path());
    let contents = contents();
    for content in &contents {
        writer.save_data(&cx(), content).unwrap();
    }
    let tree = writer.begin_tree().finish(&cx()).unwrap();
    writer.commit(&cx(), &snapshot(&cx(), tree.id)).unwrap();
    lock.release().unwrap();

    let indexed = load(&reopened(root.path()));
    let ids: Vec<BlobId> = contents.iter().map(|content| BlobId::of(content)).collect();
    let mut blobs = Blobs::default();
    let (few, many) = (&ids[10..13], ids.as_slice());
    let unknown = [BlobId([7; 32]), ids[0], ids[0]];
    for wanted in [few, many, &ids[60..64], &ids[64..], &unknown, many, &[], few] {
        indexed.read_blobs(&cx(), wanted, &mut blobs).unwrap();
        for (id, content) in ids.iter().zip(&contents) {
            let found = blobs.find(id).map(|range| blobs.bytes(range));
            assert_eq!(found, wanted.contains(id).then_some(content.as_slice()), "{id}");
        }
        assert!(blobs.find(&unknown[0]).is_none());
    }
}

#[test]
fn a_blob_that_is_damaged_is_left_out_and_those_beside_it_are_read() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let indexed = load(&repository);
    let writer = writer(&indexed, &lock, root.path());
    let contents: Vec<_> =
        (0..12).map(|n| if n % 2 == 0 { noise(90_000, n) } else { text(90_000, n) }).collect();
    for content in &contents {
        writer.save_data(&cx(), content).unwrap();
    }
    let tree = writer.begin_tree().finish(&cx()).unwrap();
    writer.commit(&cx(), &snapshot(&cx(), tree.id)).unwrap();
    lock.release().unwrap();

    let indexed = load(&reopened(root.path()));
    let ids: Vec<BlobId> = contents.iter().map(|content| BlobId::of(content)).collect();
    for damaged in [4, 5] {
        let (pack, at) = indexed.place(BlobKind::Data, &ids[damaged]).unwrap();
        let name = pack.to_string();
        let path = root.path().join("repository/data").join(&name[..2]).join(&name);
        flip(&path, at as usize + 100);
        let mut blobs = Blobs::default();
        indexed.read_blobs(&cx(), &ids, &mut blobs).unwrap();
        for (n, (id, content)) in ids.iter().zip(&contents).enumerate() {
            let found = blobs.find(id).map(|range| blobs.bytes(range));
            assert_eq!(found, (n != damaged).then_some(content.as_slice()), "{n} of {damaged}");
        }
        flip(&path, at as usize + 100);
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}
