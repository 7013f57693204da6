//! The base of an incremental copy: the parent's trees, read beside the walk in the same order.

use std::io::BufRead;

use alidade_entity::{Cx, EntryNo, Place};
use alidade_model::{Entry, Hole, Kind, Version};
use alidade_repository::{
    BlobId, Indexed, Node, NodeKind, NodeText, SameNode, TreeCursor, TreeReader,
};
use std::sync::Arc;

use crate::convert::{head_of, stored_version, version_of};
use crate::holes::HoleMap;

/// Where the holes of the base's files are told.
pub(crate) enum BaseHoles {
    /// In its hole map.
    Map(HoleMap<Box<dyn BufRead + Send>>),
    /// Nowhere: another program wrote the base.
    Unknown,
    /// It has no sparse files.
    None,
}

/// What the base says about an unchanged file's holes.
pub(crate) enum KnownHoles {
    /// These.
    These(Vec<Hole>),
    /// Nothing; the source must be asked.
    Ask,
}

/// What the base has of an entry's name in its place.
pub(crate) enum Found {
    /// Nothing, or nothing that could be read.
    Nothing,
    /// A node that says something else of it, or says it otherwise.
    Node(Box<Node>),
    /// A node whose text is the one that would be written now.
    Same(SameNode),
}

impl Found {
    /// What it says about the version of the content of `entry`, which was looked for.
    pub(crate) fn version(&self, entry: &Entry) -> Option<Version> {
        match self {
            Self::Nothing => None,
            Self::Node(node) => Some(version_of(node)),
            Self::Same(_) => Some(stored_version(entry)),
        }
    }
}

/// The parent of a copy. Memory: one directory of up to 1 MiB, or one node, for each level of the walk.
pub(crate) struct Base {
    indexed: Arc<Indexed>,
    levels: Vec<Level>,
    holes: BaseHoles,
    /// The head of the entry that is looked for.
    head: Vec<u8>,
    /// The ids of the content of the node that was found the same last.
    ids: Vec<u8>,
    /// What could not be read of the base; what lies there is read from the source again.
    notes: Vec<String>,
}

struct Level {
    no: Option<EntryNo>,
    path: Vec<u8>,
    nodes: Nodes,
    ahead: Option<Node>,
}

/// The nodes of a directory that are still to come.
enum Nodes {
    None,
    Text(TreeCursor),
    Pieces(TreeReader),
}

impl Base {
    /// The base whose root tree is `tree`; without one, nothing is known.
    pub(crate) fn new(
        cx: &Cx,
        indexed: Arc<Indexed>,
        tree: Option<BlobId>,
        holes: BaseHoles,
    ) -> Self {
        let (levels, notes) = (Vec::new(), Vec::new());
        let mut base = Self { indexed, levels, holes, head: Vec::new(), ids: Vec::new(), notes };
        base.push(cx, None, Vec::new(), tree);
        base
    }

    /// The base's node of that name in that place; a directory's nodes are compared next.
    ///
    /// Must be called for every entry, in visit order.
    pub(crate) fn find(&mut self, cx: &Cx, place: Place, entry: &Entry) -> Found {
        while self.levels.len() > 1 && self.levels.last().is_some_and(|at| at.no != place.parent) {
            self.levels.pop();
        }
        let kind = entry.metadata.kind;
        let found = match self.levels.last_mut() {
            None => Found::Nothing,
            Some(Level { nodes: Nodes::None, ahead: None, .. }) => Found::Nothing,
            Some(level) => {
                self.head.clear();
                // What lies at the top of a snapshot is handed on as nodes.
                let is_inside = place.parent.is_some() || kind == Kind::Directory;
                let head = is_inside.then_some(()).and_then(|()| head_of(entry, &mut self.head));
                let head = head.map(|()| NodeText {
                    name: &entry.name,
                    text: &self.head,
                    has_content: kind == Kind::File,
                    has_tree: kind == Kind::Directory,
                });
                level.seek(&entry.name, head.as_ref(), (&mut self.ids, &mut self.notes))
            }
        };
        if kind == Kind::Directory {
            let subtree = match &found {
                Found::Node(node) if node.kind == NodeKind::Dir => node.subtree,
                Found::Same(node) => node.subtree(),
                Found::Nothing | Found::Node(_) => None,
            };
            let path = self.path_of(&entry.name);
            self.push(cx, Some(place.no), path, subtree);
        }
        found
    }

