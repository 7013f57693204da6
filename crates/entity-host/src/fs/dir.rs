//! A directory within a tree, known by the names that lead to it, and reached through descriptors.
//!
//! Nothing here is limited by the longest path the system takes in one call, follows a symbolic link
//! below the root, or keeps more than a name per level in memory.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::{Errno, Result};

/// The longest path given to one system call: PATH_MAX is 4096 with its final NUL.
const SEGMENT: usize = 4095;

/// Paths in reports are shortened in the middle beyond this: a thousand omissions are kept in
/// memory, and a path may have megabytes.
const REPORTED: usize = 16 * 1024;

/// How directories are opened when nothing is read from them.
pub(crate) const HANDLE: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How directories are opened to list them, or to change their metadata.
pub(crate) const LISTING: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory. The root of a tree holds its descriptor for good; any other directory remembers
/// one weakly, while somebody else keeps it open.
pub(crate) struct Dir {
    parent: Option<Arc<Self>>,
    name: Vec<u8>,
    root: Option<Arc<OwnedFd>>,
    open: Mutex<Weak<OwnedFd>>,
}

impl Dir {
    /// The root of a tree. `path` is what reports put before the names below it.
    pub(crate) fn root(fd: OwnedFd, path: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            parent: None,
            name: path.to_vec(),
            root: Some(Arc::new(fd)),
            open: Mutex::new(Weak::new()),
        })
    }

    /// A directory in this one.
    pub(crate) fn child(self: &Arc<Self>, name: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            parent: Some(Arc::clone(self)),
            name: name.to_vec(),
            root: None,
            open: Mutex::new(Weak::new()),
        })
    }

    /// Its own name.
    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// The directory it is in; `None` for a root.
    pub(crate) fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    /// Lets others use this descriptor while its owner keeps it open.
    pub(crate) fn lend(&self, fd: &Arc<OwnedFd>) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(fd);
    }

    /// The descriptor that somebody keeps open.
    pub(crate) fn lent(&self) -> Option<Arc<OwnedFd>> {
        match &self.root {
            Some(fd) => Some(Arc::clone(fd)),
            None => self.open.lock().unwrap_or_else(PoisonError::into_inner).upgrade(),
        }
    }

    /// A descriptor to reach entries through: the one that is open, or a new one, found by name from
    /// the nearest directory above that is open.
    pub(crate) fn reach(&self) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = self.lent() {
            return Ok(fd);
        }
        let mut names = vec![self.name.as_slice()];
        let mut above = self.parent.as_ref();
        while let Some(dir) = above {
            if let Some(fd) = dir.lent() {
                names.reverse();
                return descend(fd, &names);
            }
            names.push(&dir.name);
            above = dir.parent.as_ref();
        }
        Err(Errno::NOENT)
    }

    /// The path of an entry in it, for reports.
    pub(crate) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut names = vec![name];
        let mut at = Some(self);
        while let Some(dir) = at {
            names.push(&dir.name);
            at = dir.parent.as_deref();
        }
        names.reverse();
        shortened(names.join(&b'/'))
    }

    /// Its own path, for reports.
    pub(crate) fn path(&self) -> Vec<u8> {
        match &self.parent {
            Some(parent) => parent.path_of(&self.name),
            None if self.name.is_empty() => b"/".to_vec(),
            None => shortened(self.name.clone()),
        }
    }
}

impl Drop for Dir {
    /// Lets go of the directories above one after the other: a chain of a million would not fit on
    /// the stack.
    fn drop(&mut self) {
        let mut above = self.parent.take();
        while let Some(dir) = above {
            above = Arc::into_inner(dir).and_then(|mut dir| dir.parent.take());
        }
    }
}

/// Shortens a path in its middle when it is too long to be kept by the thousand.
pub(crate) fn shortened(path: Vec<u8>) -> Vec<u8> {
    if path.len() <= REPORTED {
        return path;
    }
    let half = REPORTED / 2;
    [&path[..half], b"/.../", &path[path.len() - half..]].concat()
}

