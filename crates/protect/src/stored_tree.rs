//! The settled side of a tree that is stored: its directories that are open, and what is known of it so far.

use alidade_entity::{Class, Cx, EntryNo, Error, Result};
use alidade_model::{ContentDigest, Counts, Entry, Hole, Kind, Omission, OmissionKind, Omissions};
use alidade_repository::{Content, Node, SameNode, TreeWriter};

use crate::announced::Same;
use crate::convert::node_of;
use crate::error::as_entity;
use crate::holes;
use crate::stored_sink::StoredSink;
use crate::stored_top::{Log, Stored};

/// The settled side: directories that are open, innermost last.
pub(crate) struct Tree<'a> {
    open: Vec<Directory<'a>>,
    /// The finished nodes at the top of the snapshot.
    pub(crate) top: Vec<Node>,
    pub(crate) path: Vec<u8>,
    pub(crate) digest: Option<ContentDigest>,
    pub(crate) counts: Counts,
    pub(crate) omissions: Omissions,
    pub(crate) hole_map: Log,
    pub(crate) omitted: Log,
}

struct Directory<'a> {
    node: DirectoryNode,
    /// `None` once the tree passed what the format can hold.
    tree: Option<TreeWriter<'a>>,
}

/// The node of a directory that is open.
enum DirectoryNode {
    /// Without its subtree.
    Node(Box<Node>),
    /// The base's, when the directory itself turns out to be the same.
    Same(Box<Entry>, SameNode),
}

