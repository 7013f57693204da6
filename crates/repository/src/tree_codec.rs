//! Trees: a directory's nodes as one JSON text, written and read node by node.
//!
//! The text is the one that restic writes, byte for byte: equal directories must be equal blobs,
//! and restic refuses to rewrite a tree that it would encode differently. Reading holds one node at
//! a time, so that a directory of a million entries costs no more than one of ten.

use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::decode::{DecodeError, Decoded};
use crate::gojson;
use crate::json::{First, Reader};
use crate::{BlobId, Content, Node, NodeHead, NodeKind, id, quote, time};

/// What a tree begins with, before its first node.
pub const PREFIX: &[u8] = br#"{"nodes":["#;
/// What stands between two nodes.
pub const SEPARATOR: &[u8] = b",";
/// What a tree ends with, after its last node.
pub const SUFFIX: &[u8] = b"]}\n";

/// Longest name that is read, in bytes: sixteen times what Linux allows.
pub const MAX_NAME: usize = 4096;
/// Most bytes of texts that one node may have: names, link target, attributes and their values.
pub const MAX_TEXT: usize = 64 << 20;
/// Most runs of equal blobs that one file may have: 8 TiB in pieces of 1 MiB, about 300 MB here.
pub const MAX_RUNS: usize = 8 << 20;
/// Most attributes of each sort that one node may have; a fidelity limit nobody reaches.
const MAX_ATTRIBUTES: usize = 1 << 16;

/// How many bytes of content ids are gathered before they are written.
const CONTENT_PIECE: usize = 64 << 10;

impl NodeKind {
    /// The word for it in trees.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::File => "file",
            Self::Dir => "dir",
            Self::Symlink => "symlink",
            Self::Dev => "dev",
            Self::CharDev => "chardev",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Other(word) => word,
        }
    }

    /// The kind with that word; any word is one.
    #[must_use]
    pub fn of_word(word: &str) -> Self {
        match word {
            "file" => Self::File,
            "dir" => Self::Dir,
            "symlink" => Self::Symlink,
            "dev" => Self::Dev,
            "chardev" => Self::CharDev,
            "fifo" => Self::Fifo,
            "socket" => Self::Socket,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// Writes one node as restic writes it. Content ids are streamed: a file of many blobs needs no
/// memory beyond its node.
///
/// # Errors
/// When `out` fails.
pub fn encode_node(node: &Node, out: &mut impl Write) -> io::Result<()> {
    let mut text = Vec::with_capacity(512);
    NodeHead::from(node).encode(&mut text);
    text.extend_from_slice(br#","content":"#);
    match &node.content {
        None => text.extend_from_slice(b"null"),
        Some(content) => encode_content(content, &mut text, out)?,
    }
    if let Some(subtree) = node.subtree {
        write!(text, r#","subtree":"{subtree}""#)?;
    }
    if !node.error.is_empty() {
        text.extend_from_slice(br#","error":"#);
        gojson::string(node.error.as_bytes(), &mut text);
    }
    text.push(b'}');
    out.write_all(&text)
}

fn encode_content(content: &Content, text: &mut Vec<u8>, out: &mut impl Write) -> io::Result<()> {
    text.push(b'[');
    let mut first = true;
    for (id, count) in content.runs() {
        let id = id::hex(&id.0);
        for _ in 0..*count {
            if !std::mem::replace(&mut first, false) {
                text.push(b',');
            }
            text.push(b'"');
            text.extend_from_slice(&id);
            text.push(b'"');
            if text.len() >= CONTENT_PIECE {
                out.write_all(text)?;
                text.clear();
            }
        }
    }
    text.push(b']');
    Ok(())
}

/// Whether nodes must be in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Names ascend, so that none comes twice: what restic writes.
    Ascending,
    /// Any order: for looking at trees of strange writers. A name may come twice.
    Any,
}

/// Reads a tree node by node.
///
/// A node that makes no sense in itself (a name with `/`, a file without content) is an error in
/// its place, and the next node follows. When the text itself is broken, or cannot be read, that
/// error comes last. All is well when the iterator ends without an error.
pub struct TreeDecoder<R> {
    json: Reader<R>,
    state: State,
    order: Order,
    last: Vec<u8>,
    text: String,
}

enum State {
    Begin,
    Nodes { tree: First, nodes: First },
    Done,
}

impl<R> std::fmt::Debug for TreeDecoder<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeDecoder").field("order", &self.order).finish_non_exhaustive()
    }
}

impl<R: Read> Iterator for TreeDecoder<R> {
    type Item = Decoded<Node>;

    fn next(&mut self) -> Option<Decoded<Node>> {
        match self.read() {
            Ok(Some(node)) => Some(self.check(node)),
            Ok(None) => {
                self.state = State::Done;
                None
            }
            Err(error) => {
                self.state = State::Done;
                Some(Err(error))
            }
        }
    }
}

impl<R: Read> TreeDecoder<R> {
    /// Reads the tree that `source` has, which ends where the tree ends.
    pub fn new(source: R, order: Order) -> Self {
        Self::sized(source, order, u64::MAX)
    }

    /// As [`TreeDecoder::new`], for a tree of about `len` bytes: small ones take less memory.
    pub fn sized(source: R, order: Order, len: u64) -> Self {
        let (last, text) = (Vec::new(), String::new());
        Self { json: Reader::sized(source, len), state: State::Begin, order, last, text }
    }

    fn read(&mut self) -> Decoded<Option<Node>> {
        loop {
            self.json.set_budget(MAX_TEXT);
            match &mut self.state {
                State::Done => return Ok(None),
                State::Begin => {
                    let tree = self.json.object()?;
                    self.find_nodes(tree)?;
                }
                State::Nodes { tree, nodes } => {
                    if self.json.item(nodes)? {
                        return self.node().map(Some);
                    }
                    let tree = *tree;
                    self.finish(tree)?;
                }
            }
        }
    }

    /// Passes over other fields up to the list of nodes.
    fn find_nodes(&mut self, mut tree: First) -> Decoded<()> {
        while self.json.field(&mut tree, &mut self.text)? {
            if self.text != "nodes" {
                self.json.skip()?;
            } else if self.json.null()? {
                // What Go writes for a list that was never begun.
                return self.finish(tree);
            } else {
                let nodes = self.json.list()?;
                self.state = State::Nodes { tree, nodes };
                return Ok(());
            }
        }
        Err(DecodeError::malformed("it has no nodes"))
    }

    fn finish(&mut self, mut tree: First) -> Decoded<()> {
        while self.json.field(&mut tree, &mut self.text)? {
            if self.text == "nodes" {
                return Err(DecodeError::malformed("it has nodes twice"));
            }
            self.json.skip()?;
        }
        self.state = State::Done;
        self.json.end()
    }

    fn node(&mut self) -> Decoded<Node> {
        let mut fields = self.json.object()?;
        let mut wire = Wire::new();
        while self.json.field(&mut fields, &mut self.text)? {
            wire.field(&mut self.json, &mut self.text)?;
        }
        Ok(wire.finish())
    }

    /// Refuses a node whose text is right and which makes no sense.
    fn check(&mut self, mut node: Node) -> Decoded<Node> {
        if let Some(why) = fault_of_name(&node.name).or_else(|| fault_of_kind(&node)) {
            return Err(about(&node.name, why));
        }
        if self.order == Order::Ascending && node.name <= self.last {
            return Err(about(&node.name, "out of order"));
        }
        self.last.clear();
        self.last.extend_from_slice(&node.name);
        if !matches!(node.kind, NodeKind::File | NodeKind::Other(_)) {
            // An empty list, as very old writers made them.
            node.content = None;
        }
        Ok(node)
    }
}

fn about(name: &[u8], why: &str) -> DecodeError {
    let shown = String::from_utf8_lossy(&name[..name.len().min(80)]);
    DecodeError::malformed(format!("it has a node `{}` {why}", shown.escape_debug()))
}

fn fault_of_name(name: &[u8]) -> Option<&'static str> {
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Some("whose name no file can have");
    }
    (name.len() > MAX_NAME).then_some("whose name is too long")
}

