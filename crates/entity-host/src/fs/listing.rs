//! The names of a directory in ascending order, in bounded memory.
//!
//! The system lists names in no order and has no call to list them in one. A window holds the
//! smallest names after the last one that was used, as many as the budget allows; when it is used
//! up, the directory is listed again from there.

use std::collections::BinaryHeap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use alidade_entity::Cx;
use rustix::fs::{FileType, RawDir, SeekFrom, seek};
use rustix::io::Errno;

use super::walk::Stop;

/// What a name costs besides its bytes: the pointer to it, and what the allocator adds.
const OVERHEAD: usize = 40;

/// How many names are listed between two looks at the cancellation.
const STRIDE: usize = 4096;

/// Room for names as the system delivers them; 64 KiB hold about two thousand short ones.
const BUFFER: usize = 64 * 1024;

/// A name as it was listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    pub(crate) name: Box<[u8]>,
    /// True when the listing said that it is a directory; not every file system says so.
    pub(crate) is_directory: bool,
}

/// Names still to be visited.
#[derive(Default)]
pub(crate) struct Window {
    /// Descending, so that the next one is the last.
    names: Vec<Listed>,
    bytes: usize,
    /// True when the directory may have names after these.
    more: bool,
}

impl Window {
    /// One that has yet to be listed.
    pub(crate) fn unlisted() -> Self {
        Self { more: true, ..Self::default() }
    }

    /// One of a single name.
    pub(crate) fn of(name: &[u8]) -> Self {
        let listed = Listed { name: name.into(), is_directory: false };
        Self { names: vec![listed], bytes: cost(name), more: false }
    }

    /// True when it has no names and never will.
    pub(crate) fn is_used_up(&self) -> bool {
        self.names.is_empty() && !self.more
    }

    /// The next name.
    pub(crate) fn pop(&mut self) -> Option<Listed> {
        let listed = self.names.pop()?;
        self.bytes -= cost(&listed.name);
        Some(listed)
    }

    /// True when the directory has to be listed again.
    pub(crate) fn wants_listing(&self) -> bool {
        self.names.is_empty() && self.more
    }

    /// What it takes of the budget.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets its names; the directory is listed again when the walk comes back to it.
    pub(crate) fn forget(&mut self) {
        self.more |= !self.names.is_empty();
        self.names = Vec::new();
        self.bytes = 0;
    }

    /// Gives up the rest of the directory.
    pub(crate) fn close(&mut self) {
        *self = Self::default();
    }
}

/// Lists names in bounded memory; keeps its buffer from one directory to the next.
pub(crate) struct Lister {
    buffer: Vec<MaybeUninit<u8>>,
}

impl Lister {
    /// One with a buffer of its own.
    pub(crate) fn new() -> Self {
        Self { buffer: vec![MaybeUninit::uninit(); BUFFER] }
    }

    /// The smallest names after `after`, which is empty for all of them, within `budget` bytes, but one at least.
    pub(crate) fn list(
        &mut self,
        cx: &Cx,
        dir: &OwnedFd,
        after: &[u8],
        budget: usize,
    ) -> Result<Window, Stop> {
        seek(dir, SeekFrom::Start(0))?;
        let mut heap: BinaryHeap<Listed> = BinaryHeap::new();
        let (mut bytes, mut more, mut seen) = (0, false, 0);
        let mut entries = RawDir::new(dir, &mut self.buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // The directory was removed while it was listed: it has no more names.
                Err(Errno::NOENT) => break,
                Err(error) => return Err(error.into()),
            };
            let name = entry.file_name().to_bytes();
            seen += 1;
            if seen % STRIDE == 0 {
                cx.check()?;
            }
            if name == b"." || name == b".." || name <= after {
                continue;
            }
            if more && heap.peek().is_some_and(|largest| name >= &*largest.name) {
                continue;
            }
            bytes += cost(name);
            let is_directory = entry.file_type() == FileType::Directory;
            heap.push(Listed { name: name.into(), is_directory });
            while bytes > budget && heap.len() > 1 {
                bytes -= heap.pop().map_or(0, |largest| cost(&largest.name));
                more = true;
            }
        }
        let mut names = heap.into_sorted_vec();
        names.dedup_by(|a, b| a.name == b.name);
        names.reverse();
        let bytes = names.iter().map(|listed| cost(&listed.name)).sum();
        Ok(Window { names, bytes, more })
    }
}

fn cost(name: &[u8]) -> usize {
    name.len() + OVERHEAD
}
