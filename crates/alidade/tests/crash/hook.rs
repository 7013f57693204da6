//! A store that lets something happen just before an operation.

use std::sync::{Arc, Mutex};

use alidade_repository::{Body, FileKind, Result, Store};
use alidade_testkit::store::Verb;

type Hook = Box<dyn FnOnce() + Send>;

/// Calls a hook once, before the first operation of that verb and kind.
pub(crate) struct HookStore {
    inner: Arc<dyn Store>,
    at: (Verb, FileKind),
    hook: Mutex<Option<Hook>>,
}

impl HookStore {
    pub(crate) fn new(
        inner: Arc<dyn Store>,
        at: (Verb, FileKind),
        hook: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self { inner, at, hook: Mutex::new(Some(Box::new(hook))) }
    }

    /// True once the hook was called.
    pub(crate) fn has_happened(&self) -> bool {
        self.hook.lock().unwrap().is_none()
    }

    fn pass(&self, verb: Verb, kind: FileKind) {
        if (verb, kind) == self.at {
            let hook = self.hook.lock().unwrap().take();
            if let Some(hook) = hook {
                hook();
            }
        }
    }
}

impl Store for HookStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<()> {
        self.inner.create()
    }

    fn put(&self, kind: FileKind, name: &str, body: Body<'_>) -> Result<()> {
        self.pass(Verb::Put, kind);
        self.inner.put(kind, name, body)
    }

    fn flush(&self, kind: FileKind) -> Result<()> {
        self.pass(Verb::Flush, kind);
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
        self.pass(Verb::Remove, kind);
        self.inner.remove(kind, name)
    }
}
