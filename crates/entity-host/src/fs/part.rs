//! A file while it is written.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alidade_entity::Piece;
use rustix::fs::{AtFlags, Mode, OFlags, ftruncate, openat, unlinkat};
use rustix::io::{Errno, Result, pread, pwritev, retry_on_intr};

use super::content::ContentHash;
use super::dir::Dir;
use super::file::{Range, Ranges};
use super::metadata::{identity_of, look};
use super::slots::{OpenDirs, OpenParts};

/// What one call writes.
const IOV_MAX: usize = 1024;

/// A file that began and is not settled yet.
pub(crate) struct Part {
    pub(crate) dir: Arc<Dir>,
    pub(crate) name: Vec<u8>,
    state: Mutex<State>,
}

/// How far it is.
#[derive(Default)]
pub(crate) struct State {
    /// Open while it is written to.
    fd: Option<Arc<OwnedFd>>,
    /// True once it was created, and while it is there.
    is_created: bool,
    /// File system and inode, looked up when it is closed before it is complete.
    identity: Option<(u64, u64)>,
    /// Where the last data ends.
    pub(crate) data_end: u64,
    /// Bytes written so far, holes included.
    pub(crate) written: u64,
    /// True when a hole was among them.
    pub(crate) has_holes: bool,
    /// True when it was given up: it is not there, and nothing more is written.
    pub(crate) is_lost: bool,
    /// What was written, where it is read back.
    pub(crate) hash: Option<ContentHash>,
}

impl Part {
    /// A file that will be created when something is written.
    pub(crate) fn new(dir: Arc<Dir>, name: &[u8], is_hashed: bool) -> Arc<Self> {
        let hash = is_hashed.then(ContentHash::new);
        let state = Mutex::new(State { hash, ..State::default() });
        Arc::new(Self { dir, name: name.to_vec(), state })
    }

    /// Its state, for one thread at a time.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes it if no thread is at it; it opens again by itself.
    pub(crate) fn close_if_idle(&self) -> bool {
        let Ok(mut state) = self.state.try_lock() else { return false };
        let Some(fd) = &state.fd else { return false };
        // It must be the same file when it is opened again.
        let Ok(stat) = look(fd) else { return false };
        state.identity = Some(identity_of(&stat));
        state.fd = None;
        true
    }

    /// Opens it, creating it the first time.
    pub(crate) fn open(
        self: &Arc<Self>,
        state: &mut State,
        (dirs, parts): (&OpenDirs, &OpenParts),
    ) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = &state.fd {
            return Ok(Arc::clone(fd));
        }
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = dirs.reach(&self.dir)?;
        let fd = if state.is_created {
            let fd = openat(&dir, self.name.as_slice(), flags, Mode::empty())?;
            if Some(identity_of(&look(&fd)?)) != state.identity {
                return Err(Errno::STALE);
            }
            fd
        } else {
            let create = flags | OFlags::CREATE | OFlags::EXCL;
            let fd = openat(&dir, self.name.as_slice(), create, Mode::RUSR | Mode::WUSR)?;
            state.is_created = true;
            fd
        };
        let fd = Arc::new(fd);
        state.fd = Some(Arc::clone(&fd));
        parts.opened(self);
        Ok(fd)
    }

    /// Accounts for a piece that ends at `end` and is written next.
    pub(crate) fn came(state: &mut State, piece: Piece, end: u64, parts: &[&[u8]]) {
        match piece {
            Piece::Data { .. } => {
                let len = parts.iter().map(|part| part.len() as u64).sum();
                state.written = state.written.saturating_add(len);
                state.data_end = state.data_end.max(end);
                if let Some(hash) = &mut state.hash {
                    parts.iter().for_each(|part| hash.data(part));
                }
            }
            Piece::Hole(hole) | Piece::Kept(hole) => {
                state.written = state.written.saturating_add(hole.len);
                state.has_holes = true;
                if let Some(hash) = &mut state.hash {
                    hash.zeros(hole.len);
                }
            }
        }
    }

    /// Forgets what was written.
    pub(crate) fn restart(&self, state: &mut State) -> Result<()> {
        state.written = 0;
        state.data_end = 0;
        state.has_holes = false;
        if state.hash.is_some() {
            state.hash = Some(ContentHash::new());
        }
        match &state.fd {
            Some(fd) => ftruncate(fd, 0),
            None => Ok(()),
        }
    }

    /// Extends it by the hole at its end.
    pub(crate) fn extend(state: &State, fd: &OwnedFd) -> Result<()> {
        if state.data_end != state.written {
            ftruncate(fd, state.written)?;
        }
        Ok(())
    }

    /// Gives it up, and removes what is there of it.
    pub(crate) fn lose(
        self: &Arc<Self>,
        state: &mut State,
        open: (&OpenDirs, &OpenParts),
    ) -> Result<()> {
        state.is_lost = true;
        self.close(state, open.1);
        if !std::mem::replace(&mut state.is_created, false) {
            return Ok(());
        }
        let dir = open.0.reach(&self.dir)?;
        match unlinkat(&dir, self.name.as_slice(), AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            unlinked => unlinked,
        }
    }

    /// Closes it.
    pub(crate) fn close(self: &Arc<Self>, state: &mut State, parts: &OpenParts) {
        if state.fd.take().is_some() {
            parts.closed(self);
        }
    }

    /// True when it was created and is there.
    pub(crate) fn is_there(&self) -> bool {
        self.lock().is_created
    }
}

