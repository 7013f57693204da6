//! One unnamed file for ciphertext that is too much to hold: the trees of huge directories while
//! they grow. It has no name, so nothing of it is left whatever happens to the process.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};

use crate::{Error, Result};

/// Where one of the growing things lies in the file.
#[derive(Debug, Default)]
pub(crate) struct Extents {
    parts: Vec<(u64, u64)>,
    len: u64,
}

impl Extents {
    /// How many bytes there are.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }
}

#[derive(Default)]
struct State {
    file: Option<File>,
    end: u64,
    /// Bytes that belong to somebody; at 0 the file is emptied.
    used: u64,
}

/// The file. It is made at the first use.
pub(crate) struct Scratch {
    directory: PathBuf,
    state: Mutex<State>,
}

impl Scratch {
    /// One in that directory.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), state: Mutex::default() }
    }

    /// Appends `bytes` to what lies in `extents`.
    pub(crate) fn append(&self, extents: &mut Extents, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        let State { file, end, used } = &mut *state;
        let file = match file {
            Some(file) => file,
            None => file.insert(self.make()?),
        };
        file.write_all_at(bytes, *end).map_err(|error| self.failed("write to", error))?;
        let len = bytes.len() as u64;
        match extents.parts.last_mut() {
            Some((at, before)) if *at + *before == *end => *before += len,
            _ => extents.parts.push((*end, len)),
        }
        extents.len += len;
        *end += len;
        *used += len;
        Ok(())
    }

    /// Reads what lies in `extents`, in order.
    pub(crate) fn reader<'a>(&'a self, extents: &'a Extents) -> impl Read + 'a {
        Reader { scratch: self, parts: &extents.parts, done: 0 }
    }

    /// Gives the place back.
    pub(crate) fn free(&self, extents: &mut Extents) -> Result<()> {
        let gone = std::mem::take(extents);
        let mut state = self.state();
        state.used -= gone.len;
        let was_used = state.end > 0;
        for (at, len) in gone.parts.iter().rev() {
            // What lies at the end is written over: a tree that is stored again and again takes its place once.
            if at + len == state.end {
                state.end = *at;
            }
        }
        if state.used == 0 && was_used {
            state.end = 0;
            if let Some(file) = &state.file {
                file.set_len(0).map_err(|error| self.failed("empty", error))?;
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An unnamed file where the file system can have one, else one that is unlinked at once.
    fn make(&self) -> Result<File> {
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let unnamed = rustix::fs::open(&self.directory, flags | OFlags::TMPFILE, mode);
        if let Ok(file) = unnamed {
            return Ok(File::from(file));
        }
        let path = self.directory.join(format!("scratch-{}", std::process::id()));
        let named = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)
            .and_then(|file| rustix::fs::unlink(&path).map(|()| file));
        named.map(File::from).map_err(|error| self.failed("make", io::Error::from(error)))
    }

    fn failed(&self, verb: &str, error: io::Error) -> Error {
        Error::store(format!("{verb} the scratch file in {}", self.directory.display()), error)
    }
}

struct Reader<'a> {
    scratch: &'a Scratch,
    parts: &'a [(u64, u64)],
    /// Bytes read of the first of `parts`.
    done: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some((at, len)) = self.parts.first() {
            if self.done == *len {
                self.parts = &self.parts[1..];
                self.done = 0;
                continue;
            }
            let want = usize::try_from(len - self.done).unwrap_or(usize::MAX).min(buf.len());
            let state = self.scratch.state();
            let file = state.file.as_ref().ok_or(io::ErrorKind::UnexpectedEof)?;
            let got = file.read_at(&mut buf[..want], at + self.done)?;
            if got == 0 && want > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.done += got as u64;
            return Ok(got);
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_write_by_turns_is_read_back_apart_and_the_file_is_emptied_behind_them() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(directory.path());
        let (mut a, mut b) = (Extents::default(), Extents::default());
        for n in 0..100u8 {
            scratch.append(&mut a, &[n; 1000]).unwrap();
            scratch.append(&mut a, &[n; 10]).unwrap();
            scratch.append(&mut b, &[n ^ 0xFF; 700]).unwrap();
        }
        assert_eq!((a.len(), b.len(), a.parts.len()), (101_000, 70_000, 100));
        let mut read = Vec::new();
        scratch.reader(&a).read_to_end(&mut read).unwrap();
        assert!(read.chunks(1010).zip(0u8..).all(|(part, n)| part == [n; 1010]));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        scratch.free(&mut a).unwrap();
        let mut read = Vec::new();
        scratch.reader(&b).read_to_end(&mut read).unwrap();
        assert!(read.chunks(700).zip(0u8..).all(|(part, n)| part == [n ^ 0xFF; 700]));
        scratch.free(&mut b).unwrap();
        assert_eq!(scratch.state().file.as_ref().unwrap().metadata().unwrap().len(), 0);
    }

    #[test]
    fn what_lay_at_the_end_and_is_given_back_is_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(directory.path());
        let mut a = Extents::default();
        for n in 0..10u8 {
            scratch.append(&mut a, &[n; 1000]).unwrap();
            let mut b = Extents::default();
            scratch.append(&mut b, &[0xFF; 5000]).unwrap();
            scratch.free(&mut b).unwrap();
        }
        assert_eq!((a.parts.len(), scratch.state().end), (1, 10_000));
        let mut read = Vec::new();
        scratch.reader(&a).read_to_end(&mut read).unwrap();
        assert!(read.chunks(1000).zip(0u8..).all(|(part, n)| part == [n; 1000]));
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error_that_names_it() {
        let scratch = Scratch::new(Path::new("/nowhere/at/all"));
        let error = scratch.append(&mut Extents::default(), b"x").unwrap_err();
        assert_eq!(error.to_string(), "make the scratch file in /nowhere/at/all");
    }
}
