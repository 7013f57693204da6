use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alidade_repository::{Body, Error, FileKind, Result, Store};

/// A store that turns read-only after so many changes, as a file system does that found an error.
pub struct ReadOnlyStore {
    inner: Arc<dyn Store>,
    changes_left: AtomicUsize,
}

impl ReadOnlyStore {
    /// One that refuses every change.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self::after(inner, 0)
    }

    /// One that accepts `changes` changes before it turns.
    #[must_use]
    pub fn after(inner: Arc<dyn Store>, changes: usize) -> Self {
        Self { inner, changes_left: AtomicUsize::new(changes) }
    }

    /// True once the next change will be refused.
    #[must_use]
    pub fn has_turned(&self) -> bool {
        self.changes_left.load(Ordering::SeqCst) == 0
    }

    fn change(&self) -> Result<()> {
        let take = |left: usize| left.checked_sub(1);
        match self.changes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::store(
                "change the store",
                io::Error::from(io::ErrorKind::ReadOnlyFilesystem),
            )),
        }
    }
}

impl Store for ReadOnlyStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<()> {
        self.change()?;
        self.inner.create()
    }

    fn put(&self, kind: FileKind, name: &str, body: Body<'_>) -> Result<()> {
        self.change()?;
        self.inner.put(kind, name, body)
    }

    fn flush(&self, kind: FileKind) -> Result<()> {
        self.change()?;
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
        self.change()?;
        self.inner.remove(kind, name)
    }
}
