//! A tree that is put together from nodes of a stored one is the tree that those nodes make.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use alidade_repository::{
    BlobId, Content, Indexed, Node, NodeHead, NodeKind, NodeText, SameNode, TreeCursor, Writer,
};
use support::*;

fn content() -> Content {
    let mut content = Content::new();
    content.push(BlobId::of(b"x"));
    content.push_run(BlobId::of(b"y"), 2);
    content
}

/// Nodes of several kinds; their names are two digits.
fn nodes() -> Vec<Node> {
    (10..30)
        .map(|n| match n % 4 {
            0 => file(format!("{n}"), Content::new(), 0),
            1 => directory(&format!("{n}"), BlobId::of(b"a tree")),
            2 => {
                let mut link = Node::new(format!("{n}"), NodeKind::Symlink);
                link.link_target = b"\xff<&>\"".to_vec();
                link
            }
            _ => file(format!("{n}"), content(), 3),
        })
        .collect()
}

fn stored(writer: &Writer, nodes: &[Node]) -> BlobId {
    let mut tree = writer.begin_tree();
    for node in nodes {
        tree.add(&cx(), node).unwrap();
    }
    tree.finish(&cx()).unwrap().id
}

fn same(cursor: &mut TreeCursor, node: &Node) -> Option<SameNode> {
    let (mut text, mut ids) = (Vec::new(), Vec::new());
    NodeHead::from(node).encode(&mut text);
    let head = NodeText {
        name: &node.name,
        text: &text,
        has_content: node.kind == NodeKind::File,
        has_tree: node.kind == NodeKind::Dir,
    };
    let found = cursor.same(&head, &mut ids)?;
    let expected: Vec<u8> =
        node.content.iter().flat_map(Content::iter).flat_map(|id| id.0).collect();
    assert_eq!((ids, found.subtree()), (expected, node.subtree));
    Some(found)
}

/// The nodes of a stored tree, each as one that is the same.
fn all_same(indexed: &Indexed, tree: BlobId, nodes: &[Node]) -> Vec<SameNode> {
    let text = indexed.tree_text(&cx(), tree).unwrap().unwrap();
    let mut cursor = TreeCursor::new(text).unwrap();
    let found = nodes.iter().map(|node| same(&mut cursor, node).unwrap()).collect();
    assert!(cursor.next_node().is_none());
    found
}

#[test]
fn whatever_is_left_out_changed_or_put_between_the_tree_is_the_one_of_its_nodes() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let indexed = load(&repository);
    let writer = writer(&indexed, &lock, root.path());
    let nodes = nodes();
    let tree = stored(&writer, &nodes);
    let shorter = stored(&writer, &nodes[..7]);
    let empty = stored(&writer, &[]);
    writer.commit(&cx(), &snapshot(&cx(), tree)).unwrap();
    let known = writer.stats().trees_known;
    let found = all_same(&indexed, tree, &nodes);
    let other = all_same(&indexed, shorter, &nodes[..7]);
    assert!(all_same(&indexed, empty, &[]).is_empty());

    // Which nodes are there, and how each comes: the same of one tree, of the other, or written anew.
    type How = fn(usize) -> char;
    let rules: [(&str, How); 9] = [
        ("all the same", |_| 's'),
        ("the first is gone", |at| if at == 0 { '-' } else { 's' }),
        ("the last is gone", |at| if at == 19 { '-' } else { 's' }),
        ("one in the middle is gone", |at| if at == 9 { '-' } else { 's' }),
        ("the first is written", |at| if at == 0 { 'n' } else { 's' }),
        ("the last is written", |at| if at == 19 { 'n' } else { 's' }),
        ("some are written", |at| if at % 5 == 3 { 'n' } else { 's' }),
        ("the first seven come from another tree", |at| if at < 7 { 'o' } else { 's' }),
        ("seven of the other alone", |at| if at < 7 { 'o' } else { '-' }),
    ];
    for (rule, how) in rules {
        let mut mixed = writer.begin_tree();
        let mut expected = Vec::new();
        for (at, node) in nodes.iter().enumerate() {
            match how(at) {
                's' => mixed.add_same(&cx(), &node.name, &found[at]).unwrap(),
                'o' => mixed.add_same(&cx(), &node.name, &other[at]).unwrap(),
                'n' => mixed.add(&cx(), node).unwrap(),
                _ => continue,
            }
            expected.push(node.clone());
        }
        let mixed = mixed.finish(&cx()).unwrap();
        assert_eq!(mixed.id, stored(&writer, &expected), "{rule}");
        assert_eq!(mixed.new, rule.ends_with("is gone"), "{rule}");
    }
    assert!(writer.stats().trees_known > known);

    let mut twice = writer.begin_tree();
    twice.add_same(&cx(), &nodes[1].name, &found[1]).unwrap();
    assert!(twice.add_same(&cx(), &nodes[1].name, &found[1]).is_err(), "out of order");
    assert!(twice.add(&cx(), &nodes[0]).is_err(), "out of order");
    drop(twice);
    writer.abandon(&cx()).unwrap();
    lock.release().unwrap();
}

#[test]
fn a_node_that_differs_in_anything_is_no_match_and_is_read() {
    let root = tempfile::tempdir().unwrap();
    let repository = created(root.path());
    let lock = lock(&repository);
    let indexed = load(&repository);
    let writer = writer(&indexed, &lock, root.path());
    let nodes = nodes();
    let tree = stored(&writer, &nodes);
    writer.commit(&cx(), &snapshot(&cx(), tree)).unwrap();
    let changes: [fn(&mut Node); 7] = [
        |node| node.name.push(b'x'),
        |node| node.mode += 1,
        |node| node.mtime.nanos += 1,
        |node| node.ctime.seconds += 1,
        |node| node.inode += 1,
        |node| node.size += 1,
        |node| node.user.push('x'),
    ];
    for change in changes {
        let mut cursor = TreeCursor::new(indexed.tree_text(&cx(), tree).unwrap().unwrap()).unwrap();
        for (at, node) in nodes.iter().enumerate() {
            let mut changed = node.clone();
            change(&mut changed);
            assert!(same(&mut cursor, &changed).is_none());
            if at % 2 == 0 {
                assert_eq!(cursor.next_node().unwrap().unwrap(), *node);
            } else {
                same(&mut cursor, node).unwrap();
            }
        }
        assert!(cursor.next_node().is_none());
    }
    writer.abandon(&cx()).unwrap();
    lock.release().unwrap();
}
