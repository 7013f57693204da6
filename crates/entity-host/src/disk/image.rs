//! An opened disk: an image file or a block device.

use std::os::fd::OwnedFd;

use alidade_entity::{Class, Cx, Error, Result};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Stat, fstat, major, minor, open, seek};
use rustix::io::{Errno, pread, retry_on_intr};

use super::users::directory_of;

/// What is read or written between two looks at whether the run was told to stop.
const STEP: usize = 1 << 20;

/// The number of a device: major and minor.
pub(crate) type DeviceNo = (u32, u32);

/// An image file or a block device, open.
pub(crate) struct Image {
    pub(crate) fd: OwnedFd,
    pub(crate) path: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) nature: Nature,
}

/// Which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    File,
    Device(DeviceNo),
}

impl Image {
    /// Opens what lies at an absolute path; links are followed.
    ///
    /// # Errors
    /// [`Class::Unsupported`] when it is neither a file nor a block device.
    pub(crate) fn open(path: &[u8], flags: OFlags) -> Result<Self> {
        let failed = |errno: Errno| Error::io(format!("open {}", shown(path)), errno);
        // What turns out to be a FIFO must not be waited for.
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match open(path, flags, Mode::empty()) {
            // A directory that is opened for writing, and a socket.
            Err(Errno::ISDIR | Errno::NXIO) => return Err(no_disk(path)),
            fd => fd.map_err(failed)?,
        };
        let stat = fstat(&fd).map_err(failed)?;
        let nature = nature_of(&stat).ok_or_else(|| no_disk(path))?;
        let size = match nature {
            Nature::File => u64::try_from(stat.st_size).unwrap_or(0),
            Nature::Device(_) => seek(&fd, SeekFrom::End(0)).map_err(failed)?,
        };
        Ok(Self { fd, path: path.to_vec(), size, nature })
    }

    /// Its path, for people.
    pub(crate) fn shown(&self) -> String {
        shown(&self.path)
    }

    /// Fills all of `buf` from offset `at`.
    ///
    /// # Errors
    /// [`Class::Failed`] when the system fails to read there, or the disk ended before when it was opened;
    /// [`Class::Conflict`] when it got shorter.
    pub(crate) fn read_at(&self, cx: &Cx, at: u64, buf: &mut [u8]) -> Result<()> {
        let len = buf.len();
        if at.checked_add(len as u64).is_none_or(|end| end > self.size) {
            let attempt = format!("read {len} bytes at {at} of {}: it ends before", self.shown());
            return Err(Error::new(Class::Failed, attempt));
        }
        let mut done = 0;
        while done < buf.len() {
            cx.check()?;
            let end = buf.len().min(done + STEP);
            let from = at + done as u64;
            let read = retry_on_intr(|| pread(&self.fd, &mut buf[done..end], from));
            match read {
                Ok(0) => {
                    let attempt = format!("read at {from} of {}: it got shorter", self.shown());
                    return Err(Error::new(Class::Conflict, attempt));
                }
                Ok(read) => done += read,
                Err(errno) => {
                    return Err(Error::io(format!("read at {from} of {}", self.shown()), errno));
                }
            }
        }
        Ok(())
    }
}

/// The size of what lies at an absolute path; links are followed. Nothing is opened.
///
/// # Errors
/// As [`Image::open`].
pub(crate) fn size_at(path: &[u8]) -> Result<u64> {
    let failed = |error: std::io::Error| Error::io(format!("open {}", shown(path)), error);
    let stat = rustix::fs::stat(path).map_err(|errno| failed(errno.into()))?;
    match nature_of(&stat).ok_or_else(|| no_disk(path))? {
        Nature::File => Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        Nature::Device(device) => {
            // In units of 512 bytes, whatever the device's own are.
            let text = std::fs::read_to_string(directory_of(device).join("size"));
            let size = text.map_err(failed)?.trim_end().parse::<u64>();
            Ok(size.map_err(|error| failed(std::io::Error::other(error)))?.saturating_mul(512))
        }
    }
}

/// What a disk is by its inode; `None` when it is none.
pub(crate) fn nature_of(stat: &Stat) -> Option<Nature> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(Nature::File),
        FileType::BlockDevice => Some(Nature::Device((major(stat.st_rdev), minor(stat.st_rdev)))),
        _ => None,
    }
}

/// A path, for people.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn no_disk(path: &[u8]) -> Error {
    let attempt =
        format!("open {} as a disk: it is neither a file nor a block device", shown(path));
    Error::new(Class::Unsupported, attempt)
}
