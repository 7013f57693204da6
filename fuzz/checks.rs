//! What must hold for any bytes, one function a decoder. The fuzz targets call these with bytes of
//! their own making; a test of `crates/repository` calls them with the committed corpora.
//!
//! A decoder may refuse. What it accepts must come out the same when it is written and read again,
//! and nothing may panic or grow beyond its bound.

#![allow(dead_code, reason = "each target uses one of them")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "this is what finds faults")]

use std::io::Read as _;
use std::sync::OnceLock;

use alidade_entity::{Cancel, Cx};
use alidade_repository::config::{Config, Found};
use alidade_repository::crypto::MasterKey;
use alidade_repository::envelope::{Unpacked, decode_unpacked};
use alidade_repository::index_file::{self, PackInIndex};
use alidade_repository::key::KeyFile;
use alidade_repository::pack_header;
use alidade_repository::snapshot::Snapshot;
use alidade_repository::tree_codec::{Order, PREFIX, SUFFIX, TreeDecoder, encode_node};
use alidade_repository::{
    Content, LockFile, Node, NodeHead, NodeKind, NodeText, TreeCursor, quote, time,
};

/// Most bytes the check of unpacked files accepts.
const MAX: usize = 1 << 20;

/// A key file.
pub fn key(data: &[u8]) {
    let Ok(file) = KeyFile::decode(data) else { return };
    let again = KeyFile::decode(&file.encode()).expect("what was read reads again");
    assert_eq!(again.encode(), file.encode());
    let work = u64::from(file.kdf.n) * u64::from(file.kdf.r) * u64::from(file.kdf.p);
    if work <= 1 << 8 {
        let _opened = file.open(b"password");
    }
}

/// The plain JSON of a config.
pub fn config(data: &[u8]) {
    let Ok(Found::Known(config)) = Config::decode(data) else { return };
    assert_eq!(Config::decode(&config.encode()).unwrap(), Found::Known(config));
}

/// The plain header of a pack, and the field before it.
pub fn pack_header(data: &[u8]) {
    if let Some((field, rest)) = data.split_first_chunk() {
        let _len = pack_header::sealed_len(*field, rest.len() as u64);
    }
    let Ok(entries) = pack_header::decode(data) else { return };
    let again = pack_header::encode(&entries);
    assert_eq!(again.len() as u64 + 36, pack_header::trailer_len(&entries));
    assert_eq!(pack_header::decode(&again).unwrap(), entries);
}

/// The JSON of an index.
pub fn index(data: &[u8]) {
    let read = |json: &[u8]| {
        let mut packs: Vec<PackInIndex> = Vec::new();
        let end = index_file::decode(json, |pack| {
            packs.push(pack.clone());
            Ok(())
        });
        (packs, end.is_ok())
    };
    let (packs, _) = read(data);
    let mut again = Vec::new();
    index_file::encode(&packs, &mut again).unwrap();
    assert_eq!(read(&again), (packs, true));
}

/// The JSON of a tree.
pub fn tree(data: &[u8]) {
    for order in [Order::Ascending, Order::Any] {
        let mut last: Vec<u8> = Vec::new();
        for node in TreeDecoder::new(data, order).flatten() {
            assert!(!node.name.is_empty() && !node.name.contains(&b'/') && node.name != b"..");
            assert!(order == Order::Any || last < node.name);
            let text = tree_of(&node);
            let mut read = TreeDecoder::new(text.as_slice(), order);
            let again = read.next().unwrap().expect("what was read reads again");
            assert!(read.next().is_none());
            // Times of years that cannot be written were moved to the nearest that can.
            assert_eq!(tree_of(&again), text);
            last = node.name;
        }
    }
    tree_as_text(data);
}

/// A tree that reads whole has the same nodes when it is gone through as text, and a node that is found
/// the same there is, byte for byte, what would be written.
fn tree_as_text(data: &[u8]) {
    let Some(mut cursor) = TreeCursor::over(data.to_vec()) else { return };
    let read: Result<Vec<Node>, _> = TreeDecoder::new(data, Order::Ascending).collect();
    for node in read.iter().flatten() {
        let (mut text, mut ids) = (Vec::new(), Vec::new());
        NodeHead::from(node).encode(&mut text);
        let (has_content, has_tree) = (node.kind == NodeKind::File, node.kind == NodeKind::Dir);
        let head = NodeText { name: &node.name, text: &text, has_content, has_tree };
        if let Some(same) = cursor.same(&head, &mut ids) {
            assert_eq!(tree_of(node), [PREFIX, same.json(), SUFFIX].concat());
            assert_eq!(same.subtree(), node.subtree);
            let content: Vec<_> = node.content.iter().flat_map(Content::iter).collect();
            assert_eq!(ids, content.iter().flat_map(|id| id.0).collect::<Vec<u8>>());
        } else {
            assert_eq!(cursor.next_node().unwrap().unwrap(), *node);
        }
    }
    let rest = std::iter::from_fn(|| cursor.next_node()).take(data.len() + 2).count();
    assert!(rest <= data.len() + 1 && (read.is_err() || rest == 0));
}

fn tree_of(node: &Node) -> Vec<u8> {
    let mut out = PREFIX.to_vec();
    encode_node(node, &mut out).unwrap();
    out.extend_from_slice(SUFFIX);
    out
}

/// The JSON of a snapshot.
pub fn snapshot(data: &[u8]) {
    let Ok(snapshot) = Snapshot::decode(data) else { return };
    let text = snapshot.encode();
    let again = Snapshot::decode(&text).expect("what was read reads again");
    assert_eq!(again.encode(), text);
}

/// The JSON of a lock.
pub fn lock(data: &[u8]) {
    let Ok(lock) = LockFile::decode(data) else { return };
    let text = lock.encode();
    let again = LockFile::decode(&text).expect("what was read reads again");
    // A time of a year that cannot be written was moved to the nearest that can.
    assert_eq!(again.encode(), text);
    assert_eq!(LockFile { time: again.time, ..lock }, again);
}

/// An index, snapshot or lock as it is stored: sealed, and what was in the envelope.
pub fn unpacked(data: &[u8]) {
    static KEY: OnceLock<(Cx, MasterKey)> = OnceLock::new();
    let (cx, key) = KEY
        .get_or_init(|| (Cx::system(Cancel::default()), MasterKey::from_bytes(&[7; 64]).unwrap()));
    assert!(key.open(data).is_err(), "a MAC was guessed");
    let opened = decode_unpacked(key, &key.seal(cx, data).unwrap(), MAX);
    assert!(opened.as_ref().map_or(0, Vec::len) <= MAX);
    let mut streamed = Vec::new();
    let Ok(reader) = Unpacked::of(data) else { return };
    let end = reader.take(MAX as u64 + 1).read_to_end(&mut streamed);
    if let Ok(opened) = opened {
        assert!(end.is_ok() && streamed == opened);
    }
}

/// Names, and the texts of times.
pub fn names(data: &[u8]) {
    let mut text = Vec::new();
    quote::quote(data, &mut text);
    let text = String::from_utf8(text).unwrap();
    assert_eq!(quote::unquote(&text).as_deref(), Some(data));
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(name) = quote::unquote(text) {
        let mut again = Vec::new();
        quote::quote(&name, &mut again);
        assert_eq!(quote::unquote(std::str::from_utf8(&again).unwrap()), Some(name));
    }
    if let Some(read) = time::parse(text) {
        let again = time::to_text(read);
        assert_eq!(time::to_text(time::parse(&again).unwrap()), again);
    }
}
