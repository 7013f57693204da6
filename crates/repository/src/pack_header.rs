//! The header at the end of a pack: what blobs it holds. Written here, sealed by the packer; the
//! last four bytes of a pack are the length of the sealed header.

use crate::decode::{DecodeError, Decoded};
use crate::{BlobId, BlobKind, crypto};

/// Bytes of the length field that ends a pack.
pub const LENGTH_LEN: usize = 4;
/// Longest sealed header; every restic refuses longer ones.
pub const MAX_SEALED_LEN: usize = 16 << 20;
/// How many blobs a pack may hold so that its header is never too long, whatever they are.
pub const MAX_ENTRIES: usize = (MAX_SEALED_LEN - crypto::OVERHEAD) / COMPRESSED_LEN;

const STORED_LEN: usize = 1 + 4 + 32;
const COMPRESSED_LEN: usize = STORED_LEN + 4;

/// One blob of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderEntry {
    /// What it holds.
    pub kind: BlobKind,
    /// Its id.
    pub id: BlobId,
    /// Where its envelope begins in the pack.
    pub offset: u32,
    /// Length of its envelope.
    pub len: u32,
    /// Length of its content when it is compressed; `None` when it is stored as it is. Never zero:
    /// the format cannot say it, and an empty blob is stored as it is.
    pub plain_len: Option<u32>,
}

impl HeaderEntry {
    /// Bytes this entry takes in the header.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        if self.plain_len.is_some() { COMPRESSED_LEN } else { STORED_LEN }
    }

    /// Length of the content, compressed or not; `None` when the envelope is too short for any.
    #[must_use]
    pub fn content_len(&self) -> Option<u32> {
        match self.plain_len {
            Some(len) => Some(len),
            None => self.len.checked_sub(crypto::OVERHEAD as u32),
        }
    }
}

/// Length of everything after the blobs in a pack, as the header of these entries needs it: the
/// sealed header and the length field.
pub fn trailer_len<'a>(entries: impl IntoIterator<Item = &'a HeaderEntry>) -> u64 {
    let entries: u64 = entries.into_iter().map(|entry| entry.encoded_len() as u64).sum();
    entries + (crypto::OVERHEAD + LENGTH_LEN) as u64
}

/// The plain header of these entries, which lie without gaps from offset 0 on in this order.
#[must_use]
pub fn encode(entries: &[HeaderEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * COMPRESSED_LEN);
    for entry in entries {
        let kind = match entry.kind {
            BlobKind::Data => 0,
            BlobKind::Tree => 1,
        };
        out.push(if entry.plain_len.is_some() { kind | 2 } else { kind });
        out.extend_from_slice(&entry.len.to_le_bytes());
        if let Some(plain_len) = entry.plain_len {
            out.extend_from_slice(&plain_len.to_le_bytes());
        }
        out.extend_from_slice(&entry.id.0);
    }
    out
}

/// Reads the length field, the last four bytes of a pack of `pack_len` bytes: how long the sealed
/// header before it is.
///
/// # Errors
/// When no header of that length can be there.
pub fn sealed_len(field: [u8; LENGTH_LEN], pack_len: u64) -> Decoded<usize> {
    let len = u32::from_le_bytes(field) as usize;
    let room = pack_len.saturating_sub(LENGTH_LEN as u64);
    if len <= crypto::OVERHEAD {
        return Err(DecodeError::malformed("its header is empty"));
    }
    if len > MAX_SEALED_LEN || len as u64 > room {
        return Err(DecodeError::malformed("its header is longer than a header can be"));
    }
    Ok(len)
}

/// Reads a plain header.
///
/// # Errors
/// When it is malformed, an envelope is shorter than an envelope can be, or the blobs would not
/// fit a pack of less than 4 GiB.
pub fn decode(mut plain: &[u8]) -> Decoded<Vec<HeaderEntry>> {
    if plain.len() > MAX_SEALED_LEN {
        return Err(DecodeError::malformed("its header is longer than a header can be"));
    }
    let mut entries = Vec::with_capacity(plain.len() / STORED_LEN);
    let mut offset = 0_u32;
    while !plain.is_empty() {
        let (entry, rest) = entry(plain, offset)?;
        offset = offset
            .checked_add(entry.len)
            .ok_or_else(|| DecodeError::malformed("its header describes 4 GiB or more"))?;
        entries.push(entry);
        plain = rest;
    }
    Ok(entries)
}

