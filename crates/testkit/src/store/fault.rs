use std::io;
use std::sync::{Arc, Mutex};

use alidade_repository::{Body, Error, FileKind, Result, Store};

use super::lock;

/// What happens to the operation at which a [`FaultStore`] stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not done, and fails.
    Before,
    /// It is done, and fails all the same: the answer got lost.
    After,
}

/// What was asked of a store that changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// [`Store::create`]
    Create,
    /// [`Store::put`]
    Put,
    /// [`Store::flush`]
    Flush,
    /// [`Store::remove`]
    Remove,
}

/// One operation that changes a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What was done.
    pub verb: Verb,
    /// To which kind of file; `Config` for [`Verb::Create`].
    pub kind: FileKind,
    /// To which file; empty for [`Verb::Create`] and [`Verb::Flush`].
    pub name: String,
}

/// A store that stops at its n-th operation, as a killed process does: that one and everything
/// after it fails, reading and unlocking too. Only operations that change the store are counted.
pub struct FaultStore {
    inner: Arc<dyn Store>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    log: Vec<Operation>,
    stop: Option<(usize, Fault)>,
    stopped: bool,
}

impl FaultStore {
    /// One that never stops, and counts.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// One that stops at operation `n`, counted from 0.
    #[must_use]
    pub fn stopping_at(inner: Arc<dyn Store>, n: usize, fault: Fault) -> Self {
        let state = State { stop: Some((n, fault)), ..State::default() };
        Self { inner, state: Mutex::new(state) }
    }

    /// Stops at once, as when the network goes.
    pub fn stop(&self) {
        lock(&self.state).stopped = true;
    }

    /// Works again.
    pub fn heal(&self) {
        let mut state = lock(&self.state);
        state.stopped = false;
        state.stop = None;
    }

    /// The operations that were begun, in order.
    #[must_use]
    pub fn log(&self) -> Vec<Operation> {
        lock(&self.state).log.clone()
    }

    /// How many operations were begun.
    #[must_use]
    pub fn operations(&self) -> usize {
        lock(&self.state).log.len()
    }

    /// True once it has stopped.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    fn alive(&self) -> Result<()> {
        if lock(&self.state).stopped { Err(gone()) } else { Ok(()) }
    }

    fn change(
        &self,
        verb: Verb,
        kind: FileKind,
        name: &str,
        work: impl FnOnce(&dyn Store) -> Result<()>,
    ) -> Result<()> {
        let fault = {
            let mut state = lock(&self.state);
            if state.stopped {
                return Err(gone());
            }
            let number = state.log.len();
            state.log.push(Operation { verb, kind, name: name.to_owned() });
            let fault = state.stop.filter(|(n, _)| *n == number).map(|(_, fault)| fault);
            state.stopped = fault.is_some();
            fault
        };
        match fault {
            None => work(&*self.inner),
            Some(Fault::Before) => Err(gone()),
            Some(Fault::After) => work(&*self.inner).and_then(|()| Err(gone())),
        }
    }
}

fn gone() -> Error {
    Error::store(
        "reach the store",
        io::Error::new(io::ErrorKind::BrokenPipe, "stopped by the test"),
    )
}

impl Store for FaultStore {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<()> {
        self.change(Verb::Create, FileKind::Config, "", |store| store.create())
    }

    fn put(&self, kind: FileKind, name: &str, body: Body<'_>) -> Result<()> {
        self.change(Verb::Put, kind, name, |store| store.put(kind, name, body))
    }

    fn flush(&self, kind: FileKind) -> Result<()> {
        self.change(Verb::Flush, kind, "", |store| store.flush(kind))
    }

    fn read_at(&self, kind: FileKind, name: &str, at: u64, buf: &mut [u8]) -> Result<()> {
        self.alive()?;
        self.inner.read_at(kind, name, at, buf)
    }

    fn len(&self, kind: FileKind, name: &str) -> Result<u64> {
        self.alive()?;
        self.inner.len(kind, name)
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(&str, u64) -> Result<()>) -> Result<()> {
        self.alive()?;
        self.inner.list(kind, each)
    }

    fn remove(&self, kind: FileKind, name: &str) -> Result<()> {
        self.change(Verb::Remove, kind, name, |store| store.remove(kind, name))
    }
}
