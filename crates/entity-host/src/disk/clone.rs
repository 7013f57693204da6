//! Clones of an image file: a state of it at one instant, and what the next one is compared with.
//!
//! Where the file system can share storage between files (btrfs, XFS), a clone takes no time and no room.
//! It lies beside the image, under a name that begins with a dot. What the image and its old clone still
//! share did not change: the system does not write over storage that two files share.

use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use alidade_entity::{Base, Class, Cx, Error, Result};
use fiemap::{Fiemap, FiemapExtent, FiemapExtentFlags as Flags, FiemapFlags};
use rustix::fs::{Mode, OFlags, Stat, fstat, fsync, ioctl_ficlone, open};
use rustix::io::Errno;

use super::image::{Image, Nature, shown};

/// The setting that asks for a clone.
pub(crate) const CLONE: &str = "clone";

/// Random bytes in a clone's name.
const CHANCE: usize = 8;

/// A clone. It is removed when dropped, unless it is kept.
pub(crate) struct Reflink {
    path: PathBuf,
    is_kept: bool,
}

impl Reflink {
    /// Clones an image file, and removes what is left of older clones but that of `base`.
    ///
    /// # Errors
    /// [`Class::Unsupported`] when it is a device, or the file system makes no clones.
    pub(crate) fn make(cx: &Cx, image: &Image, base: Option<&Base>) -> Result<(Self, OwnedFd)> {
        if image.nature != Nature::File {
            let attempt = format!("clone {}, which is a device", image.shown());
            return Err(Error::new(Class::Unsupported, attempt));
        }
        let keep = base.and_then(|base| Self::of(image, base));
        for old in clones_of(image)? {
            if Some(&old) != keep.as_ref() {
                remove(&old)?;
            }
        }
        let mut chance = [0; CHANCE];
        cx.fill(&mut chance)?;
        let hex: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = named(image, &hex);
        let failed = |errno| Error::io(format!("clone {}", image.shown()), errno);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let fd = open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let clone = Self { path, is_kept: false };
        match ioctl_ficlone(&fd, &image.fd) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY) => {
                let attempt =
                    format!("clone {}: its file system makes no clones of files", image.shown());
                return Err(Error::new(Class::Unsupported, attempt));
            }
            Err(errno) => return Err(failed(errno)),
        }
        fsync(&fd).map_err(failed)?;
        Ok((clone, fd))
    }

    /// Leaves it there, and says what stands for it as a base.
    ///
    /// # Errors
    /// When the system does not say what it is.
    pub(crate) fn keep(&mut self, fd: &OwnedFd) -> Result<Base> {
        let path = shown(self.path.as_os_str().as_bytes());
        let stat = fstat(fd).map_err(|errno| Error::io(format!("look at {path}"), errno))?;
        self.is_kept = true;
        Ok(Base(text(&self.path, &stat).into_bytes()))
    }

    /// The clone that a base stands for, when it is there as it was.
    fn of(image: &Image, base: &Base) -> Option<PathBuf> {
        let path = clones_of(image).ok()?.into_iter().find(|path| {
            let stat = rustix::fs::stat(path);
            stat.is_ok_and(|stat| text(path, &stat).as_bytes() == base.0)
        })?;
        Some(path)
    }
}

