//! Compare two stored entities.

use std::cmp::Ordering;
use std::sync::Arc;

use alidade_model::{Entry, Metadata};
use alidade_repository::{BlobId, Indexed, Node, NodeKind, TreeReader};

use crate::convert::entry_of;
use crate::identity::{OWN_DIR, StoredSnapshot};
use crate::{Engine, Result};

/// How an entry differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// It is another kind of thing.
    Kind,
    /// Its bytes, link target or device number differ.
    Content,
    /// Only its mode, owner, modification time or extended attributes differ.
    Metadata,
}

impl ChangeKind {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Metadata => "metadata",
        }
    }
}

/// One difference.
#[derive(Clone, Debug)]
pub struct Change {
    /// Where: absolute, raw bytes.
    pub path: Vec<u8>,
    /// How.
    pub kind: ChangeKind,
    /// What the first has there.
    pub before: Option<Entry>,
    /// What the second has there.
    pub after: Option<Entry>,
}

/// How many differences there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffSummary {
    /// Entries only the second has.
    pub added: u64,
    /// Entries only the first has.
    pub removed: u64,
    /// Entries that are another kind of thing.
    pub kind: u64,
    /// Entries with other bytes.
    pub content: u64,
    /// Entries with other metadata alone.
    pub metadata: u64,
}

impl Engine {
    /// Tells `each` every difference between two snapshots, in visit order. Directories with the same tree are
    /// not opened. Our own records are not compared. Memory: two nodes a level.
    ///
    /// # Errors
    /// When a directory does not read.
    pub fn diff(
        &self,
        before: &StoredSnapshot,
        after: &StoredSnapshot,
        each: &mut dyn FnMut(Change) -> Result<()>,
    ) -> Result<DiffSummary> {
        let lock = self.lock()?;
        let differ = self.index().and_then(|indexed| {
            let mut differ = Differ {
                engine: self,
                indexed,
                path: Vec::new(),
                each,
                summary: DiffSummary::default(),
            };
            differ.run(before.snapshot.tree, after.snapshot.tree)?;
            Ok(differ.summary)
        });
        if let Some(lock) = lock {
            lock.release()?;
        }
        differ
    }
}

struct Differ<'a> {
    engine: &'a Engine,
    indexed: Arc<Indexed>,
    path: Vec<u8>,
    each: &'a mut dyn FnMut(Change) -> Result<()>,
    summary: DiffSummary,
}

/// One side of a directory: its nodes and the one ahead.
struct Side {
    nodes: Option<TreeReader>,
    ahead: Option<Node>,
}

impl Side {
    fn peek(&mut self) -> Result<Option<&Node>> {
        if self.ahead.is_none()
            && let Some(nodes) = &mut self.nodes
        {
            self.ahead = nodes.next().transpose()?;
        }
        Ok(self.ahead.as_ref())
    }
}

impl Differ<'_> {
    fn run(&mut self, before: BlobId, after: BlobId) -> Result<()> {
        let mut levels = Vec::new();
        if before != after {
            levels.push((self.side(Some(before))?, self.side(Some(after))?));
        }
        while let Some((left, right)) = levels.last_mut() {
            self.engine.cx().check()?;
            let Some((before, after)) = pair(left, right)? else {
                levels.pop();
                let up = self.path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                self.path.truncate(up);
                continue;
            };
            let name = before.as_ref().or(after.as_ref()).map(|node| node.name.clone());
            let name = name.unwrap_or_default();
            if levels.len() == 1 && name == OWN_DIR.as_bytes() {
                continue;
            }
            let up = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(&name);
            self.compare(before.as_ref(), after.as_ref())?;
            let (old, new) = (subtree(before.as_ref()), subtree(after.as_ref()));
            if old == new {
                self.path.truncate(up);
            } else {
                levels.push((self.side(old)?, self.side(new)?));
            }
        }
        Ok(())
    }

    fn side(&self, tree: Option<BlobId>) -> Result<Side> {
        let nodes = tree.map(|tree| self.indexed.tree(self.engine.cx(), tree)).transpose()?;
        Ok(Side { nodes, ahead: None })
    }

    fn compare(&mut self, before: Option<&Node>, after: Option<&Node>) -> Result<()> {
        let summary = &mut self.summary;
        let kind = match (before, after) {
            (None, None) => return Ok(()),
            (None, Some(_)) => {
                summary.added += 1;
                ChangeKind::Added
            }
            (Some(_), None) => {
                summary.removed += 1;
                ChangeKind::Removed
            }
            (Some(a), Some(b)) if a.kind != b.kind => {
                summary.kind += 1;
                ChangeKind::Kind
            }
            (Some(a), Some(b)) if content(a) != content(b) => {
                summary.content += 1;
                ChangeKind::Content
            }
            (Some(a), Some(b)) if entry_of(a).map(kept) != entry_of(b).map(kept) => {
                summary.metadata += 1;
                ChangeKind::Metadata
            }
            (Some(_), Some(_)) => return Ok(()),
        };
        let (before, after) = (before.and_then(entry_of), after.and_then(entry_of));
        (self.each)(Change { path: self.path.clone(), kind, before, after })
    }
}

/// The next name on either side, with the nodes that have it.
#[allow(clippy::type_complexity, reason = "a pair of optional nodes, or the end")]
fn pair(left: &mut Side, right: &mut Side) -> Result<Option<(Option<Node>, Option<Node>)>> {
    let order = match (left.peek()?, right.peek()?) {
        (None, None) => return Ok(None),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(a), Some(b)) => a.name.cmp(&b.name),
    };
    Ok(Some(match order {
        Ordering::Less => (left.ahead.take(), None),
        Ordering::Greater => (None, right.ahead.take()),
        Ordering::Equal => (left.ahead.take(), right.ahead.take()),
    }))
}

fn subtree(node: Option<&Node>) -> Option<BlobId> {
    node.filter(|node| node.kind == NodeKind::Dir).and_then(|node| node.subtree)
}

fn content(node: &Node) -> (Option<&alidade_repository::Content>, &[u8], u64) {
    (node.content.as_ref(), &node.link_target, node.device)
}

/// The metadata that a restore brings back: what belongs to a place is made equal.
fn kept(entry: Entry) -> Metadata {
    let zero = alidade_model::Time::default();
    Metadata {
        atime: zero,
        ctime: zero,
        inode: 0,
        device: 0,
        links: 0,
        size: 0,
        user: String::new(),
        group: String::new(),
        ..entry.metadata
    }
}
