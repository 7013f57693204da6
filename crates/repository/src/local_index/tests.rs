//! Whatever lies in the cache, an index says the same with it as without it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alidade_entity::Cancel;

use super::*;
use crate::pack_header::HeaderEntry;
use crate::{
    BlobId, BlobKind, Body, Error, FileKind, Indexed, Kdf, KeyOptions, LocalStore, Password, Store,
    index_file,
};

fn cx() -> Cx {
    Cx::system(Cancel::default())
}

/// A store that counts how often an index file is read.
struct Counting {
    inner: LocalStore,
    index_reads: AtomicUsize,
}

impl Store for Counting {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn create(&self) -> Result<()> {
        self.inner.create()
    }
    fn put(&self, kind: FileKind, name: &str, body: Body<'_>) -> Result<()> {
        self.inner.put(kind, name, body)
    }
    fn flush(&self, kind: FileKind) -> Result<()> {
        self.inner.flush(kind)
    }
    fn read_at(&self, kind: FileKind, name: &str, at: u64, buf: &mut [u8]) -> Result<()> {
        if kind == FileKind::Index {
            self.index_reads.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.read_at(kind, name, at, buf)
    }
    fn len(&self, kind: FileKind, name: &str) -> Result<u64> {
        self.inner.len(kind, name)
    }
    fn list(&self, kind: FileKind, each: &mut dyn FnMut(&str, u64) -> Result<()>) -> Result<()> {
        self.inner.list(kind, each)
    }
    fn remove(&self, kind: FileKind, name: &str) -> Result<()> {
        self.inner.remove(kind, name)
    }
}

/// A repository whose index files the tests write, and a cache.
struct Bed {
    root: tempfile::TempDir,
    store: Arc<Counting>,
    repository: Arc<Repository>,
}

impl Bed {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let inner = LocalStore::new(root.path().join("repository"));
        let store = Arc::new(Counting { inner, index_reads: AtomicUsize::new(0) });
        let options = KeyOptions { kdf: Kdf::LIGHT, host: "h".into(), username: "u".into() };
        let password = Password::new("p");
        let shared: Arc<dyn Store> = Arc::<Counting>::clone(&store);
        let repository = Repository::init(&cx(), shared, &password, &options).unwrap();
        Self { root, store, repository }
    }

