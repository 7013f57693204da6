//! A local file with what some index files say, sealed piece by piece: `PIECE … CONTENTS LENGTH`.
//!
//! A piece is an envelope around its place and packs of one index file: the id of the pack, how many
//! blobs follow, and 45 bytes for each. The contents are an envelope around their place and one line
//! for each piece in its order: the index file, the length of the piece, and its blobs. At the end
//! stands the length of the contents in 4 bytes. Numbers are little-endian.
//!
//! A place names this form, this very file by a random number, the index file, and which piece of it
//! this is: no piece stands for another one, or for one of another file. Nothing is looked at
//! before its MAC is checked but that last length, and it decides only where the MAC is looked for.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use alidade_entity::Cx;
use rustix::fs::{FlockOperation, OFlags, flock};

use crate::crypto::{MasterKey, OVERHEAD};
use crate::index_file::PackInIndex;
use crate::pack_header::HeaderEntry;
use crate::{BlobId, BlobKind, Error, FileId, Result};

/// The form described above, in its first version.
const FORM: [u8; 8] = *b"alidix\0\x01";
/// Plain bytes of a piece, at most.
const PIECE: usize = 1 << 20;
/// The place at the beginning of what is in an envelope: form, file, index file, number.
const PLACE: usize = FORM.len() + 16 + 32 + 4;
/// The number in the place of the contents, which are no piece of an index file.
const CONTENTS: u32 = u32::MAX;
/// Longest contents: 1.6 million pieces.
const MAX_CONTENTS: usize = 64 << 20;
/// Bytes of a pack without its blobs, of a blob, and of a line of the contents.
const PACK: usize = 32 + 4;
const BLOB: usize = 32 + 1 + 3 * 4;
const LINE: usize = 32 + 2 * 4;

/// What the names of these files begin with, and of those that are not finished end with.
const PREFIX: &str = "index-";
const UNFINISHED: &str = ".tmp";

/// A bundle that is being written. What is dropped before [`BundleWriter::finish`] was never there.
pub(crate) struct BundleWriter {
    /// Locked with `flock`, so that it does not look like what a killed process left.
    file: File,
    /// Its names before and after it is finished.
    unfinished: PathBuf,
    path: PathBuf,
    key: MasterKey,
    number: [u8; 16],
    lines: Vec<Line>,
    /// Bytes of all pieces.
    end: u64,
    section: Option<Begun>,
    /// The piece that is being filled, and how many blobs are in it.
    plain: Vec<u8>,
    blobs: u32,
    sealed: Vec<u8>,
}

/// The index file whose pieces are being written.
struct Begun {
    file: FileId,
    /// Lines and bytes before it.
    lines: usize,
    start: u64,
}

/// A piece.
#[derive(Clone, Copy)]
struct Line {
    file: FileId,
    len: u32,
    blobs: u32,
}

impl BundleWriter {
    /// A new one in `directory`, which is made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn create(cx: &Cx, directory: &Path, key: &MasterKey) -> Result<Self> {
        let mut number = [0; 16];
        cx.fill(&mut number)?;
        let digits: String = number.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = directory.join(format!("{PREFIX}{digits}"));
        let unfinished = directory.join(format!("{PREFIX}{digits}{UNFINISHED}"));
        let mut folder = DirBuilder::new();
        folder.recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(&unfinished).map_err(failed)?;
        let writer = Self {
            file,
            unfinished,
            path,
            key: key.clone(),
            number,
            lines: Vec::new(),
            end: 0,
            section: None,
            plain: Vec::with_capacity(PIECE),
            blobs: 0,
            sealed: Vec::new(),
        };
        if flock(&writer.file, FlockOperation::NonBlockingLockExclusive).is_err() {
            // Where there are no such locks nobody can take it for a dead one's either.
        }
        Ok(writer)
    }

    /// Begins what an index file says. Each is told once.
    pub(crate) fn begin(&mut self, file: FileId) {
        self.section = Some(Begun { file, lines: self.lines.len(), start: self.end });
        self.begin_piece();
    }

    /// Adds a pack, or some blobs of one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn pack(&mut self, cx: &Cx, pack: &PackInIndex) -> Result<()> {
        let mut blobs = pack.blobs.as_slice();
        loop {
            let room = PIECE.saturating_sub(self.plain.len() + PACK) / BLOB;
            if room == 0 {
                self.end_piece(cx)?;
                self.begin_piece();
                continue;
            }
            let (these, rest) = blobs.split_at(room.min(blobs.len()));
            self.plain.extend_from_slice(&pack.id.0);
            let count = u32::try_from(these.len()).expect("a piece has not so many");
            self.plain.extend_from_slice(&count.to_le_bytes());
            these.iter().for_each(|blob| self.plain.extend_from_slice(&encode(blob)));
            self.blobs += count;
            blobs = rest;
            if blobs.is_empty() {
                return Ok(());
            }
        }
    }

    /// Ends what an index file says.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn end(&mut self, cx: &Cx) -> Result<()> {
        self.end_piece(cx)?;
        self.section = None;
        Ok(())
    }

    /// Forgets what was said since [`BundleWriter::begin`].
    pub(crate) fn undo(&mut self) {
        if let Some(Begun { lines, start, .. }) = self.section.take() {
            self.lines.truncate(lines);
            self.end = start;
        }
    }

    /// Gives it its name. It need not survive a power cut, as it is checked when it is read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn finish(mut self, cx: &Cx) -> Result<()> {
        self.plain.clear();
        self.plain.extend_from_slice(&place(self.number, &NO_FILE, CONTENTS));
        for Line { file, len, blobs } in &self.lines {
            self.plain.extend_from_slice(&file.0);
            self.plain.extend_from_slice(&len.to_le_bytes());
            self.plain.extend_from_slice(&blobs.to_le_bytes());
        }
        if self.plain.len() + OVERHEAD > MAX_CONTENTS {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let len = self.seal(cx)?;
        self.sealed.extend_from_slice(&len.to_le_bytes());
        self.file.write_all_at(&self.sealed, self.end).map_err(failed)?;
        // What was undone may have been longer.
        let all = self.end + self.sealed.len() as u64;
        self.file.set_len(all).map_err(failed)?;
        std::fs::rename(&self.unfinished, &self.path).map_err(failed)
    }

    fn begin_piece(&mut self) {
        if let Some(Begun { file, lines, .. }) = &self.section {
            let number = u32::try_from(self.lines.len() - lines).unwrap_or(CONTENTS);
            self.plain.clear();
            self.plain.extend_from_slice(&place(self.number, file, number));
            self.blobs = 0;
        }
    }

    fn end_piece(&mut self, cx: &Cx) -> Result<()> {
        let Some(Begun { file, .. }) = self.section else { return Ok(()) };
        let len = self.seal(cx)?;
        self.file.write_all_at(&self.sealed, self.end).map_err(failed)?;
        self.end += u64::from(len);
        self.lines.push(Line { file, len, blobs: self.blobs });
        Ok(())
    }

    fn seal(&mut self, cx: &Cx) -> Result<u32> {
        self.sealed.clear();
        let len = self.key.seal_into(cx, &self.plain, &mut self.sealed)?;
        Ok(u32::try_from(len).expect("neither a piece nor the contents are so long"))
    }
}

