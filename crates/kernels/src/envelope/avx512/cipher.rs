//! AES-256 in counter mode, 32 blocks at a time.

use std::arch::x86_64::{
    __m128i, __m512i, _mm_aeskeygenassist_si128, _mm_loadu_si128, _mm_set_epi64x,
    _mm_shuffle_epi32, _mm_slli_si128, _mm_storeu_si128, _mm_xor_si128, _mm512_add_epi64,
    _mm512_aesenc_epi128, _mm512_aesenclast_epi128, _mm512_broadcast_i32x4, _mm512_loadu_si512,
    _mm512_mask_loadu_epi64, _mm512_mask_storeu_epi64, _mm512_set_epi64, _mm512_setzero_si512,
    _mm512_shuffle_epi8, _mm512_storeu_si512, _mm512_xor_si512,
};

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::super::{BLOCK, Iv};
use super::CHUNK;
use super::poly::Absorbing;

/// Blocks in a register.
const WIDTH: usize = 4;
/// Registers in a chunk.
const REGISTERS: usize = CHUNK / (WIDTH * BLOCK);

/// The keys of the rounds of AES-256, in order.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct RoundKeys([[u8; BLOCK]; 15]);

/// The counter of the next block.
pub(super) struct Counter(u128);

impl Counter {
    pub(super) fn new(iv: &Iv) -> Self {
        Self(u128::from_be_bytes(*iv))
    }
}

/// The key schedule.
#[target_feature(enable = "aes,sse2")]
pub(super) fn expanded(key: &[u8; 32]) -> RoundKeys {
    let mut keys = [[0; BLOCK]; 15];
    let (halves, _) = key.as_chunks::<BLOCK>();
    let (mut even, mut odd) = (load(&halves[0]), load(&halves[1]));
    store(&mut keys[0], even);
    store(&mut keys[1], odd);
    // The word that begins an even round key is rotated, substituted and given a constant; the
    // word that begins an odd one is only substituted.
    macro_rules! two_keys {
        ($($at:literal $constant:literal)*) => {$(
            even = spread(even, _mm_shuffle_epi32(
                _mm_aeskeygenassist_si128(odd, $constant), 0xff));
            store(&mut keys[$at], even);
            if $at < 14 {
                odd = spread(odd, _mm_shuffle_epi32(_mm_aeskeygenassist_si128(even, 0), 0xaa));
                store(&mut keys[($at + 1) % 15], odd);
            }
        )*};
    }
    two_keys!(2 0x01 4 0x02 6 0x04 8 0x08 10 0x10 12 0x20 14 0x40);
    RoundKeys(keys)
}

/// Each word is the sum of those up to it in `key`, and of `first`.
#[target_feature(enable = "sse2")]
fn spread(key: __m128i, first: __m128i) -> __m128i {
    let key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    let key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
    _mm_xor_si128(key, first)
}

/// Each round key in all parts of a register.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
pub(super) fn registers(keys: &RoundKeys) -> [__m512i; 15] {
    let mut all = [_mm512_setzero_si512(); 15];
    for (register, key) in all.iter_mut().zip(&keys.0) {
        *register = _mm512_broadcast_i32x4(load(key));
    }
    all
}

/// Adds the key stream to whole blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
pub(super) fn apply(keys: &RoundKeys, counter: &mut Counter, blocks: &mut [u8]) {
    let keys = registers(keys);
    let (chunks, rest) = blocks.as_chunks_mut();
    for chunk in chunks {
        apply_chunk(&keys, counter, chunk);
    }
    for part in rest.chunks_mut(WIDTH * BLOCK) {
        let count = part.len() / BLOCK;
        let mut stream = [counters(counter, count)];
        encipher(&keys, &mut stream);
        add_to_part(part, stream[0], count);
    }
}

/// Adds the key stream to a chunk.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
fn apply_chunk(keys: &[__m512i; 15], counter: &mut Counter, chunk: &mut [u8; CHUNK]) {
    let mut stream = chunk_counters(counter);
    encipher(keys, &mut stream);
    add_to_chunk(chunk, &stream);
}

/// The key stream of a chunk; absorbs four groups between the rounds of the cipher: both keep the
/// processor half busy, and together whole. Each `CALLER` has a number of its own and with it a copy
/// of its own, which is compiled into its loop: a call would pass all registers through memory.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
pub(super) fn chunk_beside<const CALLER: u8>(
    keys: &[__m512i; 15],
    counter: &mut Counter,
    absorbing: &mut Absorbing<'_>,
) -> [__m512i; REGISTERS] {
    let mut stream = chunk_counters(counter);
    let [first, rounds @ .., last] = keys;
    for block in &mut stream {
        *block = _mm512_xor_si512(*block, *first);
    }
    macro_rules! rounds {
        ($($at:literal)*) => {$(
            for block in &mut stream {
                *block = _mm512_aesenc_epi128(*block, rounds[$at]);
            }
            absorbing.step::<$at>();
        )*};
    }
    rounds!(0 1 2 3 4 5 6 7 8 9 10 11);
    for block in &mut stream {
        *block = _mm512_aesenc_epi128(*block, rounds[12]);
    }
    for block in &mut stream {
        *block = _mm512_aesenclast_epi128(*block, *last);
    }
    stream
}

