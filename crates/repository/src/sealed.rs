//! Blobs read as a stream: however large one is, it takes a few hundred KiB to open it.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::crypto::{IV_LEN, MAC_LEN, Mac, MasterKey, OVERHEAD, Opener};
use crate::envelope::decompressor;
use crate::{BlobId, FileId, FileKind, Store};

/// Bytes asked of the store at once.
const RANGE: u64 = 1 << 20;

/// A part of a pack, read in order.
pub(crate) struct PackRange {
    store: Arc<dyn Store>,
    pack: String,
    at: u64,
    end: u64,
    held: Vec<u8>,
    given: usize,
}

impl PackRange {
    /// The `len` bytes of a pack from `at` on.
    pub(crate) fn new(store: Arc<dyn Store>, pack: FileId, at: u64, len: u64) -> Self {
        let end = at.saturating_add(len);
        Self { store, pack: pack.to_string(), at, end, held: Vec::new(), given: 0 }
    }
}

impl Read for PackRange {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.given == self.held.len() {
            let len = (self.end - self.at).min(RANGE);
            self.held.resize(usize::try_from(len).map_err(io::Error::other)?, 0);
            self.given = 0;
            self.store
                .read_at(FileKind::Pack, &self.pack, self.at, &mut self.held)
                .map_err(io::Error::other)?;
            self.at += len;
        }
        let len = buf.len().min(self.held.len() - self.given);
        buf[..len].copy_from_slice(&self.held[self.given..][..len]);
        self.given += len;
        Ok(len)
    }
}

/// What is in an envelope that `inner` reads. The MAC is checked at the end: until then nothing that
/// was read may be believed.
struct Opening<R> {
    inner: R,
    opener: Opener,
    /// `None` once it is checked.
    mac: Option<Mac>,
    /// Bytes of ciphertext to come.
    rest: u64,
}

impl<R: Read> Opening<R> {
    fn new(key: &MasterKey, mut inner: R, sealed_len: u64) -> io::Result<Self> {
        let rest = sealed_len.checked_sub(OVERHEAD as u64);
        let rest = rest.ok_or_else(|| invalid("it is shorter than an empty envelope"))?;
        let mut iv = [0; IV_LEN];
        inner.read_exact(&mut iv)?;
        let mac = key.verifier(&iv).map_err(|error| invalid(error.to_string()))?;
        let opener = key.opener(&iv).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { inner, opener, mac: Some(mac), rest })
    }

    fn check(&mut self) -> io::Result<()> {
        let Some(mac) = self.mac.take() else { return Ok(()) };
        let mut tag = [0; MAC_LEN];
        self.inner.read_exact(&mut tag)?;
        mac.verify(&tag).map_err(|error| invalid(error.to_string()))
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.rest == 0 {
            self.check()?;
            return Ok(0);
        }
        let want = usize::try_from(self.rest).unwrap_or(usize::MAX).min(buf.len());
        let got = self.inner.read(&mut buf[..want])?;
        if got == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(mac) = &mut self.mac {
            mac.update(&buf[..got]);
        }
        self.opener.update(&mut buf[..got]);
        self.rest -= got as u64;
        Ok(got)
    }
}

enum Unpacking<R: Read> {
    Stored(Box<Opening<R>>),
    Compressed(Box<zstd::Decoder<'static, BufReader<Opening<R>>>>),
}

/// How a blob should turn out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Its id.
    pub(crate) id: BlobId,
    /// Its bytes with the envelope.
    pub(crate) sealed_len: u64,
    /// Its bytes before compression; `None` when it is stored as it is.
    pub(crate) plain_len: Option<u64>,
}

/// The plain content of a sealed blob, as a stream.
///
/// It ends well only when the MAC, the length and the hash are right; until it has ended, nothing
/// that was read may be believed. Reading it once to its end first is how to be sure.
pub(crate) struct PlainReader<R: Read> {
    from: Unpacking<R>,
    expected: Expected,
    hash: Sha256,
    read: u64,
}

