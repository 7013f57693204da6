//! Trees as text: a directory that did not change has the same text as in the snapshot before, so
//! that its nodes need not be read, only compared.
//!
//! What is written again is what the text says byte for byte, in the order in which it stands there;
//! a text that says the same in other words is no match, and its nodes are read one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::decode::{DecodeError, Decoded};
use crate::tree_codec::{Order, PREFIX, SUFFIX, TreeDecoder};
use crate::{BlobId, Node, Result, id};

/// The whole text of a stored tree; its hash is right.
pub struct TreeText {
    id: BlobId,
    json: Vec<u8>,
    /// How much all texts hold.
    held: Arc<AtomicUsize>,
}

impl std::fmt::Debug for TreeText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeText").field("id", &self.id).finish_non_exhaustive()
    }
}

impl TreeText {
    /// The text of the tree of that id, which is counted in `held` while it is in memory.
    pub(crate) fn new(id: BlobId, json: Vec<u8>, held: Arc<AtomicUsize>) -> Arc<Self> {
        held.fetch_add(json.len(), Ordering::Relaxed);
        Arc::new(Self { id, json, held })
    }

    /// The id of the tree.
    #[must_use]
    pub fn id(&self) -> BlobId {
        self.id
    }

    pub(crate) fn json(&self) -> &[u8] {
        &self.json
    }
}

impl Drop for TreeText {
    fn drop(&mut self) {
        self.held.fetch_sub(self.json.len(), Ordering::Relaxed);
    }
}

/// A node of a stored tree that is as it would be written now.
#[derive(Clone, Debug)]
pub struct SameNode {
    text: Arc<TreeText>,
    from: usize,
    to: usize,
    subtree: Option<BlobId>,
}

impl SameNode {
    /// The tree of a directory.
    #[must_use]
    pub fn subtree(&self) -> Option<BlobId> {
        self.subtree
    }

    pub(crate) fn text(&self) -> &Arc<TreeText> {
        &self.text
    }

    /// Where its text begins and ends.
    pub(crate) fn place(&self) -> (usize, usize) {
        (self.from, self.to)
    }

    /// Its text: what would be written now.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.text.json[self.from..self.to]
    }
}

/// What is known of an entry before it is compared.
#[derive(Clone, Copy, Debug)]
pub struct NodeText<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// What [`NodeHead::encode`](crate::NodeHead::encode) makes of it.
    pub text: &'a [u8],
    /// True for a file.
    pub has_content: bool,
    /// True for a directory.
    pub has_tree: bool,
}

/// Goes through the nodes of a tree's text in their order.
pub struct TreeCursor {
    text: Arc<TreeText>,
    at: usize,
    /// Where the node begins that was read last.
    behind: usize,
    last: Vec<u8>,
}

impl std::fmt::Debug for TreeCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeCursor").field("text", &self.text).field("at", &self.at).finish()
    }
}

impl TreeCursor {
    /// Begins at the first node; `None` for a tree that does not begin as those do that are written
    /// now.
    #[must_use]
    pub fn new(text: Arc<TreeText>) -> Option<Self> {
        let at = PREFIX.len();
        text.json.starts_with(PREFIX).then(|| Self { text, at, behind: at, last: Vec::new() })
    }

    /// As [`TreeCursor::new`], for a text that no repository holds: for the fuzz targets and for tests.
    #[doc(hidden)]
    #[must_use]
    pub fn over(json: Vec<u8>) -> Option<Self> {
        Self::new(TreeText::new(BlobId::of(&json), json, Arc::default()))
    }

    /// The next node, when its text is that of this head, and behind it a content and a subtree as a
    /// node of its kind has them. It is passed over then, and `ids` becomes the ids of its content, 32
    /// bytes each.
    pub fn same(&mut self, head: &NodeText<'_>, ids: &mut Vec<u8>) -> Option<SameNode> {
        let node = self.match_at(self.at, head, ids)?;
        self.passed(node.to);
        self.last.clear();
        self.last.extend_from_slice(head.name);
        Some(node)
    }

    /// As [`TreeCursor::same`], for the node that [`TreeCursor::next_node`] gave last.
    pub fn same_as_last(&self, head: &NodeText<'_>, ids: &mut Vec<u8>) -> Option<SameNode> {
        self.match_at(self.behind, head, ids)
    }

