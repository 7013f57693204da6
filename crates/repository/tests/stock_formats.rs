//! What stock restic writes is read, and every file and tree of it is written again byte for byte.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use alidade_repository::config::{Config, Found};
use alidade_repository::crypto::MasterKey;
use alidade_repository::index_file::{self, PackInIndex};
use alidade_repository::key::{KeyFile, Opening};
use alidade_repository::pack_header::{self, HeaderEntry, LENGTH_LEN};
use alidade_repository::snapshot::Snapshot;
use alidade_repository::tree_codec::{Order, PREFIX, SEPARATOR, SUFFIX, TreeDecoder, encode_node};
use alidade_repository::{BlobId, BlobKind, FileId, Node, NodeKind, envelope};

const MAX: usize = 64 << 20;

/// A source tree and what stock restic made of it.
struct Stock {
    folder: tempfile::TempDir,
}

impl Stock {
    fn new(fill: impl Fn(&Path)) -> Self {
        let stock = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(stock.source()).unwrap();
        fill(&stock.source());
        stock.restic(&["init", "--quiet"]);
        stock
    }

    fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    fn restic(&self, arguments: &[&str]) {
        self.restic_in("UTC", arguments);
    }

    /// Stock restic writes times with the offset of the zone it runs in.
    fn restic_in(&self, zone: &str, arguments: &[&str]) {
        let run = Command::new(alidade_testkit::peer("restic"))
            .args(["--no-cache", "--repo"])
            .arg(self.repository())
            .args(arguments)
            .env("RESTIC_PASSWORD", "secret")
            .env("TZ", zone)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "restic {arguments:?}: {errors}");
    }

    /// All files of a kind: path and bytes.
    fn files(&self, kind: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.repository().join(kind)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = fs::read(&path).unwrap();
                    assert_eq!(path.file_name().unwrap(), &*FileId::of(&bytes).to_string());
                    found.push((path, bytes));
                }
            }
        }
        assert!(!found.is_empty(), "no {kind}");
        found
    }

    fn master_key(&self) -> MasterKey {
        let (_, bytes) = self.files("keys").remove(0);
        let file = KeyFile::decode(&bytes).unwrap();
        assert_eq!(file.encode(), bytes);
        assert!(matches!(file.open(b"wrong").unwrap(), Opening::WrongPassword));
        match file.open(b"secret").unwrap() {
            Opening::Key(key) => key,
            Opening::WrongPassword => panic!("its own password does not open it"),
        }
    }

    /// All nodes of all trees, each tree having been written again as it was.
    fn nodes(&self) -> Vec<Node> {
        self.nodes_of(|plain| {
            let nodes = read_tree(plain);
            same(&encode_tree(&nodes), plain);
            nodes
        })
    }

    fn nodes_of(&self, mut read_tree: impl FnMut(&[u8]) -> Vec<Node>) -> Vec<Node> {
        let key = self.master_key();
        let index = self.index(&key);
        let mut nodes = Vec::new();
        for (path, bytes) in self.files("data") {
            let id: FileId = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let header = read_header(&key, &bytes);
            assert_eq!(index[&id], header);
            for entry in &header {
                let plain = read_blob(&key, &bytes, entry);
                if entry.kind == BlobKind::Tree {
                    nodes.extend(read_tree(&plain));
                }
            }
        }
        nodes
    }

    fn index(&self, key: &MasterKey) -> BTreeMap<FileId, Vec<HeaderEntry>> {
        let mut all = BTreeMap::new();
        for (_, bytes) in self.files("index") {
            let json = envelope::decode_unpacked(key, &bytes, MAX).unwrap();
            let mut packs: Vec<PackInIndex> = Vec::new();
            index_file::decode(json.as_slice(), |pack| {
                packs.push(pack.clone());
                Ok(())
            })
            .unwrap();
            let mut again = Vec::new();
            index_file::encode(&packs, &mut again).unwrap();
            assert_eq!(again, json);
            all.extend(packs.into_iter().map(|pack| (pack.id, pack.blobs)));
        }
        all
    }
}

