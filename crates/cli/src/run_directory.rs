//! Where temporary files go when nothing is to be kept in the cache: a private directory of this
//! run.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;

use crate::failure::{Failure, Result};

/// What the names of these directories begin with.
const PREFIX: &str = "alidade-run-";

/// A private directory in one that everybody shares. It counts as in use as long as this process
/// lives and holds it, whatever ends it: until then nobody removes it.
pub(crate) struct RunDirectory {
    path: PathBuf,
    /// Locked with `flock`, which the system undoes when the process ends.
    _held: File,
}

impl RunDirectory {
    /// Makes one in `shared`, and removes those of the same user whose runs are dead.
    ///
    /// # Errors
    /// When `shared` cannot be listed, or takes no directory.
    pub(crate) fn make(shared: &Path) -> Result<Self> {
        let attempt = format!("make a directory for temporary files in {}", shared.display());
        let failed = |error: io::Error| {
            Failure::io(&attempt, &error).hint("set TMPDIR to a directory that can be written")
        };
        let made = make(shared).map_err(failed)?;
        sweep(shared, &made.path).map_err(failed)?;
        Ok(made)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with all that is in it.
    ///
    /// # Errors
    /// When something of it stays.
    pub(crate) fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.path)
            .map_err(|error| Failure::io(format!("remove {}", self.path.display()), &error))
    }
}

fn make(shared: &Path) -> io::Result<RunDirectory> {
    let mut number = 0_u64;
    loop {
        let path = shared.join(format!("{PREFIX}{}-{number}", std::process::id()));
        number += 1;
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            // Of a dead process of our number, or of one in another container.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        }
        // Another run may have taken it for a dead one's before it was locked, and removed it.
        let held = match open(&path) {
            Ok(held) => held,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if lock(&held) != Err(Errno::WOULDBLOCK) && is_there(&held, &path)? {
            return Ok(RunDirectory { path, _held: held });
        }
    }
}

/// Removes the directories of dead runs of this user. What vanishes meanwhile, another run removed.
fn sweep(shared: &Path, own: &Path) -> io::Result<()> {
    let user = rustix::process::getuid().as_raw();
    for entry in fs::read_dir(shared)? {
        let entry = entry?;
        let path = entry.path();
        if !has_form(&entry.file_name()) || path == own {
            continue;
        }
        let swept = open(&path).and_then(|held| {
            if held.metadata()?.uid() == user && lock(&held).is_ok() {
                fs::remove_dir_all(&path)?;
            }
            Ok(())
        });
        match swept {
            Err(error) if !is_of_others(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// True for the names that [`make`] gives.
fn has_form(name: &OsString) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    name.to_str()
        .and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'))
        .is_some_and(|(pid, number)| is_number(pid) && is_number(number))
}

/// Gone, no directory, or not to be looked into.
fn is_of_others(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
    )
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(CWD, path, flags, Mode::empty())?))
}

/// Takes it for this process. Where the file system has no locks this fails for everybody: then the
/// directory serves as well, and nobody removes it but its own run.
fn lock(held: &File) -> rustix::io::Result<()> {
    flock(held, FlockOperation::NonBlockingLockExclusive)
}

fn is_there(held: &File, path: &Path) -> io::Result<bool> {
    let held = held.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(shared: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(shared)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn it_is_private_and_gone_with_its_content_in_the_end() {
        let shared = tempfile::tempdir().unwrap();
        let made = RunDirectory::make(shared.path()).unwrap();
        assert_eq!(fs::metadata(made.path()).unwrap().mode() & 0o7777, 0o700);
        fs::write(made.path().join("x"), b"x").unwrap();
        made.remove().unwrap();
        assert!(names(shared.path()).is_empty());
    }

    #[test]
    fn dead_runs_are_swept_and_living_ones_and_strangers_stay() {
        let shared = tempfile::tempdir().unwrap();
        let living = RunDirectory::make(shared.path()).unwrap();
        let at = |name: &str| shared.path().join(name);
        fs::create_dir_all(at("alidade-run-1-0").join("plan-1/repository")).unwrap();
        fs::create_dir(at("alidade-run-mine")).unwrap();
        fs::write(at("alidade-run-2-0"), b"a file").unwrap();
        std::os::unix::fs::symlink("/", at("alidade-run-3-0")).unwrap();
        let second = RunDirectory::make(shared.path()).unwrap();
        let mut expected = vec!["alidade-run-2-0", "alidade-run-3-0", "alidade-run-mine"];
        let both = [&living, &second].map(|run| run.path().file_name().unwrap().to_str().unwrap());
        expected.extend(both);
        expected.sort_unstable();
        assert_eq!(names(shared.path()), expected);
    }

    #[test]
    fn a_place_that_is_not_there_is_told_with_what_to_do() {
        let failure = RunDirectory::make(Path::new("/nowhere")).err().unwrap();
        assert!(failure.message.contains("/nowhere"), "{failure:?}");
        assert!(failure.hint.unwrap().contains("TMPDIR"));
    }
}