    fn match_at(&self, at: usize, head: &NodeText<'_>, ids: &mut Vec<u8>) -> Option<SameNode> {
        ids.clear();
        let mut rest = Rest(self.text.json.get(at..)?);
        rest.take(head.text)?;
        rest.take(br#","content":"#)?;
        let has_content = rest.take(b"null").is_none();
        if has_content {
            rest.take(b"[")?;
            while rest.take(b"]").is_none() {
                if !ids.is_empty() {
                    rest.take(b",")?;
                }
                ids.extend_from_slice(&rest.id()?);
            }
        }
        let subtree = match rest.take(br#","subtree":"#) {
            Some(()) => Some(BlobId(rest.id()?)),
            None => None,
        };
        rest.take(b"}")?;
        let has_tree = subtree.is_some();
        if (has_content, has_tree) != (head.has_content, head.has_tree) {
            return None;
        }
        let to = self.text.json.len() - rest.0.len();
        Some(SameNode { text: Arc::clone(&self.text), from: at, to, subtree })
    }

    fn passed(&mut self, to: usize) {
        self.behind = self.at;
        self.at = to + usize::from(self.text.json.get(to) == Some(&b','));
    }

    /// Reads the next node; what comes is as of [`TreeDecoder`].
    pub fn next_node(&mut self) -> Option<Result<Node>> {
        let node = self.read()?;
        Some(node.map_err(|error| error.of(format!("tree {}", self.text.id))))
    }

    fn read(&mut self) -> Option<Decoded<Node>> {
        let json = &self.text.json;
        while json.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        let rest = json.get(self.at..)?;
        if rest.first() == Some(&b']') {
            return None;
        }
        let Some(len) = end_of_object(rest) else {
            // Nothing comes behind this.
            self.at = usize::MAX;
            return Some(Err(DecodeError::malformed("its JSON ends early")));
        };
        let text = PREFIX.iter().chain(&rest[..len]).chain(SUFFIX);
        let text: Vec<u8> = text.copied().collect();
        let node = TreeDecoder::sized(text.as_slice(), Order::Any, text.len() as u64).next();
        let mut to = self.at + len;
        while json.get(to).is_some_and(u8::is_ascii_whitespace) {
            to += 1;
        }
        self.passed(to);
        Some(match node? {
            Ok(node) if node.name <= self.last => {
                Err(DecodeError::malformed("it has nodes out of order"))
            }
            Ok(node) => {
                self.last.clear();
                self.last.extend_from_slice(&node.name);
                Ok(node)
            }
            Err(error) => Err(error),
        })
    }
}

/// What is left of a text.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take(&mut self, what: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(what)?;
        Some(())
    }

    /// An id between quotes.
    fn id(&mut self) -> Option<[u8; 32]> {
        self.take(b"\"")?;
        let (digits, rest) = self.0.split_at_checked(64)?;
        let id = id::parse(digits)?;
        self.0 = rest;
        self.take(b"\"")?;
        Some(id)
    }
}

