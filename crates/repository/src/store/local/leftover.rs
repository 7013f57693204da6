//! What killed writers leave in the directory, and how it is told from what is being written.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, OFlags, flock};

use super::nowhere;
use crate::{Error, Result, id};

/// Younger ones stay: as long as the lock of their writer may still count, as in restic.
const AGE: Duration = Duration::from_secs(30 * 60);

/// Marks a file as being written, until it is closed or its process ends, whatever ends it. False
/// where the file system knows no such marks: then nothing may be swept.
pub(super) fn mark(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Removes from a directory the temporary files of this store that nobody writes any more: those
/// that were last written [`AGE`] before `now`, the time of the file system itself, and that no
/// process holds marked. What another user left is left to them.
pub(super) fn sweep(dir: &Path, now: SystemTime) -> Result<()> {
    let failed = |error| Error::store(format!("list {}", dir.display()), error);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if is_not_ours(&error) || nowhere(&error) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if is_temporary(&entry.file_name()) {
            let path = entry.path();
            match entry.file_type().and_then(|kind| remove_if_dead(&path, kind.is_file(), now)) {
                Ok(()) => {}
                Err(error) if is_not_ours(&error) || nowhere(&error) => {}
                Err(error) => {
                    return Err(Error::store(format!("remove {}", path.display()), error));
                }
            }
        }
    }
    Ok(())
}

/// True for `NAME-tmp-PID-N`, where NAME is one a file of the repository can have. Stock restic
/// writes `NAME-tmp-N`, unmarked: those are not ours to judge.
fn is_temporary(name: &OsStr) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    name.to_str()
        .and_then(|name| name.split_once("-tmp-"))
        .filter(|(name, _)| *name == "config" || id::parse(name.as_bytes()).is_some())
        .and_then(|(_, end)| end.split_once('-'))
        .is_some_and(|(pid, number)| is_number(pid) && is_number(number))
}

fn remove_if_dead(path: &Path, is_file: bool, now: SystemTime) -> io::Result<()> {
    if !is_file {
        return Ok(());
    }
    let file = open(path)?;
    // A time to come is no age.
    if now.duration_since(file.metadata()?.modified()?).unwrap_or_default() < AGE {
        return Ok(());
    }
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => fs::remove_file(path),
        // It is being written, or nothing can be known about it.
        Err(_) => Ok(()),
    }
}

/// The file, for writing where that can be: network shares give marks only so.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    let open = |write| OpenOptions::new().read(true).write(write).custom_flags(flags).open(path);
    match open(true) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => open(false),
        opened => opened,
    }
}

/// True where the system keeps it from us: another user's, or a place that cannot be written.
fn is_not_ours(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_this_store_gives_are_temporary() {
        let id = "ab".repeat(32);
        for name in ["config-tmp-1-0".to_owned(), format!("{id}-tmp-12-345")] {
            assert!(is_temporary(name.as_ref()), "{name}");
        }
        for name in ["config", "notes-tmp-1-0", "config-tmp-1", "config-tmp--1", "config-tmp-1-x"] {
            assert!(!is_temporary(name.as_ref()), "{name}");
        }
        for end in ["", "-tmp-", "-tmp-123456", "-tmp-1-2-3", "-tmp-a-1"] {
            assert!(!is_temporary(format!("{id}{end}").as_ref()), "{end}");
        }
    }
}