fn read_header(key: &MasterKey, pack: &[u8]) -> Vec<HeaderEntry> {
    let (body, field) = pack.split_last_chunk::<LENGTH_LEN>().unwrap();
    let sealed_len = pack_header::sealed_len(*field, pack.len() as u64).unwrap();
    let plain = key.open(&body[body.len() - sealed_len..]).unwrap();
    let entries = pack_header::decode(&plain).unwrap();
    assert_eq!(pack_header::encode(&entries), plain);
    let blobs: u64 = entries.iter().map(|entry| u64::from(entry.len)).sum();
    assert_eq!(blobs + pack_header::trailer_len(&entries), pack.len() as u64);
    entries
}

fn read_blob(key: &MasterKey, pack: &[u8], entry: &HeaderEntry) -> Vec<u8> {
    let sealed = &pack[entry.offset as usize..(entry.offset + entry.len) as usize];
    let mut plain = key.open(sealed).unwrap();
    if let Some(len) = entry.plain_len {
        plain = zstd::bulk::decompress(&plain, len as usize).unwrap();
    }
    assert_eq!(Some(plain.len()), entry.content_len().map(|len| len as usize));
    assert_eq!(BlobId::of(&plain), entry.id);
    plain
}

fn read_tree(plain: &[u8]) -> Vec<Node> {
    TreeDecoder::new(plain, Order::Ascending).map(Result::unwrap).collect()
}

fn encode_tree(nodes: &[Node]) -> Vec<u8> {
    let mut tree = PREFIX.to_vec();
    for (at, node) in nodes.iter().enumerate() {
        if at > 0 {
            tree.extend_from_slice(SEPARATOR);
        }
        encode_node(node, &mut tree).unwrap();
    }
    tree.extend_from_slice(SUFFIX);
    tree
}

/// Compares texts that are too long to be shown whole.
fn same(ours: &[u8], theirs: &[u8]) {
    if ours != theirs {
        let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
        let near = |text: &[u8]| {
            let window = &text[at.saturating_sub(60).min(text.len())..(at + 60).min(text.len())];
            String::from_utf8_lossy(window).into_owned()
        };
        panic!("they differ at byte {at}\n  ours: {}\ntheirs: {}", near(ours), near(theirs));
    }
}

/// Every byte alone, and characters on both sides of every border that Go's table of printable
/// ones may have: all that are no letters, marks, digits or signs for Rust, and their neighbours.
fn odd_names() -> Vec<OsString> {
    let bytes = (1..=255_u8).filter(|byte| !b"./".contains(byte)).map(|byte| vec![b'b', byte]);
    let mut chars: Vec<char> = Vec::new();
    let shown = |c: char| c.escape_debug().len() == 1;
    for (a, b) in ('\u{80}'..=char::MAX).zip('\u{81}'..=char::MAX) {
        if shown(a) != shown(b) {
            chars.extend([a, b]);
        }
    }
    chars.extend((0..2000).filter_map(|n| char::from_u32(n * 557 % 0x11_0000)));
    chars.retain(|c| !"\0/".contains(*c));
    chars.sort_unstable();
    chars.dedup();
    let chars = chars.into_iter().map(|c| format!("c{c}").into_bytes());
    let more = ["<a>&b", "we\"ird\\name", "line\nbreak", "a\u{2028}b", "ſ", " ", "..."];
    let long = vec![b'n'; 255];
    let more = more.into_iter().map(|name| name.as_bytes().to_vec()).chain([long]);
    bytes.chain(chars).chain(more).map(OsString::from_vec).collect()
}

#[test]
fn trees_of_odd_names_are_written_again_byte_for_byte() {
    let names = odd_names();
    assert!(names.len() > 3000, "{}", names.len());
    let stock = Stock::new(|source| {
        for name in &names {
            fs::write(source.join(name), []).unwrap();
        }
    });
    stock.restic(&["backup", "--quiet", "source"]);
    let mut read: Vec<_> = stock.nodes().into_iter().map(|node| node.name).collect();
    let mut expected: Vec<_> = names.into_iter().map(OsString::into_vec).collect();
    expected.push(b"source".to_vec());
    read.sort();
    expected.sort();
    assert_eq!(read, expected);
}

fn run(program: &str, arguments: &[&OsStr]) {
    let run = Command::new(program).args(arguments).output().unwrap();
    assert!(run.status.success(), "{program}: {}", String::from_utf8_lossy(&run.stderr));
}

