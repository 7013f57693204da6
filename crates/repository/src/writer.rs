//! The way in: blobs are stored once, packs before the index, the index before the snapshot.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alidade_entity::Cx;
use alidade_model::Sabotage;
use zstd::bulk::{Compressor, Decompressor};

use crate::compress::{Compression, Pool, append_frame, decompress};
use crate::crypto::{IV_LEN, MasterKey};
use crate::index::Claim;
use crate::index_file::{self, PackInIndex};
use crate::lock::LockWatch;
use crate::pack_header::HeaderEntry;
use crate::packer::{OpenPack, Sealed, length};
use crate::rabin::{Cuts, Rabin};
use crate::scratch::Scratch;
use crate::stats::{Counters, WriterStats};
use crate::tree_writer::{Spools, TreeWriter};
use crate::{
    Batch, BlobId, BlobKind, Body, Chunker, Error, FileId, FileKind, Indexed, Lock, Repository,
    Result, Snapshot,
};

/// The largest blob that is stored or read whole, in bytes of content.
pub(crate) const MAX_BLOB: usize = 128 << 20;
/// No index file of ours names more blobs.
const INDEX_BLOBS: usize = index_file::MAX_BLOBS_WRITTEN;
/// An index file is written at least so often while packs are: what a crash can cost.
const INDEX_EVERY: Duration = Duration::from_secs(60);
/// Lengths of zeros whose blob is remembered; holes have few lengths, and their ends are not worth it.
const ZERO_LENGTHS: usize = 256;

/// How to write.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Where the contents of files are cut; disks are cut into cells.
    pub cuts: Cuts,
    /// How hard to compress.
    pub compression: Compression,
    /// Bytes at which a pack is full: 4 to 128 MiB.
    pub pack_size: u64,
    /// Opens, decompresses and hashes every new blob again before it goes anywhere.
    pub self_check: bool,
    /// A directory for ciphertext that is too much to hold.
    pub scratch: PathBuf,
}

impl WriterOptions {
    /// The usual way, with scratch space in that directory: zstd level 3, packs of 16 MiB, every
    /// blob checked.
    #[must_use]
    pub fn new(scratch: impl Into<PathBuf>) -> Self {
        Self {
            cuts: Cuts::Ours,
            compression: Compression::Default,
            pack_size: 16 << 20,
            self_check: true,
            scratch: scratch.into(),
        }
    }
}

/// What became of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its id.
    pub id: BlobId,
    /// False when the repository knew it, or another thread is storing it.
    pub new: bool,
    /// Bytes it takes in its pack; 0 when it was known.
    pub stored: u64,
}

/// What sealing a blob needs, kept from blob to blob.
pub(crate) struct Bench {
    pub(crate) compressor: Compressor<'static>,
    pub(crate) decompressor: Decompressor<'static>,
    /// The envelope that is being made.
    pub(crate) sealed: Vec<u8>,
    opened: Vec<u8>,
    plain: Vec<u8>,
}

impl Bench {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            compressor: Compressor::new(3).map_err(no_zstd)?,
            decompressor: Decompressor::new().map_err(no_zstd)?,
            sealed: Vec::new(),
            opened: Vec::new(),
            plain: Vec::new(),
        })
    }
}

/// Packs that are stored and not yet in an index file.
#[derive(Default)]
struct Journal {
    packs: Vec<PackInIndex>,
    blobs: usize,
    /// When the last index file was written, on the clock's own scale.
    last: Duration,
}

impl Journal {
    fn take(&mut self, now: Duration) -> Vec<PackInIndex> {
        self.last = now;
        self.blobs = 0;
        std::mem::take(&mut self.packs)
    }
}

