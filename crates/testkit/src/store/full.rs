use std::io;
use std::sync::{Arc, Mutex};

use alidade_repository::{Body, Error, FileKind, Result, Store};

use super::lock;

/// A store with room for so many bytes. What does not fit is refused whole; removing gives room back.
pub struct FullStore {
    inner: Arc<dyn Store>,
    room: Mutex<u64>,
}

impl FullStore {
    /// A store with room for `bytes` more.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, bytes: u64) -> Self {
        Self { inner, room: Mutex::new(bytes) }
    }

    /// How many bytes still fit.
    #[must_use]
    pub fn room(&self) -> u64 {
        *lock(&self.room)
    }

    /// Makes room for `bytes` more.
    pub fn grow(&self, bytes: u64) {
        *lock(&self.room) += bytes;
    }
}

impl Store for FullStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<()> {
        self.inner.create()
    }

    fn put(&self, kind: FileKind, name: &str, body: Body<'_>) -> Result<()> {
        let len = match &body {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Reader { len, .. } => *len,
        };
        // Held meanwhile: two that fit one by one must not both get in.
        let mut room = lock(&self.room);
        let is_new = match self.inner.len(kind, name) {
            Ok(_) => false,
            Err(Error::NotFound { .. }) => true,
            Err(error) => return Err(error),
        };
        if is_new && *room < len {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(Error::store(format!("write {kind} {name}"), full));
        }
        self.inner.put(kind, name, body)?;
        if is_new {
            *room -= len;
        }
        Ok(())
    }

    fn flush(&self, kind: FileKind) -> Result<()> {
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
        let mut room = lock(&self.room);
        let len = match self.inner.len(kind, name) {
            Ok(len) => len,
            Err(Error::NotFound { .. }) => 0,
            Err(error) => return Err(error),
        };
        self.inner.remove(kind, name)?;
        *room += len;
        Ok(())
    }
}
