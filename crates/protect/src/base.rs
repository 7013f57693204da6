//! The base of an incremental copy: the parent's trees, read beside the walk in the same order.

use std::io::BufRead;

use alidade_entity::{Cx, EntryNo, Place};
use alidade_model::{Entry, Hole};
use alidade_repository::{BlobId, Indexed, Node, NodeKind, TreeReader};
use std::sync::Arc;

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

/// The parent of a copy. Memory: one node for each level of the walk.
pub(crate) struct Base {
    indexed: Arc<Indexed>,
    levels: Vec<Level>,
    holes: BaseHoles,
    /// What could not be read of the base; what lies there is read from the source again.
    notes: Vec<String>,
}

struct Level {
    no: Option<EntryNo>,
    path: Vec<u8>,
    nodes: Option<TreeReader>,
    ahead: Option<Node>,
}

impl Base {
    /// The base whose root tree is `tree`; without one, nothing is known.
    pub(crate) fn new(
        cx: &Cx,
        indexed: Arc<Indexed>,
        tree: Option<BlobId>,
        holes: BaseHoles,
    ) -> Self {
        let mut base = Self { indexed, levels: Vec::new(), holes, notes: Vec::new() };
        base.push(cx, None, Vec::new(), tree);
        base
    }

    /// The base's node of that name in that place; a directory's nodes are compared next.
    ///
    /// Must be called for every entry, in visit order.
    pub(crate) fn find(&mut self, cx: &Cx, place: Place, entry: &Entry) -> Option<Node> {
        while self.levels.len() > 1 && self.levels.last().is_some_and(|at| at.no != place.parent) {
            self.levels.pop();
        }
        let found = match self.levels.last_mut() {
            None => None,
            Some(level) => level.seek(&entry.name, &mut self.notes),
        };
        if entry.metadata.kind == alidade_model::Kind::Directory {
            let subtree = found.as_ref().and_then(|node| match node.kind {
                NodeKind::Dir => node.subtree,
                _ => None,
            });
            let mut path = self.levels.last().map(|level| level.path.clone()).unwrap_or_default();
            path.push(b'/');
            path.extend_from_slice(&entry.name);
            self.push(cx, Some(place.no), path, subtree);
        }
        found
    }

    /// The holes of the file found last, named `name` in the innermost directory.
    pub(crate) fn holes(&mut self, name: &[u8]) -> KnownHoles {
        match &mut self.holes {
            BaseHoles::Unknown => KnownHoles::Ask,
            BaseHoles::None => KnownHoles::These(Vec::new()),
            BaseHoles::Map(map) => {
                let mut path = self.levels.last().map(|at| at.path.clone()).unwrap_or_default();
                path.push(b'/');
                path.extend_from_slice(name);
                match map.at(&path) {
                    Ok(holes) => KnownHoles::These(holes),
                    Err(error) => {
                        self.notes.push(format!(
                            "the parent's hole map does not read ({error}); holes are looked up again"
                        ));
                        self.holes = BaseHoles::Unknown;
                        KnownHoles::Ask
                    }
                }
            }
        }
    }

    /// What could not be read of the base.
    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn push(&mut self, cx: &Cx, no: Option<EntryNo>, path: Vec<u8>, tree: Option<BlobId>) {
        let nodes = match tree.map(|tree| self.indexed.tree(cx, tree)) {
            None => None,
            Some(Ok(nodes)) => Some(nodes),
            Some(Err(error)) => {
                self.notes.push(note(&path, &error));
                None
            }
        };
        self.levels.push(Level { no, path, nodes, ahead: None });
    }
}

impl Level {
    /// Advances to `name`; nodes before it are gone for good.
    fn seek(&mut self, name: &[u8], notes: &mut Vec<String>) -> Option<Node> {
        loop {
            if self.ahead.is_none() {
                self.ahead = match self.nodes.as_mut()?.next() {
                    Some(Ok(node)) => Some(node),
                    end => {
                        if let Some(Err(error)) = end {
                            notes.push(note(&self.path, &error));
                        }
                        self.nodes = None;
                        return None;
                    }
                };
            }
            match self.ahead.as_ref().map(|node| node.name.as_slice().cmp(name)) {
                Some(std::cmp::Ordering::Equal) => return self.ahead.take(),
                Some(std::cmp::Ordering::Greater) | None => return None,
                Some(std::cmp::Ordering::Less) => self.ahead = None,
            }
        }
    }
}

fn note(path: &[u8], error: &alidade_repository::Error) -> String {
    format!(
        "the parent's directory {}/ does not read ({error}); its files are read again",
        String::from_utf8_lossy(path)
    )
}
