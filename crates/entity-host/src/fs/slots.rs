//! Bounds on how many descriptors a sink keeps open.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Result;

use super::dir::Dir;
use super::part::Part;

/// Directories kept open for what is created in them.
const DIRECTORIES: usize = 64;

/// Files kept open while they are written; engines write fewer at once.
const FILES: usize = 64;

/// Keeps the directories used last open.
#[derive(Default)]
pub(crate) struct OpenDirs {
    last: Mutex<VecDeque<Arc<OwnedFd>>>,
}

impl OpenDirs {
    /// A descriptor to reach what is in a directory.
    pub(crate) fn reach(&self, dir: &Dir) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = dir.lent() {
            return Ok(fd);
        }
        let fd = dir.reach()?;
        dir.lend(&fd);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= DIRECTORIES {
            last.pop_front();
        }
        last.push_back(Arc::clone(&fd));
        Ok(fd)
    }
}

/// Counts the files that are open for writing, and closes others when there are too many.
#[derive(Default)]
pub(crate) struct OpenParts {
    open: Mutex<VecDeque<Arc<Part>>>,
}

impl OpenParts {
    /// Notes that a file was opened. The one open longest that nobody writes to is closed; it will
    /// be opened again when it is written to.
    pub(crate) fn opened(&self, part: &Arc<Part>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push_back(Arc::clone(part));
        if open.len() > FILES {
            let idle = open.iter().position(|other| other.close_if_idle());
            if let Some(at) = idle {
                open.remove(at);
            }
        }
    }

    /// Notes that a file was closed.
    pub(crate) fn closed(&self, part: &Arc<Part>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| !Arc::ptr_eq(other, part));
    }
}
