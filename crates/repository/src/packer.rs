//! A pack while it is filled.

use alidade_entity::Cx;
use alidade_kernels::Sha256;

use crate::crypto::MasterKey;
use crate::pack_header::{self, HeaderEntry};
use crate::{BlobId, BlobKind, Error, FileId, Result};

/// No pack of ours holds more blobs: an index file holds those of one pack together, and should
/// not hold more than 50,000.
pub(crate) const MAX_BLOBS: usize = 25_000;

/// A blob with its envelope, ready to be put into a pack.
#[derive(Clone, Copy)]
pub(crate) struct Sealed<'a> {
    pub(crate) kind: BlobKind,
    pub(crate) id: BlobId,
    pub(crate) bytes: &'a [u8],
    /// Bytes before compression; `None` when it is stored as it is.
    pub(crate) plain_len: Option<u32>,
}

/// A pack that is filled in memory.
#[derive(Default)]
pub(crate) struct OpenPack {
    bytes: Vec<u8>,
    blobs: Vec<HeaderEntry>,
    /// Of the first `hashed` bytes.
    hash: Sha256,
    hashed: usize,
}

impl OpenPack {
    /// Takes a blob in.
    pub(crate) fn push(&mut self, blob: Sealed<'_>) -> Result<()> {
        let Sealed { kind, id, bytes, plain_len } = blob;
        let offset = length(self.bytes.len())?;
        let len = length(bytes.len())?;
        length(self.bytes.len() + bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        self.blobs.push(HeaderEntry { kind, id, offset, len, plain_len });
        Ok(())
    }

    /// Takes a blob in whose envelope `write` puts behind what is there; it returns the bytes before
    /// compression, `None` when it is stored as it is. Returns the envelope.
    pub(crate) fn add(
        &mut self,
        kind: BlobKind,
        id: BlobId,
        write: impl FnOnce(&mut Vec<u8>) -> Result<Option<u32>>,
    ) -> Result<&[u8]> {
        let at = self.bytes.len();
        let plain_len = write(&mut self.bytes)?;
        length(self.bytes.len())?;
        let (offset, len) = (length(at)?, length(self.bytes.len() - at)?);
        self.blobs.push(HeaderEntry { kind, id, offset, len, plain_len });
        Ok(&self.bytes[at..])
    }

    /// True when it can take all that is in `other` and is no more than full then.
    pub(crate) fn has_room(&self, other: &Self, pack_size: usize) -> bool {
        self.bytes.len() + other.bytes.len() <= pack_size
            && self.blobs.len() + other.blobs.len() <= MAX_BLOBS
    }

    /// Takes in all that is in `other`.
    pub(crate) fn absorb(&mut self, other: &Self) -> Result<()> {
        let shift = length(self.bytes.len())?;
        length(self.bytes.len() + other.bytes.len())?;
        self.bytes.extend_from_slice(&other.bytes);
        let moved = |blob: &HeaderEntry| HeaderEntry { offset: blob.offset + shift, ..*blob };
        self.blobs.extend(other.blobs.iter().map(moved));
        Ok(())
    }

    /// Bytes it holds.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True when it holds enough to be stored.
    pub(crate) fn is_full(&self, pack_size: usize) -> bool {
        self.bytes.len() >= pack_size || self.blobs.len() >= MAX_BLOBS
    }

    /// True when it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Adds the header; what it returns is the name of the pack. It is ready to be stored then.
    pub(crate) fn finish(&mut self, cx: &Cx, key: &MasterKey) -> Result<FileId> {
        let trailer = trailer(cx, key, &self.blobs)?;
        self.bytes.extend_from_slice(&trailer);
        if let Some((hash, bytes)) = self.stream() {
            hash.update(bytes);
        }
        Ok(FileId(self.hash.clone().finish()))
    }

    /// All of it, as it is stored.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it holds.
    pub(crate) fn blobs(&self) -> &[HeaderEntry] {
        &self.blobs
    }

    /// Breaks it, for [`alidade_model::Sabotage::FlipStoredByte`].
    pub(crate) fn flip_a_byte(&mut self) {
        if let Some(byte) = self.bytes.get_mut(40) {
            *byte ^= 1;
        }
    }

    /// The hash of its bytes so far, and those it must take next; none when it took them all.
    pub(crate) fn stream(&mut self) -> Option<(&mut Sha256, &[u8])> {
        let from = std::mem::replace(&mut self.hashed, self.bytes.len());
        (from < self.bytes.len()).then_some((&mut self.hash, &self.bytes[from..]))
    }

    /// Makes it empty, to be filled again without asking for memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.blobs.clear();
        self.hash = Sha256::new();
        self.hashed = 0;
    }
}

/// What follows the blobs in a pack: the sealed header and its length. It was opened and read again.
pub(crate) fn trailer(cx: &Cx, key: &MasterKey, blobs: &[HeaderEntry]) -> Result<Vec<u8>> {
    let plain = pack_header::encode(blobs);
    let mut trailer = key.seal(cx, &plain)?;
    let reread = key.open(&trailer).and_then(|plain| pack_header::decode(&plain));
    if reread.as_deref().ok() != Some(blobs) {
        return Err(Error::SelfCheck {
            blob: "of a pack header".to_owned(),
            why: "its header does not read back as it was written".to_owned(),
        });
    }
    let len = length(trailer.len())?;
    trailer.extend_from_slice(&len.to_le_bytes());
    Ok(trailer)
}

/// A length as packs say it.
pub(crate) fn length(len: usize) -> Result<u32> {
    u32::try_from(len).map_err(|_too_long| Error::Unrepresentable {
        what: "a pack".to_owned(),
        why: format!("its {len} bytes are more than 4 GiB"),
    })
}

#[cfg(test)]
mod tests {
    use alidade_entity::Cancel;

    use super::*;
    use crate::pack_header::LENGTH_LEN;

    #[test]
    fn a_pack_says_at_its_end_what_it_holds() {
        let key = MasterKey::from_bytes(&[5; 64]).unwrap();
        let cx = Cx::system(Cancel::default());
        let mut pack = OpenPack::default();
        assert!(pack.is_empty());
        for n in 0..10u8 {
            let bytes = key.seal(&cx, &vec![n; usize::from(n) * 100]).unwrap();
            let plain_len = (n % 2 == 0).then_some(u32::from(n) + 1);
            let (kind, id) = (BlobKind::Data, BlobId([n; 32]));
            pack.push(Sealed { kind, id, bytes: &bytes, plain_len }).unwrap();
        }
        assert!(pack.is_full(4000) && !pack.is_full(1 << 20));
        let name = pack.finish(&cx, &key).unwrap();
        assert_eq!(name, FileId::of(pack.bytes()));
        let (rest, field) = pack.bytes().split_last_chunk::<LENGTH_LEN>().unwrap();
        let len = pack_header::sealed_len(*field, pack.bytes().len() as u64).unwrap();
        let header = key.open(&rest[rest.len() - len..]).unwrap();
        assert_eq!(pack_header::decode(&header).unwrap(), pack.blobs());
        let last = pack.blobs().last().unwrap();
        assert_eq!((last.offset + last.len) as usize + len + LENGTH_LEN, pack.bytes().len());
    }
}
