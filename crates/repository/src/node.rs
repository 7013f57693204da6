use alidade_model::Time;

use crate::BlobId;

/// What a node of a tree is, in restic's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// `file`
    File,
    /// `dir`
    Dir,
    /// `symlink`
    Symlink,
    /// `dev`: a block device.
    Dev,
    /// `chardev`
    CharDev,
    /// `fifo`
    Fifo,
    /// `socket`
    Socket,
    /// Any other word: kept, but neither written by us nor restored.
    Other(String),
}

/// The blobs of a file in order. Equal neighbours are kept as one run, so that the zero blobs of a
/// huge hole cost nothing: about 36 bytes a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    runs: Vec<(BlobId, u32)>,
    len: u64,
}

impl Content {
    /// No blobs: the content of an empty file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a blob.
    pub fn push(&mut self, id: BlobId) {
        self.push_run(id, 1);
    }

    /// Appends a blob `count` times.
    pub fn push_run(&mut self, id: BlobId, count: u64) {
        self.len += count;
        let mut rest = count;
        if let Some((last, n)) = self.runs.last_mut()
            && *last == id
        {
            let room = u64::from(u32::MAX - *n).min(rest);
            *n += u32::try_from(room).unwrap_or(0);
            rest -= room;
        }
        while rest > 0 {
            let now = u32::try_from(rest).unwrap_or(u32::MAX);
            self.runs.push((id, now));
            rest -= u64::from(now);
        }
    }

    /// How many blobs there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True for an empty file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All blobs in order.
    pub fn iter(&self) -> impl Iterator<Item = BlobId> + '_ {
        self.runs.iter().flat_map(|(id, n)| std::iter::repeat_n(*id, *n as usize))
    }

    /// The runs: each blob and how often it follows itself.
    #[must_use]
    pub fn runs(&self) -> &[(BlobId, u32)] {
        &self.runs
    }
}

/// An entry of a tree, as restic's format says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// A single path component, raw bytes.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: NodeKind,
    /// Go's `FileMode` bits, not `st_mode`.
    pub mode: u32,
    /// Last change of the content, in UTC.
    pub mtime: Time,
    /// Last access, in UTC.
    pub atime: Time,
    /// Last change of the inode, in UTC.
    pub ctime: Time,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Owner's name; empty when unknown.
    pub user: String,
    /// Group's name; empty when unknown.
    pub group: String,
    /// Inode number; 0 when unknown.
    pub inode: u64,
    /// Number of the file system; 0 when unknown.
    pub device_id: u64,
    /// Bytes of content.
    pub size: u64,
    /// Number of names.
    pub links: u64,
    /// Where a symlink points, raw bytes.
    pub link_target: Vec<u8>,
    /// Extended attributes: name (text in this format) and value.
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// `generic_attributes`: key and raw JSON of its value, ascending by key.
    pub generic: Vec<(String, String)>,
    /// Device number of a device node.
    pub device: u64,
    /// The blobs of a file; `None` for everything else.
    pub content: Option<Content>,
    /// The tree of a directory.
    pub subtree: Option<BlobId>,
    /// An error the writer noted; empty for none.
    pub error: String,
}

impl Node {
    /// A node of that name and kind with everything else empty.
    #[must_use]
    pub fn new(name: impl Into<Vec<u8>>, kind: NodeKind) -> Self {
        Self {
            name: name.into(),
            kind,
            mode: 0,
            mtime: Time::default(),
            atime: Time::default(),
            ctime: Time::default(),
            uid: 0,
            gid: 0,
            user: String::new(),
            group: String::new(),
            inode: 0,
            device_id: 0,
            size: 0,
            links: 0,
            link_target: Vec::new(),
            xattrs: Vec::new(),
            generic: Vec::new(),
            device: 0,
            content: None,
            subtree: None,
            error: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_neighbours_cost_one_run_and_come_back_in_order() {
        let (a, b) = (BlobId([1; 32]), BlobId([2; 32]));
        let mut content = Content::new();
        content.push(a);
        content.push_run(b, 5_000_000_000);
        content.push(b);
        content.push(a);
        assert_eq!(content.len(), 5_000_000_003);
        assert_eq!(content.runs().len(), 4);
        assert_eq!(content.iter().next(), Some(a));
        assert_eq!(content.runs().last(), Some(&(a, 1)));
    }
}
