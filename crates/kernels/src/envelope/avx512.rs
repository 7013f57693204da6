//! AES on four blocks of a register, and Poly1305 on eight, with 52-bit multipliers.

mod cipher;
mod poly;

use zeroize::ZeroizeOnDrop;

use crate::Level;
use crate::level::Set;

use super::mac::{Mac, Poly};
use super::poly44::{self, Limbs};
use super::{BLOCK, Cipher, Iv, Key, Tag};
use cipher::{Counter, RoundKeys};
use poly::{Absorbing, Four, GROUP, Lanes, Powers};

/// Bytes that go through both loops at a time: 32 blocks.
pub(super) const CHUNK: usize = 512;

/// What follows from a key, at a level that has the instructions: the proof that it has is that a
/// value exists.
#[derive(ZeroizeOnDrop)]
pub(super) struct Wide {
    round_keys: RoundKeys,
    powers: Powers,
}

impl Wide {
    pub(super) fn new(level: Level, encrypt: &[u8; 32], r: &[u8; BLOCK]) -> Option<Self> {
        if level.set() < Set::Avx512 {
            return None;
        }
        // SAFETY: the level has the instructions.
        let round_keys = unsafe { cipher::expanded(encrypt) };
        Some(Self { round_keys, powers: Powers::of(poly44::clamped(r)) })
    }
}

fn wide(key: &Key) -> &Wide {
    key.0.wide.as_ref().expect("a stream or a sum is begun only with such a key")
}

/// The key stream.
pub(super) struct Stream {
    key: Key,
    counter: Counter,
    /// The begun block of the key stream, and how many of its bytes are used.
    begun: [u8; BLOCK],
    used: usize,
}

impl Stream {
    pub(super) fn new(key: Key, iv: &Iv) -> Self {
        Self { key, counter: Counter::new(iv), begun: [0; BLOCK], used: BLOCK }
    }

    pub(super) fn apply(&mut self, mut bytes: &mut [u8]) {
        let left = (BLOCK - self.used).min(bytes.len());
        let (first, rest) = bytes.split_at_mut(left);
        for (byte, key) in first.iter_mut().zip(&self.begun[self.used..]) {
            *byte ^= key;
        }
        self.used += left;
        bytes = rest;
        let whole = bytes.len() / BLOCK * BLOCK;
        let (blocks, rest) = bytes.split_at_mut(whole);
        let round_keys = &wide(&self.key).round_keys;
        // SAFETY: a `Wide` exists.
        unsafe { cipher::apply(round_keys, &mut self.counter, blocks) };
        if !rest.is_empty() {
            self.begun = [0; BLOCK];
            // SAFETY: a `Wide` exists.
            unsafe { cipher::apply(round_keys, &mut self.counter, &mut self.begun) };
            for (byte, key) in rest.iter_mut().zip(&self.begun) {
                *byte ^= key;
            }
            self.used = rest.len();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.begun);
    }
}

/// The Poly1305 of whole blocks.
pub(super) struct Sum {
    key: Key,
    sum: Limbs,
    pad: zeroize::Zeroizing<[u8; BLOCK]>,
}

impl Sum {
    pub(super) fn new(key: Key, pad: &[u8; BLOCK]) -> Self {
        Self { key, sum: [0; 3], pad: zeroize::Zeroizing::new(*pad) }
    }

    pub(super) fn blocks(&mut self, blocks: &[[u8; BLOCK]]) {
        let powers = &wide(&self.key).powers;
        let (groups, rest) = blocks.as_flattened().as_chunks::<GROUP>();
        if !groups.is_empty() {
            // SAFETY: a `Wide` exists.
            self.sum = unsafe { poly::absorb(self.sum, powers, groups) };
        }
        for block in rest.as_chunks().0 {
            self.sum = poly44::absorb(self.sum, block, poly44::ABOVE_BLOCK, powers.r());
        }
    }

    /// With the last bytes, fewer than a block.
    pub(super) fn finish(mut self, rest: &[u8]) -> Tag {
        if !rest.is_empty() {
            let mut block = [0; BLOCK];
            block[..rest.len()].copy_from_slice(rest);
            block[rest.len()] = 1;
            self.sum = poly44::absorb(self.sum, &block, 0, wide(&self.key).powers.r());
        }
        poly44::finished(self.sum, &self.pad)
    }
}

/// A key stream and a sum that are at the beginning of a block.
fn both<'a>(cipher: &'a mut Cipher, mac: &'a mut Mac) -> Option<(&'a mut Stream, &'a mut Sum)> {
    let at_block = mac.to_block() == 0;
    let (Cipher::Wide(stream), Poly::Wide(sum)) = (cipher, &mut mac.poly) else { return None };
    (at_block && stream.used == BLOCK).then_some((stream, sum))
}

