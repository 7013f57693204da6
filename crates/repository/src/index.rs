//! The index in memory: where every blob lies.
//!
//! A blob costs 48 bytes for its entry and, in the hash table beside it, 5 bytes for every one of
//! its 1.14 to 2.3 buckets a blob: 54 to 60 bytes, so 54 to 60 MB for a million blobs, and 5 MB more
//! for a moment while the table grows. Entries lie in segments that never move, so growth copies
//! none of them. A pack costs 32 bytes, and 11 more to find it by its name.
//!
//! An entry's number, its ordinal, never changes: `check` marks blobs by it, one bit each.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashTable;

use crate::pack_header::HeaderEntry;
use crate::{BlobId, BlobKind, Error, FileId, Result};

/// Entries a segment holds: 192 KiB, so that a small repository costs little.
const SEGMENT: usize = 4096;
/// The bit of a pack number that says that the blob is a tree.
const TREE: u32 = 1 << 31;

/// A blob in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The number of its entry.
    pub(crate) ordinal: u32,
    /// The pack it lies in.
    pub(crate) pack: FileId,
    /// What it is and where in that pack.
    pub(crate) blob: HeaderEntry,
}

/// Whether a blob must be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is stored.
    Known,
    /// Another thread is storing it.
    Pending,
    /// The caller stores it now.
    Mine,
}

#[derive(Clone, Copy)]
struct Entry {
    id: BlobId,
    /// The number of the pack, with [`TREE`] for trees.
    pack: u32,
    offset: u32,
    len: u32,
    /// 0 for a blob stored as it is, as in index files.
    plain_len: u32,
}

const _: () = assert!(size_of::<Entry>() == 48);

impl Entry {
    fn kind(&self) -> BlobKind {
        if self.pack & TREE == 0 { BlobKind::Data } else { BlobKind::Tree }
    }

    fn is(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.kind() == kind && self.id == *id
    }
}

/// All entries, for one thread at a time to change.
#[derive(Default)]
pub(crate) struct Table {
    seed: Seed,
    segments: Vec<Vec<Entry>>,
    by_id: HashTable<u32>,
    packs: Vec<FileId>,
    packs_by_name: HashTable<u32>,
    copies: u64,
}

/// What hashes are made with, so that nobody can fill an index with ids that fall on one bucket.
#[derive(Clone, Copy)]
struct Seed([u64; 2]);

impl Default for Seed {
    fn default() -> Self {
        let random = RandomState::new();
        Self([random.hash_one(0), random.hash_one(1)])
    }
}

impl Seed {
    /// An id is a hash already: half of it, mixed with what nobody knows, is enough.
    fn hash(self, id: &[u8; 32], tree: bool) -> u64 {
        let (words, _) = id.as_chunks::<8>();
        let [a, b] = [0, 1].map(|at| u64::from_le_bytes(words[at]) ^ self.0[at]);
        let product = u128::from(a ^ u64::from(tree)) * u128::from(b);
        (product as u64) ^ (product >> 64) as u64
    }
}

impl Table {
    /// The number of the pack of that name, known or new.
    pub(crate) fn pack(&mut self, name: FileId) -> Result<u32> {
        let Self { seed, packs, packs_by_name, .. } = self;
        let hash = seed.hash(&name.0, false);
        if let Some(known) = packs_by_name.find(hash, |at| packs[*at as usize] == name) {
            return Ok(*known);
        }
        let number = u32::try_from(packs.len()).ok().filter(|number| *number < TREE);
        let number = number.ok_or_else(|| too_many("packs"))?;
        packs.push(name);
        packs_by_name.insert_unique(hash, number, |at| seed.hash(&packs[*at as usize].0, false));
        Ok(number)
    }

    /// Makes room for so many blobs, so that the table is not built again and again while it grows.
    pub(crate) fn reserve(&mut self, blobs: usize) {
        let Self { seed, segments, by_id, .. } = self;
        segments.reserve(blobs.div_ceil(SEGMENT));
        by_id.reserve(blobs, |at| {
            let entry = entry_of(segments, *at);
            hash_of(*seed, entry.kind(), &entry.id)
        });
    }

