//! Which ranges of a disk have data.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use alidade_entity::{Cx, Error, Extent, Result};
use rustix::fs::{SeekFrom, fstat, fsync, major, minor, seek};
use rustix::io::Errno;

use super::image::{Image, Nature};
use super::users::directory_of;

/// Extents in one answer.
pub(crate) const BATCH: usize = 2048;

/// Who says which ranges have data.
pub(crate) enum Extents {
    /// The image file itself.
    File,
    /// The file behind a loop device, from that offset on.
    Backing(OwnedFd, u64),
    /// Nobody: all of it may be data.
    Unknown,
}

impl Extents {
    /// Who can say it of this disk.
    ///
    /// # Errors
    /// When a loop device does not write what it holds back to its file.
    pub(crate) fn of(image: &Image) -> Result<Self> {
        let Nature::Device(device) = image.nature else { return Ok(Self::File) };
        let directory = directory_of(device).join("loop");
        let Ok(path) = fs::read(directory.join("backing_file")) else { return Ok(Self::Unknown) };
        let offset = fs::read_to_string(directory.join("offset"));
        let offset = offset.ok().and_then(|text| text.trim_end().parse().ok());
        let file = File::open(OsStr::from_bytes(path.trim_ascii_end()));
        let (Ok(file), Some(offset)) = (file, offset) else { return Ok(Self::Unknown) };
        if !is_behind(image, &file) {
            return Ok(Self::Unknown);
        }
        // What is held back has no place in the file yet.
        fsync(&image.fd).map_err(|errno| Error::io(format!("flush {}", image.shown()), errno))?;
        Ok(Self::Backing(file.into(), offset))
    }

    /// Appends the extents of a part of the disk, adjacent, until there are `full` or the part ends.
    /// Returns where it stopped.
    ///
    /// # Errors
    /// When the system fails, or the run was told to stop.
    pub(crate) fn list(
        &self,
        cx: &Cx,
        image: &Image,
        part: Range<u64>,
        (out, full): (&mut Vec<Extent>, usize),
    ) -> Result<u64> {
        cx.check()?;
        let (fd, shift): (BorrowedFd<'_>, u64) = match self {
            Self::File => (image.fd.as_fd(), 0),
            Self::Backing(file, offset) => (file.as_fd(), *offset),
            Self::Unknown => {
                push(out, part.start..part.end, true);
                return Ok(part.end);
            }
        };
        let mut at = part.start;
        while at < part.end && out.len() < full {
            let failed = |errno| Error::io(format!("find the holes of {}", image.shown()), errno);
            let data = match find(fd, SeekFrom::Data(at + shift)).map_err(failed)? {
                Found::At(data) => (data - shift).clamp(at, part.end),
                Found::Nothing => part.end,
                Found::Unknown => at,
            };
            push(out, at..data, false);
            at = data;
            if at < part.end {
                let end = match find(fd, SeekFrom::Hole(at + shift)).map_err(failed)? {
                    Found::At(hole) => (hole - shift).clamp(at, part.end),
                    Found::Nothing | Found::Unknown => part.end,
                };
                push(out, at..end, true);
                at = end;
            }
        }
        Ok(at)
    }
}

/// Whether a file is the one behind a loop device. A path may name another one meanwhile, or in another place
/// of mounts, and its holes would pass for this device's: the device is asked for inode and file system by
/// `losetup`, and where that says nothing, all of it is read.
fn is_behind(image: &Image, file: &File) -> bool {
    let Ok(stat) = fstat(file) else { return false };
    let path = OsStr::from_bytes(&image.path);
    let words = ["--noheadings", "--output", "BACK-INO,BACK-MAJ:MIN"];
    let said = Command::new("losetup").args(words).arg(path).stdin(Stdio::null()).output();
    let Ok(said) = said else { return false };
    let device = format!("{}:{}", major(stat.st_dev), minor(stat.st_dev));
    let text = String::from_utf8_lossy(&said.stdout);
    said.status.success() && text.split_whitespace().eq([stat.st_ino.to_string(), device])
}

enum Found {
    At(u64),
    /// There is no more data.
    Nothing,
    /// The file system does not know holes.
    Unknown,
}

fn find(fd: BorrowedFd<'_>, from: SeekFrom) -> rustix::io::Result<Found> {
    match seek(fd, from) {
        Ok(at) => Ok(Found::At(at)),
        Err(Errno::NXIO) => Ok(Found::Nothing),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Found::Unknown),
        Err(errno) => Err(errno),
    }
}

fn push(out: &mut Vec<Extent>, range: Range<u64>, allocated: bool) {
    if range.start < range.end {
        out.push(Extent { at: range.start, len: range.end - range.start, allocated });
    }
}
