//! The working directory of the thread that walks.
//!
//! The calls for extended attributes take a path and no directory to begin at. From the working directory
//! a name alone is a path; otherwise it takes a path through `/proc/self/fd`, which costs three times as
//! much, for every entry of a tree.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::ThreadId;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, openat};
use rustix::process::fchdir;

use super::dir::HANDLE;

/// Moves this thread alone from directory to directory. The thread shares its working directory with no
/// other from the first move on, and is back where it was after [`WorkDir::leave`].
#[derive(Default)]
pub(crate) struct WorkDir {
    /// The thread that has a working directory of its own.
    thread: Option<ThreadId>,
    /// Where it was.
    home: Option<OwnedFd>,
    /// Where it is.
    at: Option<Arc<OwnedFd>>,
    /// True when the system does not permit it: sandboxes may forbid the call.
    is_refused: bool,
}

impl WorkDir {
    /// Makes this directory the working directory; says whether it is.
    pub(crate) fn enter(&mut self, dir: &Arc<OwnedFd>) -> bool {
        if self.at.as_ref().is_some_and(|at| Arc::ptr_eq(at, dir)) {
            return true;
        }
        if self.is_refused || !self.is_on_its_own() {
            self.is_refused = true;
            return false;
        }
        self.at = fchdir(dir).is_ok().then(|| Arc::clone(dir));
        self.at.is_some()
    }

    /// Goes back to where the thread was.
    pub(crate) fn leave(&mut self) {
        self.at = None;
        if let Some(home) = self.home.take() {
            // It was possible a moment ago; if it is not any more, the thread stays in the tree, where
            // nothing but this walk depends on where it is.
            self.is_refused |= fchdir(home).is_err();
        }
    }

    /// Makes sure that the thread can move alone, and can come back.
    fn is_on_its_own(&mut self) -> bool {
        if self.home.is_some() {
            return true;
        }
        let thread = std::thread::current().id();
        if self.thread != Some(thread) {
            if unshare(CloneFlags::CLONE_FS).is_err() {
                return false;
            }
            self.thread = Some(thread);
        }
        let home = openat(CWD, c".", HANDLE, Mode::empty());
        self.home = home.ok().filter(|home| fchdir(home).is_ok());
        self.home.is_some()
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getcwd;

    use super::*;

    #[test]
    fn one_thread_moves_and_comes_back_and_no_other_does() {
        let temp = tempfile::tempdir().expect("a directory");
        let inside = temp.path().canonicalize().expect("its path");
        let dir = Arc::new(openat(CWD, &inside, HANDLE, Mode::empty()).expect("open it"));
        let here = || std::env::current_dir().expect("a working directory");
        let before = here();
        let moved = std::thread::spawn(move || {
            let mut workdir = WorkDir::default();
            let home = getcwd(Vec::new()).expect("a working directory");
            for _ in 0..2 {
                assert!(workdir.enter(&dir) && workdir.enter(&dir));
                assert_eq!(here(), inside);
                workdir.leave();
                assert_eq!(getcwd(Vec::new()).expect("a working directory"), home);
            }
            assert!(workdir.enter(&dir));
            drop(workdir);
            assert_eq!(getcwd(Vec::new()).expect("a working directory"), home);
        });
        moved.join().expect("the thread");
        assert_eq!(here(), before);
    }
}
