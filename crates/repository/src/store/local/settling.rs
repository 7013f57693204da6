//! Packs that are written and must become durable: threads of their own wait for the disk, while who put
//! them goes on. The bytes are in the system's hands by then; no memory of ours waits with them.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::{discard, durable, lock, name_it};
use crate::{Error, Result};

/// Threads that wait for the disk. One keeps a disk busy; two keep a share busy that is far away.
const THREADS: usize = 2;
/// Packs that may wait. Who puts another one waits, too: what is written must not run ahead of the disk
/// by more than that.
const WAITING: usize = 4;

/// A file that is whole under its temporary name.
pub(super) struct Written {
    /// Kept open, with its mark, until it has its name.
    pub(super) file: File,
    pub(super) temporary: PathBuf,
    pub(super) path: PathBuf,
}

impl Written {
    /// Makes it durable and gives it its name; false when that name was taken.
    pub(super) fn settle(self) -> Result<bool> {
        let Self { file, temporary, path } = self;
        let settled = durable(&file)
            .map_err(|error| Error::store(format!("write {}", path.display()), error))
            .and_then(|()| {
                name_it(&temporary, &path)
                    .map_err(|error| Error::store(format!("name {}", path.display()), error))
            });
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
                let settled = written.settle();
                state = lock(&self.state);
                state.busy -= 1;
                if let Err(error) = settled {
                    state.failed.get_or_insert(error);
                }
                self.changed.notify_all();
            } else if state.ended {
                return;
            } else {
                state = self.wait(state);
            }
        }
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
        Written { file: File::open(&temporary).unwrap(), temporary, path }
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
