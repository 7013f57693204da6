//! Where a disk is restored to, looked at before anything is written.

use std::ops::Range;

use alidade_entity::{Class, Error, Result};
use rustix::fs::{OFlags, stat};
use rustix::io::Errno;

use super::image::{Image, Nature, nature_of, shown};
use super::users::who_uses;

/// What a file that is restored to is called until it is whole.
const PARTIAL: &[u8] = b".alidade-partial";

/// A target that can take the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) path: Vec<u8>,
    /// Bytes of the disk.
    pub(crate) size: u64,
    /// The part that is restored, where that is not all of it.
    pub(crate) part: Option<Range<u64>>,
    pub(crate) found: Found,
}

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or a part of a restore that was interrupted.
    Nothing { is_begun: bool },
    /// A file of that many bytes.
    File(u64),
    /// A block device of that many bytes.
    Device(u64),
}

impl Target {
    /// Looks whether a path can take a disk of `size` bytes, or a part of it. What is there may be
    /// overwritten when `in_place`.
    ///
    /// # Errors
    /// [`Class::Conflict`] when something is there and may not be overwritten, is too small, or is in use.
    pub(crate) fn look(
        path: &[u8],
        (size, part): (u64, Option<Range<u64>>),
        in_place: bool,
    ) -> Result<Self> {
        let found = match stat(path) {
            Err(Errno::NOENT) => Found::Nothing { is_begun: stat(&partial(path)[..]).is_ok() },
            Err(errno) => {
                return Err(Error::io(format!("look at the target {}", shown(path)), errno));
            }
            Ok(stat) => {
                if nature_of(&stat).is_none() {
                    let why = "which is neither a file nor a block device";
                    return Err(in_the_way(path, why));
                }
                if !in_place {
                    return Err(in_the_way(path, "which is there already"));
                }
                Self::look_into(path, size)?
            }
        };
        Ok(Self { path: path.to_vec(), size, part, found })
    }

    fn look_into(path: &[u8], size: u64) -> Result<Found> {
        let image = Image::open(path, OFlags::RDONLY)?;
        if let Some(user) = who_uses(&image)? {
            return Err(in_the_way(path, &format!("while {user}")));
        }
        match image.nature {
            Nature::File => Ok(Found::File(image.size)),
            Nature::Device(_) if image.size < size => {
                let why = format!("which has {} bytes, and the disk {size}", image.size);
                Err(in_the_way(path, &why))
            }
            Nature::Device(_) => Ok(Found::Device(image.size)),
        }
    }

    /// What will be done, a line each.
    pub(crate) fn steps(&self) -> Vec<String> {
        let (path, size) = (shown(&self.path), self.size);
        let what = match &self.part {
            None => "the disk".to_owned(),
            Some(part) => format!("bytes {} to {} of the disk", part.start, part.end),
        };
        let first = match self.found {
            Found::Nothing { is_begun: false } => {
                format!("create the file {path} of {size} bytes, and write {what} into it")
            }
            Found::Nothing { is_begun: true } => {
                let partial = shown(&self.partial());
                format!("go on with {partial}: write what differs from {what}, and call it {path}")
            }
            Found::File(_) | Found::Device(_) => {
                format!("write into {path} what differs from {what}")
            }
        };
        let mut steps = vec![first];
        if let Found::File(len) = self.found
            && self.becomes(len) != len
        {
            steps.push(format!("make it {size} bytes long; it has {len}"));
        }
        steps
    }

    /// The length that a file of `len` bytes gets: a part of the disk takes nothing away.
    pub(crate) fn becomes(&self, len: u64) -> u64 {
        if self.part.is_some() { len.max(self.size) } else { self.size }
    }

    /// What the file is called until it is whole.
    pub(crate) fn partial(&self) -> Vec<u8> {
        partial(&self.path)
    }
}

fn partial(path: &[u8]) -> Vec<u8> {
    [path, PARTIAL].concat()
}

fn in_the_way(path: &[u8], why: &str) -> Error {
    Error::new(Class::Conflict, format!("restore into {}, {why}", shown(path)))
}
