//! Packs that are written and must become durable: threads of their own wait for the disk, while who put
//! them goes on. The bytes are in the system's hands by then; no memory of ours waits with them.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::{discard, durable, lock, name_it};
use crate::{Error, FileKind, Result};

/// Threads that wait for the disk. One keeps a disk busy; two keep a share busy that is far away.
const THREADS: usize = 2;
/// Packs that may wait. Who puts another one waits, too: what is written must not run ahead of the disk
/// by more than that.
const WAITING: usize = 4;

/// Directories whose names are not durable yet, by what lies in them.
pub(super) type Unflushed = Arc<Mutex<BTreeSet<(FileKind, PathBuf)>>>;

/// A file that is whole under its temporary name.
pub(super) struct Written {
    /// Kept open, with its mark, until it has its name.
    pub(super) file: File,
    pub(super) temporary: PathBuf,
    pub(super) path: PathBuf,
    /// Where to say, once it has its name, that the name must be made durable: said before, a flush in
    /// between would take the word and not the name.
    pub(super) flush: Option<(Unflushed, (FileKind, PathBuf))>,
}

impl Written {
    /// Makes it durable and gives it its name; false when that name was taken.
    pub(super) fn settle(self) -> Result<bool> {
        let Self { file, temporary, path, flush } = self;
        let settled = durable(&file)
            .map_err(|error| Error::store(format!("write {}", path.display()), error))
            .and_then(|()| {
                name_it(&temporary, &path)
                    .map_err(|error| Error::store(format!("name {}", path.display()), error))
            });
        if let (Ok(_), Some((unflushed, entry))) = (&settled, flush) {
            // Also when it was there before: who put it may not have flushed it yet.
            lock(&unflushed).insert(entry);
        }
        match settled {
            Ok(true) => Ok(true),
            Ok(false) => fs::remove_file(&temporary)
                .map(|()| false)
                .map_err(|error| Error::store(format!("remove {}", temporary.display()), error)),
            Err(error) => Err(discard(&temporary, error)),
        }
    }
}

/// The packs of one store that become durable.
#[derive(Default)]
pub(super) struct Settling {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Written>,
    /// Files that a thread has.
    busy: usize,
    /// The first failure. It stays: nobody may believe that all is durable from then on.
    failed: Option<Error>,
    /// No more will come.
    ended: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.busy == 0
    }
}

impl Settling {
    /// Takes a file. What becomes of it is told by [`Settling::wait`], and to who comes later.
    pub(super) fn take(&self, written: Written) -> Result<()> {
        self.start();
        let mut state = lock(&self.shared.state);
        while state.waiting.len() >= WAITING && state.failed.is_none() {
            state = self.shared.wait(state);
        }
        if let Some(error) = state.failed.clone() {
            drop(state);
            return Err(discard(&written.temporary, error));
        }
        if lock(&self.threads).is_empty() {
            drop(state);
            return written.settle().map(|_new| ());
        }
        state.waiting.push_back(written);
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Waits until every file that was taken is durable and has its name.
    pub(super) fn wait(&self) -> Result<()> {
        let mut state = lock(&self.shared.state);
        while !state.is_idle() {
            state = self.shared.wait(state);
        }
        state.failed.clone().map_or(Ok(()), Err)
    }

    /// Starts the threads with the first file. Without any, who puts a file waits for it.
    fn start(&self) {
        let mut threads = lock(&self.threads);
        while threads.len() < THREADS {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("settle".to_owned());
            match thread.spawn(move || shared.work()) {
                Ok(thread) => threads.push(thread),
                Err(_no_more) => return,
            }
        }
    }
}

impl Shared {
    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some(written) = state.waiting.pop_front() {
                state.busy += 1;
                self.changed.notify_all();
                drop(state);
                let mut busy = Busy { shared: self, settled: None };
                busy.settled = Some(written.settle());
                drop(busy);
                state = lock(&self.state);
            } else if state.ended {
                return;
            } else {
                state = self.wait(state);
            }
        }
    }
}

/// A file that a thread has. However that ends, nobody waits for it for ever, and nobody takes it for
/// durable when it is not.
struct Busy<'a> {
    shared: &'a Shared,
    settled: Option<Result<bool>>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let died = || Error::System { attempt: "make a pack durable: the thread died".into() };
        let failed = match self.settled.take() {
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(error),
            None => Some(died()),
        };
        let mut state = lock(&self.shared.state);
        state.busy -= 1;
        if let Some(error) = failed {
            state.failed.get_or_insert(error);
        }
        self.shared.changed.notify_all();
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        lock(&self.shared.state).ended = true;
        self.shared.changed.notify_all();
        for thread in lock(&self.threads).drain(..) {
            // Its work is done, or nobody will ask for it: the store is gone.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn written(dir: &Path, name: &str) -> Written {
        let (temporary, path) = (dir.join(format!("{name}-tmp")), dir.join(name));
        fs::write(&temporary, name).unwrap();
        Written { file: File::open(&temporary).unwrap(), temporary, path, flush: None }
    }

    #[test]
    fn a_name_is_to_be_flushed_from_when_it_is_there_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let unflushed = Unflushed::default();
        let entry = (FileKind::Pack, dir.path().to_owned());
        let marked = |name: &str| {
            let flush = Some((Arc::clone(&unflushed), entry.clone()));
            Written { flush, ..written(dir.path(), name) }
        };
        let settling = Settling::default();
        for (name, is_new) in [("one", true), ("one", false), ("two", true)] {
            let one = marked(name);
            assert!(lock(&unflushed).is_empty(), "it was only written");
            assert_eq!(one.settle().unwrap(), is_new);
            assert!(lock(&unflushed).remove(&entry));
        }
        settling.take(marked("three")).unwrap();
        settling.wait().unwrap();
        assert!(lock(&unflushed).remove(&entry), "who was waited for has said so");
        let lost = marked("four");
        fs::remove_file(&lost.temporary).unwrap();
        assert!(lost.settle().is_err() && lock(&unflushed).is_empty());
    }

    #[test]
    fn a_thread_that_dies_keeps_nobody_waiting_and_is_a_failure() {
        let settling = Settling::default();
        lock(&settling.shared.state).busy += 1;
        drop(Busy { shared: &settling.shared, settled: None });
        assert!(matches!(settling.wait(), Err(Error::System { .. })));
    }

    #[test]
    fn what_was_taken_has_its_name_when_it_was_waited_for_or_the_store_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let settling = Settling::default();
        for round in ["waited", "dropped"] {
            for n in 0..20 {
                settling.take(written(dir.path(), &format!("{round}-{n}"))).unwrap();
            }
            if round == "waited" {
                settling.wait().unwrap();
                assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 20);
            }
        }
        drop(settling);
        for n in 0..20 {
            let name = format!("dropped-{n}");
            assert_eq!(fs::read_to_string(dir.path().join(&name)).unwrap(), name);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 40);
    }

    #[test]
    fn a_failure_is_told_to_everybody_from_then_on_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let settling = Settling::default();
        let lost = written(dir.path(), "lost");
        fs::remove_file(&lost.temporary).unwrap();
        settling.take(lost).unwrap();
        for _ in 0..2 {
            assert!(matches!(settling.wait(), Err(Error::Store { .. })));
        }
        assert!(settling.take(written(dir.path(), "later")).is_err());
        assert!(settling.wait().is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