/// Opens a file that was written to read it.
pub(crate) fn open_to_read(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// Copies the content of a file to another of the same size, and leaves out its holes.
pub(crate) fn copy_content(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let stat = look(from)?;
    let mut ranges = Ranges::new(&stat);
    let (mut at, mut buf) = (0, vec![0; 1024 * 1024]);
    while at < stat.stx_size {
        match ranges.at(from, at)? {
            Range::Hole { end } => at = end,
            Range::Data { end } => {
                let wanted = usize::try_from(end - at).map_or(buf.len(), |len| len.min(buf.len()));
                let read = retry_on_intr(|| pread(from, &mut buf[..wanted], at))?;
                if read == 0 {
                    return Err(Errno::IO);
                }
                write_all(to, &buf[..read], at)?;
                at += read as u64;
            }
        }
    }
    ftruncate(to, stat.stx_size)
}

/// Writes all of `data` at `at`.
pub(crate) fn write_all(fd: &OwnedFd, data: &[u8], at: u64) -> Result<()> {
    write_parts(fd, &[data], at)
}

/// Writes all parts one behind the other from `at` on. With one call as far as the system does: who
/// writes somewhere else in the file waits meanwhile, and writes in turn instead of between.
pub(crate) fn write_parts(fd: &OwnedFd, parts: &[&[u8]], mut at: u64) -> Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = slices.as_mut_slice();
    // What is empty is passed over.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let together = rest.len().min(IOV_MAX);
        let written = retry_on_intr(|| pwritev(fd, &rest[..together], at))?;
        if written == 0 {
            return Err(Errno::IO);
        }
        IoSlice::advance_slices(&mut rest, written);
        at += written as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn more_parts_than_a_call_takes_follow_one_another() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let file = dir.path().join("file");
        let fd = OwnedFd::from(File::create(&file).expect("a file"));
        let bytes: Vec<u8> = (0..10_000u32).flat_map(u32::to_le_bytes).collect();
        let mut parts: Vec<&[u8]> = bytes.chunks(13).collect();
        parts.insert(0, &[]);
        parts.insert(1100, &[]);
        assert!(parts.len() > 2 * IOV_MAX);
        write_parts(&fd, &parts, 7).expect("it is written");
        write_parts(&fd, &[&[], &[]], 7).expect("nothing is written");
        let written = std::fs::read(&file).expect("it is read");
        assert_eq!((&written[..7], &written[7..]), (&[0; 7][..], &bytes[..]));
    }
}
