//! One run at a time changes a cluster.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::place::{self, Place};
use super::{advise, wait};

/// How long a run waits for another that is at work on the same cluster.
const PATIENCE: Duration = Duration::from_secs(120);

/// Held while a cluster is changed; the kernel takes it back from a process that is killed.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Waits until nobody else is at work on the cluster.
    pub(super) fn take(place: &Place) -> Result<Self> {
        place::folder(place.clusters())?;
        let path = place.lock();
        let waited = wait::until("the lock", PATIENCE, || {
            Ok(match Self::try_take(&path)? {
                Some(lock) => ControlFlow::Break(lock),
                None => ControlFlow::Continue("it is held".to_owned()),
            })
        });
        waited.map_err(|error| {
            advise(
                &format!("another run is at work on the cluster {}: {error:#}", place.name()),
                "wait for it, or choose another cluster with --name",
            )
        })
    }

    fn try_take(path: &Path) -> Result<Option<Self>> {
        let open = || format!("open {}", path.display());
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(open)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(None),
            locked => locked.with_context(|| format!("lock {}", path.display()))?,
        }
        // Whoever held it may have removed it: then this is a lock that nobody else will find.
        let mine = file.metadata().with_context(open)?;
        let is_found = fs::metadata(path).is_ok_and(|there| there.ino() == mine.ino());
        Ok(is_found.then(|| Self { path: path.to_owned(), _file: file }))
    }

    /// Gives it back and leaves no file.
    pub(super) fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_has_it_and_a_removed_one_is_not_taken_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::try_take(&path).unwrap().unwrap();
        assert!(Lock::try_take(&path).unwrap().is_none());
        first.remove().unwrap();
        assert!(!path.exists());
        let again = Lock::try_take(&path).unwrap();
        assert!(again.is_some() && path.exists());
    }
}