    fn cache(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    fn folder(&self) -> PathBuf {
        self.cache().join(self.repository.id().to_string())
    }

    /// Writes an index file of packs that follow from `seed`.
    fn write(&self, seed: u32, packs: u32, blobs: u32) -> FileId {
        let packs: Vec<_> = (0..packs).map(|at| pack(seed * 1000 + at, blobs)).collect();
        let mut json = Vec::new();
        index_file::encode(&packs, &mut json).unwrap();
        self.repository.files().write(&cx(), FileKind::Index, &json).unwrap()
    }

    fn load(&self) -> Arc<Indexed> {
        Indexed::load_cached(Arc::clone(&self.repository), &cx(), &self.cache()).unwrap()
    }

    /// How many index files a load with the cache reads. What it says is what one without it says.
    fn reads(&self) -> usize {
        let before = self.store.index_reads.load(Ordering::Relaxed);
        let with = said(&self.load());
        let reads = self.store.index_reads.load(Ordering::Relaxed) - before;
        let without = Indexed::load(Arc::clone(&self.repository), &cx()).unwrap();
        assert!(with == said(&without), "{} entries, not {}", with.0.len(), said(&without).0.len());
        reads
    }

    fn bundles(&self) -> Vec<PathBuf> {
        bundle::list(&self.folder())
    }

    /// The one bundle there is.
    fn bundle(&self) -> PathBuf {
        let bundles = self.bundles();
        assert_eq!(bundles.len(), 1);
        bundles[0].clone()
    }
}

fn pack(seed: u32, blobs: u32) -> PackInIndex {
    let blob = |at: u32| HeaderEntry {
        kind: if (seed + at).is_multiple_of(3) { BlobKind::Tree } else { BlobKind::Data },
        id: BlobId::of(&[seed.to_le_bytes(), at.to_le_bytes()].concat()),
        offset: at * 100,
        len: 100,
        plain_len: at.is_multiple_of(2).then_some(300 + at),
    };
    let id = FileId::of(&seed.to_be_bytes());
    PackInIndex { id, blobs: (0..blobs).map(blob).collect() }
}

type Place = (BlobKind, BlobId, FileId, u32, u32, Option<u32>);

/// Everything that an index says, in no order.
fn said(indexed: &Indexed) -> (BTreeSet<Place>, BTreeSet<FileId>) {
    let table = indexed.index().read();
    let places = (0..u32::try_from(table.len()).unwrap()).map(|ordinal| {
        let found = table.found(ordinal);
        let HeaderEntry { kind, id, offset, len, plain_len } = found.blob;
        assert!(table.copies_of(kind, &id).contains(&found));
        (kind, id, found.pack, offset, len, plain_len)
    });
    (places.collect(), table.packs().iter().copied().collect())
}

#[test]
fn only_new_index_files_are_read_and_what_is_gone_is_forgotten() {
    let bed = Bed::new();
    assert_eq!(bed.reads(), 0);
    assert!(!bed.cache().exists(), "nothing to keep, nothing made");
    let first = bed.write(1, 3, 50);
    let second = bed.write(2, 1, 7);
    bed.write(3, 0, 0);
    assert_eq!(bed.reads(), 3);
    assert_eq!(bed.reads(), 0);
    bed.write(4, 2, 9);
    // A copy of a blob that another index file names, in another pack.
    let copy = PackInIndex { id: FileId([7; 32]), ..pack(1000, 5) };
    let mut json = Vec::new();
    index_file::encode([&copy], &mut json).unwrap();
    bed.repository.files().write(&cx(), FileKind::Index, &json).unwrap();
    assert_eq!(bed.reads(), 2);
    assert_eq!(bed.reads(), 0);
    // As another program's prune does: some are gone, with a new one in their place.
    for gone in [first, second] {
        bed.store.remove(FileKind::Index, &gone.to_string()).unwrap();
    }
    assert_eq!(bed.reads(), 0);
    bed.write(5, 2, 30);
    assert_eq!(bed.reads(), 1);
    assert_eq!(bed.reads(), 0);
    assert_eq!(bed.bundles().len(), 1);
    for (gone, _) in bed.repository.files().list(FileKind::Index).unwrap() {
        bed.store.remove(FileKind::Index, &gone.to_string()).unwrap();
    }
    assert_eq!(bed.reads(), 0);
    assert!(bed.bundles().is_empty());
}

#[test]
fn what_is_kept_is_private() {
    let bed = Bed::new();
    bed.write(1, 1, 1);
    bed.reads();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(bed.cache()), 0o700);
    assert_eq!(mode(bed.folder()), 0o700);
    assert_eq!(mode(bed.bundle()), 0o600);
    let bytes = fs::read(bed.bundle()).unwrap();
    let pack = pack(1000, 1);
    let holds = |id: &[u8; 32]| bytes.windows(32).any(|window| window == id);
    assert!(!holds(&pack.id.0) && !holds(&pack.blobs[0].id.0));
}

#[test]
fn a_changed_byte_anywhere_is_noticed_and_mended() {
    let bed = Bed::new();
    bed.write(1, 2, 2);
    bed.write(2, 1, 1);
    bed.reads();
    let good = fs::read(bed.bundle()).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        for path in bed.bundles() {
            fs::remove_file(path).unwrap();
        }
        fs::write(bed.folder().join("index-bad"), &bad).unwrap();
        assert!(bed.reads() > 0, "byte {at} of {}", good.len());
        // One load mends what was damaged, and the next what was kept beside it.
        bed.reads();
        assert_eq!(bed.reads(), 0, "byte {at}");
        assert!(!bed.folder().join("index-bad").exists());
    }
}

