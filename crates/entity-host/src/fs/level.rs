//! The directories a walk is in, with bounds on open descriptors and on names in memory.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use alidade_entity::Cx;
use rustix::fs::{Mode, openat};
use rustix::io::{Errno, Result};

use super::dir::{Dir, LISTING};
use super::filter::Scope;
use super::listing::{Listed, Lister, Window};
use super::metadata::{identity_of, look};
use super::walk::{Limits, Stop};

/// A directory that was entered and not yet left.
pub(crate) struct Level {
    pub(crate) dir: Arc<Dir>,
    /// File system and inode.
    pub(crate) identity: (u64, u64),
    pub(crate) scope: Scope,
    /// The rule about marker files that holds here, if one does.
    pub(crate) marker: Option<usize>,
    pub(crate) keeps_inodes: bool,
    /// True when its entering was told, so that its leaving must be.
    pub(crate) announced: bool,
    /// How long the path was before its name was added.
    pub(crate) path_length: usize,
    fd: Option<Arc<OwnedFd>>,
    window: Window,
    /// The name visited last; empty when none was.
    last: Vec<u8>,
}

impl Level {
    /// One that is neither open nor listed.
    pub(crate) fn new(dir: Arc<Dir>, identity: (u64, u64), scope: Scope) -> Self {
        Self {
            dir,
            identity,
            scope,
            marker: None,
            keeps_inodes: false,
            announced: false,
            path_length: 0,
            fd: None,
            window: Window::unlisted(),
            last: Vec::new(),
        }
    }

    /// Uses this descriptor to list it and to reach its entries.
    pub(crate) fn open_with(&mut self, fd: Arc<OwnedFd>) {
        self.dir.lend(&fd);
        self.fd = Some(fd);
    }

    /// Visits one name instead of listing.
    pub(crate) fn visit_only(&mut self, name: &[u8], fd: Arc<OwnedFd>) {
        self.window = Window::of(name);
        self.fd = Some(fd);
    }

    /// True when every name was visited.
    pub(crate) fn is_used_up(&self) -> bool {
        self.window.is_used_up()
    }
}

/// The stack of levels.
pub(crate) struct Levels {
    stack: Vec<Level>,
    limits: Limits,
    /// Levels that are open.
    open: usize,
    /// No level below this index is open.
    first_open: usize,
    /// Bytes of names in all windows.
    names: usize,
}

impl Levels {
    /// An empty stack.
    pub(crate) fn new(limits: Limits) -> Self {
        Self { stack: Vec::new(), limits, open: 0, first_open: 0, names: 0 }
    }

    /// How many levels there are.
    pub(crate) fn depth(&self) -> usize {
        self.stack.len()
    }

    /// The level entered last.
    pub(crate) fn top(&self) -> Option<&Level> {
        self.stack.last()
    }

    /// The level entered last.
    pub(crate) fn top_mut(&mut self) -> Option<&mut Level> {
        self.stack.last_mut()
    }

    /// Adds a level, and closes the outermost open one when there are too many: it is needed last.
    pub(crate) fn push(&mut self, level: Level) {
        self.names += level.window.bytes();
        self.open += usize::from(level.fd.is_some());
        self.stack.push(level);
        while self.open > self.limits.directories.max(2) && self.close_one() {}
    }

    /// Closes the outermost open level but the last two. False when there is none.
    pub(crate) fn close_one(&mut self) -> bool {
        while self.first_open + 2 < self.stack.len() {
            let level = &mut self.stack[self.first_open];
            self.first_open += 1;
            if level.fd.take().is_some() {
                self.open -= 1;
                return true;
            }
        }
        false
    }

    /// Removes the level entered last, and opens the one below it again through it if need be.
    pub(crate) fn pop(&mut self) -> Option<Level> {
        let level = self.stack.pop()?;
        self.names -= level.window.bytes();
        if let Some(fd) = &level.fd {
            self.open -= 1;
            if let Some(parent) = self.stack.last_mut()
                && parent.fd.is_none()
                && let Ok(up) = openat(fd, c"..", LISTING, Mode::empty())
                && look(&up).is_ok_and(|stat| identity_of(&stat) == parent.identity)
            {
                parent.open_with(Arc::new(up));
                self.open += 1;
            }
        }
        self.first_open = self.first_open.min(self.stack.len().saturating_sub(1));
        Some(level)
    }

    /// A descriptor of the level entered last; opened by name when it was closed.
    ///
    /// # Errors
    /// When it cannot be opened, or another directory has taken its place.
    pub(crate) fn open_top(&mut self) -> Result<Arc<OwnedFd>> {
        let level = self.stack.last_mut().ok_or(Errno::NOENT)?;
        if let Some(fd) = &level.fd {
            return Ok(Arc::clone(fd));
        }
        let fd = Arc::new(openat(level.dir.reach()?, c".", LISTING, Mode::empty())?);
        if identity_of(&look(&fd)?) != level.identity {
            return Err(Errno::STALE);
        }
        level.open_with(Arc::clone(&fd));
        self.open += 1;
        self.first_open = self.first_open.min(self.stack.len() - 1);
        Ok(fd)
    }

    /// Lists the level entered last if it has no names left in memory; says whether it did.
    pub(crate) fn list_top(
        &mut self,
        cx: &Cx,
        lister: &mut Lister,
    ) -> std::result::Result<bool, Stop> {
        let wants = self.stack.last().is_some_and(|level| level.window.wants_listing());
        if !wants {
            return Ok(false);
        }
        let fd = self.open_top()?;
        let budget = self.budget();
        let Some(level) = self.stack.last_mut() else { return Ok(false) };
        level.window = lister.list(cx, &fd, &level.last, budget)?;
        self.names += level.window.bytes();
        Ok(true)
    }

    /// How many bytes of names the next listing may keep: half of what is left, so that something
    /// is left for the levels below. Outer levels forget theirs when nothing is.
    fn budget(&mut self) -> usize {
        let least = self.limits.names / 256;
        let outer = self.stack.len().saturating_sub(1);
        for level in &mut self.stack[..outer] {
            if self.names + least <= self.limits.names {
                break;
            }
            self.names -= level.window.bytes();
            level.window.forget();
        }
        (self.limits.names.saturating_sub(self.names) / 2).max(least)
    }

    /// The next name of the level entered last.
    pub(crate) fn next_name(&mut self) -> Option<Listed> {
        let level = self.stack.last_mut()?;
        let before = level.window.bytes();
        let listed = level.window.pop()?;
        self.names -= before - level.window.bytes();
        level.last.clear();
        level.last.extend_from_slice(&listed.name);
        Some(listed)
    }

    /// Gives up the rest of the level entered last.
    pub(crate) fn give_up_top(&mut self) {
        if let Some(level) = self.stack.last_mut() {
            self.names -= level.window.bytes();
            level.window.close();
        }
    }
}