fn fault_of_kind(node: &Node) -> Option<&'static str> {
    let has_content = node.content.as_ref().is_some_and(|content| !content.is_empty());
    let has_tree = node.subtree.is_some();
    match node.kind {
        NodeKind::File if node.content.is_none() => Some("that is a file without content"),
        NodeKind::File if has_tree => Some("that is a file with a tree"),
        NodeKind::Dir if !has_tree => Some("that is a directory without a tree"),
        NodeKind::Dir if has_content => Some("that is a directory with content"),
        NodeKind::Symlink
        | NodeKind::Dev
        | NodeKind::CharDev
        | NodeKind::Fifo
        | NodeKind::Socket
            if has_content || has_tree =>
        {
            Some("with content or a tree, which its kind has not")
        }
        _ => None,
    }
}

/// The fields of a node, each at the place of its bit.
const FIELDS: [&str; 22] = [
    "name",
    "type",
    "mode",
    "mtime",
    "atime",
    "ctime",
    "uid",
    "gid",
    "user",
    "group",
    "inode",
    "device_id",
    "size",
    "links",
    "linktarget",
    "linktarget_raw",
    "extended_attributes",
    "generic_attributes",
    "device",
    "content",
    "subtree",
    "error",
];

/// A node while its fields come in.
struct Wire {
    node: Node,
    seen: u32,
    raw_target: Option<Vec<u8>>,
}

impl Wire {
    fn new() -> Self {
        let mut node = Node::new(Vec::new(), NodeKind::Other(String::new()));
        (node.mtime, node.atime, node.ctime) = (time::GO_ZERO, time::GO_ZERO, time::GO_ZERO);
        Self { node, seen: 0, raw_target: None }
    }

