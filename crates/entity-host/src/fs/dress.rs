//! Giving an entry its metadata, and finding out whether it took.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use alidade_model::{Kind, Metadata, Time, Xattr};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chmod, chownat, fchmod, fchown,
    futimens, openat, utimensat,
};
use rustix::io::{Errno, Result};

use super::attributes::{self, Object};
use super::metadata::{look, look_at, time_of};
use super::tally::words;

/// The set-user-id and set-group-id bits.
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;

/// ACLs that the target's default ACL gives to what is created in it.
const INHERITED: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// An attribute that the target did not take, and why, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) what: What,
    pub(crate) reason: String,
}

/// A part of an entry's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Owner,
    Mode,
    Times,
    Attribute(Vec<u8>),
}

/// An entry that exists and is given its metadata.
#[derive(Clone, Copy)]
pub(crate) enum Target<'a> {
    /// A file or a directory.
    Open(BorrowedFd<'a>),
    /// Anything else, by directory and name.
    Named(BorrowedFd<'a>, &'a [u8]),
}

impl Target<'_> {
    fn object(&self) -> Object<'_> {
        match self {
            Self::Open(fd) => Object::Open(*fd),
            Self::Named(dir, name) => Object::Named(*dir, name),
        }
    }
}

/// Sets owner, extended attributes, mode and times, in the order in which none undoes another:
/// a new owner clears capabilities and set-id bits, an ACL changes the mode, and all change times.
///
/// What is refused is returned; the rest is set all the same.
pub(crate) fn dress(target: Target<'_>, metadata: &Metadata) -> Vec<Refusal> {
    let mut refused = Vec::new();
    let set_id = set_owner(target, metadata, &mut refused);
    set_attributes(target, metadata, &mut refused);
    set_mode(target, metadata, set_id, &mut refused);
    if let Err(error) = set_times(target, metadata) {
        refused.push(Refusal { what: What::Times, reason: format!("set times: {}", words(error)) });
    }
    refused
}

/// Sets the owner; says which set-id bits may be given: none to an owner they were not meant for.
fn set_owner(target: Target<'_>, metadata: &Metadata, refused: &mut Vec<Refusal>) -> u32 {
    let (uid, gid) = (metadata.uid, metadata.gid);
    let Err(error) = chown(target, Some(uid), Some(gid)) else { return SET_UID | SET_GID };
    let group_is_set = chown(target, None, Some(gid)).is_ok();
    let lost = metadata.mode & if group_is_set { SET_UID } else { SET_UID | SET_GID };
    let mut reason = format!("set owner {uid} and group {gid}: {}", words(error));
    if lost != 0 && metadata.kind == Kind::File {
        reason.push_str("; its set-id bits are left out, as they were meant for that owner");
    }
    refused.push(Refusal { what: What::Owner, reason });
    if metadata.kind == Kind::Directory {
        return SET_UID | SET_GID;
    }
    if group_is_set { SET_GID } else { 0 }
}

fn chown(target: Target<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    // The system takes this number for "leave it as it is".
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Errno::INVAL);
    }
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    match target {
        Target::Open(fd) => fchown(fd, uid, gid),
        Target::Named(dir, name) => chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
    }
}

fn set_attributes(target: Target<'_>, metadata: &Metadata, refused: &mut Vec<Refusal>) {
    for xattr in &metadata.xattrs {
        if let Err(error) = attributes::set(target.object(), xattr) {
            let name = String::from_utf8_lossy(&xattr.name);
            let reason = format!("set extended attribute {name}: {}", words(error));
            refused.push(Refusal { what: What::Attribute(xattr.name.clone()), reason });
        }
    }
}

