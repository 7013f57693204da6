//! SHA-256 of one message, of many at once, and of streams that grow.
//!
//! One message cannot be hashed faster than its chain of rounds allows. Many can: their chains do
//! not depend on each other, so they fill the processor together.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod lanes;
mod portable;
mod queue;
#[cfg(target_arch = "x86_64")]
mod shani;
mod work;

use crate::Level;
pub use queue::Queue;
use work::Work;

/// Bytes the compression function takes at a time.
const BLOCK: usize = 64;

/// The state before the first block.
const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The constants of the 64 rounds.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ROUNDS: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// The SHA-256 of `message`.
#[must_use]
pub fn sha256(message: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(message);
    hash.finish()
}

/// The SHA-256 of each message, in order, all of them hashed together.
///
/// Lengths may differ as they like; the more bytes there are in messages of some length, the
/// faster. Allocates a few bytes for each message, once.
///
/// # Panics
/// When there are not as many `digests` as messages.
pub fn sha256_many(messages: &[&[u8]], digests: &mut [[u8; 32]]) {
    sha256_many_at(Level::detect(), messages, digests);
}

/// As [`sha256_many`], with the instructions of `level`.
///
/// # Panics
/// When there are not as many `digests` as messages.
pub fn sha256_many_at(level: Level, messages: &[&[u8]], digests: &mut [[u8; 32]]) {
    Work::new(messages, digests, &mut []).run(level);
}

/// As [`sha256_many`], and in the same pass every stream takes the bytes beside it.
///
/// A stream alone is as slow as one message; beside others it costs little more than nothing.
///
/// # Panics
/// When there are not as many `digests` as messages.
pub fn hash_together(
    messages: &[&[u8]],
    digests: &mut [[u8; 32]],
    streams: &mut [(&mut Sha256, &[u8])],
) {
    let level = streams.first().map_or_else(Level::detect, |(stream, _)| stream.level);
    Work::new(messages, digests, streams).run(level);
}

/// The SHA-256 of bytes that come one after another.
#[derive(Clone)]
pub struct Sha256 {
    level: Level,
    state: [u32; 8],
    /// Bytes that do not fill a block yet; their number is the length modulo the block.
    rest: [u8; BLOCK],
    /// Bytes seen.
    length: u64,
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sha256").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Sha256 {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::at(Level::detect())
    }

    /// Of nothing yet, with the instructions of `level`.
    #[must_use]
    pub const fn at(level: Level) -> Self {
        Self { level, state: START, rest: [0; BLOCK], length: 0 }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let whole = self.begin(bytes);
        lanes::compress_one(self.level, &mut self.state, whole);
    }

    /// Every stream takes the bytes beside it, all of them together.
    pub fn update_many(streams: &mut [(&mut Self, &[u8])]) {
        hash_together(&[], &mut [], streams);
    }

    /// The hash of all that was taken.
    #[must_use]
    pub fn finish(mut self) -> [u8; 32] {
        let tail = Tail::new(&self.rest[..self.held()], self.length);
        lanes::compress_one(self.level, &mut self.state, tail.blocks());
        bytes_of(&self.state)
    }

    /// Bytes in `rest`.
    fn held(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }

    /// Takes `bytes` as far as they begin or end within a block, and gives the whole blocks between
    /// for somebody else to compress.
    fn begin<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        let held = self.held();
        self.length += bytes.len() as u64;
        if held > 0 {
            let (fill, others) = bytes.split_at(bytes.len().min(BLOCK - held));
            self.rest[held..held + fill.len()].copy_from_slice(fill);
            if held + fill.len() < BLOCK {
                return &[];
            }
            lanes::compress_one(self.level, &mut self.state, &self.rest);
            bytes = others;
        }
        let (whole, rest) = bytes.split_at(bytes.len() / BLOCK * BLOCK);
        self.rest[..rest.len()].copy_from_slice(rest);
        whole
    }
}

/// The last one or two blocks of a message: its end, a set bit, zeros, and its length in bits.
#[derive(Clone)]
struct Tail {
    bytes: [u8; 2 * BLOCK],
    len: usize,
}

impl Tail {
    /// After the last bytes of a message of `length` bytes: those that do not fill a block.
    fn new(rest: &[u8], length: u64) -> Self {
        let mut bytes = [0; 2 * BLOCK];
        bytes[..rest.len()].copy_from_slice(rest);
        bytes[rest.len()] = 0x80;
        let len = if rest.len() < BLOCK - 8 { BLOCK } else { 2 * BLOCK };
        bytes[len - 8..len].copy_from_slice(&(length * 8).to_be_bytes());
        Self { bytes, len }
    }

    /// Of a stream that goes on.
    const fn none() -> Self {
        Self { bytes: [0; 2 * BLOCK], len: 0 }
    }

    fn blocks(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn bytes_of(state: &[u32; 8]) -> [u8; 32] {
    let mut digest = [0; 32];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}
