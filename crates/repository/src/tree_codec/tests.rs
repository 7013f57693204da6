use alidade_model::Time;
use proptest::prelude::*;

use super::*;

/// Nodes as stock restic wrote them, of every kind it writes on Linux.
const STOCK: &str = concat!(
    r#"{"nodes":[{"name":"a","type":"file","mode":420,"mtime":"2026-11-21T12:36:25.218188142Z","atime":"2026-11-21T12:36:25.218188142Z","ctime":"2026-11-21T12:36:25.218188142Z","uid":0,"gid":0,"user":"root","group":"root","inode":9977976,"device_id":65024,"size":3,"links":1,"content":["98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4"]},"#,
    r#"{"name":"badlink","type":"symlink","mode":134218239,"mtime":"2026-11-21T13:00:36.81878083Z","atime":"2026-11-21T13:00:36.81878083Z","ctime":"2026-11-21T13:00:36.81878083Z","uid":0,"gid":0,"user":"root","group":"root","inode":9977983,"device_id":65024,"links":1,"linktarget":"bad\ufffd\b\u003c","linktarget_raw":"YmFk/wg8","content":null},"#,
    r#"{"name":"d","type":"dir","mode":2147484141,"mtime":"2026-11-21T12:36:25.218188142Z","atime":"2026-11-21T12:36:25.218188142Z","ctime":"2026-11-21T12:36:25.218188142Z","uid":0,"gid":0,"user":"root","group":"root","inode":9977977,"device_id":65024,"content":null,"subtree":"66d45f68ef46266cc378bc375ffd57871a22f8b7cd3e136122addf1373875e41"},"#,
    r#"{"name":"f","type":"fifo","mode":33554852,"mtime":"2026-11-21T12:36:25.222432871Z","atime":"2026-11-21T12:36:25.222432871Z","ctime":"2026-11-21T12:36:25.222432871Z","uid":0,"gid":0,"user":"root","group":"root","inode":9978032,"device_id":65024,"content":null},"#,
    r#"{"name":"odd\\xff\\xfe name \\\"q\\\" \\\\ \u003c\u0026\u003e \\u2028","type":"file","mode":420,"mtime":"2026-11-21T12:36:25.225264661Z","atime":"2026-11-21T12:36:25.225264661Z","ctime":"2026-11-21T12:36:25.225264661Z","uid":0,"gid":0,"user":"root","group":"root","inode":9978033,"device_id":65024,"links":1,"content":[]},"#,
    r#"{"name":"x","type":"file","mode":420,"mtime":"2026-11-21T13:00:36.81878083Z","atime":"2026-11-21T13:00:36.81878083Z","ctime":"2026-11-21T13:00:36.81878083Z","uid":0,"gid":0,"user":"root","group":"root","inode":9977982,"device_id":65024,"size":1,"links":1,"extended_attributes":[{"name":"user.empty","value":""},{"name":"user.v","value":"AP8="}],"generic_attributes":{"windows.creation_time":"\u0026","windows.file_attributes":{"a":[1]}},"device":3,"content":["ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"],"error":"e"}"#,
    "]}\n"
);

fn decode(tree: &str) -> Decoded<Vec<Node>> {
    TreeDecoder::new(tree.as_bytes(), Order::Ascending).collect()
}

fn encode(nodes: &[Node]) -> String {
    let mut out = PREFIX.to_vec();
    for (at, node) in nodes.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(SEPARATOR);
        }
        encode_node(node, &mut out).unwrap();
    }
    out.extend_from_slice(SUFFIX);
    String::from_utf8(out).unwrap()
}