impl<'a> Tree<'a> {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            open: Vec::new(),
            top: Vec::new(),
            path: Vec::new(),
            digest: Some(ContentDigest::new()),
            counts: Counts::default(),
            omissions: Omissions::default(),
            hole_map: Log::default(),
            omitted: Log::default(),
        }
    }

    /// What was settled until now, as a tree: directories that are open end where they are.
    pub(crate) fn so_far(&mut self, cx: &Cx, sink: &StoredSink<'a>) -> Result<Stored> {
        self.hole_map.flush(cx, sink.writer())?;
        self.omitted.flush(cx, sink.writer())?;
        let mut below: Option<Node> = None;
        for Directory { node, tree } in self.open.iter().rev() {
            // One that the format cannot hold is left out, with what is in it.
            let Some(tree) = tree else {
                below = None;
                continue;
            };
            let saved = tree.store_so_far(cx, below.as_ref());
            let saved = saved.map_err(|error| as_entity("store a directory so far", error))?;
            let mut node = match node {
                DirectoryNode::Node(node) => (**node).clone(),
                DirectoryNode::Same(entry, _) => node_of(entry).0,
            };
            node.subtree = Some(saved.id);
            below = Some(node);
        }
        let mut top = self.top.clone();
        top.extend(below);
        Ok(Stored { top, hole_map: self.hole_map.clone(), omitted: self.omitted.clone() })
    }

    pub(crate) fn settle(
        &mut self,
        cx: &Cx,
        sink: &StoredSink<'a>,
        no: EntryNo,
        entry: &Entry,
        (content, holes): (Option<Content>, Vec<Hole>),
    ) -> Result<()> {
        let (mut node, lost) = node_of(entry);
        for name in lost {
            self.lose(
                entry,
                &format!(
                    "keep the attribute {}, whose name is not text",
                    String::from_utf8_lossy(&name)
                ),
            );
        }
        let counted = sink.is_counted(no);
        if counted && let Some(digest) = &mut self.digest {
            digest.enter(entry);
            if let Some(content) = &content {
                digest.blobs(content.len());
                content.iter().for_each(|id| digest.blob(&id.0));
            }
        }
        if entry.metadata.kind == Kind::Directory {
            self.enter(sink, &entry.name, DirectoryNode::Node(Box::new(node)));
            return Ok(());
        }
        self.note_holes(cx, sink, &entry.name, &holes)?;
        node.content = content;
        self.add(cx, &node)
    }

    /// The same for an entry that is in the base; gives back its buffer.
    pub(crate) fn settle_same(
        &mut self,
        cx: &Cx,
        sink: &StoredSink<'a>,
        no: EntryNo,
        same: Same,
    ) -> Result<Vec<u8>> {
        let Same { node, words, name, holes, directory } = same;
        let (name, described) = words.split_at(name);
        let counted = sink.is_counted(no);
        if counted && let Some(digest) = &mut self.digest {
            digest.described(described);
        }
        if let Some(entry) = directory {
            self.enter(sink, name, DirectoryNode::Same(entry, node));
        } else {
            self.note_holes(cx, sink, name, &holes)?;
            self.put(|tree| tree.add_same(cx, name, &node))?;
        }
        Ok(words)
    }

    fn enter(&mut self, sink: &StoredSink<'a>, name: &[u8], node: DirectoryNode) {
        self.path.push(b'/');
        self.path.extend_from_slice(name);
        self.open.push(Directory { node, tree: Some(sink.writer().begin_tree()) });
    }

    fn note_holes(
        &mut self,
        cx: &Cx,
        sink: &StoredSink<'a>,
        name: &[u8],
        holes: &[Hole],
    ) -> Result<()> {
        if holes.is_empty() {
            return Ok(());
        }
        let mut path = self.path.clone();
        path.push(b'/');
        path.extend_from_slice(name);
        holes::write(&path, holes, &mut self.hole_map.buffer);
        self.counts.sparse += 1;
        self.hole_map.flush_full(cx, sink.writer())
    }

    pub(crate) fn leave(&mut self, cx: &Cx, trail: bool) -> Result<()> {
        let Some(Directory { node, tree }) = self.open.pop() else {
            return Err(Error::new(Class::Failed, "leave a directory that is not open"));
        };
        let up = self.path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        self.path.truncate(up);
        if !trail && let Some(digest) = &mut self.digest {
            digest.leave();
        }
        let Some(tree) = tree else { return Ok(()) };
        let saved = tree.finish(cx).map_err(|error| as_entity("store a directory", error))?;
        let mut node = match node {
            DirectoryNode::Node(node) => *node,
            DirectoryNode::Same(entry, same) => {
                if same.subtree() == Some(saved.id) && !self.open.is_empty() {
                    return self.put(|tree| tree.add_same(cx, &entry.name, &same));
                }
                node_of(&entry).0
            }
        };
        node.subtree = Some(saved.id);
        self.add(cx, &node)
    }

    /// Adds a finished node to the innermost open directory.
    fn add(&mut self, cx: &Cx, node: &Node) -> Result<()> {
        if self.open.is_empty() {
            self.top.push(node.clone());
            return Ok(());
        }
        self.put(|tree| tree.add(cx, node))
    }

    /// Puts something into the innermost open directory.
    fn put(
        &mut self,
        put: impl FnOnce(&mut TreeWriter<'a>) -> alidade_repository::Result<()>,
    ) -> Result<()> {
        let Some(directory) = self.open.last_mut() else {
            return Err(Error::new(Class::Failed, "put an entry where no directory is open"));
        };
        let Some(tree) = &mut directory.tree else { return Ok(()) };
        match put(tree) {
            Ok(()) => Ok(()),
            Err(alidade_repository::Error::Unrepresentable { why, .. }) => {
                // The format has one blob for a directory, of 4 GiB at most.
                directory.tree = None;
                self.digest = None;
                let reason = format!("store the directory: {why}");
                let path = self.path.clone();
                self.omissions.add(Omission { path, kind: OmissionKind::Unrepresentable, reason });
                Ok(())
            }
            Err(error) => Err(as_entity("store an entry of a directory", error)),
        }
    }

    fn lose(&mut self, entry: &Entry, reason: &str) {
        let mut path = self.path.clone();
        path.push(b'/');
        path.extend_from_slice(&entry.name);
        let kind = OmissionKind::Unrepresentable;
        self.omissions.add(Omission { path, kind, reason: reason.to_owned() });
    }
}
