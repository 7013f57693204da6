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
        let mut words = Vec::with_capacity(256);
        Self::describe(entry, &mut words);
        self.described(&words);
    }

    /// Appends to `out` what [`Self::enter`] adds for an entry, to be added later.
    pub fn describe(entry: &Entry, out: &mut Vec<u8>) {
        let meta = &entry.metadata;
        field(out, b"+");
        field(out, &entry.name);
        field(out, meta.kind.word().as_bytes());
        number(out, u64::from(meta.mode));
        number(out, u64::from(meta.uid));
        number(out, u64::from(meta.gid));
        time(out, meta.mtime);
        match meta.kind {
            Kind::File => number(out, meta.size),
            Kind::Symlink => field(out, &meta.link_target),
            Kind::BlockDevice | Kind::CharDevice => number(out, meta.rdev),
            Kind::Directory | Kind::Fifo | Kind::Socket => {}
        }
        number(out, meta.xattrs.len() as u64);
        for xattr in &meta.xattrs {
            field(out, &xattr.name);
            field(out, &xattr.value);
        }
    }

    /// Appends to `out` what [`Self::blobs`] adds.
    pub fn describe_blobs(count: u64, out: &mut Vec<u8>) {
        number(out, count);
    }

    /// Adds what was described.
    pub fn described(&mut self, words: &[u8]) {
        self.hash.update(words);
    }

    /// Adds the number of blobs of the file just entered; [`Self::blob`] follows for each.
    pub fn blobs(&mut self, count: u64) {
        let mut words = Vec::new();
        number(&mut words, count);
        self.hash.update(&words);
    }

    /// Adds one blob id of the file just entered.
    pub fn blob(&mut self, id: &[u8; 32]) {
        self.hash.update(id);
    }

    /// Closes the directory entered last that is still open.
    pub fn leave(&mut self) {
        let mut words = Vec::new();
        field(&mut words, b"-");
        self.hash.update(&words);
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.hash.finalize().into())
    }
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    field(out, decimal(number, &mut digits));
}

fn time(out: &mut Vec<u8>, time: Time) {
    let (mut seconds, mut nanos) = ([0; 20], [b'0'; 9]);
    let seconds = decimal(time.seconds.unsigned_abs(), &mut seconds);
    let minus: &[u8] = if time.seconds < 0 { b"-" } else { b"" };
    let mut digits = [0; 20];
    let fraction = decimal(u64::from(time.nanos), &mut digits);
    let fraction = match nanos.len().checked_sub(fraction.len()) {
        Some(zeros) => {
            nanos[zeros..].copy_from_slice(fraction);
            &nanos[..]
        }
        None => fraction,
    };
    let len = minus.len() + seconds.len() + 1 + fraction.len();
    out.extend_from_slice(&(len as u64).to_le_bytes());
    for part in [minus, seconds, b".", fraction] {
        out.extend_from_slice(part);
    }
}

/// The digits of a number, at the end of `digits`.
fn decimal(number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &digits[at..];
        }
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
    fn numbers_and_times_are_described_as_they_are_printed() {
        let text = |what: String| {
            let mut words = (what.len() as u64).to_le_bytes().to_vec();
            words.extend_from_slice(what.as_bytes());
            words
        };
        for at in [0, 1, 9, 10, 1_795_264_587, u64::MAX] {
            let mut words = Vec::new();
            number(&mut words, at);
            assert_eq!(words, text(at.to_string()));
        }
        for seconds in [0, -1, 7, i64::MIN, i64::MAX] {
            for nanos in [0, 1, 120_000_000, 999_999_999, 1_000_000_000, u32::MAX] {
                let (mut words, at) = (Vec::new(), Time::new(seconds, nanos));
                time(&mut words, at);
                assert_eq!(words, text(at.to_string()));
            }
        }
    }

    #[test]
    fn a_digest_reads_back_from_its_text() {
        let digest = digest_of(|_| {});
        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(Digest::from_hex("x"), None);
    }
}
