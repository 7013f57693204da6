use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::{Entry, Kind, Time};

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Reads 64 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The content digest of a tree: SHA-256 over its canonical entries in visit order.
///
/// Two trees have the same digest when they have the same names, kinds, modes, owners, modification
/// times, sizes, link targets, device numbers, extended attributes and content blobs. Access and
/// change times, inode numbers and link counts belong to a place, not to a content, and are left out.
///
/// Every entry adds, each field as an eight-byte little-endian length and its bytes: the word `+`,
/// its name, kind, mode, owner and group (decimal), modification time (`seconds.nanoseconds`), size
/// (of a file), link target, device number (of a device); then the number of extended attributes
/// and each name and value; then, for a file, the number of blobs and each blob's 32-byte id. A
/// directory adds a `-` after its last entry. Names are visited in ascending byte order, a
/// directory before what is in it.
#[derive(Clone, Debug)]
pub struct ContentDigest {
    hash: Sha256,
}

impl Default for ContentDigest {
    fn default() -> Self {
        Self::new()
    }
}

impl ContentDigest {
    /// The digest of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { hash: Sha256::new() }
    }

    /// Adds an entry: a directory before its entries, anything else once.
    pub fn enter(&mut self, entry: &Entry) {
        let meta = &entry.metadata;
        self.field(b"+");
        self.field(&entry.name);
        self.field(meta.kind.word().as_bytes());
        self.number(u64::from(meta.mode));
        self.number(u64::from(meta.uid));
        self.number(u64::from(meta.gid));
        self.time(meta.mtime);
        match meta.kind {
            Kind::File => self.number(meta.size),
            Kind::Symlink => self.field(&meta.link_target),
            Kind::BlockDevice | Kind::CharDevice => self.number(meta.rdev),
            Kind::Directory | Kind::Fifo | Kind::Socket => {}
        }
        self.number(meta.xattrs.len() as u64);
        for xattr in &meta.xattrs {
            self.field(&xattr.name);
            self.field(&xattr.value);
        }
    }

    /// Adds the number of blobs of the file just entered; [`Self::blob`] follows for each.
    pub fn blobs(&mut self, count: u64) {
        self.number(count);
    }

    /// Adds one blob id of the file just entered.
    pub fn blob(&mut self, id: &[u8; 32]) {
        self.hash.update(id);
    }

    /// Closes the directory entered last that is still open.
    pub fn leave(&mut self) {
        self.field(b"-");
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.hash.finalize().into())
    }

    fn field(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_le_bytes());
        self.hash.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.field(number.to_string().as_bytes());
    }

    fn time(&mut self, time: Time) {
        self.field(time.to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Metadata, Version, Xattr};

    fn digest_of(change: impl Fn(&mut Entry)) -> Digest {
        let mut entry = Entry {
            name: b"a".to_vec(),
            metadata: Metadata::of(Kind::File, 0o644),
            version: Version::Unknown,
        };
        change(&mut entry);
        let mut digest = ContentDigest::new();
        digest.enter(&entry);
        digest.blobs(0);
        digest.finish()
    }

    #[test]
    fn every_field_of_an_entry_changes_the_digest() {
        let plain = digest_of(|_| {});
        let xattr = Xattr { name: b"user.a".to_vec(), value: b"1".to_vec() };
        let changes: [&dyn Fn(&mut Entry); 9] = [
            &|e| e.name = b"b".to_vec(),
            &|e| e.metadata.kind = Kind::Fifo,
            &|e| e.metadata.mode = 0o600,
            &|e| e.metadata.uid = 1,
            &|e| e.metadata.gid = 1,
            &|e| e.metadata.mtime.nanos = 1,
            &|e| e.metadata.mtime.seconds = 1,
            &|e| e.metadata.size = 1,
            &|e| e.metadata.xattrs.push(xattr.clone()),
        ];
        for change in changes {
            assert_ne!(digest_of(change), plain);
        }
        assert_eq!(digest_of(|e| e.metadata.atime.seconds = 1), plain);
        assert_eq!(digest_of(|e| e.metadata.inode = 1), plain);
    }

    #[test]
    fn a_digest_reads_back_from_its_text() {
        let digest = digest_of(|_| {});
        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(Digest::from_hex("x"), None);
    }
}
