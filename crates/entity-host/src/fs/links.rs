//! Which names belong to one inode.

use std::collections::HashMap;
use std::sync::Arc;

use alidade_model::{Kind, Metadata, Time};

use super::dir::Dir;
use super::part::Part;

/// The first name of an inode.
#[derive(Clone)]
pub(crate) struct First {
    pub(crate) dir: Arc<Dir>,
    pub(crate) name: Vec<u8>,
    /// The file that is being written under it, until it is settled.
    pub(crate) part: Option<Arc<Part>>,
    kind: Kind,
    size: u64,
    mtime: Time,
    /// Names that have yet to come.
    left: u64,
}

impl First {
    /// The name of something just begun.
    pub(crate) fn new(dir: &Arc<Dir>, name: &[u8], metadata: &Metadata) -> Self {
        Self {
            dir: Arc::clone(dir),
            name: name.to_vec(),
            part: None,
            kind: metadata.kind,
            size: metadata.size,
            mtime: metadata.mtime,
            left: metadata.links.saturating_sub(1),
        }
    }

    /// True when it is the same thing. A number that was given to another file meanwhile, or that
    /// its file system made up, must not cost a content.
    fn is_same(&self, metadata: &Metadata) -> bool {
        (self.kind, self.size, self.mtime) == (metadata.kind, metadata.size, metadata.mtime)
    }
}

/// First names, by inode and file system, until all names of their inode were seen.
#[derive(Default)]
pub(crate) struct Links {
    first: HashMap<(u64, u64), First>,
}

impl Links {
    /// The first name of the inode that this entry is another name of, if it is.
    pub(crate) fn first_of(&mut self, metadata: &Metadata) -> Option<First> {
        let key = (metadata.device, metadata.inode);
        let first = self.first.get_mut(&key).filter(|first| first.is_same(metadata))?;
        first.left = first.left.saturating_sub(1);
        let first = first.clone();
        if first.left == 0 {
            self.first.remove(&key);
        }
        Some(first)
    }

    /// Remembers the first name of an inode.
    pub(crate) fn add(&mut self, metadata: &Metadata, first: First) {
        self.first.insert((metadata.device, metadata.inode), first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_name_is_forgotten_when_all_names_were_seen() {
        let fd = rustix::fs::open(c"/", super::super::dir::HANDLE, rustix::fs::Mode::empty());
        let dir = Dir::root(fd.expect("open /"), b"");
        let mut metadata = Metadata::of(Kind::File, 0o600);
        (metadata.inode, metadata.device, metadata.links) = (1, 2, 3);
        let mut links = Links::default();
        assert!(links.first_of(&metadata).is_none());
        links.add(&metadata, First::new(&dir, b"a", &metadata));
        let mut other = metadata.clone();
        other.mtime.nanos = 1;
        assert!(links.first_of(&other).is_none(), "the number was given to another file");
        assert_eq!(links.first_of(&metadata).expect("the second name").name, b"a");
        assert!(links.first_of(&metadata).is_some(), "the third name");
        assert!(links.first.is_empty());
    }
}
