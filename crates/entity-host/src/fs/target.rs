//! The directory a tree is restored into.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use alidade_entity::{Class, Error, Result};
use rustix::fs::{Mode, OFlags, RawDir, mkdirat, openat};
use rustix::io::Errno;

use super::dir::{LISTING, names_of};

/// How directories on the way are opened: by whoever names the target, so links are followed.
const WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What a target is before anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// An empty directory.
    Empty,
    /// Nothing; this many of its last components are missing.
    Missing(usize),
}

/// Looks whether a target is new or empty.
///
/// # Errors
/// [`Class::Conflict`] when it is neither.
pub(crate) fn look_at_target(path: &[u8]) -> Result<Found> {
    let text = String::from_utf8_lossy(path);
    let names: Vec<&[u8]> = names_of(path).collect();
    let failed = |error: Errno| Error::io(format!("look at the target {text}"), error);
    let mut at = rustix::fs::open(c"/", WAY, Mode::empty()).map_err(failed)?;
    for (done, name) in names.iter().enumerate() {
        at = match openat(&at, *name, WAY, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) => return Ok(Found::Missing(names.len() - done)),
            Err(Errno::NOTDIR) => return Err(in_the_way(&text, "which is no directory")),
            Err(error) => return Err(failed(error)),
        };
    }
    if is_empty(&at).map_err(failed)? {
        Ok(Found::Empty)
    } else {
        Err(in_the_way(&text, "which is not empty"))
    }
}

/// Creates a target with the directories above it, if it is missing, and opens it.
///
/// A new one is open to nobody else: what is restored into it may be secret before its own modes
/// are set.
///
/// # Errors
/// When it cannot be created, or is not empty.
pub(crate) fn create(path: &[u8]) -> Result<OwnedFd> {
    let text = String::from_utf8_lossy(path);
    let failed = |error: Errno| Error::io(format!("create the target {text}"), error);
    let names: Vec<&[u8]> = names_of(path).collect();
    let mut at = rustix::fs::open(c"/", WAY, Mode::empty()).map_err(failed)?;
    for (done, name) in names.iter().enumerate() {
        let is_last = done + 1 == names.len();
        let mode = if is_last { 0o700 } else { 0o755 };
        at = match openat(&at, *name, WAY, Mode::empty()) {
            Err(Errno::NOENT) => {
                match mkdirat(&at, *name, Mode::from_raw_mode(mode)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(failed(error)),
                }
                openat(&at, *name, WAY | OFlags::NOFOLLOW, Mode::empty()).map_err(failed)?
            }
            Err(Errno::NOTDIR) => return Err(in_the_way(&text, "which is no directory")),
            opened => opened.map_err(failed)?,
        };
    }
    if is_empty(&at).map_err(failed)? {
        Ok(at)
    } else {
        Err(in_the_way(&text, "which is not empty"))
    }
}

fn in_the_way(text: &str, why: &str) -> Error {
    Error::new(Class::Conflict, format!("restore into {text}, {why}"))
}

fn is_empty(dir: &OwnedFd) -> rustix::io::Result<bool> {
    let listing = openat(dir, c".", LISTING, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&listing, &mut buffer);
    while let Some(entry) = entries.next() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