impl<R: Read> PlainReader<R> {
    /// What the blob is that `inner` reads.
    pub(crate) fn new(key: &MasterKey, inner: R, expected: Expected) -> io::Result<Self> {
        let opening = Opening::new(key, inner, expected.sealed_len)?;
        let from = match expected.plain_len {
            None => Unpacking::Stored(Box::new(opening)),
            Some(_) => Unpacking::Compressed(Box::new(decompressor(BufReader::with_capacity(
                64 << 10,
                opening,
            ))?)),
        };
        Ok(Self { from, expected, hash: Sha256::new(), read: 0 })
    }

    /// Reads to the end and keeps nothing: fails when the blob is not what it should be.
    pub(crate) fn verify(mut self) -> io::Result<()> {
        let mut piece = vec![0; 64 << 10];
        while self.read(&mut piece)? > 0 {}
        Ok(())
    }

    fn check(&mut self) -> io::Result<()> {
        if let Unpacking::Compressed(decoder) = &mut self.from {
            decoder.get_mut().get_mut().check()?;
        }
        if self.expected.plain_len.is_some_and(|len| len != self.read) {
            return Err(invalid("it holds fewer bytes than the index says"));
        }
        if BlobId(self.hash.clone().finalize().into()) != self.expected.id {
            return Err(invalid("its content has another hash"));
        }
        Ok(())
    }
}

impl<R: Read> Read for PlainReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let got = match &mut self.from {
            Unpacking::Stored(opening) => opening.read(buf)?,
            Unpacking::Compressed(decoder) => decoder.read(buf)?,
        };
        if got == 0 {
            self.check()?;
            return Ok(0);
        }
        self.hash.update(&buf[..got]);
        self.read += got as u64;
        if self.expected.plain_len.is_some_and(|len| len < self.read) {
            return Err(invalid("it holds more bytes than the index says"));
        }
        Ok(got)
    }
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

#[cfg(test)]
mod tests {
    use alidade_entity::{Cancel, Cx};

    use super::*;

    fn key() -> MasterKey {
        MasterKey::from_bytes(&[3; 64]).unwrap()
    }

    fn sealed(payload: &[u8]) -> Vec<u8> {
        key().seal(&Cx::system(Cancel::default()), payload).unwrap()
    }

    fn plain() -> Vec<u8> {
        (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
    }

    fn read(sealed: &[u8], expected: Expected) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        PlainReader::new(&key(), sealed, expected)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn a_blob_of_several_frames_and_one_stored_as_it_is_read_back() {
        let plain = plain();
        let mut frames = Vec::new();
        for part in plain.chunks(100_000) {
            frames.extend(zstd::bulk::compress(part, 3).unwrap());
        }
        for (payload, plain_len) in [(&frames, Some(plain.len() as u64)), (&plain, None)] {
            let sealed = sealed(payload);
            let sealed_len = sealed.len() as u64;
            let expected = Expected { id: BlobId::of(&plain), sealed_len, plain_len };
            assert_eq!(read(&sealed, expected).unwrap(), plain);
        }
    }

    #[test]
    fn a_changed_byte_a_wrong_length_and_a_wrong_hash_are_noticed_before_the_end() {
        let plain = plain();
        for compressed in [true, false] {
            let payload = zstd::bulk::compress(&plain, 3).unwrap();
            let good = sealed(if compressed { &payload } else { &plain });
            let plain_len = compressed.then_some(plain.len() as u64);
            let expected =
                Expected { id: BlobId::of(&plain), sealed_len: good.len() as u64, plain_len };
            assert!(read(&good, expected).is_ok());
            for at in [0, 15, 16, 17, good.len() / 2, good.len() - 17, good.len() - 1] {
                let mut bad = good.clone();
                bad[at] ^= 1;
                assert!(read(&bad, expected).is_err(), "byte {at}");
            }
            assert!(read(&good[..good.len() - 1], expected).is_err());
            assert!(read(&good, Expected { id: BlobId([0; 32]), ..expected }).is_err());
            let shorter = Expected { sealed_len: expected.sealed_len - 1, ..expected };
            assert!(read(&good, shorter).is_err());
            if let Some(len) = plain_len {
                for wrong in [0, len - 1, len + 1] {
                    assert!(read(&good, Expected { plain_len: Some(wrong), ..expected }).is_err());
                }
            }
        }
    }
}
