//! Whatever lies in the cache, the snapshots are those of the repository, and those that are kept cost no request.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use alidade_entity::{Cancel, Cx};
use alidade_model::Time;

use super::*;
use crate::{
    BlobId, Body, Error, FileKind, Kdf, KeyOptions, LocalStore, Password, Result, Snapshot, Store,
};

fn cx() -> Cx {
    Cx::system(Cancel::default())
}

/// A store that is far, or is not, and counts how often a snapshot file is read.
struct Counting {
    inner: LocalStore,
    is_far: AtomicBool,
    reads: AtomicUsize,
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
        if kind == FileKind::Snapshot {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.read_at(kind, name, at, buf)
    }
    fn is_far(&self) -> bool {
        self.is_far.load(Ordering::Relaxed)
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

/// A repository of some snapshots, and a cache.
struct Bed {
    root: tempfile::TempDir,
    store: Arc<Counting>,
    repository: Arc<Repository>,
}

impl Bed {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let inner = LocalStore::new(root.path().join("repository"));
        let (is_far, reads) = (AtomicBool::new(true), AtomicUsize::new(0));
        let store = Arc::new(Counting { inner, is_far, reads });
        let options = KeyOptions { kdf: Kdf::LIGHT, host: "h".into(), username: "u".into() };
        let shared: Arc<dyn Store> = Arc::<Counting>::clone(&store);
        let password = Password::new("p");
        let repository = Repository::init(&cx(), shared, &password, &options).unwrap();
        Self { root, store, repository }
    }

    /// The same with so many snapshots, which nobody has read.
    fn of(count: u8) -> Self {
        let bed = Self::new();
        for number in 0..count {
            bed.write(number);
        }
        bed
    }

    fn write(&self, number: u8) -> FileId {
        let snapshot = Snapshot::new(Time::from_nanos(i128::from(number)), BlobId::of(&[number]));
        let files = self.repository.files();
        files.write(&cx(), FileKind::Snapshot, &snapshot.encode()).unwrap()
    }

    fn cache(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    fn kept(&self) -> Vec<PathBuf> {
        let folder = self.cache().join(self.repository.id().to_string()).join(FOLDER);
        let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    /// How many snapshot files it takes to read them all with the cache. They are what they are without it.
    fn reads(&self) -> usize {
        let before = self.store.reads.load(Ordering::Relaxed);
        let with = self.repository.snapshots_cached(&cx(), &self.cache()).unwrap();
        let reads = self.store.reads.load(Ordering::Relaxed) - before;
        let without = self.repository.snapshots(&cx()).unwrap();
        let of = |all: Vec<(FileId, Result<Snapshot>)>| -> Vec<_> {
            all.into_iter().map(|(id, snapshot)| (id, snapshot.unwrap())).collect()
        };
        assert_eq!(of(with), of(without));
        reads
    }
}

#[test]
fn a_snapshot_file_is_read_once() {
    let bed = Bed::of(20);
    assert_eq!((bed.reads(), bed.reads()), (20, 0));
    let new = bed.write(20);
    assert_eq!((bed.reads(), bed.reads()), (1, 0));
    let one = |id| bed.repository.snapshot_cached(id, &bed.cache());
    let before = bed.store.reads.load(Ordering::Relaxed);
    assert_eq!(one(&new).unwrap().tree, BlobId::of(&[20]));
    assert_eq!(bed.store.reads.load(Ordering::Relaxed), before);
    assert!(matches!(one(&FileId::of(b"absent")), Err(Error::NotFound { .. })));
}

/// What is done to a file that is kept.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn whatever_is_wrong_in_the_cache_is_read_anew() {
    let bed = Bed::of(3);
    assert_eq!(bed.reads(), 3);
    let kept = bed.kept();
    let other = fs::read(&kept[1]).unwrap();
    let damages: [Damage<'_>; 6] = [
        ("half", &|path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("empty", &|path| fs::write(path, b"").unwrap()),
        ("flipped", &|path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[20] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("longer", &|path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, [&bytes[..], b"x"].concat()).unwrap();
        }),
        ("another", &|path| fs::write(path, &other).unwrap()),
        ("a link", &|path| {
            let aside = path.with_extension("aside");
            fs::rename(path, &aside).unwrap();
            symlink(aside, path).unwrap();
        }),
    ];
    for (what, damage) in damages {
        damage(&kept[0]);
        assert_eq!((bed.reads(), bed.reads()), (1, 0), "{what}");
    }
    fs::remove_file(&kept[0]).unwrap();
    fs::create_dir(&kept[0]).unwrap();
    assert_eq!((bed.reads(), bed.reads()), (1, 1), "nothing can be kept there");
    fs::remove_dir_all(bed.cache()).unwrap();
    assert_eq!((bed.reads(), bed.reads()), (3, 0), "it was deleted");
    fs::remove_dir_all(bed.cache()).unwrap();
    fs::write(bed.cache(), b"a file").unwrap();
    assert_eq!((bed.reads(), bed.reads()), (3, 3), "there is no directory");
}

#[test]
fn a_damaged_snapshot_file_is_told_each_time_and_never_kept() {
    let bed = Bed::of(1);
    let foreign = FileId::of(b"no snapshot");
    let body = Body::Bytes(b"no snapshot");
    bed.store.put(FileKind::Snapshot, &foreign.to_string(), body).unwrap();
    for _ in 0..2 {
        let all = bed.repository.snapshots_cached(&cx(), &bed.cache()).unwrap();
        let damaged: Vec<_> = all.iter().filter(|(_, snapshot)| snapshot.is_err()).collect();
        assert!(matches!(damaged[..], [(id, Err(Error::Damaged { .. }))] if *id == foreign));
        assert_eq!(bed.kept().len(), 1);
    }
}

#[test]
fn what_is_gone_from_the_repository_is_removed() {
    let bed = Bed::of(3);
    assert_eq!(bed.reads(), 3);
    let gone = bed.kept().remove(1);
    let name = gone.file_name().unwrap().to_str().unwrap();
    bed.store.remove(FileKind::Snapshot, name).unwrap();
    assert_eq!(bed.reads(), 0);
    assert_eq!(bed.kept().len(), 2);
    assert!(!gone.exists());
}

#[test]
fn of_a_store_that_is_near_nothing_is_kept() {
    let bed = Bed::of(3);
    bed.store.is_far.store(false, Ordering::Relaxed);
    assert_eq!((bed.reads(), bed.reads()), (3, 3));
    assert!(!bed.cache().exists());
}