fn entry(plain: &[u8], offset: u32) -> Decoded<(HeaderEntry, &[u8])> {
    let short = || DecodeError::malformed("its header ends within an entry");
    let (&[tag], rest) = plain.split_first_chunk().ok_or_else(short)?;
    let kind = match tag {
        0 | 2 => BlobKind::Data,
        1 | 3 => BlobKind::Tree,
        other => {
            return Err(DecodeError::malformed(format!("its header has an entry of type {other}")));
        }
    };
    let (len, mut rest) = rest.split_first_chunk().ok_or_else(short)?;
    let len = u32::from_le_bytes(*len);
    if (len as usize) < crypto::OVERHEAD {
        return Err(DecodeError::malformed("its header has a blob shorter than an envelope"));
    }
    let mut plain_len = None;
    if tag & 2 != 0 {
        let (field, after) = rest.split_first_chunk().ok_or_else(short)?;
        rest = after;
        // As restic reads it: a plain length of zero means that the blob is not compressed.
        plain_len = Some(u32::from_le_bytes(*field)).filter(|len| *len != 0);
    }
    let (id, rest) = rest.split_first_chunk().ok_or_else(short)?;
    Ok((HeaderEntry { kind, id: BlobId(*id), offset, len, plain_len }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<HeaderEntry> {
        let entry = |kind, n: u8, offset, len, plain_len| HeaderEntry {
            kind,
            id: BlobId([n; 32]),
            offset,
            len,
            plain_len,
        };
        vec![
            entry(BlobKind::Data, 1, 0, 32, None),
            entry(BlobKind::Data, 2, 32, 100, Some(1 << 20)),
            entry(BlobKind::Tree, 3, 132, 50, None),
            entry(BlobKind::Tree, 4, 182, 60, Some(1)),
        ]
    }

    #[test]
    fn a_header_reads_back_and_has_the_length_computed_for_it() {
        let plain = encode(&entries());
        assert_eq!(decode(&plain).unwrap(), entries());
        assert_eq!(plain.len(), 2 * 37 + 2 * 41);
        assert_eq!(trailer_len(&entries()), plain.len() as u64 + 36);
        assert_eq!(plain.iter().step_by(1).next(), Some(&0));
        assert_eq!(plain[37], 2);
    }

    #[test]
    fn a_header_that_ends_anywhere_within_an_entry_is_refused() {
        let plain = encode(&entries());
        let ends: Vec<_> = (0..=plain.len()).filter(|end| decode(&plain[..*end]).is_ok()).collect();
        assert_eq!(ends, [0, 37, 78, 115, 156]);
    }

    #[test]
    fn impossible_entries_are_refused() {
        let mut bad_type = encode(&entries());
        bad_type[0] = 4;
        let mut short = encode(&entries());
        short[1] = 31;
        let mut huge = encode(&entries());
        huge[1..5].fill(0xff);
        for bad in [bad_type, short, huge, vec![0; MAX_SEALED_LEN + 1]] {
            assert!(decode(&bad).is_err());
        }
    }

    #[test]
    fn a_plain_length_of_zero_means_not_compressed() {
        let mut plain = encode(&entries()[1..2]);
        plain[5..9].fill(0);
        let read = decode(&plain).unwrap();
        assert_eq!((read[0].plain_len, read[0].content_len()), (None, Some(68)));
    }

    #[test]
    fn the_length_of_a_header_is_checked_before_it_is_read() {
        let cases = [(0, 100), (32, 100), (97, 100), (u32::MAX, u64::MAX), (16 << 20 | 1, 1 << 30)];
        for (len, pack) in cases {
            assert!(sealed_len(u32::to_le_bytes(len), pack).is_err(), "{len} in {pack}");
        }
        assert_eq!(sealed_len(69_u32.to_le_bytes(), 73).unwrap(), 69);
        const { assert!(MAX_ENTRIES > 400_000) }
    }
}