/// Stores blobs, trees and the snapshot of one run. Shared by the threads of that run.
///
/// Guarantees:
/// - A pack is stored before an index names it, an index before a snapshot needs it; before each
///   index and snapshot file the lock is looked after. Killed anywhere, the repository is the old
///   one, or the new one.
/// - After a failure nothing more is written: every later call fails with the same error. What is
///   refused before anything was done is no failure: a tree that is too large, and the end of a run
///   that was told to stop, unless that came in the midst of storing.
/// - Nothing is plaintext but in memory.
///
/// Memory: one pack for trees and one for single blobs, one more for each thread that is just storing
/// a full one, 32 MiB for unfinished trees, and what each [`Batch`] takes.
pub struct Writer {
    indexed: Arc<Indexed>,
    lock: LockWatch,
    options: WriterOptions,
    rabin: Option<Rabin>,
    data: Mutex<OpenPack>,
    trees: Mutex<OpenPack>,
    /// Packs of batches that are done.
    left: Mutex<Vec<OpenPack>>,
    /// An empty pack whose memory is kept: memory that was never touched costs more than filling it.
    spare: Mutex<Option<OpenPack>>,
    benches: Pool<Bench>,
    journal: Mutex<Journal>,
    zeros: Mutex<HashMap<usize, BlobId>>,
    spools: Spools,
    scratch: Scratch,
    failure: Mutex<Option<Error>>,
    failed: AtomicBool,
    counters: Counters,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer into what `indexed` knows, under `lock`, which must be held until the writer is
    /// committed or abandoned.
    ///
    /// # Errors
    /// [`Error::Usage`] when the pack size is out of bounds.
    pub fn new(indexed: Arc<Indexed>, lock: &Lock, options: WriterOptions) -> Result<Self> {
        if !(4 << 20..=128 << 20).contains(&options.pack_size) {
            let why = format!("a pack of {} bytes: it must be 4 to 128 MiB", options.pack_size);
            return Err(Error::Usage(why));
        }
        let rabin = Rabin::chosen(options.cuts, indexed.repository().polynomial())?;
        Ok(Self {
            rabin,
            indexed,
            lock: lock.watch(),
            data: Mutex::default(),
            trees: Mutex::default(),
            left: Mutex::default(),
            spare: Mutex::default(),
            benches: Pool::default(),
            journal: Mutex::default(),
            zeros: Mutex::default(),
            spools: Spools::default(),
            scratch: Scratch::new(&options.scratch),
            failure: Mutex::default(),
            failed: AtomicBool::new(false),
            counters: Counters::default(),
            options,
        })
    }

    /// Stores a piece of a file, unless the repository knows it. From any thread.
    ///
    /// # Errors
    /// [`Error::Unrepresentable`] beyond 128 MiB; [`Error::SelfCheck`]; [`Error::LockLost`]; when
    /// the store fails; when the run was told to stop.
    pub fn save_data(&self, cx: &Cx, plain: &[u8]) -> Result<Saved> {
        cx.check()?;
        if plain.len() > MAX_BLOB {
            return Err(too_large("a piece of a file", "128 MiB"));
        }
        self.guarded(|| self.save(cx, BlobKind::Data, BlobId::of(plain), plain))
    }

    /// Stores a blob of `len` zero bytes, at most 128 MiB, unless the repository knows it. Cheap for
    /// the same length again.
    ///
    /// # Errors
    /// As [`Writer::save_data`].
    pub fn save_zeros(&self, cx: &Cx, len: u64) -> Result<Saved> {
        let len = usize::try_from(len).ok().filter(|len| *len <= MAX_BLOB);
        let len = len.ok_or_else(|| too_large("a piece of a hole", "128 MiB"))?;
        if let Some(id) = held(&self.zeros).get(&len).copied() {
            cx.check()?;
            self.stop_after_failure()?;
            self.counters.known(BlobKind::Data);
            return Ok(Saved { id, new: false, stored: 0 });
        }
        let saved = self.save_data(cx, &vec![0; len])?;
        let mut zeros = held(&self.zeros);
        if zeros.len() < ZERO_LENGTHS {
            zeros.insert(len, saved.id);
        }
        Ok(saved)
    }