impl Drop for BundleWriter {
    fn drop(&mut self) {
        // After it was finished, nothing has that name.
        remove(&self.unfinished);
    }
}

/// A bundle to be read. Its contents are what was written; its pieces are still to be checked.
pub(crate) struct Bundle {
    pub(crate) path: PathBuf,
    /// What it says, index file by index file.
    pub(crate) sections: Vec<Section>,
    /// Bytes of all its pieces.
    pub(crate) len: u64,
    file: File,
    number: [u8; 16],
    /// Lengths of the pieces.
    pieces: Vec<u32>,
}

/// What a bundle has of an index file.
pub(crate) struct Section {
    /// The index file.
    pub(crate) file: FileId,
    /// How many blobs it names.
    pub(crate) blobs: u64,
    /// Bytes of its pieces.
    pub(crate) len: u64,
    start: u64,
    pieces: Range<usize>,
}

/// Memory for reading, kept from section to section.
pub(crate) struct Buffers {
    sealed: Vec<u8>,
    pack: PackInIndex,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { sealed: Vec::new(), pack: PackInIndex { id: NO_FILE, blobs: Vec::new() } }
    }
}

impl Bundle {
    /// Opens one and checks its contents; `None` when it is anything but whole and sealed with `key`.
    pub(crate) fn open(path: &Path, key: &MasterKey) -> Option<Self> {
        let file = open(path).ok()?;
        let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let mut last = [0; 4];
        let end = metadata.len().checked_sub(last.len() as u64)?;
        file.read_exact_at(&mut last, end).ok()?;
        let len = u32::from_le_bytes(last);
        let start = end.checked_sub(len.into())?;
        let mut sealed = vec![0; usize::try_from(len).ok().filter(|len| *len <= MAX_CONTENTS)?];
        file.read_exact_at(&mut sealed, start).ok()?;
        let plain: &[u8] = key.open_in_place(&mut sealed).ok()?;
        let (found, lines) = plain.split_first_chunk::<PLACE>()?;
        let number: [u8; 16] = *found[FORM.len()..].first_chunk()?;
        if *found != place(number, &NO_FILE, CONTENTS) {
            return None;
        }
        let (path, len) = (path.to_owned(), start);
        let mut bundle = Self { path, sections: Vec::new(), len, file, number, pieces: Vec::new() };
        bundle.read_lines(lines).filter(|end| *end == start)?;
        Some(bundle)
    }

    /// Takes in the lines of the contents; returns where the pieces end.
    fn read_lines(&mut self, lines: &[u8]) -> Option<u64> {
        let (lines, []) = lines.as_chunks::<LINE>() else { return None };
        let mut end = 0;
        for line in lines {
            let file = FileId(*line.first_chunk()?);
            let len = number(&line[32..])?;
            let blobs = u64::from(number(&line[36..])?);
            let at = self.pieces.len();
            self.pieces.push(len);
            match self.sections.last_mut().filter(|section| section.file == file) {
                Some(section) => {
                    section.blobs += blobs;
                    section.len += u64::from(len);
                    section.pieces.end = at + 1;
                }
                None => {
                    let (start, len, pieces) = (end, u64::from(len), at..at + 1);
                    self.sections.push(Section { file, blobs, len, start, pieces });
                }
            }
            end += u64::from(len);
        }
        Some(end)
    }

