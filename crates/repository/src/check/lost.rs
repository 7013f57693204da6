//! What a check found to be lost, copy by copy.

use std::collections::{HashMap, HashSet};

use crate::index::Table;
use crate::{BlobId, BlobKind};

/// A blob, of which there may be several copies.
pub(super) type Blob = (BlobKind, BlobId);

/// Copies of blobs that are not whole.
#[derive(Debug, Default)]
pub(super) struct Lost {
    copies: HashMap<Blob, usize>,
}

impl Lost {
    /// One more copy is not whole, or, of a blob without copies, somebody needs it.
    pub(super) fn add(&mut self, blob: Blob) {
        *self.copies.entry(blob).or_default() += 1;
    }

    /// The blobs of which no copy is whole.
    pub(super) fn blobs(&self, table: &Table) -> HashSet<Blob> {
        let all = self.copies.iter();
        let gone = all.filter(|((kind, id), lost)| table.copies_of(*kind, id).len() <= **lost);
        gone.map(|(blob, _)| *blob).collect()
    }
}
