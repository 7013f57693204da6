//! Snapshot files that are kept in the cache directory, as they are stored, where the way to the store is long.
//!
//! The repository is the truth: its snapshot files are listed every time, and one that is kept counts only
//! while it is listed. Its name is the hash of its content, which is compared whenever it is read: what is
//! half, or not what was kept, is removed and read from the repository again. So no failure here is an
//! error, nothing is made durable, and any number of processes may write and remove at the same time.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::{FileId, Repository};

/// Below the directory of the repository, which has the local form of the index, too.
const FOLDER: &str = "snapshots";

/// Where the snapshot files of one repository are kept.
#[derive(Clone, Debug)]
pub(crate) struct LocalSnapshots {
    directory: PathBuf,
}

impl LocalSnapshots {
    /// Those of `repository` in a cache directory; none where its own files are as near. Touches nothing yet.
    pub(crate) fn of(cache: &Path, repository: &Repository) -> Option<Self> {
        let directory = || cache.join(repository.id().to_string()).join(FOLDER);
        repository.store().is_far().then(|| Self { directory: directory() })
    }

    /// What is kept. Asked before the repository's files are listed, no file is among it that was stored since.
    pub(crate) fn names(&self) -> HashSet<FileId> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return HashSet::new() };
        let names = entries.map_while(io::Result::ok).map(|entry| entry.file_name());
        names.filter_map(|name| name.to_str()?.parse().ok()).collect()
    }

    /// The bytes of a file that is kept, of which there are at most `max`. What is not that file is removed.
    pub(crate) fn read(&self, id: &FileId, max: usize) -> Option<Vec<u8>> {
        // Whatever lies there: a pipe would block, a link lead away.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let flags = i32::try_from(flags.bits()).unwrap_or(0);
        let mut bytes = Vec::new();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(self.path(id));
        let read = match opened {
            Ok(file) => file.take(max as u64).read_to_end(&mut bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(error),
        };
        if read.is_ok() && FileId::of(&bytes) == *id {
            return Some(bytes);
        }
        self.remove(id);
        None
    }

    /// Keeps a file. Who reads it before all of it is there takes it for damaged, and nothing is lost.
    pub(crate) fn keep(&self, id: &FileId, bytes: &[u8]) {
        let written = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(self.path(id));
            match file {
                Ok(mut file) => file.write_all(bytes),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(error) => Err(error),
            }
        };
        if written().is_err() {
            self.remove(id);
        }
    }

    /// Removes a file. One that stays is found again next time, and is no worse then.
    pub(crate) fn remove(&self, id: &FileId) {
        if fs::remove_file(self.path(id)).is_err() {
            // Gone already, or in a directory that cannot be written.
        }
    }

    fn path(&self, id: &FileId) -> PathBuf {
        self.directory.join(id.to_string())
    }
}

#[cfg(test)]
mod tests;