    /// Adds a blob that lies in pack number `pack`. The same place told twice is one entry; another
    /// place is another copy, and the first told is found first.
    pub(crate) fn add(&mut self, pack: u32, blob: &HeaderEntry) -> Result<()> {
        let HeaderEntry { kind, id, offset, len, plain_len } = *blob;
        let pack = if kind == BlobKind::Tree { pack | TREE } else { pack };
        let entry = Entry { id, pack, offset, len, plain_len: plain_len.unwrap_or(0) };
        let hash = self.hash(kind, &id);
        let mut copies = 0;
        for ordinal in self.by_id.iter_hash(hash) {
            let other = self.entry(*ordinal);
            if other.is(kind, &id) {
                if other.pack == pack && other.offset == offset {
                    return Ok(());
                }
                copies = 1;
            }
        }
        self.copies += copies;
        let ordinal = u32::try_from(self.len()).ok().filter(|ordinal| *ordinal != u32::MAX);
        let ordinal = ordinal.ok_or_else(|| too_many("blobs"))?;
        if self.segments.last().is_none_or(|segment| segment.len() == SEGMENT) {
            self.segments.push(Vec::with_capacity(SEGMENT));
        }
        self.segments.last_mut().expect("a segment was just made sure of").push(entry);
        let Self { seed, segments, by_id, .. } = self;
        by_id.insert_unique(hash, ordinal, |at| {
            let entry = entry_of(segments, *at);
            hash_of(*seed, entry.kind(), &entry.id)
        });
        Ok(())
    }

    /// Every copy of a blob, the one to be read first.
    pub(crate) fn copies_of(&self, kind: BlobKind, id: &BlobId) -> Vec<Found> {
        let hits = self.by_id.iter_hash(self.hash(kind, id)).copied();
        let mut hits: Vec<u32> = hits.filter(|at| self.entry(*at).is(kind, id)).collect();
        hits.sort_unstable();
        hits.into_iter().map(|ordinal| self.found(ordinal)).collect()
    }

    /// The copy of a blob that was told first.
    pub(crate) fn find(&self, kind: BlobKind, id: &BlobId) -> Option<Found> {
        let hits = self.by_id.iter_hash(self.hash(kind, id)).copied();
        let first = hits.filter(|at| self.entry(*at).is(kind, id)).min()?;
        Some(self.found(first))
    }

    /// The blob of that ordinal, which is below [`Table::len`].
    pub(crate) fn found(&self, ordinal: u32) -> Found {
        let entry = self.entry(ordinal);
        let blob = HeaderEntry {
            kind: entry.kind(),
            id: entry.id,
            offset: entry.offset,
            len: entry.len,
            plain_len: (entry.plain_len != 0).then_some(entry.plain_len),
        };
        Found { ordinal, pack: self.packs[(entry.pack & !TREE) as usize], blob }
    }

    /// The number of the pack that the blob of that ordinal lies in.
    pub(crate) fn pack_of(&self, ordinal: u32) -> u32 {
        self.entry(ordinal).pack & !TREE
    }

    /// The number of the pack of that name, if it is known.
    pub(crate) fn pack_number(&self, name: &FileId) -> Option<u32> {
        let hash = self.seed.hash(&name.0, false);
        self.packs_by_name.find(hash, |at| self.packs[*at as usize] == *name).copied()
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        let full = self.segments.len().saturating_sub(1) * SEGMENT;
        full + self.segments.last().map_or(0, Vec::len)
    }

    /// How many entries are a further copy of a blob.
    pub(crate) fn copies(&self) -> u64 {
        self.copies
    }

    /// The names of all packs by their numbers.
    pub(crate) fn packs(&self) -> &[FileId] {
        &self.packs
    }

    fn entry(&self, ordinal: u32) -> &Entry {
        entry_of(&self.segments, ordinal)
    }

    fn hash(&self, kind: BlobKind, id: &BlobId) -> u64 {
        hash_of(self.seed, kind, id)
    }
}

fn entry_of(segments: &[Vec<Entry>], ordinal: u32) -> &Entry {
    &segments[ordinal as usize / SEGMENT][ordinal as usize % SEGMENT]
}

fn hash_of(seed: Seed, kind: BlobKind, id: &BlobId) -> u64 {
    seed.hash(&id.0, kind == BlobKind::Tree)
}

fn too_many(what: &str) -> Error {
    Error::Unrepresentable {
        what: "the index".into(),
        why: format!("it names more {what} than can be numbered"),
    }
}

/// The index, shared by the threads of a run, with the blobs that are being stored.
#[derive(Default)]
pub(crate) struct SharedIndex {
    table: RwLock<Table>,
    /// Claimed and not yet in a pack that is stored.
    pending: Mutex<HashSet<(BlobKind, BlobId)>>,
}

impl SharedIndex {
    /// One that begins with what `table` says.
    pub(crate) fn new(table: Table) -> Self {
        Self { table: RwLock::new(table), pending: Mutex::default() }
    }

