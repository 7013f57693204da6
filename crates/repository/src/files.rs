use std::sync::Arc;

use alidade_entity::Cx;

use crate::crypto::{MasterKey, OVERHEAD};
use crate::{Body, Error, FileId, FileKind, Result, Store, envelope};

/// The files of an opened repository that are sealed as a whole: indexes, snapshots, locks.
pub(crate) struct Files {
    store: Arc<dyn Store>,
    key: MasterKey,
    /// False in repositories of version 1, whose readers may know no compression.
    compress: bool,
}

/// A sealed file that is not stored yet.
pub(crate) struct SealedFile {
    pub(crate) id: FileId,
    pub(crate) bytes: Vec<u8>,
}

impl Files {
    pub(crate) fn new(store: Arc<dyn Store>, key: MasterKey, compress: bool) -> Self {
        Self { store, key, compress }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(crate) fn key(&self) -> &MasterKey {
        &self.key
    }

    /// The plain content of a file, at most `max` bytes of it.
    pub(crate) fn read(&self, kind: FileKind, id: &FileId, max: usize) -> Result<Vec<u8>> {
        self.open(kind, id, &self.sealed(kind, id, max)?, max)
    }

    /// A file as it is stored, with at most `max` bytes of plain content.
    pub(crate) fn sealed(&self, kind: FileKind, id: &FileId, max: usize) -> Result<Vec<u8>> {
        read_named(&*self.store, kind, &id.to_string(), sealed_len(max))
    }

    /// The plain content of what is stored as that file.
    pub(crate) fn open(
        &self,
        kind: FileKind,
        id: &FileId,
        sealed: &[u8],
        max: usize,
    ) -> Result<Vec<u8>> {
        envelope::decode_unpacked(&self.key, sealed, max)
            .map_err(|error| error.of(format!("{kind} {id}")))
    }

    /// Seals `json`, compressed where the version of the repository knows that.
    pub(crate) fn seal(&self, cx: &Cx, json: &[u8]) -> Result<SealedFile> {
        let bytes = match self.compress {
            true => envelope::encode_unpacked(&self.key, cx, json)?,
            false => self.key.seal(cx, json)?,
        };
        Ok(SealedFile { id: FileId::of(&bytes), bytes })
    }

    /// Stores what was sealed.
    pub(crate) fn put(&self, kind: FileKind, file: &SealedFile) -> Result<()> {
        self.store.put(kind, &file.id.to_string(), Body::Bytes(&file.bytes))
    }

    /// Seals and stores `json`. Its name is not durable before the store is flushed.
    pub(crate) fn write(&self, cx: &Cx, kind: FileKind, json: &[u8]) -> Result<FileId> {
        let file = self.seal(cx, json)?;
        self.put(kind, &file)?;
        Ok(file.id)
    }

    /// All files of a kind with their lengths, ascending by name.
    pub(crate) fn list(&self, kind: FileKind) -> Result<Vec<(FileId, u64)>> {
        list(&*self.store, kind)
    }
}

/// How long a file with that much plain content is at most: what does not compress is stored a little
/// larger than it is.
pub(crate) const fn sealed_len(max: usize) -> usize {
    max + max / 128 + OVERHEAD + 64
}

/// All files of a kind with their lengths, ascending by name.
pub(crate) fn list(store: &dyn Store, kind: FileKind) -> Result<Vec<(FileId, u64)>> {
    let mut all = Vec::new();
    store.list(kind, &mut |name, len| {
        if let Ok(id) = name.parse() {
            all.push((id, len));
        }
        Ok(())
    })?;
    all.sort_unstable();
    Ok(all)
}

/// The bytes of a whole file, of which there are at most `max`. Its hash is its name. What comes with another
/// hash is asked for once more: it may have been damaged on the way.
pub(crate) fn read_named(
    store: &dyn Store,
    kind: FileKind,
    name: &str,
    max: usize,
) -> Result<Vec<u8>> {
    let mut hash = String::new();
    for _ in 0..2 {
        let bytes = read_whole(store, kind, name, max)?;
        hash = FileId::of(&bytes).to_string();
        if hash == name {
            return Ok(bytes);
        }
    }
    Err(Error::damaged_file(kind, name, format!("its content has the hash {hash}")))
}

/// The bytes of a whole file, of which there are at most `max`.
pub(crate) fn read_whole(
    store: &dyn Store,
    kind: FileKind,
    name: &str,
    max: usize,
) -> Result<Vec<u8>> {
    let bytes = store.read_first(kind, name, max + 1)?;
    match bytes.len() {
        0 => Err(Error::damaged_file(kind, name, "it is empty")),
        len if len <= max => Ok(bytes),
        _ => {
            let what = format!("it has more than the {max} bytes that are allowed");
            Err(Error::damaged_file(kind, name, what))
        }
    }
}