    /// The way in for the contents of files, for one thread.
    ///
    /// # Errors
    /// When zstd has no memory.
    pub fn batch(&self) -> Result<Batch<'_>> {
        Batch::new(self)
    }

    /// Begins a tree. Any number may be open at a time; one that is dropped was never there.
    #[must_use]
    pub fn begin_tree(&self) -> TreeWriter<'_> {
        TreeWriter::new(self)
    }

    /// Stores everything and then, as the commit, the snapshot. No other thread may be saving.
    ///
    /// When it returns, the snapshot survives a power cut. The writer can go on to another one.
    ///
    /// # Errors
    /// [`Error::Usage`] when the snapshot's tree is not stored; [`Error::LockLost`] and
    /// [`Error::Locked`], when the snapshot must not be written any more; when the store fails.
    pub fn commit(&self, cx: &Cx, snapshot: &Snapshot) -> Result<FileId> {
        self.guarded(|| {
            if Sabotage::SnapshotBeforeIndex.is_on() {
                self.write_snapshot(cx, snapshot)?;
            }
            self.flush(cx)?;
            if !self.indexed.contains(BlobKind::Tree, &snapshot.tree) {
                let why =
                    format!("commit a snapshot of tree {}, which is not stored", snapshot.tree);
                return Err(Error::Usage(why));
            }
            self.lock.check(cx)?;
            self.write_snapshot(cx, snapshot)
        })
    }

    fn write_snapshot(&self, cx: &Cx, snapshot: &Snapshot) -> Result<FileId> {
        let repository = self.indexed.repository();
        let file = repository.files().seal(cx, &snapshot.encode())?;
        repository.files().put(FileKind::Snapshot, &file)?;
        repository.store().flush(FileKind::Snapshot)?;
        if let Some(kept) = &self.indexed.snapshots {
            kept.keep(&file.id, &file.bytes);
        }
        Ok(file.id)
    }

    /// Stores everything and no snapshot: a later run finds the data known. No other thread may be
    /// saving.
    ///
    /// # Errors
    /// As [`Writer::commit`]; the earlier error, when there was one.
    pub fn abandon(&self, cx: &Cx) -> Result<()> {
        self.guarded(|| self.flush(cx))
    }

    /// The repository that is written to.
    #[must_use]
    pub fn repository(&self) -> &Arc<Repository> {
        self.indexed.repository()
    }

    /// True after a failure: nothing more is written, and every call fails as the first one did.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// What was done so far.
    #[must_use]
    pub fn stats(&self) -> WriterStats {
        self.counters.so_far()
    }

    /// Stores a blob whose content is at hand, unless it is known.
    pub(crate) fn save(&self, cx: &Cx, kind: BlobKind, id: BlobId, plain: &[u8]) -> Result<Saved> {
        if self.indexed.index().claim(kind, id) != Claim::Mine {
            self.counters.known(kind);
            return Ok(Saved { id, new: false, stored: 0 });
        }
        self.benches.with(Bench::new, |bench| {
            let plain_len = self.seal(cx, bench, kind, plain)?;
            if self.self_checks() {
                self.check(bench, id, plain_len)?;
            }
            let stored = bench.sealed.len() as u64;
            self.append(cx, Sealed { kind, id, bytes: &bench.sealed, plain_len })?;
            self.counters.added(kind, plain.len() as u64, stored);
            Ok(Saved { id, new: true, stored })
        })
    }

    /// Makes `bench.sealed` the envelope of a blob; returns its length before compression, or
    /// `None` when it is stored as it is.
    fn seal(
        &self,
        cx: &Cx,
        bench: &mut Bench,
        kind: BlobKind,
        plain: &[u8],
    ) -> Result<Option<u32>> {
        let mut sealer = self.key().sealer(MasterKey::random_iv(cx)?)?;
        let Bench { compressor, sealed, .. } = bench;
        sealed.clear();
        sealed.extend_from_slice(sealer.iv());
        let mut plain_len = None;
        if let Some(level) = self.level(kind) {
            compressor
                .set_compression_level(level)
                .and_then(|()| append_frame(compressor, plain, sealed))
                .map_err(no_zstd)?;
            // Trees are kept compressed all the same: stock restic rewrites packs of trees that are
            // not.
            let keep = is_worth_it(sealed.len() - IV_LEN, plain.len()) || kind == BlobKind::Tree;
            if keep && !plain.is_empty() {
                plain_len = Some(length(plain.len())?);
            } else {
                sealed.truncate(IV_LEN);
            }
        }
        if plain_len.is_none() {
            sealed.extend_from_slice(plain);
        }
        sealer.update(&mut sealed[IV_LEN..]);
        sealed.extend_from_slice(&sealer.finish());
        Ok(plain_len)
    }

    /// Opens, decompresses and hashes what `bench.sealed` holds.
    fn check(&self, bench: &mut Bench, id: BlobId, plain_len: Option<u32>) -> Result<()> {
        let failed = |why: String| Error::SelfCheck { blob: id.to_string(), why };
        let Bench { decompressor, sealed, opened, plain, .. } = bench;
        opened.clear();
        opened.extend_from_slice(sealed);
        let payload =
            self.key().open_in_place(opened).map_err(|error| failed(error.to_string()))?;
        let found = match plain_len {
            None => BlobId::of(payload),
            Some(len) => {
                decompress(decompressor, payload, len as usize, plain)
                    .map_err(|error| failed(error.to_string()))?;
                BlobId::of(plain)
            }
        };
        if found != id {
            return Err(failed(format!("its content has the hash {found}")));
        }
        self.counters.checked();
        Ok(())
    }

    /// Puts a sealed blob into an open pack, and stores the pack when that fills it.
    pub(crate) fn append(&self, cx: &Cx, blob: Sealed<'_>) -> Result<()> {
        let slot = match blob.kind {
            BlobKind::Tree => &self.trees,
            BlobKind::Data => &self.data,
        };
        let mut open = held(slot);
        open.push(blob)?;
        if !open.is_full(self.pack_size()) {
            return Ok(());
        }
        self.swap_and_store(cx, open)
    }

    /// Takes what a batch leaves; it is stored with the last packs of the run.
    pub(crate) fn leave_packs(&self, packs: impl Iterator<Item = OpenPack>) {
        held(&self.left).extend(packs);
    }

    /// Bytes at which a pack is full.
    pub(crate) fn pack_size(&self) -> usize {
        usize::try_from(self.options.pack_size).unwrap_or(usize::MAX)
    }

    /// Takes a pack out of its slot and stores it, with the slot free for others meanwhile.
    fn swap_and_store(&self, cx: &Cx, mut open: MutexGuard<'_, OpenPack>) -> Result<()> {
        let empty = held(&self.spare).take().unwrap_or_default();
        let mut pack = std::mem::replace(&mut *open, empty);
        drop(open);
        self.store_pack(cx, &mut pack)?;
        pack.clear();
        *held(&self.spare) = Some(pack);
        Ok(())
    }

    pub(crate) fn store_pack(&self, cx: &Cx, pack: &mut OpenPack) -> Result<()> {
        self.stop_after_failure()?;
        let name = pack.finish(cx, self.key())?;
        if Sabotage::FlipStoredByte.is_on() {
            pack.flip_a_byte();
        }
        self.store().put(FileKind::Pack, &name.to_string(), Body::Bytes(pack.bytes()))?;
        self.pack_stored(cx, name, pack.blobs())
    }

    /// A pack is stored: its blobs are known from here on, and an index file will say so.
    pub(crate) fn pack_stored(&self, cx: &Cx, name: FileId, blobs: &[HeaderEntry]) -> Result<()> {
        self.indexed.index().stored(name, blobs)?;
        self.counters.pack();
        let now = cx.clock().elapsed();
        let mut due = Vec::new();
        {
            let mut journal = held(&self.journal);
            if journal.packs.is_empty() {
                journal.last = now;
            }
            if journal.blobs + blobs.len() > INDEX_BLOBS {
                due.push(journal.take(now));
            }
            journal.packs.push(PackInIndex { id: name, blobs: blobs.to_vec() });
            journal.blobs += blobs.len();
            if journal.blobs == INDEX_BLOBS || now.saturating_sub(journal.last) >= INDEX_EVERY {
                due.push(journal.take(now));
            }
        }
        due.iter().try_for_each(|packs| self.write_index(cx, packs))
    }

    /// Stores what batches left, as few packs as fit into one another.
    fn store_left(&self, cx: &Cx) -> Result<()> {
        let mut left = std::mem::take(&mut *held(&self.left));
        left.sort_by_key(OpenPack::len);
        let mut open = held(&self.data);
        for mut pack in left {
            if open.has_room(&pack, self.pack_size()) {
                open.absorb(&pack)?;
            } else {
                self.store_pack(cx, &mut pack)?;
            }
        }
        Ok(())
    }

    fn write_index(&self, cx: &Cx, packs: &[PackInIndex]) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        self.stop_after_failure()?;
        self.store().flush(FileKind::Pack)?;
        self.lock.check(cx)?;
        let mut json = Vec::new();
        index_file::encode(packs, &mut json)
            .map_err(|error| Error::store("encode an index", error))?;
        let file = self.indexed.repository().files().write(cx, FileKind::Index, &json)?;
        self.indexed.index_stored(cx, file, packs);
        Ok(())
    }

    /// Stores all open packs and the index of everything that no index names yet.
    fn flush(&self, cx: &Cx) -> Result<()> {
        self.store_left(cx)?;
        for slot in [&self.data, &self.trees] {
            let open = held(slot);
            if !open.is_empty() {
                self.swap_and_store(cx, open)?;
            }
        }
        let rest = held(&self.journal).take(cx.clock().elapsed());
        self.write_index(cx, &rest)?;
        self.store().flush(FileKind::Pack)?;
        self.store().flush(FileKind::Index)?;
        self.indexed.keep_stored(cx);
        Ok(())
    }

    /// Does `work` unless something failed before, and remembers when it fails.
    pub(crate) fn guarded<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.stop_after_failure()?;
        let done = work();
        if let Err(error) = &done {
            held(&self.failure).get_or_insert_with(|| error.clone());
            self.failed.store(true, Ordering::Release);
        }
        done
    }

    fn stop_after_failure(&self) -> Result<()> {
        if !self.has_failed() {
            return Ok(());
        }
        held(&self.failure).clone().map_or(Ok(()), Err)
    }

    /// What finds the cuts of a file.
    pub(crate) fn chunker(&self) -> Chunker<'_> {
        match &self.rabin {
            Some(rabin) => Chunker::as_restic(rabin),
            None => Chunker::new(self.indexed.gear()),
        }
    }

    /// True when cuts depend on everything before them: then a file must come whole.
    #[must_use]
    pub fn cuts_whole_files(&self) -> bool {
        self.rabin.is_some()
    }

    pub(crate) fn indexed(&self) -> &Indexed {
        &self.indexed
    }

    /// True when every new blob is opened again before it is stored.
    pub(crate) fn self_checks(&self) -> bool {
        self.options.self_check && !Sabotage::SkipSelfCheck.is_on()
    }

    pub(crate) fn benches(&self) -> &Pool<Bench> {
        &self.benches
    }

    pub(crate) fn spools(&self) -> &Spools {
        &self.spools
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    pub(crate) fn key(&self) -> &MasterKey {
        self.indexed.repository().files().key()
    }

    pub(crate) fn store(&self) -> &Arc<dyn crate::Store> {
        self.indexed.repository().store()
    }

    /// The zstd level for a kind of blob; `None` when it is stored as it is. Repositories of
    /// version 1 know no compression.
    pub(crate) fn level(&self, kind: BlobKind) -> Option<i32> {
        let level = match kind {
            BlobKind::Data => self.options.compression.data_level(),
            BlobKind::Tree => Some(self.options.compression.tree_level()),
        };
        level.filter(|_| self.indexed.repository().version() >= 2)
    }

    /// The counts, for who does a part of the work.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// True when a compressed content is so much shorter than the plain one that it is kept: what gains
/// less than 1.5 % is not worth being decompressed at every reading.
pub(crate) fn is_worth_it(compressed: usize, plain: usize) -> bool {
    compressed as u64 * 1000 < plain as u64 * 985
}

/// The lock of a mutex whose data no panic leaves half changed.
pub(crate) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn no_zstd(error: io::Error) -> Error {
    Error::store("compress a blob", error)
}

pub(crate) fn too_large(what: &str, bound: &str) -> Error {
    Error::Unrepresentable { what: what.to_owned(), why: format!("it is larger than {bound}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alidade_entity::Cancel;

    use super::*;
    use crate::{Kdf, KeyOptions, LocalStore, LockMode, LockOptions, Password, Repository};

    #[test]
    fn a_sealed_blob_that_changed_by_a_bit_or_is_another_one_fails_its_self_check() {
        let root = tempfile::tempdir().unwrap();
        let cx = Cx::system(Cancel::default());
        let store = Arc::new(LocalStore::new(root.path().join("repository")));
        let key = KeyOptions { kdf: Kdf::LIGHT, host: "h".into(), username: "u".into() };
        let repository = Repository::init(&cx, store, &Password::new("p"), &key).unwrap();
        let mut options = LockOptions::new("h", "u");
        options.wait = Duration::ZERO;
        let lock = repository.lock(&cx, LockMode::Shared, &options).unwrap();
        let indexed = Indexed::load(Arc::clone(&repository), &cx).unwrap();
        let writer = Writer::new(indexed, &lock, WriterOptions::new(root.path())).unwrap();
        let mut bench = Bench::new().unwrap();
        for plain in [&b"a text, a text, a text, a text, a text, a text, a text"[..], b"short"] {
            let id = BlobId::of(plain);
            let plain_len = writer.seal(&cx, &mut bench, BlobKind::Data, plain).unwrap();
            assert_eq!(plain_len.is_some(), plain.len() > 10);
            writer.check(&mut bench, id, plain_len).unwrap();
            let fails = |bench: &mut Bench, id, plain_len| {
                let failed = writer.check(bench, id, plain_len);
                assert!(matches!(failed, Err(Error::SelfCheck { .. })), "{failed:?}");
            };
            for at in 0..bench.sealed.len() {
                bench.sealed[at] ^= 4;
                fails(&mut bench, id, plain_len);
                bench.sealed[at] ^= 4;
            }
            fails(&mut bench, BlobId::of(b"other"), plain_len);
            fails(&mut bench, id, plain_len.map_or(Some(5), |len| Some(len + 1)));
        }
        assert_eq!(writer.stats().self_checked, 2);
    }
}
