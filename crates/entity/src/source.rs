//! Sources: contents as they are read.

use std::any::Any;

use alidade_model::{Entry, Hole, Metadata, Omission};

use crate::{Cx, Result};

/// A content, open for reading, by shape.
pub enum Source {
    /// Entries, then bytes per file.
    Tree(Box<dyn TreeSource>),
    /// A size, extents, random reads.
    Disk(Box<dyn DiskSource>),
    /// Ordered bytes.
    Stream(Box<dyn StreamSource>),
}

/// One step of a walk through a tree, depth first, names ascending by byte within a directory.
pub enum Visit {
    /// A directory; what follows is in it, until [`Visit::Leave`].
    Enter(Entry),
    /// The directory entered last and still open has no more entries.
    Leave,
    /// A file, and the way to its bytes.
    File(Entry, Box<dyn OpenFile>),
    /// An entry that has no bytes: a symlink, a device node, a FIFO, a socket.
    Leaf(Entry),
    /// Something that should be here and cannot be read. Takes the place of the entry; a directory
    /// that can be entered but not listed is entered, omitted inside and left.
    Omit(Omission),
}

/// The entries of a tree.
///
/// Behavior:
/// - [`TreeSource::trail`] names the directories above the walk, outermost first; the walk itself
///   happens inside the last of them.
/// - Every name appears once in its directory and names ascend by byte.
/// - Every `Enter` has its `Leave`.
/// - After `next` returned `false` it returns `false` for ever and adds nothing.
/// - A failure to read one entry is a [`Visit::Omit`], not an `Err`; `Err` ends the walk.
/// - Memory does not grow with the number of entries in a directory or the depth of the tree, save
///   some bytes per level.
pub trait TreeSource: Send {
    /// The directories that lead to the walk, outermost first; empty when it begins at the top.
    fn trail(&self) -> &[Entry];

    /// Appends the next visits to `out`, some hundreds at a time, and says whether more may follow.
    ///
    /// # Errors
    /// When the walk cannot go on, or was cancelled.
    fn next(&mut self, cx: &Cx, out: &mut Vec<Visit>) -> Result<bool>;
}

/// What one thread keeps from file to file: a source that can read several files at once keeps here what
/// was announced and what it has read for them.
#[derive(Default)]
pub struct Shelf {
    kept: Option<Box<dyn Any + Send>>,
}

impl Shelf {
    /// What is kept, made when there is nothing of that type.
    ///
    /// # Panics
    /// Never: what is kept is of the type that was just made sure of.
    pub fn kept<T: Default + Send + 'static>(&mut self) -> &mut T {
        if !self.kept.as_ref().is_some_and(|kept| kept.is::<T>()) {
            self.kept = Some(Box::new(T::default()));
        }
        let kept = self.kept.as_mut().and_then(|kept| kept.downcast_mut());
        kept.expect("its type was just made sure of")
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("empty", &self.kept.is_none()).finish()
    }
}

/// A part of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub from: u64,
    /// Where it ends; beyond the file's end it ends with the file.
    pub to: u64,
}

impl Span {
    /// A file from its beginning to its end.
    pub const WHOLE: Self = Self { from: 0, to: u64::MAX };
}

/// A file that was met in a walk and may be read later, by any thread.
pub trait OpenFile: Send + Sync {
    /// Says that this thread will open the file soon, together with others it announces.
    fn announce(&self, shelf: &mut Shelf) {
        let _ = shelf;
    }

    /// True when it can be opened for a part of it, by several threads at once.
    fn has_spans(&self) -> bool {
        false
    }

    /// Opens it to be read in that span, which is the whole file unless it [has
    /// spans](OpenFile::has_spans). May be called again after a read that has to be repeated.
    ///
    /// # Errors
    /// [`crate::Class::NotFound`] when it vanished since the walk met it, [`crate::Class::Denied`] when
    /// the system refuses.
    fn open(&self, cx: &Cx, shelf: &mut Shelf, span: Span) -> Result<Box<dyn ReadFile>>;

    /// As [`OpenFile::open`], for who has the content of the base: what did not change since comes as
    /// [`Piece::Kept`]. Without a base, or where the source does not know, everything is read.
    ///
    /// # Errors
    /// As [`OpenFile::open`].
    fn open_changes(&self, cx: &Cx, shelf: &mut Shelf, span: Span) -> Result<Box<dyn ReadFile>> {
        self.open(cx, shelf, span)
    }

    /// Opens it, alone and whole.
    ///
    /// # Errors
    /// As [`OpenFile::open`].
    fn open_whole(&self, cx: &Cx) -> Result<Box<dyn ReadFile>> {
        self.open(cx, &mut Shelf::default(), Span::WHOLE)
    }

