//! A regular file that a walk met, and reading it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use alidade_entity::{Class, Cx, Error, OpenFile, Piece, ReadFile, Result, Shelf, Span, Verdict};
use alidade_model::{Hole, Kind, Metadata, Sabotage, Time};
use rustix::fs::{Mode, OFlags, SeekFrom, Statx, openat, seek};
use rustix::io::{Errno, pread, retry_on_intr};

use super::attributes::{self, Object};
use super::dir::Dir;
use super::metadata::{kind_of, look, metadata_of, time_of};
use super::tally::{Tally, unreadable_attribute};

/// Bytes of data per piece.
const PIECE: u64 = 1024 * 1024;

/// A regular file that a walk met.
pub(crate) struct FoundFile {
    dir: Arc<Dir>,
    name: Vec<u8>,
    tally: Arc<Tally>,
    /// Attributes whose omission is already counted.
    reported: Mutex<Vec<Vec<u8>>>,
}

impl FoundFile {
    /// The file of that name; `reported` are the attributes that the walk could not read.
    pub(crate) fn new(
        dir: &Arc<Dir>,
        name: &[u8],
        reported: Vec<Vec<u8>>,
        tally: &Arc<Tally>,
    ) -> Self {
        Self {
            dir: Arc::clone(dir),
            name: name.to_vec(),
            tally: Arc::clone(tally),
            reported: Mutex::new(reported),
        }
    }

    fn failed(&self, attempt: &str, error: Errno) -> Error {
        Error::io(format!("{attempt} {}", self.text()), error)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.dir.path_of(&self.name)).into_owned()
    }

    fn open_regular(&self) -> Result<(OwnedFd, Statx)> {
        let dir = self.dir.reach().map_err(|error| self.failed("open", error))?;
        // Not blocking: a FIFO that took the file's place would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = self.name.as_slice();
        let opened = match openat(&dir, name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => openat(&dir, name, flags, Mode::empty()),
            opened => opened,
        };
        let fd = match opened {
            Ok(fd) => fd,
            // A symbolic link, or a socket or a device without a driver.
            Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Err(self.not_regular()),
            Err(error) => return Err(self.failed("open", error)),
        };
        let stat = look(&fd).map_err(|error| self.failed("look at", error))?;
        if kind_of(&stat) != Some(Kind::File) {
            return Err(self.not_regular());
        }
        Ok((fd, stat))
    }

    fn not_regular(&self) -> Error {
        let text = self.text();
        Error::new(Class::Failed, format!("read {text}, which is no regular file any more"))
    }

    /// The attributes as of now; omissions that are not counted yet are.
    fn attributes(&self, fd: &OwnedFd, metadata: &mut Metadata) {
        let read = attributes::read(Object::Open(fd.as_fd()));
        metadata.xattrs = read.found;
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, error) in read.failed {
            if !reported.contains(&name) {
                let path = self.dir.path_of(&self.name);
                self.tally.omit(unreadable_attribute(path, &name, error));
                reported.push(name);
            }
        }
    }
}

impl OpenFile for FoundFile {
    fn has_spans(&self) -> bool {
        true
    }

    fn open(&self, cx: &Cx, _shelf: &mut Shelf, span: Span) -> Result<Box<dyn ReadFile>> {
        cx.check()?;
        let (fd, stat) = self.open_regular()?;
        let mut metadata = metadata_of(&stat, Kind::File, &self.tally.owners);
        self.attributes(&fd, &mut metadata);
        Ok(Box::new(OpenedFile {
            text: self.text(),
            range: Ranges::new(&stat),
            metadata,
            fd,
            at: span.from,
            to: stat.stx_size.min(span.to),
            is_short: false,
        }))
    }

    fn holes(&self, cx: &Cx) -> Result<Vec<Hole>> {
        let (fd, stat) = self.open_regular()?;
        let mut range = Ranges::new(&stat);
        let (mut at, mut holes) = (0, Vec::new());
        while at < range.size {
            cx.check()?;
            let next =
                range.at(&fd, at).map_err(|error| self.failed("find the holes of", error))?;
            match next {
                Range::Data { end } => at = end,
                Range::Hole { end } => {
                    holes.push(Hole { at, len: end - at });
                    at = end;
                }
            }
        }
        Ok(holes)
    }
}

/// A part of a file, up to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Range {
    Data { end: u64 },
    Hole { end: u64 },
}

/// What the attributes of a file and the map of its blocks may take beside its content, at most.
const BESIDE: u64 = 64 * 1024;

/// Finds the holes of a file of a certain size.
///
/// A file system calls a range a hole that was allocated and never written, too. Such a range keeps its
/// storage: when a file has blocks for all of its bytes, its holes are only believed if together they are
/// no more than what else may take blocks of a file.
pub(crate) struct Ranges {
    size: u64,
    /// True while it has blocks for all of its bytes and nobody has asked why it has holes.
    is_full: bool,
    /// False where the file system cannot say, and for a file that was allocated ahead.
    may_have_holes: bool,
    /// Data goes on up to here.
    data_end: u64,
}

impl Ranges {
    /// For a file as it was looked at.
    pub(crate) fn new(stat: &Statx) -> Self {
        let is_full = stat.stx_blocks.saturating_mul(512) >= stat.stx_size;
        Self { size: stat.stx_size, is_full, may_have_holes: true, data_end: 0 }
    }

