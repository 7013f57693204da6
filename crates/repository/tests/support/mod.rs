//! What the tests of the way in and the way out share.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alidade_entity::{Cancel, Cx};
use alidade_repository::{
    Body, CheckOptions, CheckSummary, Content, Error, FileKind, Finding, Indexed, Kdf, KeyOptions,
    LocalStore, Lock, LockMode, LockOptions, Node, NodeKind, Password, Repository, Result,
    Snapshot, Store, Writer, WriterOptions,
};

pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) fn cx() -> Cx {
    Cx::system(Cancel::default())
}

pub(crate) fn init(store: Arc<dyn Store>) -> Arc<Repository> {
    let options =
        KeyOptions { kdf: Kdf::LIGHT, host: "here".to_owned(), username: "me".to_owned() };
    Repository::init(&cx(), store, &Password::new(PASSWORD), &options).unwrap()
}

/// A new repository in `root/repository`.
pub(crate) fn created(root: &Path) -> Arc<Repository> {
    init(Arc::new(LocalStore::new(root.join("repository"))))
}

pub(crate) fn reopened(root: &Path) -> Arc<Repository> {
    let store = Arc::new(LocalStore::new(root.join("repository")));
    Repository::open(&cx(), store, &Password::new(PASSWORD)).unwrap()
}

pub(crate) fn load(repository: &Arc<Repository>) -> Arc<Indexed> {
    Indexed::load(Arc::clone(repository), &cx()).unwrap()
}

pub(crate) fn lock(repository: &Repository) -> Lock {
    let mut options = LockOptions::new("here", "me");
    options.wait = Duration::ZERO;
    repository.lock(&cx(), LockMode::Shared, &options).unwrap()
}

pub(crate) fn writer(indexed: &Arc<Indexed>, lock: &Lock, scratch: &Path) -> Writer {
    Writer::new(Arc::clone(indexed), lock, WriterOptions::new(scratch)).unwrap()
}

/// All findings of a check.
pub(crate) fn check(repository: &Arc<Repository>, read_data: bool) -> (CheckSummary, Vec<Finding>) {
    let mut findings = Vec::new();
    let options = CheckOptions::new(read_data);
    let summary = repository
        .check(&cx(), None, options, &mut |finding: Finding| findings.push(finding))
        .unwrap();
    (summary, findings)
}

/// Bytes that look random and follow from `seed`.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Lines of text that follow from `seed`.
pub(crate) fn text(len: usize, seed: u64) -> Vec<u8> {
    let mut text = Vec::new();
    let mut line = seed;
    while text.len() < len {
        text.extend_from_slice(format!("line {line} of a text that compresses\n").as_bytes());
        line = line.wrapping_mul(31).wrapping_add(7) % 100_000;
    }
    text.truncate(len);
    text
}

pub(crate) fn file(name: impl Into<Vec<u8>>, content: Content, size: u64) -> Node {
    let mut node = Node::new(name, NodeKind::File);
    node.mode = 0o644;
    node.size = size;
    node.links = 1;
    node.content = Some(content);
    node
}

/// The `n`th file of a large directory, with `content`.
pub(crate) fn nth_file(n: u64, content: &Content, size: u64) -> Node {
    let mut node = file(format!("file {n:08}"), content.clone(), size);
    node.inode = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    node.mtime.seconds = 1_700_000_000 + i64::try_from(n % 1_000_000).unwrap();
    node.mtime.nanos = u32::try_from(n * 7919 % 1_000_000_000).unwrap();
    (node.user, node.group) = ("root".to_owned(), "root".to_owned());
    node
}

pub(crate) fn directory(name: &str, tree: alidade_repository::BlobId) -> Node {
    let mut node = Node::new(name, NodeKind::Dir);
    node.mode = 1 << 31 | 0o755;
    node.subtree = Some(tree);
    node
}

pub(crate) fn snapshot(cx: &Cx, tree: alidade_repository::BlobId) -> Snapshot {
    let mut snapshot = Snapshot::new(cx.now(), tree);
    snapshot.paths = vec!["/data".to_owned()];
    snapshot.hostname = "here".to_owned();
    snapshot.username = "me".to_owned();
    snapshot
}

/// A store that notes what is done to it and can be told to fail.
pub(crate) struct Watched {
    inner: LocalStore,
    log: Mutex<Vec<String>>,
    fail_put_of: Mutex<Option<FileKind>>,
}

impl Watched {
    pub(crate) fn new(root: &Path) -> Arc<Self> {
        let inner = LocalStore::new(root.join("repository"));
        Arc::new(Self { inner, log: Mutex::default(), fail_put_of: Mutex::default() })
    }

    /// What was put and flushed since the last time this was asked, without locks.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }

    /// From now on files of that kind cannot be put.
    pub(crate) fn fail_put_of(&self, kind: Option<FileKind>) {
        *self.fail_put_of.lock().unwrap() = kind;
    }

    fn note(&self, verb: &str, kind: FileKind) {
        if kind != FileKind::Lock {
            self.log.lock().unwrap().push(format!("{verb} {kind}"));
        }
    }
}

impl Store for Watched {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn create(&self) -> Result<()> {
        self.inner.create()
    }
    fn put(&self, kind: FileKind, name: &str, body: Body<'_>) -> Result<()> {
        if *self.fail_put_of.lock().unwrap() == Some(kind) {
            return Err(Error::store(format!("put {kind}"), std::io::ErrorKind::StorageFull));
        }
        self.note("put", kind);
        self.inner.put(kind, name, body)
    }
    fn flush(&self, kind: FileKind) -> Result<()> {
        self.note("flush", kind);
        self.inner.flush(kind)
    }
    fn read_at(&self, kind: FileKind, name: &str, at: u64, buf: &mut [u8]) -> Result<()> {
        self.inner.read_at(kind, name, at, buf)
    }
    fn len(&self, kind: FileKind, name: &str) -> Result<u64> {
        self.inner.len(kind, name)
    }
    fn list(&self, kind: FileKind, each: &mut dyn FnMut(&str, u64) -> Result<()>) -> Result<()> {
        self.inner.list(kind, each)
    }
    fn remove(&self, kind: FileKind, name: &str) -> Result<()> {
        self.note("remove", kind);
        self.inner.remove(kind, name)
    }
}
