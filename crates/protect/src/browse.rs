//! Look into a stored entity: its entries, and the bytes of one file.

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use alidade_entity::{DiskSource, OpenFile, Shelf, Span, TreeSource, Visit};
use alidade_model::Entry;
use alidade_repository::Node;

use crate::filter::Filter;
use crate::identity::{StoredSnapshot, components};
use crate::protect::tree;
use crate::stored_entity::{StoredEntity, child};
use crate::stored_file::StoredFile;
use crate::{Engine, Error, Result};

/// Bytes of a disk that are read at a time.
const PIECE: usize = 8 << 20;

/// Is shown an entry with its absolute path, and says whether to go on.
pub type ShowEntry<'a> = dyn FnMut(&[u8], &Entry) -> Result<bool> + 'a;

impl Engine {
    /// Shows every entry at or below an absolute path, in visit order. Our own records are not shown.
    ///
    /// # Errors
    /// [`Error::NotFound`] when nothing is there; damage when a directory does not read.
    pub fn entries(
        &self,
        stored: &StoredSnapshot,
        under: &[u8],
        each: &mut ShowEntry<'_>,
    ) -> Result<()> {
        let lock = self.lock()?;
        let shown = self.show(stored, under, each);
        if let Some(lock) = lock {
            lock.release()?;
        }
        if shown? {
            return Ok(());
        }
        let path = String::from_utf8_lossy(under);
        Err(Error::not_found(format!("`{path}` in snapshot {}", stored.file)))
    }

    fn show(
        &self,
        stored: &StoredSnapshot,
        under: &[u8],
        each: &mut ShowEntry<'_>,
    ) -> Result<bool> {
        let entity = StoredEntity::new(stored.clone(), self.index()?);
        let only = if components(under).is_empty() { Vec::new() } else { vec![under.to_vec()] };
        let filter = Filter::of(&alidade_model::Selection { only, ..Default::default() })?;
        let reading = entity.walk(self.cx(), filter)?;
        let mut source = tree(reading.source)?;
        let mut shown = components(under).is_empty();
        let mut path = Vec::new();
        let mut batch = Vec::new();
        // Directories above `under` are announced, too, as a restore needs them; they are not shown.
        let depth = components(under).len();
        loop {
            let more = TreeSource::next(source.as_mut(), self.cx(), &mut batch)?;
            for visit in batch.drain(..) {
                let (entry, enters) = match visit {
                    Visit::Leave => {
                        leave(&mut path);
                        continue;
                    }
                    Visit::Omit(omission) => return Err(broken(&omission)),
                    Visit::Enter(entry) => (entry, true),
                    Visit::File(entry, _) | Visit::Leaf(entry) => (entry, false),
                };
                path.push(b'/');
                path.extend_from_slice(&entry.name);
                if components(&path).len() >= depth {
                    shown = true;
                    if !each(&path, &entry)? {
                        return Ok(true);
                    }
                }
                if !enters {
                    leave(&mut path);
                }
            }
            if !more {
                return Ok(shown);
            }
        }
    }

    /// Writes bytes of a stored file, or without a path those of the entity's only content, which then is
    /// a disk; every blob is verified before its bytes are written. What of the range lies behind the end
    /// is nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no file at that path, [`Error::Usage`] when it is something else.
    pub fn cat(
        &self,
        stored: &StoredSnapshot,
        path: Option<&[u8]>,
        range: Range<u64>,
        out: &mut dyn Write,
    ) -> Result<u64> {
        let lock = self.lock()?;
        let written = match path {
            Some(path) => self.write_file(stored, path, range, out),
            None => self.write_disk(stored, range, out),
        };
        if let Some(lock) = lock {
            lock.release()?;
        }
        written
    }

    fn write_disk(
        &self,
        stored: &StoredSnapshot,
        range: Range<u64>,
        out: &mut dyn Write,
    ) -> Result<u64> {
        let entity = StoredEntity::new(stored.clone(), self.index()?);
        let Some(disk) = entity.disk(self.cx())? else {
            let what = format!("`{}` has files: name one, such as `ID:/PATH`", stored.entity);
            return Err(Error::Usage(what));
        };
        let (mut at, end) = (range.start, range.end.min(disk.size()));
        let mut buffer = Vec::new();
        while at < end {
            buffer.resize(usize::try_from(end - at).map_or(PIECE, |len| len.min(PIECE)), 0);
            disk.read_at(self.cx(), at, &mut buffer)?;
            write(out, &buffer)?;
            at += buffer.len() as u64;
        }
        Ok(end.saturating_sub(range.start))
    }

    fn write_file(
        &self,
        stored: &StoredSnapshot,
        path: &[u8],
        range: Range<u64>,
        out: &mut dyn Write,
    ) -> Result<u64> {
        let cx = self.cx();
        let file = self.file(stored, path)?;
        let span = Span { from: range.start, to: range.end };
        let mut reader = file.open(cx, &mut Shelf::default(), span)?;
        let (mut buffer, mut written) = (Vec::new(), 0);
        while let Some((_, parts)) = reader.lend_piece(cx, &mut buffer)? {
            for part in parts {
                write(out, part)?;
                written += part.len() as u64;
            }
        }
        Ok(written)
    }

    /// The file at that path of a snapshot.
    fn file(&self, stored: &StoredSnapshot, path: &[u8]) -> Result<StoredFile> {
        let indexed = self.index()?;
        let shown = String::from_utf8_lossy(path).into_owned();
        let missing = || Error::not_found(format!("`{shown}` in snapshot {}", stored.file));
        let entity = StoredEntity::new(stored.clone(), Arc::clone(&indexed));
        let mut tree = Some(entity.top(self.cx())?);
        let mut found: Option<Node> = None;
        for name in components(path) {
            let node = child(self.cx(), &indexed, tree.ok_or_else(missing)?, name)?;
            let node = node.ok_or_else(missing)?;
            tree = node.subtree;
            found = Some(node);
        }
        let node = found.ok_or_else(missing)?;
        StoredFile::of(&indexed, &Arc::default(), node)
            .ok_or_else(|| Error::Usage(format!("`{shown}` is not a file")))
    }
}

fn write(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    let written = out.write_all(bytes);
    Ok(written.map_err(|error| alidade_entity::Error::io("write the file's bytes", error))?)
}

fn leave(path: &mut Vec<u8>) {
    let up = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    path.truncate(up);
}

fn broken(omission: &alidade_model::Omission) -> Error {
    let what = format!("directory {}", String::from_utf8_lossy(&omission.path));
    alidade_repository::Error::damaged(what, omission.reason.clone()).into()
}