#[test]
fn a_bundle_that_is_cut_off_or_goes_on_is_noticed_and_mended() {
    let bed = Bed::new();
    bed.write(1, 2, 2);
    bed.write(2, 1, 1);
    bed.reads();
    let good = fs::read(bed.bundle()).unwrap();
    let longer = [&good[..], &[0]].concat();
    let twice = [&good[..], &good[..]].concat();
    let cut = (0..good.len()).map(|len| good[..len].to_vec());
    for bad in cut.chain([longer, twice]) {
        for path in bed.bundles() {
            fs::remove_file(path).unwrap();
        }
        fs::write(bed.folder().join("index-bad"), &bad).unwrap();
        assert_eq!(bed.reads(), 2, "{} bytes of {}", bad.len(), good.len());
        assert_eq!(bed.reads(), 0);
        assert!(!bed.folder().join("index-bad").exists());
    }
}

/// A bundle of what is told, written by hand.
fn bundle_of(local: &LocalIndex, told: &[(FileId, PackInIndex)]) {
    let mut draft = local.draft();
    for (file, pack) in told {
        draft.begin(&cx(), *file);
        draft.pack(&cx(), pack);
        draft.end(&cx());
    }
    assert!(draft.finish(&cx()));
}

#[test]
fn no_piece_stands_for_another_one() {
    let bed = Bed::new();
    let local = LocalIndex::of(&bed.cache(), &bed.repository).unwrap();
    // All pieces are equally long.
    let packs = [1, 2, 3, 4].map(|seed| pack(seed * 1000, 3));
    let files = [1, 2, 3, 4].map(|seed| bed.write(seed, 1, 3));
    let told: Vec<_> = files.into_iter().zip(packs).collect();
    let two = |from: usize| {
        bundle_of(&local, &told[from..from + 2]);
        let path = bed.bundles().pop().unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(path).unwrap();
        bytes
    };
    let (a, again, b) = (two(0), two(0), two(2));
    let piece = a.len() - b.len() + 60 + 36 + 3 * 45 + 32;
    let spliced = |head: &[u8], middle: &[u8], rest: &[u8]| [head, middle, rest].concat();
    let (p1, p2) = (0..piece, piece..2 * piece);
    let (name, other) = (bed.folder().join("index-a"), bed.folder().join("index-b"));
    let bads = [
        // Within one, from one of the same files, from one of others, and the contents of another.
        spliced(&a[p2.clone()], &a[p1.clone()], &a[2 * piece..]),
        spliced(&a[p1.clone()], &a[p1.clone()], &a[2 * piece..]),
        spliced(&a[p1.clone()], &again[p2.clone()], &a[2 * piece..]),
        spliced(&a[p1.clone()], &b[p2.clone()], &a[2 * piece..]),
        spliced(&a[p1.clone()], &a[p2.clone()], &b[2 * piece..]),
        spliced(&a[p1], &a[p2], &again[2 * piece..]),
    ];
    for (at, bad) in bads.into_iter().enumerate() {
        for path in bed.bundles() {
            fs::remove_file(path).unwrap();
        }
        fs::write(&name, &bad).unwrap();
        assert!(bed.reads() > 2, "{at}: more than what was never there is read");
    }
    // Whole files under each other's names are as good as before.
    for path in bed.bundles() {
        fs::remove_file(path).unwrap();
    }
    fs::write(&name, &b).unwrap();
    fs::write(&other, &a).unwrap();
    assert_eq!(bed.reads(), 0);
    // So are two that say the same.
    fs::write(&name, &a).unwrap();
    fs::write(&other, &again).unwrap();
    assert_eq!(bed.reads(), 2);
}

#[test]
fn an_index_file_of_which_a_piece_is_damaged_or_replaced_is_read_again() {
    for (at, anew) in (0..6).map(|n| (n / 2, n % 2 == 1)) {
        let bed = Bed::new();
        // Two full pieces of the same length, one with the first pack and some blobs of the second, the
        // next with the rest of that and some of the last; and a third.
        bed.write(1, 3, 20_000);
        bed.reads();
        let mut bytes = fs::read(bed.bundle()).unwrap();
        let len = 60 + 2 * 36 + 23_298 * 45 + 32;
        let (first, second) = bytes.split_at_mut(len);
        match at {
            0 => second[..1000].fill(0),
            1 => second[len..len + 1000].fill(0),
            _ => second[..len].copy_from_slice(first),
        }
        fs::write(bed.bundle(), bytes).unwrap();
        // Much that is new has it written anew at the same time.
        let new = if anew { 20_000 } else { 0 };
        bed.write(2, 3, new);
        assert_eq!(bed.reads(), 2, "{at} {anew}");
        assert_eq!(bed.reads(), 0, "{at} {anew}");
    }
}