    /// Hands over what it has of an index file, a pack or some blobs of one at a time. False when a
    /// piece is not what was written; what came before is true all the same.
    ///
    /// # Errors
    /// When `each` fails, with its error.
    pub(crate) fn read(
        &self,
        key: &MasterKey,
        section: &Section,
        buffers: &mut Buffers,
        each: &mut dyn FnMut(&PackInIndex) -> Result<()>,
    ) -> Result<bool> {
        let Buffers { sealed, pack } = buffers;
        let mut at = section.start;
        for (which, len) in (0..).zip(&self.pieces[section.pieces.clone()]) {
            let len = *len as usize;
            if len > PIECE + OVERHEAD {
                return Ok(false);
            }
            sealed.resize(len, 0);
            if self.file.read_exact_at(sealed, at).is_err() {
                return Ok(false);
            }
            let Ok(plain) = key.open_in_place(sealed) else { return Ok(false) };
            let place = place(self.number, &section.file, which);
            let Some(mut packs) = plain.strip_prefix(&place) else { return Ok(false) };
            while !packs.is_empty() {
                let Some(rest) = decode(packs, pack) else { return Ok(false) };
                each(pack)?;
                packs = rest;
            }
            at += len as u64;
        }
        Ok(true)
    }
}

/// The bundles in a directory, in no order. What cannot be listed is none, and what killed processes
/// left is removed.
pub(crate) fn list(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths = Vec::new();
    for path in entries.map_while(io::Result::ok).map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name.strip_prefix(PREFIX).map(|rest| rest.strip_suffix(UNFINISHED)) {
            Some(None) => paths.push(path),
            Some(Some(_)) => remove_left(&path),
            None => {}
        }
    }
    paths
}

/// Removes a bundle. One that stays is found again next time, and is no worse then.
pub(crate) fn remove(path: &Path) {
    if std::fs::remove_file(path).is_err() {
        // Gone already, or in a directory that cannot be written.
    }
}

/// Removes an unfinished bundle whose writer is dead. One that was made this very moment and is not
/// yet locked may go, too: its writer cannot give it a name then, and nothing is lost.
fn remove_left(path: &Path) {
    let Ok(file) = open(path) else { return };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        remove(path);
    }
}

/// Whatever lies there: a pipe would block, a link lead away.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// In the place of an id where there is none.
const NO_FILE: FileId = FileId([0; 32]);

fn place(bundle: [u8; 16], file: &FileId, which: u32) -> [u8; PLACE] {
    let mut place = [0; PLACE];
    let (form, rest) = place.split_at_mut(FORM.len());
    form.copy_from_slice(&FORM);
    rest[..16].copy_from_slice(&bundle);
    rest[16..48].copy_from_slice(&file.0);
    rest[48..].copy_from_slice(&which.to_le_bytes());
    place
}

fn encode(blob: &HeaderEntry) -> [u8; BLOB] {
    let HeaderEntry { kind, id, offset, len, plain_len } = blob;
    let mut bytes = [0; BLOB];
    bytes[..32].copy_from_slice(&id.0);
    bytes[32] = u8::from(*kind == BlobKind::Tree);
    bytes[33..37].copy_from_slice(&offset.to_le_bytes());
    bytes[37..41].copy_from_slice(&len.to_le_bytes());
    bytes[41..].copy_from_slice(&plain_len.unwrap_or(0).to_le_bytes());
    bytes
}

/// Makes `pack` the one that `bytes` begin with, and returns what follows; `None` when it is none.
fn decode<'a>(bytes: &'a [u8], pack: &mut PackInIndex) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_first_chunk::<PACK>()?;
    pack.id = FileId(*head.first_chunk()?);
    let count = number(&head[32..])? as usize;
    let (blobs, rest) = rest.split_at_checked(count.checked_mul(BLOB)?)?;
    pack.blobs.clear();
    for blob in blobs.as_chunks::<BLOB>().0 {
        let kind = match blob[32] {
            0 => BlobKind::Data,
            1 => BlobKind::Tree,
            _ => return None,
        };
        let id = BlobId(*blob.first_chunk()?);
        let (offset, len) = (number(&blob[33..])?, number(&blob[37..])?);
        let plain_len = Some(number(&blob[41..])?).filter(|len| *len != 0);
        // As in an index file.
        if (len as usize) < OVERHEAD || offset.checked_add(len).is_none() {
            return None;
        }
        pack.blobs.push(HeaderEntry { kind, id, offset, len, plain_len });
    }
    Some(rest)
}

/// The number that `bytes` begin with.
fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn failed(error: io::Error) -> Error {
    Error::store("write the local form of the index", error)
}