/// Opens a directory below `base`, in as many steps as the length of its path needs.
fn descend(base: Arc<OwnedFd>, names: &[&[u8]]) -> Result<Arc<OwnedFd>> {
    let mut at = base;
    let mut segment: Vec<u8> = Vec::new();
    for name in names {
        if !segment.is_empty() && segment.len() + 1 + name.len() > SEGMENT {
            at = Arc::new(open_below(&at, &segment)?);
            segment.clear();
        }
        if !segment.is_empty() {
            segment.push(b'/');
        }
        segment.extend_from_slice(name);
    }
    Ok(Arc::new(open_below(&at, &segment)?))
}

/// Opens a directory by a relative path, no component of which may be a symbolic link.
fn open_below(base: &OwnedFd, path: &[u8]) -> Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(base, path, HANDLE, Mode::empty(), resolve) {
        // Linux before 5.6, and sandboxes that do not know the call.
        Err(Errno::NOSYS) => one_by_one(base, path),
        opened => opened,
    }
}

fn one_by_one(base: &OwnedFd, path: &[u8]) -> Result<OwnedFd> {
    let mut at: Option<OwnedFd> = None;
    for name in path.split(|byte| *byte == b'/') {
        let from = at.as_ref().map_or(base.as_fd(), AsFd::as_fd);
        let next = openat(from, name, HANDLE, Mode::empty())?;
        at = Some(next);
    }
    at.ok_or(Errno::NOENT)
}

/// Opens the directory at an absolute path of any length, following symbolic links as the system does.
pub(crate) fn open_absolute(path: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::open(c"/", flags, Mode::empty())?;
    let names: Vec<&[u8]> = names_of(path).collect();
    let mut rest = names.as_slice();
    while !rest.is_empty() {
        let mut length = 0;
        let fitting = rest.iter().take_while(|name| {
            length += name.len() + 1;
            length <= SEGMENT
        });
        let count = fitting.count().max(1);
        at = openat(&at, rest[..count].join(&b'/'), flags, Mode::empty())?;
        rest = &rest[count..];
    }
    Ok(at)
}

/// The components of a path.
pub(crate) fn names_of(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_a_million_directories_is_dropped_without_recursion() {
        let fd = rustix::fs::open(c"/", HANDLE, Mode::empty()).expect("open /");
        let mut dir = Dir::root(fd, b"");
        for _ in 0..1_000_000 {
            dir = dir.child(b"d");
        }
        drop(dir);
    }

    #[test]
    fn a_directory_is_reached_by_name_when_nobody_keeps_it_open() {
        let temp = tempfile::tempdir().expect("a directory");
        let name = vec![b'n'; 200];
        let base = rustix::fs::open(temp.path(), HANDLE, Mode::empty()).expect("open it");
        let mut dir = Dir::root(base, b"/root");
        let mut fd = dir.reach().expect("the root is open");
        for _ in 0..60 {
            rustix::fs::mkdirat(&fd, name.as_slice(), Mode::RWXU).expect("mkdirat");
            dir = dir.child(&name);
            fd = dir.reach().expect("12,000 bytes of path");
        }
        for (path, names) in [(one_by_one(&fd, b"."), 0), (open_below(&fd, b"."), 0)] {
            assert!(path.is_ok(), "{names}");
        }
        assert_eq!(dir.path().len(), b"/root".len() + 60 * 201);
        std::os::unix::fs::symlink("/", temp.path().join("link")).expect("symlink");
        let root = dir_root(&dir);
        assert!(root.child(b"link").reach().is_err());
        assert!(root.child(b"link").child(b"etc").reach().is_err(), "on the way, too");
    }

    fn dir_root(dir: &Arc<Dir>) -> Arc<Dir> {
        let mut at = Arc::clone(dir);
        while let Some(parent) = at.parent() {
            at = Arc::clone(parent);
        }
        at
    }
}