/// A tree of nodes that have these fields, and nothing else.
fn tree_of(nodes: &[&str]) -> String {
    let nodes: Vec<_> = nodes.iter().map(|fields| format!("{{{fields}}}")).collect();
    format!(r#"{{"nodes":[{}]}}"#, nodes.join(","))
}

const FILE: &str = r#""type":"file","content":[]"#;

#[test]
fn a_stock_tree_reads_and_is_written_the_same() {
    let nodes = decode(STOCK).unwrap();
    assert_eq!(nodes[1].link_target, b"bad\xff\x08<");
    assert_eq!(
        nodes[4].name,
        "odd\u{1}\u{2} name \"q\" \\ <&> \u{2028}"
            .as_bytes()
            .iter()
            .map(|b| match b {
                1 => 0xff,
                2 => 0xfe,
                b => *b,
            })
            .collect::<Vec<_>>()
    );
    assert_eq!(nodes[5].xattrs[1], ("user.v".to_owned(), vec![0, 0xff]));
    assert_eq!(encode(&nodes), STOCK);
}

#[test]
fn an_empty_tree_is_read_in_all_its_forms() {
    for tree in
        ["{\"nodes\":[]}\n", r#"{"nodes":null}"#, r#" { "x" : [] , "nodes" : [ ] , "y" : 1 } "#]
    {
        assert_eq!(decode(tree).unwrap(), []);
    }
    assert_eq!(encode(&[]), "{\"nodes\":[]}\n");
}

#[test]
fn a_node_that_makes_no_sense_is_an_error_in_its_place() {
    let id = "ab".repeat(32);
    let names = ["", ".", "..", "a/b", "/", "a\\\\x00b", "\\\\x2f", &"n".repeat(MAX_NAME + 1)];
    let mut bads: Vec<_> = names.iter().map(|name| format!(r#""name":"{name}",{FILE}"#)).collect();
    bads.extend([
        FILE.to_owned(),
        r#""name":"b","type":"file","content":null"#.to_owned(),
        r#""name":"b","type":"file""#.to_owned(),
        format!(r#""name":"b",{FILE},"subtree":"{id}""#),
        r#""name":"b","type":"dir","content":null"#.to_owned(),
        format!(r#""name":"b","type":"dir","content":["{id}"],"subtree":"{id}""#),
        format!(r#""name":"b","type":"symlink","content":["{id}"]"#),
        format!(r#""name":"b","type":"fifo","subtree":"{id}""#),
        format!(r#""name":"a",{FILE}"#),
        format!(r#""name":"Z",{FILE}"#),
    ]);
    for bad in bads {
        let (a, z) = (format!(r#""name":"a",{FILE}"#), format!(r#""name":"z",{FILE}"#));
        let tree = tree_of(&[&a, &bad, &z]);
        let all: Vec<_> = TreeDecoder::new(tree.as_bytes(), Order::Ascending).collect();
        let read: Vec<_> = all.iter().map(Result::is_ok).collect();
        assert_eq!(read, [true, false, true], "{bad:.99}");
    }
}

#[test]
fn a_tree_that_is_broken_ends_with_its_error() {
    let good = tree_of(&[&format!(r#""name":"a",{FILE}"#), &format!(r#""name":"b",{FILE}"#)]);
    let a = r#""name":"a""#;
    let id = "ab".repeat(32);
    let mut bads: Vec<_> = (0..good.len()).map(|end| good[..end].to_owned()).collect();
    bads.extend([
        format!("{good}x"),
        format!("{good}{good}"),
        "{}".to_owned(),
        "[]".to_owned(),
        r#"{"nodes":{}}"#.to_owned(),
        r#"{"nodes":[],"nodes":[]}"#.to_owned(),
        r#"{"nodes":[1]}"#.to_owned(),
        tree_of(&[&format!(r#"{a},{a},{FILE}"#)]),
        tree_of(&[&format!(r#"{a},{FILE},"mode":4294967296"#)]),
        tree_of(&[&format!(r#"{a},{FILE},"size":-1"#)]),
        tree_of(&[&format!(r#"{a},{FILE},"mtime":"today""#)]),
        tree_of(&[&format!(r#"{a},{FILE},"linktarget_raw":"!""#)]),
        tree_of(&[&format!(r#"{a},{FILE},"generic_attributes":{{"a":1,"a":2}}"#)]),
        tree_of(&[&format!(r#"{a},{FILE},"x":{}"#, "[".repeat(1000))]),
        tree_of(&[&format!(r#"{a},"type":"file","content":["{}"]"#, &id[1..])]),
        tree_of(&[&format!(r#"{a},"type":"file","content":["{id}{id}"]"#)]),
        tree_of(&[&format!(r#""name":"\\q",{FILE}"#)]),
        tree_of(&[&format!(r#""name":"a"b",{FILE}"#)]),
    ]);
    for bad in bads {
        let mut nodes = TreeDecoder::new(bad.as_bytes(), Order::Ascending);
        let failed = nodes.by_ref().skip_while(Result::is_ok).count();
        assert_eq!(failed, 1, "{bad:.200}");
        assert!(nodes.next().is_none());
    }
}

#[test]
fn unsorted_trees_are_read_only_where_that_is_asked_for() {
    let (a, b) = (format!(r#""name":"a",{FILE}"#), format!(r#""name":"b",{FILE}"#));
    let tree = tree_of(&[&b, &a]);
    let lenient: Decoded<Vec<_>> = TreeDecoder::new(tree.as_bytes(), Order::Any).collect();
    assert_eq!(lenient.unwrap().len(), 2);
    assert!(decode(&tree).is_err());
}

#[test]
fn unknown_kinds_and_fields_are_read_and_missing_times_are_gos() {
    let tree = tree_of(&[r#""name":"a","type":"irregular","new":{"x":[1]},"size":7,"user":null"#]);
    let nodes = decode(&tree).unwrap();
    assert_eq!(nodes[0].kind, NodeKind::Other("irregular".to_owned()));
    assert_eq!((nodes[0].size, nodes[0].mtime), (7, time::GO_ZERO));
}

#[test]
fn a_huge_hole_costs_one_run_and_a_long_text_is_refused() {
    let mut content = Content::new();
    content.push_run(BlobId([7; 32]), 200_000);
    content.push(BlobId([8; 32]));
    let node = Node { content: Some(content), ..Node::new("hole", NodeKind::File) };
    let read = decode(&encode(std::slice::from_ref(&node))).unwrap();
    assert_eq!(read, [node]);

    let long = "a".repeat(MAX_TEXT);
    let tree = tree_of(&[&format!(r#""name":"a","user":"{long}",{FILE}"#)]);
    assert!(decode(&tree).is_err());
}

#[test]
fn no_list_of_a_node_is_longer_than_its_bound() {
    let runs = |max| {
        let ids: Vec<_> = (1..=3_u8).map(|n| format!("\"{}\"", BlobId([n; 32]))).collect();
        let json = format!("[{}]", ids.join(","));
        read_content(&mut Reader::new(json.as_bytes()), &mut String::new(), max)
    };
    assert_eq!(runs(3).unwrap().len(), 3);
    assert_eq!(runs(2).unwrap_err().to_string(), "it has a file of too many blobs");

    let long = format!("[\"{}\"]", "a".repeat(65));
    let long = read_content(&mut Reader::new(long.as_bytes()), &mut String::new(), 1);
    assert_eq!(long.unwrap_err().to_string(), "it has a text that is too long");

    let xattrs = |count| {
        let list = vec!["{}"; count].join(",");
        decode(&tree_of(&[&format!(r#""name":"a","extended_attributes":[{list}],{FILE}"#)]))
    };
    assert_eq!(xattrs(MAX_ATTRIBUTES).unwrap()[0].xattrs.len(), MAX_ATTRIBUTES);
    assert!(xattrs(MAX_ATTRIBUTES + 1).is_err());
}

prop_compose! {
    fn any_time()(seconds in -62_167_219_200_i64..253_402_300_800, nanos in 0..1_000_000_000_u32) -> Time {
        Time::new(seconds, nanos)
    }
}

prop_compose! {
    fn any_node()(
        name in proptest::collection::vec(1..=255_u8, 1..40),
        target in proptest::collection::vec(any::<u8>(), 0..20),
        numbers in any::<(u32, u32, u32, u64, u64, u64, u64, u64)>(),
        times in (any_time(), any_time(), any_time()),
        texts in ("\\PC{0,9}", "\\PC{0,9}", "[ -~\n\u{2028}]{0,9}"),
        xattrs in proptest::collection::vec(("\\PC{0,9}", any::<Vec<u8>>()), 0..3),
        ids in proptest::collection::vec(0..3_u8, 0..9),
        kind in 0..7_u8,
    ) -> Node {
        let words = ["file", "dir", "symlink", "dev", "chardev", "fifo", "socket"];
        let kind = NodeKind::of_word(words[usize::from(kind)]);
        let mut content = Content::new();
        ids.iter().for_each(|n| content.push(BlobId([*n; 32])));
        let mut node = Node::new(name, kind);
        if node.name.contains(&b'/') || matches!(node.name.as_slice(), b"." | b"..") {
            node.name = b"plain".to_vec();
        }
        node.content = (node.kind == NodeKind::File).then_some(content);
        node.subtree = (node.kind == NodeKind::Dir).then_some(BlobId([9; 32]));
        (node.mode, node.uid, node.gid, node.inode, node.device_id, node.size, node.links, node.device) = numbers;
        (node.mtime, node.atime, node.ctime) = times;
        (node.user, node.group, node.error) = texts;
        node.link_target = target;
        node.xattrs = xattrs;
        node
    }
}

proptest! {
    #[test]
    fn any_node_comes_back(node in any_node()) {
        let text = encode(std::slice::from_ref(&node));
        prop_assert_eq!(decode(&text).unwrap(), vec![node]);
    }
}