/// Enciphers and hashes as many whole chunks as there are; returns how many bytes that were.
pub(super) fn seal(cipher: &mut Cipher, mac: &mut Mac, bytes: &mut [u8]) -> usize {
    let (chunks, _) = bytes.as_chunks_mut();
    let Some((stream, sum)) = both(cipher, mac) else { return 0 };
    // SAFETY: a `Wide` exists.
    sum.sum = unsafe { seal_chunks(wide(&stream.key), &mut stream.counter, sum.sum, chunks) };
    chunks.len() * CHUNK
}

/// Hashes and decrypts as many whole chunks as there are; returns how many bytes that were.
pub(super) fn open(cipher: &mut Cipher, mac: &mut Mac, bytes: &mut [u8]) -> usize {
    let (chunks, _) = bytes.as_chunks_mut();
    let Some((stream, sum)) = both(cipher, mac) else { return 0 };
    // SAFETY: a `Wide` exists.
    sum.sum = unsafe { open_chunks(wide(&stream.key), &mut stream.counter, sum.sum, chunks) };
    chunks.len() * CHUNK
}

/// As [`open`], from one place to another.
pub(super) fn open_to(
    cipher: &mut Cipher,
    mac: &mut Mac,
    sealed: &[u8],
    plain: &mut [u8],
) -> usize {
    let ((from, _), (to, _)) = (sealed.as_chunks(), plain.as_chunks_mut());
    let Some((stream, sum)) = both(cipher, mac) else { return 0 };
    let key = wide(&stream.key);
    // SAFETY: a `Wide` exists.
    sum.sum = unsafe { open_chunks_to(key, &mut stream.counter, sum.sum, (from, to)) };
    from.len() * CHUNK
}

/// The two loops in one: while one chunk is enciphered, the one before it is hashed.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
fn seal_chunks(
    wide: &Wide,
    counter: &mut Counter,
    sum: Limbs,
    chunks: &mut [[u8; CHUNK]],
) -> Limbs {
    let mut lanes = Lanes::begin(sum);
    let Some((mut before, rest)) = chunks.split_first_mut() else { return sum };
    cipher::apply(&wide.round_keys, counter, before);
    let keys = cipher::registers(&wide.round_keys);
    for chunk in rest {
        let mut absorbing = Absorbing::begin(lanes, &wide.powers, groups(before));
        let stream = cipher::chunk_beside::<0>(&keys, counter, &mut absorbing);
        lanes = absorbing.end();
        cipher::add_to_chunk(chunk, &stream);
        before = chunk;
    }
    lanes.absorb_four(&wide.powers, groups(before)).end(&wide.powers)
}

/// While the key stream of a chunk is made, the chunk is hashed.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
fn open_chunks(
    wide: &Wide,
    counter: &mut Counter,
    sum: Limbs,
    chunks: &mut [[u8; CHUNK]],
) -> Limbs {
    if chunks.is_empty() {
        return sum;
    }
    let mut lanes = Lanes::begin(sum);
    let keys = cipher::registers(&wide.round_keys);
    for chunk in chunks {
        let mut absorbing = Absorbing::begin(lanes, &wide.powers, groups(chunk));
        let stream = cipher::chunk_beside::<1>(&keys, counter, &mut absorbing);
        lanes = absorbing.end();
        cipher::add_to_chunk(chunk, &stream);
    }
    lanes.end(&wide.powers)
}

/// As [`open_chunks`], from one place to another that is as long.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
fn open_chunks_to(
    wide: &Wide,
    counter: &mut Counter,
    sum: Limbs,
    (from, to): (&[[u8; CHUNK]], &mut [[u8; CHUNK]]),
) -> Limbs {
    if from.is_empty() {
        return sum;
    }
    let mut lanes = Lanes::begin(sum);
    let keys = cipher::registers(&wide.round_keys);
    for (from, to) in from.iter().zip(to) {
        let mut absorbing = Absorbing::begin(lanes, &wide.powers, groups(from));
        let stream = cipher::chunk_beside::<2>(&keys, counter, &mut absorbing);
        lanes = absorbing.end();
        cipher::add_chunk_to(from, to, &stream);
    }
    lanes.end(&wide.powers)
}

fn groups(chunk: &[u8; CHUNK]) -> &Four {
    chunk.as_chunks().0.first_chunk().expect("a chunk is four groups")
}
