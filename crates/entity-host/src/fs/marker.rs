//! Directories that hold a marker file, such as `CACHEDIR.TAG`.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::{Errno, retry_on_intr};

use super::filter::Marker;
use super::metadata::look_at;

/// The first marker that this directory holds. One that cannot be looked at, or does not begin as
/// it must, leaves the directory in the copy.
pub(crate) fn find(markers: &[Marker], dir: &OwnedFd) -> Option<usize> {
    markers.iter().position(|marker| {
        look_at(dir, &marker.name).is_ok()
            && (marker.header.is_empty()
                || begins_with(dir, &marker.name, &marker.header).unwrap_or(false))
    })
}

fn begins_with(dir: &OwnedFd, name: &[u8], header: &[u8]) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(dir, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
        return Ok(false);
    }
    let mut begin = vec![0; header.len()];
    let mut filled = 0;
    while filled < begin.len() {
        match retry_on_intr(|| rustix::io::read(&fd, &mut begin[filled..]))? {
            0 => return Ok(false),
            read => filled += read,
        }
    }
    Ok(begin == header)
}