    /// The range that begins at `at`, which is below the size.
    pub(crate) fn at(&mut self, fd: &OwnedFd, at: u64) -> rustix::io::Result<Range> {
        if !self.may_have_holes {
            return Ok(Range::Data { end: self.size });
        }
        if at < self.data_end {
            return Ok(Range::Data { end: self.data_end });
        }
        match seek(fd, SeekFrom::Hole(at)) {
            Ok(hole) if hole > at => self.data_end = hole.min(self.size),
            Ok(_) if self.is_full && self.is_allocated_ahead(fd)? => {
                self.may_have_holes = false;
                self.data_end = self.size;
            }
            Ok(_) => {
                self.is_full = false;
                match seek(fd, SeekFrom::Data(at)) {
                    Ok(data) if data > at => return Ok(Range::Hole { end: data.min(self.size) }),
                    Err(Errno::NXIO) => return Ok(Range::Hole { end: self.size }),
                    // Written to in between: read it.
                    Ok(_) => self.data_end = self.size,
                    Err(error) => return Err(error),
                }
            }
            // Cut off in between: what reads short will tell.
            Err(Errno::NXIO) => self.data_end = self.size,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                self.may_have_holes = false;
                self.data_end = self.size;
            }
            Err(error) => return Err(error),
        }
        Ok(Range::Data { end: self.data_end })
    }

    /// True when a file that has all its blocks has more holes than what else may take blocks.
    fn is_allocated_ahead(&self, fd: &OwnedFd) -> rustix::io::Result<bool> {
        let (mut at, mut holes) = (0, 0);
        while at < self.size {
            let hole = match seek(fd, SeekFrom::Hole(at)) {
                Ok(hole) if hole < self.size => hole,
                Ok(_) | Err(Errno::NXIO) => break,
                Err(error) => return Err(error),
            };
            at = match seek(fd, SeekFrom::Data(hole)) {
                Ok(data) => data.min(self.size),
                Err(Errno::NXIO) => self.size,
                Err(error) => return Err(error),
            };
            holes += at - hole;
            if holes > BESIDE {
                return Ok(true);
            }
            // Written to in between.
            if at == hole {
                break;
            }
        }
        Ok(false)
    }
}

/// An open regular file.
struct OpenedFile {
    fd: OwnedFd,
    text: String,
    metadata: Metadata,
    range: Ranges,
    at: u64,
    /// Where the span ends.
    to: u64,
    /// True when it ended before the size it had when it was opened.
    is_short: bool,
}

impl OpenedFile {
    /// Makes `buf` the data up to `end`, one piece at most.
    fn read(&mut self, end: u64, buf: &mut Vec<u8>) -> rustix::io::Result<()> {
        let wanted = usize::try_from((end - self.at).min(PIECE)).unwrap_or(usize::MAX);
        // What was there is read over, and need not be made zero first.
        buf.resize(wanted, 0);
        let mut filled = 0;
        while filled < wanted {
            let at = self.at + filled as u64;
            match retry_on_intr(|| pread(&self.fd, &mut buf[filled..], at))? {
                0 => {
                    self.is_short = true;
                    break;
                }
                read => filled += read,
            }
        }
        buf.truncate(filled);
        Ok(())
    }
}

impl ReadFile for OpenedFile {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn next_piece(&mut self, cx: &Cx, buf: &mut Vec<u8>) -> Result<Option<Piece>> {
        cx.check()?;
        if self.at >= self.to || self.is_short {
            buf.clear();
            return Ok(None);
        }
        let failed = |text: &str, error| Error::io(format!("read {text}"), error);
        let at = self.at;
        match self.range.at(&self.fd, at).map_err(|error| failed(&self.text, error))? {
            Range::Hole { end } => {
                buf.clear();
                self.at = end.min(self.to);
                Ok(Some(Piece::Hole(Hole { at, len: self.at - at })))
            }
            Range::Data { end } => {
                let read = self.read(end.min(self.to), buf);
                if let Err(error) = read {
                    buf.clear();
                    return Err(failed(&self.text, error));
                }
                self.at += buf.len() as u64;
                if Sabotage::DropLastChunk.is_on() && self.at == self.range.size {
                    buf.clear();
                }
                Ok((!buf.is_empty()).then_some(Piece::Data { at }))
            }
        }
    }

    fn finish(self: Box<Self>) -> Result<Verdict> {
        let stat = look(&self.fd)
            .map_err(|error| Error::io(format!("look at {} again", self.text), error))?;
        Ok(verdict(&self.metadata, &stat, self.is_short))
    }
}

/// What became of a file: growth explains new times, anything else does not.
fn verdict(before: &Metadata, after: &Statx, is_short: bool) -> Verdict {
    let times: (Time, Time) = (time_of(after.stx_mtime), time_of(after.stx_ctime));
    if is_short || after.stx_size < before.size {
        Verdict::Changed
    } else if after.stx_size > before.size {
        Verdict::Grew
    } else if times != (before.mtime, before.ctime) {
        Verdict::Changed
    } else {
        Verdict::Steady
    }
}
