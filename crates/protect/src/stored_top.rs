//! The top of a snapshot: what was stored, and the records that lie beside it.

use alidade_entity::{Cx, Result};
use alidade_repository::{BlobId, Content, Node, NodeKind, Writer};

use crate::error::as_entity;
use crate::identity::OWN_DIR;

/// Our own records are stored in pieces of about this size.
const RECORD_PIECE: usize = 1 << 20;

/// Lines that are stored piece by piece.
#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) buffer: Vec<u8>,
    content: Content,
    size: u64,
}

/// The top of a snapshot and the records that lie beside it, ready to be sealed.
pub(crate) struct Stored {
    pub(crate) top: Vec<Node>,
    pub(crate) hole_map: Log,
    pub(crate) omitted: Log,
}

impl Log {
    pub(crate) fn flush_full(&mut self, cx: &Cx, writer: &Writer) -> Result<()> {
        if self.buffer.len() < RECORD_PIECE { Ok(()) } else { self.flush(cx, writer) }
    }

    pub(crate) fn flush(&mut self, cx: &Cx, writer: &Writer) -> Result<()> {
        for piece in self.buffer.chunks(8 * RECORD_PIECE) {
            let saved = writer.save_data(cx, piece);
            self.content.push(saved.map_err(|error| as_entity("store a record", error))?.id);
            self.size += piece.len() as u64;
        }
        self.buffer.clear();
        Ok(())
    }
}

impl Stored {
    /// True when the content is the same as that of a snapshot whose top nodes are `other`.
    pub(crate) fn same_as(&self, other: &[Node]) -> bool {
        let theirs = other.iter().filter(|node| node.name != OWN_DIR.as_bytes());
        self.top.iter().eq(theirs)
    }

    /// Stores the records, these and further ones, and the root tree.
    pub(crate) fn seal(
        self,
        cx: &Cx,
        writer: &Writer,
        mut records: Vec<Node>,
        time: alidade_model::Time,
    ) -> alidade_repository::Result<BlobId> {
        for (name, log) in [("holes", self.hole_map), ("omissions", self.omitted)] {
            if !log.content.is_empty() {
                records.push(record_node(name, log.content, log.size, time));
            }
        }
        records.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut own = writer.begin_tree();
        for record in &records {
            own.add(cx, record)?;
        }
        let mut directory = Node::new(OWN_DIR, NodeKind::Dir);
        directory.mode = 1 << 31 | 0o700;
        (directory.mtime, directory.atime, directory.ctime) = (time, time, time);
        directory.subtree = Some(own.finish(cx)?.id);
        let mut top = self.top;
        let at = top.partition_point(|node| node.name.as_slice() < OWN_DIR.as_bytes());
        top.insert(at, directory);
        let mut root = writer.begin_tree();
        for node in &top {
            root.add(cx, node)?;
        }
        Ok(root.finish(cx)?.id)
    }
}

/// A file of ours beside the content.
pub(crate) fn record_node(
    name: &str,
    content: Content,
    size: u64,
    time: alidade_model::Time,
) -> Node {
    let mut node = Node::new(name, NodeKind::File);
    node.mode = 0o600;
    node.size = size;
    (node.mtime, node.atime, node.ctime) = (time, time, time);
    node.content = Some(content);
    node
}
