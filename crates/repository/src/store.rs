//! The seam below the engine: where the files of a repository lie.

mod local;

use std::fmt;
use std::io::Read;

use alidade_model::Traffic;

use crate::Result;

pub use local::LocalStore;

/// A kind of file in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// The one configuration file, named `config`.
    Config,
    /// A key file.
    Key,
    /// A pack.
    Pack,
    /// An index file.
    Index,
    /// A snapshot file.
    Snapshot,
    /// A lock file.
    Lock,
}

impl FileKind {
    /// The word for it in messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Key => "key",
            Self::Pack => "pack",
            Self::Index => "index",
            Self::Snapshot => "snapshot",
            Self::Lock => "lock",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The bytes of a file to be stored.
pub enum Body<'a> {
    /// All in memory.
    Bytes(&'a [u8]),
    /// Read in order, exactly `len` bytes: for packs too large to hold.
    Reader {
        /// Where they come from.
        reader: &'a mut dyn Read,
        /// How many there are.
        len: u64,
    },
}

/// A part of a pack that is to be read.
#[derive(Debug)]
pub struct PackPart<'a> {
    /// The pack.
    pub name: &'a str,
    /// Where in it the part begins.
    pub at: u64,
    /// Where it is read to, all of this.
    pub buf: &'a mut [u8],
}

/// Where the files of a repository lie. Names are content hashes (64 hex digits), save `config`.
///
/// Behavior:
/// - A file is there whole or not at all, whatever happens during [`Store::put`].
/// - What was put survives a power cut after [`Store::flush`] of that kind, which fails when it does not;
///   a cut before may take the whole file, and no part of it. Locks need no flush.
/// - Putting a name that exists leaves the file there untouched and succeeds, as names are content
///   hashes; for [`FileKind::Config`] it is [`crate::Error::Exists`]. A store that others may leave a part of
///   a file in says [`crate::Error::Damaged`], by the put or the flush, when the lengths differ.
/// - Removing what is absent succeeds. Getting what is absent is [`crate::Error::NotFound`].
/// - Listing shows files of the right name form only, in any order; it may miss files put meanwhile.
pub trait Store: Send + Sync {
    /// The place, for messages.
    fn location(&self) -> String;

    /// Makes the place ready for a new repository; [`crate::Error::Exists`] when one is there.
    ///
    /// # Errors
    /// When the place cannot be made.
    fn create(&self) -> Result<()>;

    /// Stores a file.
    ///
    /// # Errors
    /// When it cannot; nothing of that name is there then, if it was not before.
    fn put(&self, kind: FileKind, name: &str, body: Body<'_>) -> Result<()>;

    /// Makes the names of all files of that kind durable.
    ///
    /// # Errors
    /// When it cannot; the names may or may not survive.
    fn flush(&self, kind: FileKind) -> Result<()>;

    /// Fills all of `buf` from offset `at` of a file.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`]; [`crate::Error::Damaged`] when the file ends before.
    fn read_at(&self, kind: FileKind, name: &str, at: u64, buf: &mut [u8]) -> Result<()>;

    /// The first `max` bytes of a file; all of it when it is shorter. Stores that can do so ask once.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`].
    fn read_first(&self, kind: FileKind, name: &str, max: usize) -> Result<Vec<u8>> {
        let len = self.len(kind, name)?;
        let mut bytes = vec![0; usize::try_from(len).map_or(max, |len| len.min(max))];
        self.read_at(kind, name, 0, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether the way there and back takes so long that small files which never change are worth keeping on
    /// this machine. Not unless the store knows better.
    fn is_far(&self) -> bool {
        false
    }

    /// How many reads it is worth to have under way at a time: where the way there and back takes long, some.
    fn reads_together(&self) -> usize {
        1
    }

    /// Reads parts of packs, so many at a time; what came of each, as of [`Store::read_at`].
    fn read_parts(&self, parts: &mut [PackPart<'_>]) -> Vec<Result<()>> {
        let read =
            |part: &mut PackPart<'_>| self.read_at(FileKind::Pack, part.name, part.at, part.buf);
        parts.iter_mut().map(read).collect()
    }

    /// About how many bytes one call of [`Store::read_at`] should ask for: with fewer, the way there and
    /// back is gone more often; with more, they come no faster. 8 MiB unless the store knows better.
    fn best_read(&self) -> u32 {
        8 << 20
    }

    /// The length of a file in bytes.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`] when it is not there.
    fn len(&self, kind: FileKind, name: &str) -> Result<u64>;

    /// Names every file of a kind with its length.
    ///
    /// # Errors
    /// When the place cannot be listed, or `each` fails.
    fn list(&self, kind: FileKind, each: &mut dyn FnMut(&str, u64) -> Result<()>) -> Result<()>;

    /// Whether a listing that begins after [`Store::put`] of a file has returned, wherever that was, has
    /// this file. Where it is not sure, who takes a lock waits before looking for others. Not unless the
    /// store knows better.
    fn lists_at_once(&self) -> bool {
        false
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    fn remove(&self, kind: FileKind, name: &str) -> Result<()>;

    /// What went over the wire since the store was opened; `None` where there is none.
    fn traffic(&self) -> Option<Traffic> {
        None
    }
}
