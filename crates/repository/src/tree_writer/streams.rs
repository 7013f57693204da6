//! What passes between the scratch file and packs.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use crate::FileId;
use crate::crypto::Opener;

/// What is decrypted of the scratch file.
pub(super) struct Deciphered<R> {
    pub(super) inner: R,
    pub(super) opener: Opener,
}

impl<R: Read> Read for Deciphered<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buf)?;
        self.opener.update(&mut buf[..got]);
        Ok(got)
    }
}

/// Hashes what goes on to `inner`.
pub(super) struct Hashing<'a, W> {
    pub(super) inner: &'a mut W,
    pub(super) hash: Sha256,
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Hashes what is written to it.
pub(super) struct HashSink<'a>(pub(super) &'a mut Sha256);

impl Write for HashSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Fails at its end, before its last bytes are given, when it is not what `name` says.
pub(super) struct SameAs<R> {
    pub(super) inner: R,
    pub(super) hash: Sha256,
    pub(super) rest: u64,
    pub(super) name: FileId,
}

impl<R: Read> Read for SameAs<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buf)?;
        self.hash.update(&buf[..got]);
        self.rest = self.rest.saturating_sub(got as u64);
        if got > 0 && self.rest == 0 && FileId(self.hash.clone().finalize().into()) != self.name {
            let why = "the scratch file gave other bytes the second time";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(got)
    }
}
