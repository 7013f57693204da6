//! A hash of a file's content that does not depend on which zeros are stored and which are holes.
//!
//! It tells a file that was written from one that reads otherwise, by chance and not by anybody's will: nobody but
//! this process ever sees it. What was restored came with a SHA-256 that was compared before it was written.

use std::os::fd::OwnedFd;

use alidade_entity::Cx;
use alidade_kernels::is_zero;
use rustix::io::{pread, retry_on_intr};
use twox_hash::xxhash3_128::Hasher;

use super::file::{Range, Ranges};
use super::metadata::look;
use super::walk::Stop;

/// Content is hashed in blocks of this size; blocks of zeros are left out.
const BLOCK: usize = 4096;

/// Bytes per read.
const PIECE: usize = 1024 * 1024;

/// XXH3 of 128 bits over each block that is not all zeros, after its offset, and over the length at the end.
pub(crate) struct ContentHash {
    hash: Hasher,
    at: u64,
    /// The beginning of a block that is not whole yet.
    block: Vec<u8>,
}

impl ContentHash {
    /// The hash of nothing yet.
    pub(crate) fn new() -> Self {
        Self { hash: Hasher::new(), at: 0, block: Vec::with_capacity(BLOCK) }
    }

    /// Adds bytes.
    pub(crate) fn data(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.block.is_empty() && data.len() >= BLOCK {
                let (block, rest) = data.split_at(BLOCK);
                self.whole(block);
                data = rest;
                continue;
            }
            let (part, rest) = data.split_at(data.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(part);
            self.close_if_whole();
            data = rest;
        }
    }

    /// Adds zeros, however many there are.
    pub(crate) fn zeros(&mut self, mut len: u64) {
        if !self.block.is_empty() {
            len -= self.pad(len);
        }
        let blocks = len - len % BLOCK as u64;
        self.at += blocks;
        self.pad(len - blocks);
    }

    /// Adds zeros to the block that is not whole, at most as many as it takes; says how many.
    fn pad(&mut self, len: u64) -> u64 {
        let room = BLOCK - self.block.len();
        let part = usize::try_from(len).map_or(room, |len| len.min(room));
        self.block.resize(self.block.len() + part, 0);
        self.close_if_whole();
        part as u64
    }

    fn close_if_whole(&mut self) {
        if self.block.len() == BLOCK {
            let block = std::mem::take(&mut self.block);
            self.whole(&block);
            self.block = block;
            self.block.clear();
        }
    }

    fn whole(&mut self, block: &[u8]) {
        if !is_zero(block) {
            self.hash.write(&self.at.to_le_bytes());
            self.hash.write(block);
        }
        self.at += block.len() as u64;
    }

    /// The hash of all that was added.
    pub(crate) fn finish(mut self) -> u128 {
        let block = std::mem::take(&mut self.block);
        self.whole(&block);
        self.hash.write(&self.at.to_le_bytes());
        self.hash.finish_128()
    }
}

/// Reads a file to its end and hashes it.
pub(crate) fn hash_of(cx: &Cx, fd: &OwnedFd) -> Result<u128, Stop> {
    let stat = look(fd)?;
    let mut ranges = Ranges::new(&stat);
    let mut hash = ContentHash::new();
    let len = usize::try_from(stat.stx_size).map_or(PIECE, |size| size.min(PIECE));
    let mut buf = vec![0; len];
    let mut at = 0;
    while at < stat.stx_size {
        cx.check()?;
        match ranges.at(fd, at)? {
            Range::Hole { end } => {
                hash.zeros(end - at);
                at = end;
            }
            Range::Data { end } => {
                let wanted = usize::try_from(end - at).map_or(buf.len(), |len| len.min(buf.len()));
                let read = retry_on_intr(|| pread(fd, &mut buf[..wanted], at))?;
                if read == 0 {
                    break;
                }
                hash.data(&buf[..read]);
                at += read as u64;
            }
        }
    }
    Ok(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::ContentHash;
    use proptest::prelude::*;

    fn dense(content: &[u8]) -> u128 {
        let mut hash = ContentHash::new();
        hash.data(content);
        hash.finish()
    }

    proptest! {
        #[test]
        fn zeros_hash_the_same_as_data_and_as_holes(
            parts in prop::collection::vec((any::<bool>(), 0_usize..10_000), 0..8),
        ) {
            let (mut hash, mut content) = (ContentHash::new(), Vec::new());
            for (is_hole, len) in parts {
                if is_hole {
                    hash.zeros(len as u64);
                    content.resize(content.len() + len, 0);
                } else {
                    let data: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect();
                    hash.data(&data);
                    content.extend_from_slice(&data);
                }
            }
            prop_assert_eq!(hash.finish(), dense(&content));
        }
    }

    #[test]
    fn length_place_and_bytes_change_the_hash() {
        let plain = dense(&[1; 5000]);
        assert_ne!(dense(&[1; 5001]), plain);
        let mut moved = vec![0; 4096];
        moved.extend_from_slice(&[1; 904]);
        assert_ne!(dense(&moved), plain);
        assert_ne!(dense(&[0; 4096]), dense(&[0; 8192]));
        let mut hash = ContentHash::new();
        hash.zeros(u64::MAX / 2);
        let long = hash.finish();
        assert_ne!(long, plain);
    }
}
