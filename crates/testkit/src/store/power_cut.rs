use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use alidade_repository::{Body, Error, FileId, FileKind, Result, Store};

use super::lock;
use crate::TestChance;

/// A store in memory that can lose its power. Content is durable when it is put; its name, and the
/// absence of a name that was removed, only after [`Store::flush`] of that kind. Locks are never
/// flushed.
#[derive(Default)]
pub struct PowerCutStore {
    state: Mutex<State>,
}

type Name = (FileKind, String);

#[derive(Default)]
struct State {
    files: BTreeMap<Name, Arc<[u8]>>,
    /// Names that a cut may take.
    young: BTreeSet<Name>,
    /// Names that a cut may bring back.
    removed: BTreeMap<Name, Arc<[u8]>>,
}

impl PowerCutStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power and turns it on again: of the names put and removed since their kind was
    /// flushed, a subset that `seed` chooses is as it was before. Returns how many.
    pub fn cut(&self, seed: u64) -> usize {
        let chance = TestChance::seeded(seed);
        // Also none and all of them.
        let odds = chance.below(5);
        let undone = || chance.below(4) < odds;
        let mut state = lock(&self.state);
        let (young, removed) =
            (std::mem::take(&mut state.young), std::mem::take(&mut state.removed));
        let mut count = 0;
        for name in young {
            if undone() {
                state.files.remove(&name);
                count += 1;
            }
        }
        for (name, content) in removed {
            if undone() {
                state.files.entry(name).or_insert(content);
                count += 1;
            }
        }
        count
    }

    /// How many names a cut could undo now.
    #[must_use]
    pub fn at_risk(&self) -> usize {
        let state = lock(&self.state);
        state.young.len() + state.removed.len()
    }

    /// A copy that goes its own way from here: one run, cut at many seeds.
    #[must_use]
    pub fn fork(&self) -> Self {
        let state = lock(&self.state);
        let copy = State {
            files: state.files.clone(),
            young: state.young.clone(),
            removed: state.removed.clone(),
        };
        Self { state: Mutex::new(copy) }
    }

    /// Changes the content of a file in place, as a bad disk does; false when it is not there.
    pub fn damage(&self, kind: FileKind, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = lock(&self.state);
        let Some(content) = state.files.get_mut(&(kind, name.to_owned())) else { return false };
        let mut bytes = content.to_vec();
        change(&mut bytes);
        *content = bytes.into();
        true
    }

    fn file(&self, kind: FileKind, name: &str) -> Result<Arc<[u8]>> {
        let found = lock(&self.state).files.get(&(kind, name.to_owned())).cloned();
        found.ok_or_else(|| Error::NotFound { what: format!("{kind} {name}") })
    }
}

impl Store for PowerCutStore {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn create(&self) -> Result<()> {
        match self.file(FileKind::Config, "config") {
            Ok(_) => Err(Error::Exists { location: self.location() }),
            Err(_) => Ok(()),
        }
    }

    fn put(&self, kind: FileKind, name: &str, body: Body<'_>) -> Result<()> {
        if kind != FileKind::Config && name.parse::<FileId>().is_err() {
            return Err(Error::NotFound { what: format!("{kind} `{name}`") });
        }
        let content: Arc<[u8]> = match body {
            Body::Bytes(bytes) => bytes.into(),
            Body::Reader { reader, len } => {
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
                reader
                    .read_exact(&mut bytes)
                    .map_err(|error| Error::store(format!("write {kind} {name}"), error))?;
                bytes.into()
            }
        };
        let mut state = lock(&self.state);
        let name = (kind, name.to_owned());
        if state.files.contains_key(&name) {
            return match kind {
                FileKind::Config => Err(Error::Exists { location: self.location() }),
                _ => Ok(()),
            };
        }
        state.young.insert(name.clone());
        state.files.insert(name, content);
        Ok(())
    }

    fn flush(&self, kind: FileKind) -> Result<()> {
        if kind != FileKind::Lock {
            let mut state = lock(&self.state);
            state.young.retain(|(other, _)| *other != kind);
            state.removed.retain(|(other, _), _| *other != kind);
        }
        Ok(())
    }

    fn read_at(&self, kind: FileKind, name: &str, at: u64, buf: &mut [u8]) -> Result<()> {
        let content = self.file(kind, name)?;
        let end = at.checked_add(buf.len() as u64).and_then(|end| usize::try_from(end).ok());
        let part = usize::try_from(at).ok().zip(end).and_then(|(at, end)| content.get(at..end));
        match part {
            Some(part) => buf.copy_from_slice(part),
            None => return Err(Error::damaged_file(kind, name, "it ends before")),
        }
        Ok(())
    }

    fn len(&self, kind: FileKind, name: &str) -> Result<u64> {
        self.file(kind, name).map(|content| content.len() as u64)
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(&str, u64) -> Result<()>) -> Result<()> {
        let all: Vec<_> = lock(&self.state)
            .files
            .iter()
            .filter(|((other, _), _)| *other == kind)
            .map(|((_, name), content)| (name.clone(), content.len() as u64))
            .collect();
        all.iter().try_for_each(|(name, len)| each(name, *len))
    }

    fn remove(&self, kind: FileKind, name: &str) -> Result<()> {
        let mut state = lock(&self.state);
        let name = (kind, name.to_owned());
        if let Some(content) = state.files.remove(&name) {
            state.young.remove(&name);
            state.removed.insert(name, content);
        }
        Ok(())
    }
}