    /// Reads the value of the field whose name is in `text`, which is used for the value after.
    /// Unknown fields are passed over, and `null` is as good as no field: so it is in Go.
    fn field<R: Read>(&mut self, json: &mut Reader<R>, text: &mut String) -> Decoded<()> {
        let Some(at) = FIELDS.iter().position(|field| *field == text) else {
            return json.skip();
        };
        if self.seen & 1 << at != 0 {
            return Err(DecodeError::malformed(format!("it has a node with two fields {text}")));
        }
        self.seen |= 1 << at;
        if json.null()? {
            return Ok(());
        }
        let node = &mut self.node;
        match FIELDS[at] {
            "name" => {
                json.text(text)?;
                node.name = quote::unquote(text)
                    .ok_or_else(|| DecodeError::malformed("it has a node with a misquoted name"))?;
            }
            "type" => {
                json.text(text)?;
                node.kind = NodeKind::of_word(text);
            }
            "mode" => node.mode = small(json)?,
            "uid" => node.uid = small(json)?,
            "gid" => node.gid = small(json)?,
            "inode" => node.inode = json.number(u64::MAX)?,
            "device_id" => node.device_id = json.number(u64::MAX)?,
            "size" => node.size = json.number(u64::MAX)?,
            "links" => node.links = json.number(u64::MAX)?,
            "device" => node.device = json.number(u64::MAX)?,
            "mtime" => node.mtime = read_time(json, text)?,
            "atime" => node.atime = read_time(json, text)?,
            "ctime" => node.ctime = read_time(json, text)?,
            "user" => json.text(&mut node.user)?,
            "group" => json.text(&mut node.group)?,
            "error" => json.text(&mut node.error)?,
            "linktarget" => {
                json.text(text)?;
                node.link_target = text.as_bytes().to_vec();
            }
            "linktarget_raw" => self.raw_target = Some(read_base64(json, text)?),
            "extended_attributes" => node.xattrs = read_xattrs(json, text)?,
            "generic_attributes" => node.generic = read_generic(json)?,
            "content" => node.content = Some(read_content(json, text, MAX_RUNS)?),
            "subtree" => node.subtree = Some(read_id(json, text)?),
            _ => json.skip()?,
        }
        Ok(())
    }

    fn finish(mut self) -> Node {
        if let Some(target) = self.raw_target {
            self.node.link_target = target;
        }
        self.node
    }
}

fn small<R: Read>(json: &mut Reader<R>) -> Decoded<u32> {
    let number = json.number(u32::MAX.into())?;
    u32::try_from(number)
        .map_err(|_cause| DecodeError::malformed("it has a number that is too large"))
}

fn read_time<R: Read>(json: &mut Reader<R>, text: &mut String) -> Decoded<alidade_model::Time> {
    json.text(text)?;
    time::parse(text).ok_or_else(|| DecodeError::malformed("it has a time that is none"))
}

fn read_id<R: Read>(json: &mut Reader<R>, text: &mut String) -> Decoded<BlobId> {
    json.text(text)?;
    text.parse().map_err(|_cause| DecodeError::malformed("it has an id that is none"))
}

fn read_base64<R: Read>(json: &mut Reader<R>, text: &mut String) -> Decoded<Vec<u8>> {
    json.text(text)?;
    STANDARD
        .decode(&text)
        .map_err(|_cause| DecodeError::malformed("it has a value that is no base64"))
}

fn read_content<R: Read>(
    json: &mut Reader<R>,
    text: &mut String,
    max_runs: usize,
) -> Decoded<Content> {
    // Ids are not kept as texts: each has the same small budget, and the runs are counted.
    let budget = json.budget();
    let mut content = Content::new();
    let mut items = json.list()?;
    loop {
        json.set_budget(64);
        if !json.item(&mut items)? {
            break;
        }
        content.push(read_id(json, text)?);
        if content.runs().len() > max_runs {
            return Err(DecodeError::malformed("it has a file of too many blobs"));
        }
    }
    json.set_budget(budget);
    Ok(content)
}

fn read_xattrs<R: Read>(
    json: &mut Reader<R>,
    text: &mut String,
) -> Decoded<Vec<(String, Vec<u8>)>> {
    let mut xattrs = Vec::new();
    let mut items = json.list()?;
    while json.item(&mut items)? {
        let (mut name, mut value) = (String::new(), Vec::new());
        let mut fields = json.object()?;
        while json.field(&mut fields, text)? {
            match text.as_str() {
                "name" => json.text(&mut name)?,
                "value" if json.null()? => {}
                "value" => value = read_base64(json, text)?,
                _ => json.skip()?,
            }
        }
        room_for_one_more(xattrs.len())?;
        xattrs.push((name, value));
    }
    Ok(xattrs)
}

fn read_generic<R: Read>(json: &mut Reader<R>) -> Decoded<Vec<(String, String)>> {
    let mut generic = Vec::new();
    let mut fields = json.object()?;
    let mut key = String::new();
    while json.field(&mut fields, &mut key)? {
        room_for_one_more(generic.len())?;
        generic.push((std::mem::take(&mut key), json.raw()?));
    }
    generic.sort_unstable();
    if generic.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(DecodeError::malformed("it has a node with an attribute twice"));
    }
    Ok(generic)
}

fn room_for_one_more(len: usize) -> Decoded<()> {
    if len == MAX_ATTRIBUTES {
        return Err(DecodeError::malformed("it has a node with too many attributes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