/// Sockets are missing: stock restic passes them over.
#[test]
fn every_kind_of_node_and_every_file_is_written_again_byte_for_byte() {
    let stock = Stock::new(|source| {
        let text = source.join("text");
        fs::write(&text, "some content\n".repeat(1000)).unwrap();
        fs::write(source.join("zeros"), vec![0; 5 << 20]).unwrap();
        fs::write(source.join("empty"), []).unwrap();
        fs::hard_link(&text, source.join("again")).unwrap();
        fs::create_dir_all(source.join("folder/below")).unwrap();
        let link = |to: &[u8], name: &str| {
            std::os::unix::fs::symlink(OsStr::from_bytes(to), source.join(name)).unwrap();
        };
        link(b"text", "link");
        link(b"bad\xff\xfe\x08<&>\xe2\x80\xa8", "bad link");
        run("mkfifo", &[source.join("fifo").as_os_str()]);
        let set = |name: &str, value: &str| {
            run("setfattr", &["-n", name, "-v", value, text.to_str().unwrap()].map(OsStr::new));
        };
        set("user.empty", "");
        set("user.binary", "0x00ff3c3e26");
        set("user.<odd>", "x");
        for (name, time) in
            [("empty", "1901-12-31 23:59:59.000000001"), ("folder", "2204-02-29 12:00:00.5")]
        {
            run("touch", &["-d", time, source.join(name).to_str().unwrap()].map(OsStr::new));
        }
    });
    stock.restic(&["backup", "--quiet", "--tag", "a,<b>", "--exclude", "*.o", "source"]);
    fs::write(stock.source().join("text"), "other").unwrap();
    stock.restic(&["backup", "--quiet", "--compression", "off", "source"]);
    let nodes = stock.nodes();
    let kinds = [NodeKind::File, NodeKind::Dir, NodeKind::Symlink, NodeKind::Fifo];
    for kind in kinds {
        assert!(nodes.iter().any(|node| node.kind == kind), "{kind:?}");
    }
    let text = nodes.iter().find(|node| node.name == b"text").unwrap();
    assert!(text.xattrs.contains(&("user.binary".to_owned(), b"\x00\xff<>&".to_vec())));

    let key = stock.master_key();
    let config = fs::read(stock.repository().join("config")).unwrap();
    let config = key.open(&config).unwrap();
    let Found::Known(read) = Config::decode(&config).unwrap() else { panic!("an unknown version") };
    assert_eq!(read.encode(), config);
    for (_, bytes) in stock.files("snapshots") {
        let json = envelope::decode_unpacked(&key, &bytes, MAX).unwrap();
        let snapshot = Snapshot::decode(&json).unwrap();
        assert_eq!(snapshot.encode(), json);
        assert!(snapshot.summary.is_some());
    }
}

/// A time zone file that says +05:30 always, so that no zone data need be installed: counts of six
/// tables, of which one type and four letters are there; then offset, no summer time, name.
fn half_past_five() -> Vec<u8> {
    let counts = [0_u32, 0, 0, 0, 1, 4].map(u32::to_be_bytes).concat();
    let offset = (5 * 3600 + 30 * 60_u32).to_be_bytes();
    [b"TZif", &[0; 16][..], &counts, &offset, &[0, 0], b"IST\0"].concat()
}

#[test]
fn times_written_in_another_zone_are_the_same_instants() {
    let stock = Stock::new(|source| {
        fs::write(source.join("a"), "a").unwrap();
        fs::write(source.join("b"), "b").unwrap();
    });
    stock.restic(&["backup", "--quiet", "source"]);
    let in_utc = stock.nodes();
    let zone = stock.folder.path().join("zone");
    fs::write(&zone, half_past_five()).unwrap();
    stock.restic_in(zone.to_str().unwrap(), &["backup", "--quiet", "--force", "source"]);
    let mut zoned = 0;
    let in_both = stock.nodes_of(|plain| {
        zoned += u32::from(String::from_utf8_lossy(plain).contains("+05:30"));
        read_tree(plain)
    });
    assert!(zoned > 0, "restic writes all times in UTC by now");
    let files = |nodes: &[Node]| {
        let files = nodes.iter().filter(|node| node.kind == NodeKind::File).cloned();
        files.map(|node| (node.name.clone(), node)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(in_both.len(), 2 * in_utc.len());
    assert_eq!(files(&in_both), files(&in_utc));
    assert!(
        in_both.iter().filter(|node| node.name == b"a").all(|a| *a == files(&in_utc)[&b"a"[..]])
    );
}