impl Drop for Reflink {
    fn drop(&mut self) {
        if !self.is_kept {
            // The next run removes what this one leaves.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// The ranges in which a new clone differs from the one that a base stands for, ascending and apart;
/// `None` when that one is gone or of another length.
///
/// # Errors
/// When the system does not say where the files lie.
pub(crate) fn changed_since(
    cx: &Cx,
    image: &Image,
    fd: &OwnedFd,
    base: &Base,
) -> Result<Option<Vec<Range<u64>>>> {
    let Some(path) = Reflink::of(image, base) else { return Ok(None) };
    let failed = |error| Error::io(format!("open the clone {}", path.display()), error);
    let old = fs::File::open(&path).map_err(failed)?;
    if old.metadata().map_err(failed)?.len() != image.size {
        return Ok(None);
    }
    let (mut old, mut new) = (Places::of(&old, image.size), Places::of(fd, image.size));
    let (mut changed, mut at): (Vec<Range<u64>>, u64) = (Vec::new(), 0);
    while at < image.size {
        cx.check()?;
        let (was, is) = (old.at(at)?, new.at(at)?);
        let end = was.end.min(is.end);
        if !was.place.is_same(is.place) {
            match changed.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => changed.push(at..end),
            }
        }
        at = end;
    }
    Ok(Some(changed))
}

/// Where a part of a file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nowhere: it reads as zeros.
    Nowhere,
    /// So far from where it lies in the file.
    At(u64),
    /// Where a comparison says nothing: compressed, in the inode, not written yet.
    Somewhere,
}

impl Place {
    /// True when the same bytes must lie there.
    fn is_same(self, other: Self) -> bool {
        self == other && self != Self::Somewhere
    }
}

/// A part of a file, up to where it ends.
#[derive(Clone, Copy)]
struct Part {
    end: u64,
    place: Place,
}

/// Where a file lies, from its beginning to its end.
struct Places<F: AsFd> {
    extents: Fiemap<F>,
    next: Option<FiemapExtent>,
    is_begun: bool,
    size: u64,
}

impl<F: AsFd> Places<F> {
    fn of(fd: F, size: u64) -> Self {
        let extents = Fiemap::with_flags(fd, FiemapFlags::SYNC);
        Self { extents, next: None, is_begun: false, size }
    }

    /// The part in which `at` lies, which never goes back.
    fn at(&mut self, at: u64) -> Result<Part> {
        loop {
            match self.next {
                Some(extent) if extent.fe_logical > at => {
                    let end = extent.fe_logical.min(self.size);
                    return Ok(Part { end, place: Place::Nowhere });
                }
                Some(extent) if extent.fe_logical + extent.fe_length > at => {
                    let end = (extent.fe_logical + extent.fe_length).min(self.size);
                    return Ok(Part { end, place: place_of(&extent) });
                }
                None if self.is_begun => return Ok(Part { end: self.size, place: Place::Nowhere }),
                _ => {
                    self.is_begun = true;
                    let next = self.extents.next().transpose();
                    let failed = |error| Error::io("ask where a clone lies", error);
                    self.next = next.map_err(failed)?;
                }
            }
        }
    }
}

fn place_of(extent: &FiemapExtent) -> Place {
    let plain = Flags::LAST | Flags::SHARED | Flags::MERGED;
    if extent.fe_flags.contains(Flags::UNWRITTEN) {
        Place::Nowhere
    } else if plain.contains(extent.fe_flags) {
        Place::At(extent.fe_physical.wrapping_sub(extent.fe_logical))
    } else {
        Place::Somewhere
    }
}

/// What stands for a clone as a base.
fn text(path: &Path, stat: &Stat) -> String {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let Stat { st_ino, st_size, st_mtime, st_mtime_nsec, st_ctime, st_ctime_nsec, .. } = stat;
    let name = alidade_model::encode_object(name);
    format!(
        "clone 1 {name} {st_ino} {st_size} {st_mtime}.{st_mtime_nsec} {st_ctime}.{st_ctime_nsec}"
    )
}

/// `.NAME.alidade-HEX` beside the image.
fn named(image: &Image, hex: &str) -> PathBuf {
    let path = Path::new(std::ffi::OsStr::from_bytes(&image.path));
    let name = path.file_name().unwrap_or_default().as_bytes();
    let name = [b".", name, b".alidade-", hex.as_bytes()].concat();
    path.with_file_name(OsString::from_vec(name))
}

/// The clones of an image that lie beside it.
fn clones_of(image: &Image) -> Result<Vec<PathBuf>> {
    let begin = named(image, "");
    let (Some(directory), Some(begin)) = (begin.parent(), begin.file_name()) else {
        return Ok(Vec::new());
    };
    let failed = |error| Error::io(format!("look for clones of {}", image.shown()), error);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let hex = name.as_bytes().strip_prefix(begin.as_bytes());
        let is_hex = |hex: &[u8]| hex.len() == 2 * CHANCE && hex.iter().all(u8::is_ascii_hexdigit);
        if hex.is_some_and(is_hex) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path)
        .map_err(|error| Error::io(format!("remove the old clone {}", path.display()), error))
}
