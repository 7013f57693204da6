//! Who is told of a check while it runs.

use std::collections::HashSet;

use super::Finding;
use crate::FileId;

/// Follows a check. A function that takes a [`Finding`] is one that has every pack read.
pub trait CheckWatch {
    /// Something is not as it should be.
    fn found(&mut self, finding: Finding);

    /// Which packs are read, of those that the index names and that are there, by name and length: all of
    /// them when it says nothing. Asked once, and only when data is to be read.
    fn choose(&mut self, packs: &[(FileId, u64)]) -> Option<HashSet<FileId>> {
        let _: &[(FileId, u64)] = packs;
        None
    }

    /// A pack was read whole, and nothing in it was wrong, not even at first.
    fn is_whole(&mut self, pack: FileId) {
        let _: FileId = pack;
    }
}

impl<F: FnMut(Finding)> CheckWatch for F {
    fn found(&mut self, finding: Finding) {
        self(finding);
    }
}