    /// The ranges without storage, ascending, for entries that are not read because nothing changed.
    ///
    /// # Errors
    /// As [`OpenFile::open`].
    fn holes(&self, cx: &Cx) -> Result<Vec<Hole>>;
}

/// A part of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes, which are in the buffer.
    Data {
        /// Offset in the file.
        at: u64,
    },
    /// A range without storage that reads as zeros.
    Hole(Hole),
    /// A range that is as the base has it: only in a file that was [opened for its
    /// changes](OpenFile::open_changes).
    Kept(Hole),
}

/// A piece of content, and its bytes in parts that follow one another.
pub type Lent<'a> = (Piece, Vec<&'a [u8]>);

/// What became of a file while it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Steady,
    /// It got longer; what was read is its content up to the size it had when it was opened.
    Grew,
    /// It changed; what was read may never have been its content.
    Changed,
}

/// An open file, read from the beginning of its span to the end of it, or to the size that the file had
/// when it was opened.
pub trait ReadFile: Send {
    /// The metadata as of the moment it was opened, extended attributes included.
    fn metadata(&self) -> &Metadata;

    /// Puts the next piece into `buf` (cleared first; at most 8 MiB) and says what it is; `None` at the end.
    ///
    /// Pieces are adjacent and ascending from where the span begins, and end with it; a hole and what is
    /// kept leave `buf` empty.
    ///
    /// # Errors
    /// When the system fails to read, or what was read is damaged.
    fn next_piece(&mut self, cx: &Cx, buf: &mut Vec<u8>) -> Result<Option<Piece>>;

    /// As [`ReadFile::next_piece`], for who only looks at the bytes: they may lie in the reader itself, in
    /// parts that follow one another (and together be more than a piece may), and are in `buf` otherwise.
    /// The two may be called in turns.
    ///
    /// # Errors
    /// As [`ReadFile::next_piece`].
    fn lend_piece<'a>(&'a mut self, cx: &Cx, buf: &'a mut Vec<u8>) -> Result<Option<Lent<'a>>> {
        let piece = self.next_piece(cx, buf)?;
        Ok(piece.map(|piece| (piece, vec![buf.as_slice()])))
    }

    /// Says whether the file stayed as it was. A file shorter than when it was opened has changed.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn finish(self: Box<Self>) -> Result<Verdict>;
}

/// A range of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset in bytes.
    pub at: u64,
    /// Length in bytes.
    pub len: u64,
    /// True when it has storage (`Full`) or changed (`Since`); false when it reads as zeros.
    pub allocated: bool,
}

/// A disk as it is read.
///
/// Behavior: extents ascend, do not overlap and end at `size`; with a basis `Since`, only changed
/// ranges are listed, and an unallocated one there has become zeros.
pub trait DiskSource: Send + Sync {
    /// Bytes in all.
    fn size(&self) -> u64;

    /// Appends the extents from `from` on, some thousands at a time; none means the end. Of an extent in
    /// which `from` lies, the first is what follows.
    ///
    /// # Errors
    /// When the source cannot say.
    fn extents(&self, cx: &Cx, from: u64, out: &mut Vec<Extent>) -> Result<()>;

    /// Fills all of `buf` from offset `at`, which may lie anywhere on the disk.
    ///
    /// # Errors
    /// When the source fails to read, or the range goes beyond the end.
    fn read_at(&self, cx: &Cx, at: u64, buf: &mut [u8]) -> Result<()>;

    /// The SHA-256 of an extent as it was listed, where the source knows it without reading.
    ///
    /// # Errors
    /// When the source cannot say whether it does.
    fn hash_of(&self, cx: &Cx, extent: &Extent) -> Result<Option<[u8; 32]>> {
        let _ = (cx, extent);
        Ok(None)
    }
}

/// A stream as it is read.
///
/// Behavior: `read` returns 0 at the end and for ever after; only [`StreamSource::finish`] says whether
/// the producer succeeded, and nothing may be committed before.
pub trait StreamSource: Send {
    /// Reads up to `buf.len()` bytes; 0 is the end.
    ///
    /// # Errors
    /// When the producer cannot be read.
    fn read(&mut self, cx: &Cx, buf: &mut [u8]) -> Result<usize>;

    /// The producer's verdict: `true` when it vouches for the stream, `false` when nobody can say.
    /// Before the end was read it is never `true`.
    ///
    /// # Errors
    /// When the producer failed; the stream must not be committed.
    fn finish(self: Box<Self>, cx: &Cx) -> Result<bool>;
}
