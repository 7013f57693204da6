//! What of a snapshot needs something that is lost.

use std::collections::HashSet;

use alidade_entity::Cx;

use crate::{BlobId, BlobKind, Content, Error, Indexed, Result};

/// Files and directories that are named of each snapshot.
const NAMED: usize = 100;

/// What of a snapshot is not whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Files and directories; one below a directory that is lost does not count.
    pub count: u64,
    /// The paths of the first hundred, in visit order.
    pub named: Vec<Vec<u8>>,
}

/// Looks through snapshots one after the other, and once into what is whole.
///
/// Memory: 32 bytes for each tree, and the names of directories that lie beside a path.
pub(crate) struct Search<'a> {
    cx: &'a Cx,
    indexed: &'a Indexed,
    is_lost: &'a dyn Fn(BlobKind, &BlobId) -> bool,
    /// Trees below which nothing is touched.
    clean: HashSet<BlobId>,
    found: Touched,
}

/// A directory that is being walked through.
struct Directory {
    tree: BlobId,
    /// Its path, with a slash at its end.
    path: Vec<u8>,
    below: std::vec::IntoIter<(Vec<u8>, BlobId)>,
    is_touched: bool,
}

impl<'a> Search<'a> {
    /// Looks for what needs a blob of which `is_lost` says so, or a tree that does not read.
    pub(crate) fn new(
        cx: &'a Cx,
        indexed: &'a Indexed,
        is_lost: &'a dyn Fn(BlobKind, &BlobId) -> bool,
    ) -> Self {
        Self { cx, indexed, is_lost, clean: HashSet::new(), found: Touched::default() }
    }

    /// What of the snapshot with that tree is touched.
    ///
    /// # Errors
    /// When the store fails; when the run was told to stop.
    pub(crate) fn tree(&mut self, root: BlobId) -> Result<Touched> {
        let mut open: Vec<Directory> = Vec::new();
        open.extend(self.enter(root, b"/".to_vec())?);
        while let Some(directory) = open.last_mut() {
            let before = self.found.count;
            if let Some((name, tree)) = directory.below.next() {
                let path = [&directory.path[..], &name, b"/"].concat();
                let entered = self.enter(tree, path)?;
                directory.is_touched |= self.found.count > before;
                open.extend(entered);
                continue;
            }
            let Some(done) = open.pop() else { break };
            if let Some(above) = open.last_mut() {
                above.is_touched |= done.is_touched;
            }
            if !done.is_touched {
                self.clean.insert(done.tree);
            }
        }
        Ok(std::mem::take(&mut self.found))
    }

    /// Looks at the files of a directory. `None` when there is nothing to be found below it.
    fn enter(&mut self, tree: BlobId, path: Vec<u8>) -> Result<Option<Directory>> {
        self.cx.check()?;
        if self.clean.contains(&tree) {
            return Ok(None);
        }
        if (self.is_lost)(BlobKind::Tree, &tree) {
            self.touch(path);
            return Ok(None);
        }
        let nodes = match self.indexed.tree(self.cx, tree) {
            Err(Error::Damaged { .. } | Error::NotFound { .. }) => {
                self.touch(path);
                return Ok(None);
            }
            nodes => nodes?,
        };
        let (before, mut below) = (self.found.count, Vec::new());
        for node in nodes {
            let node = match node {
                // Of a node that makes no sense, its directory is what can be named.
                Err(Error::Damaged { .. }) => {
                    self.touch(path.clone());
                    continue;
                }
                node => node?,
            };
            let mut ids = node.content.iter().flat_map(Content::runs);
            if ids.any(|(id, _)| (self.is_lost)(BlobKind::Data, id)) {
                self.touch([&path[..], &node.name].concat());
            }
            below.extend(node.subtree.map(|tree| (node.name, tree)));
        }
        let is_touched = self.found.count > before;
        Ok(Some(Directory { tree, path, below: below.into_iter(), is_touched }))
    }

    fn touch(&mut self, path: Vec<u8>) {
        self.found.count += 1;
        if self.found.named.len() < NAMED {
            self.found.named.push(path);
        }
    }
}
