//! Extended attributes, of entries that are open and of entries that are only named.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use alidade_model::{Sabotage, Xattr};
use rustix::fs::{self, XattrFlags};
use rustix::io::{Errno, Result};

/// Values of one entry beyond this many bytes are not read. The system allows 64 KiB a value and
/// 64 KiB of names, which would be half a gigabyte.
const MOST: usize = 16 * 1024 * 1024;

/// An entry whose attributes are meant; never what a symbolic link points to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Object<'a> {
    /// A file or directory, open for reading or writing.
    Open(BorrowedFd<'a>),
    /// A name in an open directory. It is reached through `/proc/self/fd`, because the system has
    /// no call that takes a directory and a name.
    Named(BorrowedFd<'a>, &'a [u8]),
    /// A name in the working directory of this thread.
    Here(&'a [u8]),
}

/// What was read of an entry's attributes.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    /// Those that could be read, ascending by name.
    pub(crate) found: Vec<Xattr>,
    /// Those that could not, and why; an empty name stands for the list itself.
    pub(crate) failed: Vec<(Vec<u8>, Errno)>,
}

/// Reads all attributes of an entry. A file system without attributes has none.
pub(crate) fn read(object: Object<'_>) -> Attributes {
    let mut attributes = Attributes::default();
    let list = match list(object) {
        Ok(list) => list,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return attributes,
        Err(error) => {
            attributes.failed.push((Vec::new(), error));
            return attributes;
        }
    };
    let mut total = 0;
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        match get(object, name) {
            _ if total > MOST => attributes.failed.push((name.to_vec(), Errno::TOOBIG)),
            Ok(value) => {
                total += value.len();
                attributes.found.push(Xattr { name: name.to_vec(), value });
            }
            // Removed since it was listed.
            Err(Errno::NODATA) => {}
            Err(error) => attributes.failed.push((name.to_vec(), error)),
        }
    }
    attributes.found.sort();
    if Sabotage::LoseXattr.is_on() {
        attributes.found.retain(|xattr| !xattr.name.starts_with(b"user."));
    }
    if Sabotage::LoseAcl.is_on() {
        attributes.found.retain(|xattr| !xattr.name.starts_with(b"system.posix_acl_"));
    }
    attributes
}

/// Sets one attribute.
pub(crate) fn set(object: Object<'_>, xattr: &Xattr) -> Result<()> {
    let (name, value) = (xattr.name.as_slice(), xattr.value.as_slice());
    match object {
        Object::Open(fd) => fs::fsetxattr(fd, name, value, XattrFlags::empty()),
        Object::Named(..) | Object::Here(_) => {
            fs::lsetxattr(path(object)?, name, value, XattrFlags::empty())
        }
    }
}

/// Removes one attribute; one that is not there is removed already.
pub(crate) fn remove(object: Object<'_>, name: &[u8]) -> Result<()> {
    let removed = match object {
        Object::Open(fd) => fs::fremovexattr(fd, name),
        Object::Named(..) | Object::Here(_) => fs::lremovexattr(path(object)?, name),
    };
    match removed {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

/// The value of one attribute.
pub(crate) fn get(object: Object<'_>, name: &[u8]) -> Result<Vec<u8>> {
    let path = path(object)?;
    sized(
        || match object {
            Object::Open(fd) => fs::fgetxattr_query(fd, name),
            Object::Named(..) | Object::Here(_) => fs::lgetxattr_query(&path, name),
        },
        |buf| match object {
            Object::Open(fd) => fs::fgetxattr(fd, name, buf),
            Object::Named(..) | Object::Here(_) => fs::lgetxattr(&path, name, buf),
        },
    )
}

fn list(object: Object<'_>) -> Result<Vec<u8>> {
    // Most have none: one call, and nothing made for it.
    if let Object::Here(name) = object
        && fs::llistxattr_query(name)? == 0
    {
        return Ok(Vec::new());
    }
    let path = path(object)?;
    sized(
        || match object {
            Object::Open(fd) => fs::flistxattr_query(fd),
            Object::Named(..) | Object::Here(_) => fs::llistxattr_query(&path),
        },
        |buf| match object {
            Object::Open(fd) => fs::flistxattr(fd, buf),
            Object::Named(..) | Object::Here(_) => fs::llistxattr(&path, buf),
        },
    )
}

/// Asks for a size, then for as many bytes, again while they grow in between.
fn sized(
    size: impl Fn() -> Result<usize>,
    fill: impl Fn(&mut [u8]) -> Result<usize>,
) -> Result<Vec<u8>> {
    loop {
        let mut buf = vec![0; size()?];
        if buf.is_empty() {
            return Ok(buf);
        }
        match fill(&mut buf) {
            Ok(length) => {
                buf.truncate(length);
                return Ok(buf);
            }
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The path that names the object to calls without a descriptor; empty for one that has its own.
fn path(object: Object<'_>) -> Result<CString> {
    let bytes = match object {
        Object::Open(_) => Vec::new(),
        Object::Here(name) => name.to_vec(),
        Object::Named(dir, name) => {
            [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat()
        }
    };
    CString::new(bytes).map_err(|_nul| Errno::INVAL)
}