    /// The ids of the blobs of the file that was just found [the same](Found::Same), 32 bytes each.
    pub(crate) fn ids(&self) -> &[u8] {
        &self.ids
    }

    /// The path of that name in the innermost directory.
    pub(crate) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut path = self.levels.last().map(|level| level.path.clone()).unwrap_or_default();
        path.push(b'/');
        path.extend_from_slice(name);
        path
    }

    /// The holes of the file found last, named `name` in the innermost directory.
    pub(crate) fn holes(&mut self, name: &[u8]) -> KnownHoles {
        let path = match &self.holes {
            BaseHoles::Map(_) => self.path_of(name),
            _ => Vec::new(),
        };
        match &mut self.holes {
            BaseHoles::Unknown => KnownHoles::Ask,
            BaseHoles::None => KnownHoles::These(Vec::new()),
            BaseHoles::Map(map) => match map.at(&path) {
                Ok(holes) => KnownHoles::These(holes),
                Err(error) => {
                    self.notes.push(format!(
                        "the parent's hole map does not read ({error}); holes are looked up again"
                    ));
                    self.holes = BaseHoles::Unknown;
                    KnownHoles::Ask
                }
            },
        }
    }

    /// What could not be read of the base.
    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn push(&mut self, cx: &Cx, no: Option<EntryNo>, path: Vec<u8>, tree: Option<BlobId>) {
        let nodes = match tree.map(|tree| self.open(cx, tree)) {
            None => Nodes::None,
            Some(Ok(nodes)) => nodes,
            Some(Err(error)) => {
                self.notes.push(note(&path, &error));
                Nodes::None
            }
        };
        self.levels.push(Level { no, path, nodes, ahead: None });
    }

    fn open(&self, cx: &Cx, tree: BlobId) -> alidade_repository::Result<Nodes> {
        let cursor = self.indexed.tree_text(cx, tree)?.and_then(TreeCursor::new);
        match cursor {
            Some(cursor) => Ok(Nodes::Text(cursor)),
            None => self.indexed.tree(cx, tree).map(Nodes::Pieces),
        }
    }
}

impl Level {
    /// Advances to `name`; nodes before it are gone for good.
    fn seek(
        &mut self,
        name: &[u8],
        head: Option<&NodeText<'_>>,
        (ids, notes): (&mut Vec<u8>, &mut Vec<String>),
    ) -> Found {
        loop {
            if self.ahead.is_none() {
                if let (Nodes::Text(cursor), Some(head)) = (&mut self.nodes, head)
                    && let Some(same) = cursor.same(head, ids)
                {
                    return Found::Same(same);
                }
                self.ahead = match self.nodes.next() {
                    Some(Ok(node)) => Some(node),
                    end => {
                        if let Some(Err(error)) = end {
                            notes.push(note(&self.path, &error));
                        }
                        self.nodes = Nodes::None;
                        return Found::Nothing;
                    }
                };
            }
            match self.ahead.as_ref().map(|node| node.name.as_slice().cmp(name)) {
                Some(std::cmp::Ordering::Equal) => return self.found(head, ids),
                Some(std::cmp::Ordering::Greater) | None => return Found::Nothing,
                Some(std::cmp::Ordering::Less) => self.ahead = None,
            }
        }
    }

    /// What is ahead was looked for.
    fn found(&mut self, head: Option<&NodeText<'_>>, ids: &mut Vec<u8>) -> Found {
        let node = self.ahead.take();
        if let (Nodes::Text(cursor), Some(head)) = (&self.nodes, head)
            && let Some(same) = cursor.same_as_last(head, ids)
        {
            return Found::Same(same);
        }
        node.map_or(Found::Nothing, |node| Found::Node(Box::new(node)))
    }
}

impl Nodes {
    fn next(&mut self) -> Option<alidade_repository::Result<Node>> {
        match self {
            Self::None => None,
            Self::Text(cursor) => cursor.next_node(),
            Self::Pieces(reader) => reader.next(),
        }
    }
}

fn note(path: &[u8], error: &alidade_repository::Error) -> String {
    format!(
        "the parent's directory {}/ does not read ({error}); its files are read again",
        String::from_utf8_lossy(path)
    )
}