#[test]
fn a_bundle_that_is_cut_off_while_it_is_read_is_read_up_to_there() {
    let bed = Bed::new();
    let files = [bed.write(1, 1, 3), bed.write(2, 1, 3)];
    bed.reads();
    let local = LocalIndex::of(&bed.cache(), &bed.repository).unwrap();
    let listed = bed.repository.files().list(FileKind::Index).unwrap();
    let plan = local.bundles().plan(&listed);
    fs::File::options().write(true).open(bed.bundle()).unwrap().set_len(300).unwrap();
    let mut packs = Vec::new();
    let (missing, renewal) = plan
        .read(&cx(), &mut |pack| {
            packs.push(pack.id);
            Ok(())
        })
        .unwrap();
    assert_eq!((packs.len(), missing.len()), (1, 1));
    assert!(files.iter().any(|file| missing.contains(file)));
    renewal.finish(&cx());
    assert!(bed.bundles().is_empty());
    assert_eq!(bed.reads(), 2);
}

#[test]
fn what_another_key_sealed_is_not_believed() {
    let (bed, stranger) = (Bed::new(), Bed::new());
    let file = bed.write(1, 1, 3);
    let ours = LocalIndex::of(&bed.cache(), &bed.repository).unwrap();
    let theirs = LocalIndex::of(&bed.cache(), &stranger.repository).unwrap();
    let master = bed.repository.files().key();
    let lie = [(file, pack(9, 3))];
    let keys = [
        // Another repository's, the repository's own, with which contents of files are sealed, and
        // that of one with the same key and another id.
        theirs.key,
        master.clone(),
        derive(master, stranger.repository.id()).unwrap(),
    ];
    for (at, key) in keys.into_iter().enumerate() {
        bundle_of(&LocalIndex { key, ..ours.clone() }, &lie);
        assert_eq!(bed.reads(), 1, "{at}");
        fs::remove_file(bed.bundle()).unwrap();
    }
    // That a lie under the right key would be believed shows that the tests above can fail.
    bundle_of(&ours, &lie);
    assert!(said(&bed.load()).1.contains(&pack(9, 3).id));
}

#[test]
fn where_nothing_can_be_kept_the_index_is_read_each_time() {
    let bed = Bed::new();
    bed.write(1, 1, 3);
    let without = Indexed::load(Arc::clone(&bed.repository), &cx()).unwrap();
    let file = bed.root.path().join("file");
    fs::write(&file, b"x").unwrap();
    for cache in [file.as_path(), Path::new("/proc/self/task"), Path::new("/dev/full")] {
        let with = Indexed::load_cached(Arc::clone(&bed.repository), &cx(), cache).unwrap();
        assert!(said(&with) == said(&without), "{}", cache.display());
    }
    // A directory where the bundle would be, a pipe, a link into nothing.
    fs::create_dir_all(bed.folder().join("index-directory")).unwrap();
    std::os::unix::fs::symlink("/nowhere", bed.folder().join("index-link")).unwrap();
    let pipe = bed.folder().join("index-pipe");
    assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    fs::write(bed.folder().join("other"), b"x").unwrap();
    assert_eq!(bed.reads(), 1);
    assert_eq!(bed.reads(), 0);
    assert!(bed.folder().join("other").exists());
}