/// Where the object ends that the text begins with. The text need not be JSON: who reads it says so.
fn end_of_object(json: &[u8]) -> Option<usize> {
    if json.first() != Some(&b'{') {
        return None;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in json.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = r#"{"name":"a","type":"file","mode":420,"mtime":"2026-11-21T12:36:25Z","atime":"2026-11-21T12:36:25Z","ctime":"2026-11-21T12:36:25Z","uid":0,"gid":0"#;
    const ID: &str = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4";

    fn cursor(json: impl Into<Vec<u8>>) -> Option<TreeCursor> {
        TreeCursor::over(json.into())
    }

    fn same(json: String, has_content: bool, has_tree: bool) -> bool {
        let head = NodeText { name: b"a", text: A.as_bytes(), has_content, has_tree };
        cursor(json).unwrap().same(&head, &mut Vec::new()).is_some()
    }

    #[test]
    fn what_is_behind_a_head_must_be_as_it_would_be_written() {
        let file = [
            (r#","content":[]}"#.to_owned(), true),
            (format!(r#","content":["{ID}"]}}"#), true),
            (format!(r#","content":["{ID}","{ID}"]}}"#), true),
            (format!(r#","content":["{ID}",]}}"#), false),
            (format!(r#","content":[,"{ID}"]}}"#), false),
            (format!(r#","content":["{ID}""{ID}"]}}"#), false),
            (format!(r#","content":["{ID}", "{ID}"]}}"#), false),
            (format!(r#","content":["{}"]}}"#, ID.to_uppercase()), false),
            (format!(r#","content":["{}"]}}"#, &ID[1..]), false),
            (format!(r#","content":["{ID}"],"error":"e"}}"#), false),
            (format!(r#","content":["{ID}"],"subtree":"{ID}"}}"#), false),
            (r#","content":null}"#.to_owned(), false),
            (r#","content":[""#.to_owned(), false),
            (r#","size":3,"content":[]}"#.to_owned(), false),
            ("}".to_owned(), false),
            (String::new(), false),
        ];
        for (behind, expected) in file {
            let json = format!(r#"{{"nodes":[{A}{behind}]}}"#);
            assert_eq!(same(json, true, false), expected, "{behind}");
        }
        let subtree = format!(r#","content":null,"subtree":"{ID}"}}"#);
        let json = format!(r#"{{"nodes":[{A}{subtree}]}}"#);
        assert!(same(json.clone(), false, true));
        assert!(!same(json.clone(), false, false) && !same(json, true, true));
        let json = format!(r#"{{"nodes":[{A},"content":null}}]}}"#);
        assert!(same(json.clone(), false, false) && !same(json, false, true));
    }

    #[test]
    fn nodes_are_read_up_to_what_is_broken_and_never_out_of_order() {
        let node = |name: &str| format!(r#"{{"name":"{name}","type":"fifo","error":"}}]\\\""}}"#);
        let (a, b) = (node("a"), node("b"));
        let cases = [
            (format!(r#"{{"nodes":[{a},{b}]}}"#), 2, true),
            (format!("{{\"nodes\":[ {a} ,\n{b}\t]}}"), 2, true),
            (format!(r#"{{"nodes":[{b},{a}]}}"#), 1, false),
            (format!(r#"{{"nodes":[{a},{a}]}}"#), 1, false),
            (format!(r#"{{"nodes":[{a},{b}"#), 2, false),
            (format!(r#"{{"nodes":[{a},{}"#, &b[..20]), 1, false),
            (format!(r#"{{"nodes":[{a},null]}}"#), 1, false),
            (r#"{"nodes":[]}"#.to_owned(), 0, true),
            (r#"{"nodes":[}"#.to_owned(), 0, false),
        ];
        for (json, count, whole) in cases {
            let mut cursor = cursor(json.clone()).unwrap();
            let read: Vec<_> = std::iter::from_fn(|| cursor.next_node()).take(5).collect();
            let good = read.iter().take_while(|node| node.is_ok()).count();
            assert_eq!((good, read.len() == good), (count, whole), "{json}");
        }
        for other in [r#"{"nodes":null}"#, r#"{ "nodes":[]}"#, "", "[]"] {
            assert!(cursor(other).is_none());
        }
    }

    #[test]
    fn texts_are_counted_while_they_are_in_memory() {
        let held = Arc::new(AtomicUsize::new(0));
        let texts: Vec<_> = (0..3)
            .map(|_| TreeText::new(BlobId::of(b""), vec![0; 100], Arc::clone(&held)))
            .collect();
        assert_eq!(held.load(Ordering::Relaxed), 300);
        drop(texts);
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }

    proptest! {
        #[test]
        fn any_text_is_gone_through_to_its_end(
            text in r#"(\{"name":"[a-c]","type":"(fifo|dir)"(,"content":(null|\[\]))?\}|[\[\]{}",\\ a])*"#,
        ) {
            let mut cursor = cursor([PREFIX, text.as_bytes()].concat()).unwrap();
            let head = NodeText { name: b"a", text: b"{", has_content: false, has_tree: false };
            let mut nodes = 0;
            while cursor.same(&head, &mut Vec::new()).is_some() || cursor.next_node().is_some() {
                nodes += 1;
                prop_assert!(nodes <= text.len() + 1);
            }
        }
    }
}