fn set_mode(target: Target<'_>, metadata: &Metadata, set_id: u32, refused: &mut Vec<Refusal>) {
    let mode = Mode::from_raw_mode(wanted_mode(metadata, set_id));
    let set = match target {
        Target::Open(fd) => fchmod(fd, mode),
        // A symbolic link has no mode of its own.
        Target::Named(..) if metadata.kind == Kind::Symlink => Ok(()),
        Target::Named(dir, name) => handle(dir, name)
            .and_then(|fd| chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode)),
    };
    if let Err(error) = set {
        let reason = format!("set mode {:o}: {}", metadata.mode, words(error));
        refused.push(Refusal { what: What::Mode, reason });
    }
}

fn wanted_mode(metadata: &Metadata, set_id: u32) -> u32 {
    metadata.mode & (0o1777 | set_id)
}

fn handle(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd> {
    openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn set_times(target: Target<'_>, metadata: &Metadata) -> Result<()> {
    let times = Timestamps {
        last_access: timespec(metadata.atime)?,
        last_modification: timespec(metadata.mtime)?,
    };
    match target {
        Target::Open(fd) => futimens(fd, &times),
        Target::Named(dir, name) => utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW),
    }
}

/// The system gives a meaning of their own to nanoseconds beyond a second.
fn timespec(time: Time) -> Result<Timespec> {
    if time.nanos > 999_999_999 {
        return Err(Errno::INVAL);
    }
    Ok(Timespec { tv_sec: time.seconds, tv_nsec: time.nanos.into() })
}

/// Removes the ACLs that a default ACL of the target gave to an entry just created in it.
pub(crate) fn disinherit(target: Target<'_>) -> Result<()> {
    INHERITED.into_iter().try_for_each(|name| attributes::remove(target.object(), name))
}

/// True when entries created in a directory inherit an ACL.
pub(crate) fn bequeaths(dir: &OwnedFd) -> bool {
    attributes::get(Object::Named(dir.as_fd(), b"."), INHERITED[1]).is_ok()
}

/// Looks at an entry again and returns what is not as it was set, save what was refused then.
pub(crate) fn undressed(
    target: Target<'_>,
    metadata: &Metadata,
    refused: &[Refusal],
) -> Result<Vec<Refusal>> {
    let stat = match target {
        Target::Open(fd) => look(fd)?,
        Target::Named(dir, name) => look_at(dir, name)?,
    };
    let known = |what: &What| refused.iter().any(|refusal| refusal.what == *what);
    let mut missing = Vec::new();
    let mut differs = |what: What, reason: String| {
        if !known(&what) {
            missing.push(Refusal { what, reason: format!("{reason} when read back") });
        }
    };
    let (uid, gid) = (stat.stx_uid, stat.stx_gid);
    if (uid, gid) != (metadata.uid, metadata.gid) {
        let reason =
            format!("owner and group are {uid}:{gid}, not {}:{}", metadata.uid, metadata.gid);
        differs(What::Owner, reason);
    }
    let mode = u32::from(stat.stx_mode) & 0o7777;
    let owner_is_set = !known(&What::Owner);
    let set_id = if owner_is_set { SET_UID | SET_GID } else { mode & (SET_UID | SET_GID) };
    if metadata.kind != Kind::Symlink && mode != wanted_mode(metadata, set_id) {
        differs(What::Mode, format!("mode is {mode:o}, not {:o}", metadata.mode));
    }
    let mtime = time_of(stat.stx_mtime);
    if mtime != metadata.mtime {
        differs(What::Times, format!("modification time is {mtime}, not {}", metadata.mtime));
    }
    let found = attributes::read(target.object()).found;
    for Xattr { name, .. } in metadata.xattrs.iter().filter(|xattr| !found.contains(xattr)) {
        let text = String::from_utf8_lossy(name);
        differs(What::Attribute(name.clone()), format!("extended attribute {text} is not there"));
    }
    for Xattr { name, .. } in &found {
        // Labels that the system itself gives to new entries are the target's own.
        let is_its_own = name.starts_with(b"security.");
        if !is_its_own && metadata.xattrs.iter().all(|xattr| xattr.name != *name) {
            let text = String::from_utf8_lossy(name);
            differs(What::Attribute(name.clone()), format!("extended attribute {text} is there"));
        }
    }
    Ok(missing)
}