/// Adds the key stream to a chunk where it lies.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
pub(super) fn add_to_chunk(chunk: &mut [u8; CHUNK], stream: &[__m512i; REGISTERS]) {
    for (part, stream) in chunk.as_chunks_mut::<{ WIDTH * BLOCK }>().0.iter_mut().zip(stream) {
        // SAFETY: 64 bytes lie there, and neither the load nor the store asks for an alignment.
        unsafe {
            let bytes = _mm512_loadu_si512(part.as_ptr().cast());
            _mm512_storeu_si512(part.as_mut_ptr().cast(), _mm512_xor_si512(bytes, *stream));
        }
    }
}

/// Makes `to` the sum of a chunk and the key stream.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
pub(super) fn add_chunk_to(
    from: &[u8; CHUNK],
    to: &mut [u8; CHUNK],
    stream: &[__m512i; REGISTERS],
) {
    let from = from.as_chunks::<{ WIDTH * BLOCK }>().0;
    for ((from, to), stream) in from.iter().zip(to.as_chunks_mut().0).zip(stream) {
        let to: &mut [u8; WIDTH * BLOCK] = to;
        // SAFETY: 64 bytes lie at both, and neither the load nor the store asks for an alignment.
        unsafe {
            let bytes = _mm512_loadu_si512(from.as_ptr().cast());
            _mm512_storeu_si512(to.as_mut_ptr().cast(), _mm512_xor_si512(bytes, *stream));
        }
    }
}

/// The counters of a chunk.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
fn chunk_counters(counter: &mut Counter) -> [__m512i; REGISTERS] {
    const BLOCKS: usize = REGISTERS * WIDTH;
    let mut stream = [_mm512_setzero_si512(); REGISTERS];
    let (low, high) = (counter.0 as u64, (counter.0 >> 64) as u64);
    if low > u64::MAX - BLOCKS as u64 {
        for register in &mut stream {
            *register = counters(counter, WIDTH);
        }
        return stream;
    }
    let first = _mm_set_epi64x(high.cast_signed(), low.cast_signed());
    let mut values =
        _mm512_add_epi64(_mm512_broadcast_i32x4(first), _mm512_set_epi64(0, 3, 0, 2, 0, 1, 0, 0));
    for register in &mut stream {
        *register = _mm512_shuffle_epi8(values, swap());
        values = _mm512_add_epi64(values, _mm512_set_epi64(0, 4, 0, 4, 0, 4, 0, 4));
    }
    counter.0 += BLOCKS as u128;
    stream
}

/// The next four counters, of which `count` are used.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
fn counters(counter: &mut Counter, count: usize) -> __m512i {
    let mut words = [0; 2 * WIDTH];
    for (at, pair) in words.chunks_exact_mut(2).enumerate() {
        let value = counter.0.wrapping_add(at as u128);
        pair.copy_from_slice(&[value as u64, (value >> 64) as u64]);
    }
    counter.0 = counter.0.wrapping_add(count as u128);
    let [a, b, c, d, e, f, g, h] = words.map(u64::cast_signed);
    _mm512_shuffle_epi8(_mm512_set_epi64(h, g, f, e, d, c, b, a), swap())
}

/// Turns each block into the order of its bytes in memory, highest first.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
fn swap() -> __m512i {
    _mm512_broadcast_i32x4(_mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f))
}

/// AES of every block in the registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
fn encipher<const N: usize>(keys: &[__m512i; 15], blocks: &mut [__m512i; N]) {
    let [first, rounds @ .., last] = keys;
    for block in blocks.iter_mut() {
        *block = _mm512_xor_si512(*block, *first);
    }
    for key in rounds {
        for block in blocks.iter_mut() {
            *block = _mm512_aesenc_epi128(*block, *key);
        }
    }
    for block in blocks {
        *block = _mm512_aesenclast_epi128(*block, *last);
    }
}

/// Adds the first `count` blocks of `stream` to `part`, which is as long.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
fn add_to_part(part: &mut [u8], stream: __m512i, count: usize) {
    assert!(part.len() == count * BLOCK && count <= WIDTH);
    let words = u8::MAX >> (8 - 2 * count);
    // SAFETY: the mask stands for the bytes of `part`; others are neither read nor written.
    unsafe {
        let bytes = _mm512_mask_loadu_epi64(stream, words, part.as_ptr().cast());
        _mm512_mask_storeu_epi64(part.as_mut_ptr().cast(), words, _mm512_xor_si512(bytes, stream));
    }
}

#[target_feature(enable = "sse2")]
fn load(bytes: &[u8; BLOCK]) -> __m128i {
    // SAFETY: sixteen bytes lie there, and the load asks for no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
fn store(bytes: &mut [u8; BLOCK], value: __m128i) {
    // SAFETY: sixteen bytes lie there, and the store asks for no alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), value) }
}
