//! Look into a stored entity: its entries, and the bytes of one file.

use std::io::{Read, Write};
use std::sync::Arc;

use alidade_entity::{TreeSource, Visit};
use alidade_model::Entry;
use alidade_repository::{Node, NodeKind};

use crate::filter::Filter;
use crate::identity::{StoredSnapshot, components};
use crate::protect::tree;
use crate::stored_entity::{Blobs, StoredEntity, child};
use crate::{Engine, Error, Result};

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

    /// Writes the bytes of a stored file; every blob is verified before its bytes are written.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no file at that path, [`Error::Usage`] when it is something else.
    pub fn cat(&self, stored: &StoredSnapshot, path: &[u8], out: &mut dyn Write) -> Result<u64> {
        let lock = self.lock()?;
        let written = self.write_file(stored, path, out);
        if let Some(lock) = lock {
            lock.release()?;
        }
        written
    }

    fn write_file(&self, stored: &StoredSnapshot, path: &[u8], out: &mut dyn Write) -> Result<u64> {
        let indexed = self.index()?;
        let shown = String::from_utf8_lossy(path).into_owned();
        let missing = || Error::not_found(format!("`{shown}` in snapshot {}", stored.file));
        let mut tree = Some(stored.snapshot.tree);
        let mut found: Option<Node> = None;
        for name in components(path) {
            let node = child(self.cx(), &indexed, tree.ok_or_else(missing)?, name)?;
            let node = node.ok_or_else(missing)?;
            tree = node.subtree;
            found = Some(node);
        }
        let node = found.ok_or_else(missing)?;
        let Some(content) = node.content.filter(|_| node.kind == NodeKind::File) else {
            return Err(Error::Usage(format!("`{shown}` is not a file")));
        };
        let mut blobs = Blobs::new(self.cx().clone(), Arc::clone(&indexed), content);
        let mut buffer = vec![0; 1 << 20];
        let mut written = 0;
        loop {
            self.cx().check()?;
            let len = match blobs.read(&mut buffer) {
                Ok(0) => return Ok(written),
                Ok(len) => len,
                Err(error) => return Err(blobs.explain(&error).into()),
            };
            out.write_all(&buffer[..len])
                .map_err(|error| alidade_entity::Error::io("write the file's bytes", error))?;
            written += len as u64;
        }
    }
}

fn leave(path: &mut Vec<u8>) {
    let up = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    path.truncate(up);
}

fn broken(omission: &alidade_model::Omission) -> Error {
    let what = format!("directory {}", String::from_utf8_lossy(&omission.path));
    alidade_repository::Error::damaged(what, omission.reason.clone()).into()
}