    /// The table, to read.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, HashSet<(BlobKind, BlobId)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks whether the caller must store a blob. One caller alone hears [`Claim::Mine`]; it ends
    /// with [`SharedIndex::stored`], or the run ends.
    pub(crate) fn claim(&self, kind: BlobKind, id: BlobId) -> Claim {
        if self.read().find(kind, &id).is_some() {
            return Claim::Known;
        }
        let mut pending = self.pending();
        // Asked again: between the two it may have been stored, and is then no longer pending.
        if self.read().find(kind, &id).is_some() {
            return Claim::Known;
        }
        if pending.insert((kind, id)) { Claim::Mine } else { Claim::Pending }
    }

    /// The blobs of a pack are stored: they are known from here on.
    pub(crate) fn stored(&self, pack: FileId, blobs: &[HeaderEntry]) -> Result<()> {
        let mut pending = self.pending();
        let mut table = self.write();
        let number = table.pack(pack)?;
        for blob in blobs {
            table.add(number, blob)?;
            pending.remove(&(blob.kind, blob.id));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(kind: BlobKind, id: BlobId, offset: u32) -> HeaderEntry {
        HeaderEntry { kind, id, offset, len: 100, plain_len: Some(300) }
    }

    fn id(n: u32) -> BlobId {
        BlobId::of(&n.to_le_bytes())
    }

    #[test]
    fn every_blob_is_found_where_it_was_added_and_no_other() {
        let mut table = Table::default();
        for n in 0..20_000u32 {
            let pack = table.pack(FileId::of(&(n / 100).to_le_bytes())).unwrap();
            let kind = if n % 3 == 0 { BlobKind::Tree } else { BlobKind::Data };
            table.add(pack, &blob(kind, id(n), n)).unwrap();
        }
        assert_eq!((table.len(), table.packs().len(), table.copies()), (20_000, 200, 0));
        for n in 0..20_000u32 {
            let (kind, other) = match n % 3 {
                0 => (BlobKind::Tree, BlobKind::Data),
                _ => (BlobKind::Data, BlobKind::Tree),
            };
            let found = table.find(kind, &id(n)).unwrap();
            assert_eq!((found.ordinal, found.blob), (n, blob(kind, id(n), n)));
            assert_eq!(found.pack, FileId::of(&(n / 100).to_le_bytes()));
            assert_eq!(table.find(other, &id(n)), None);
        }
        assert_eq!(table.find(BlobKind::Data, &id(20_001)), None);
    }

    #[test]
    fn a_second_copy_is_kept_and_the_first_told_is_found_first() {
        let mut table = Table::default();
        let (a, b) = (table.pack(FileId([1; 32])).unwrap(), table.pack(FileId([2; 32])).unwrap());
        let (first, second) = (blob(BlobKind::Data, id(1), 7), blob(BlobKind::Data, id(1), 9));
        table.add(a, &first).unwrap();
        table.add(b, &HeaderEntry { plain_len: None, ..second }).unwrap();
        table.add(a, &first).unwrap();
        assert_eq!((table.len(), table.copies()), (2, 1));
        let copies = table.copies_of(BlobKind::Data, &id(1));
        assert_eq!(copies.iter().map(|c| c.pack.0[0]).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(copies[1].blob.plain_len, None);
        assert_eq!(table.find(BlobKind::Data, &id(1)), Some(copies[0]));
        assert_eq!(table.pack(FileId([2; 32])).unwrap(), b);
    }

    #[test]
    fn of_many_threads_that_claim_a_blob_one_alone_stores_it() {
        let index = SharedIndex::default();
        let mine: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4u8)
                .map(|thread| {
                    let index = &index;
                    scope.spawn(move || {
                        let mut mine = 0;
                        for n in 0..2_000u32 {
                            if index.claim(BlobKind::Data, id(n)) == Claim::Mine {
                                mine += 1;
                                if n % 2 == 0 {
                                    let blob = blob(BlobKind::Data, id(n), n);
                                    index.stored(FileId([thread; 32]), &[blob]).unwrap();
                                }
                            }
                        }
                        mine
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(mine, 2_000);
        assert_eq!(index.claim(BlobKind::Data, id(0)), Claim::Known);
        assert_eq!(index.claim(BlobKind::Data, id(1)), Claim::Pending);
        assert_eq!(index.claim(BlobKind::Tree, id(0)), Claim::Mine);
        assert_eq!(index.read().copies(), 0);
    }
}