#[test]
fn a_cache_that_cannot_be_written_is_read_all_the_same() {
    let bed = Bed::new();
    bed.write(1, 1, 3);
    bed.reads();
    let before = fs::read(bed.bundle()).unwrap();
    let set = |mode| fs::set_permissions(bed.folder(), fs::Permissions::from_mode(mode)).unwrap();
    set(0o500);
    assert_eq!(bed.reads(), 0);
    bed.write(2, 1, 3);
    assert_eq!(bed.reads(), 1);
    set(0o700);
    if bed.bundles().len() == 1 && fs::read(bed.bundle()).unwrap() == before {
        assert_eq!(bed.reads(), 1, "not written before");
    }
    assert_eq!(bed.reads(), 0);
}

#[test]
fn many_small_index_files_make_few_bundles() {
    let bed = Bed::new();
    for seed in 0..150 {
        bed.write(seed, 1, 2);
        let before = bed.store.index_reads.load(Ordering::Relaxed);
        bed.load();
        assert_eq!(bed.store.index_reads.load(Ordering::Relaxed) - before, 1);
        assert_eq!(bed.bundles().len(), 1);
    }
    assert_eq!(bed.reads(), 0);
}

#[test]
fn a_large_bundle_stays_when_little_is_new_and_one_that_is_mostly_out_of_date_does_not() {
    let bed = Bed::new();
    // 3.6 MB, so that their pieces are cut where a pack goes on.
    let large = [bed.write(1, 3, 20_000), bed.write(2, 1, 20_000)];
    bed.reads();
    let kept = bed.bundle();
    for seed in 3..10 {
        bed.write(seed, 1, 5);
        assert_eq!(bed.reads(), 1);
        assert_eq!(bed.bundles().len(), 2);
        assert!(kept.exists());
    }
    bed.store.remove(FileKind::Index, &large[0].to_string()).unwrap();
    assert_eq!(bed.reads(), 0);
    assert!(!kept.exists());
    assert_eq!(bed.reads(), 0);
}

#[test]
fn many_at_once_read_and_write_the_same_cache() {
    let bed = Bed::new();
    bed.write(1, 1, 3);
    let before = said(&Indexed::load(Arc::clone(&bed.repository), &cx()).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (bed, before) = (&bed, &before);
            scope.spawn(move || {
                for round in 0..25 {
                    let mine = bed.write(2 + thread * 25 + round, 1, 3);
                    let with = said(&bed.load());
                    assert!(before.0.is_subset(&with.0));
                    let own = pack((2 + thread * 25 + round) * 1000, 3);
                    assert!(with.1.contains(&own.id), "{mine}");
                }
            });
        }
    });
    bed.reads();
    assert_eq!(bed.reads(), 0);
    let entries = fs::read_dir(bed.folder()).unwrap().count();
    assert_eq!(entries, bed.bundles().len(), "nothing unfinished is left");
}

#[test]
fn what_killed_processes_left_is_removed_and_what_is_being_written_stays() {
    let bed = Bed::new();
    let file = bed.write(1, 1, 3);
    bed.reads();
    let left = bed.folder().join("index-0123.tmp");
    fs::write(&left, b"x").unwrap();
    let local = LocalIndex::of(&bed.cache(), &bed.repository).unwrap();
    let mut draft = local.draft();
    draft.begin(&cx(), file);
    assert_eq!(bed.reads(), 0);
    assert!(!left.exists());
    assert_eq!(fs::read_dir(bed.folder()).unwrap().count(), 2);
    drop(draft);
    assert_eq!(fs::read_dir(bed.folder()).unwrap().count(), 1);
}

#[test]
fn a_damaged_index_file_is_an_error_and_nothing_is_kept_of_that_load() {
    let bed = Bed::new();
    bed.write(1, 1, 3);
    let bad = bed.repository.files().write(&cx(), FileKind::Index, b"{\"packs\":[{]}").unwrap();
    for _ in 0..2 {
        let loaded = Indexed::load_cached(Arc::clone(&bed.repository), &cx(), &bed.cache());
        assert!(matches!(loaded, Err(Error::Damaged { .. })));
        assert!(bed.bundles().is_empty());
    }
    bed.store.remove(FileKind::Index, &bad.to_string()).unwrap();
    assert_eq!(bed.reads(), 1);
}
