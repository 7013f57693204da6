//! What a writer counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::BlobKind;

/// What a writer did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Data blobs that were stored.
    pub data_new: u64,
    /// Data blobs that were known, each time they were met.
    pub data_known: u64,
    /// Trees that were stored.
    pub trees_new: u64,
    /// Trees that were known, each time they were met.
    pub trees_known: u64,
    /// Bytes of content of the new blobs.
    pub plain_new: u64,
    /// Bytes the new blobs take in packs, without pack headers.
    pub stored: u64,
    /// Blobs that were opened, decompressed and hashed again before they were stored.
    pub self_checked: u64,
    /// Packs that were stored.
    pub packs: u64,
}

/// The same while it is counted, by any thread.
#[derive(Default)]
pub(crate) struct Counters {
    data_new: AtomicU64,
    data_known: AtomicU64,
    trees_new: AtomicU64,
    trees_known: AtomicU64,
    plain_new: AtomicU64,
    stored: AtomicU64,
    self_checked: AtomicU64,
    packs: AtomicU64,
}

impl Counters {
    /// What was counted so far.
    pub(crate) fn so_far(&self) -> WriterStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WriterStats {
            data_new: of(&self.data_new),
            data_known: of(&self.data_known),
            trees_new: of(&self.trees_new),
            trees_known: of(&self.trees_known),
            plain_new: of(&self.plain_new),
            stored: of(&self.stored),
            self_checked: of(&self.self_checked),
            packs: of(&self.packs),
        }
    }

    pub(crate) fn pack(&self) {
        self.packs.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn known(&self, kind: BlobKind) {
        let counter = match kind {
            BlobKind::Data => &self.data_known,
            BlobKind::Tree => &self.trees_known,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn added(&self, kind: BlobKind, plain: u64, stored: u64) {
        let counter = match kind {
            BlobKind::Data => &self.data_new,
            BlobKind::Tree => &self.trees_new,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.plain_new.fetch_add(plain, Ordering::Relaxed);
        self.stored.fetch_add(stored, Ordering::Relaxed);
    }

    pub(crate) fn checked(&self) {
        self.self_checked.fetch_add(1, Ordering::Relaxed);
    }
}
