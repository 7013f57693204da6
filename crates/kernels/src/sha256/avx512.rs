//! Sixteen messages at once: each 512-bit register holds one word of all of them.

use std::arch::x86_64::{
    __m512i, _mm_set_epi64x, _mm512_add_epi32, _mm512_broadcast_i32x4, _mm512_loadu_si512,
    _mm512_ror_epi32, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_shuffle_epi8,
    _mm512_shuffle_i32x4, _mm512_srli_epi32, _mm512_storeu_si512, _mm512_ternarylogic_epi32,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use crate::Level;
use crate::level::Set;

use super::lanes::Lanes;
use super::{BLOCK, ROUNDS};

const WIDTH: usize = 16;

/// Sixteen states, word by word; exists only where the instructions do.
#[repr(align(64))]
pub(super) struct Sixteen {
    words: [[u32; WIDTH]; 8],
}

impl Sixteen {
    pub(super) fn new(level: Level) -> Self {
        assert!(level.set() >= Set::Avx512, "the level has AVX-512");
        Self { words: [[0; WIDTH]; 8] }
    }
}

impl Lanes<WIDTH> for Sixteen {
    fn set(&mut self, lane: usize, state: &[u32; 8]) {
        for (word, value) in self.words.iter_mut().zip(state) {
            word[lane] = *value;
        }
    }

    fn get(&self, lane: usize) -> [u32; 8] {
        self.words.each_ref().map(|word| word[lane])
    }

    fn advance(&mut self, inputs: &[&[u8]; WIDTH], blocks: usize) {
        let inputs = inputs.map(|input| &input.as_chunks().0[..blocks]);
        // SAFETY: `new` has seen a level that has AVX-512.
        unsafe { compress(&mut self.words, &inputs, blocks) }
    }
}

/// Bits of a choice between three inputs, for the ternary logic instruction.
const XOR: i32 = 0x96;
/// The first input chooses between the second and the third.
const CHOOSE: i32 = 0xca;
/// What at least two inputs say.
const MAJORITY: i32 = 0xe8;

/// Compresses `blocks` blocks of each input, none of which has fewer.
#[target_feature(enable = "avx512f,avx512bw")]
fn compress(words: &mut [[u32; WIDTH]; 8], inputs: &[&[[u8; BLOCK]]; WIDTH], blocks: usize) {
    let mut state = [_mm512_setzero_si512(); 8];
    for (value, word) in state.iter_mut().zip(words.iter()) {
        *value = load_words(word);
    }
    for block in 0..blocks {
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
        let mut w = transposed(inputs, block);
        for sixteen in 0..4 {
            let k: &[u32; 16] = &ROUNDS.as_chunks().0[sixteen];
            // The names of the eight words move by one with each round; after eight they are back.
            macro_rules! eight_rounds {
                ($($at:literal)*) => {$(
                    if sixteen > 0 {
                        w[$at] = scheduled(
                            w[$at],
                            w[($at + 1) % 16],
                            w[($at + 9) % 16],
                            w[($at + 14) % 16],
                        );
                    }
                    let keyed = _mm512_add_epi32(w[$at], _mm512_set1_epi32(k[$at].cast_signed()));
                    let sum = _mm512_add_epi32(_mm512_add_epi32(h, keyed), _mm512_add_epi32(
                        big_sigma_1(e),
                        _mm512_ternarylogic_epi32::<CHOOSE>(e, f, g),
                    ));
                    let other = _mm512_add_epi32(
                        big_sigma_0(a),
                        _mm512_ternarylogic_epi32::<MAJORITY>(a, b, c),
                    );
                    h = g;
                    g = f;
                    f = e;
                    e = _mm512_add_epi32(d, sum);
                    d = c;
                    c = b;
                    b = a;
                    a = _mm512_add_epi32(sum, other);
                )*};
            }
            eight_rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        }
        for (value, new) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *value = _mm512_add_epi32(*value, new);
        }
    }
    for (word, value) in words.iter_mut().zip(state) {
        store_words(word, value);
    }
}

#[target_feature(enable = "avx512f")]
fn big_sigma_0(x: __m512i) -> __m512i {
    let (p, q) = (_mm512_ror_epi32::<2>(x), _mm512_ror_epi32::<13>(x));
    _mm512_ternarylogic_epi32::<XOR>(p, q, _mm512_ror_epi32::<22>(x))
}

#[target_feature(enable = "avx512f")]
fn big_sigma_1(x: __m512i) -> __m512i {
    let (p, q) = (_mm512_ror_epi32::<6>(x), _mm512_ror_epi32::<11>(x));
    _mm512_ternarylogic_epi32::<XOR>(p, q, _mm512_ror_epi32::<25>(x))
}

/// The word sixteen rounds after `w0`.
#[target_feature(enable = "avx512f")]
fn scheduled(w0: __m512i, w1: __m512i, w9: __m512i, w14: __m512i) -> __m512i {
    let (p, q) = (_mm512_ror_epi32::<7>(w1), _mm512_ror_epi32::<18>(w1));
    let sigma_0 = _mm512_ternarylogic_epi32::<XOR>(p, q, _mm512_srli_epi32::<3>(w1));
    let (p, q) = (_mm512_ror_epi32::<17>(w14), _mm512_ror_epi32::<19>(w14));
    let sigma_1 = _mm512_ternarylogic_epi32::<XOR>(p, q, _mm512_srli_epi32::<10>(w14));
    _mm512_add_epi32(_mm512_add_epi32(w0, sigma_0), _mm512_add_epi32(w9, sigma_1))
}

/// Word `n` of that block of every input, in register `n`.
#[target_feature(enable = "avx512f,avx512bw")]
fn transposed(inputs: &[&[[u8; BLOCK]]; WIDTH], block: usize) -> [__m512i; 16] {
    let zero = _mm512_setzero_si512();
    let mut rows = [zero; 16];
    for (row, input) in rows.iter_mut().zip(inputs) {
        *row = load(&input[block]);
    }
    let mut pairs = [zero; 16];
    for n in 0..8 {
        pairs[2 * n] = _mm512_unpacklo_epi32(rows[2 * n], rows[2 * n + 1]);
        pairs[2 * n + 1] = _mm512_unpackhi_epi32(rows[2 * n], rows[2 * n + 1]);
    }
    // In `fours[4 * n + word]`, part `p` holds word `4 * p + word` of rows `4 * n` and following.
    let mut fours = [zero; 16];
    for n in 0..4 {
        fours[4 * n] = _mm512_unpacklo_epi64(pairs[4 * n], pairs[4 * n + 2]);
        fours[4 * n + 1] = _mm512_unpackhi_epi64(pairs[4 * n], pairs[4 * n + 2]);
        fours[4 * n + 2] = _mm512_unpacklo_epi64(pairs[4 * n + 1], pairs[4 * n + 3]);
        fours[4 * n + 3] = _mm512_unpackhi_epi64(pairs[4 * n + 1], pairs[4 * n + 3]);
    }
    let swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203));
    let mut words = [zero; 16];
    for n in 0..4 {
        let even_low = _mm512_shuffle_i32x4::<0x88>(fours[n], fours[4 + n]);
        let odd_low = _mm512_shuffle_i32x4::<0xdd>(fours[n], fours[4 + n]);
        let even_high = _mm512_shuffle_i32x4::<0x88>(fours[8 + n], fours[12 + n]);
        let odd_high = _mm512_shuffle_i32x4::<0xdd>(fours[8 + n], fours[12 + n]);
        words[n] = _mm512_shuffle_i32x4::<0x88>(even_low, even_high);
        words[4 + n] = _mm512_shuffle_i32x4::<0x88>(odd_low, odd_high);
        words[8 + n] = _mm512_shuffle_i32x4::<0xdd>(even_low, even_high);
        words[12 + n] = _mm512_shuffle_i32x4::<0xdd>(odd_low, odd_high);
    }
    // No `map`: a closure with instructions of its own would not be inlined into it.
    for word in &mut words {
        *word = _mm512_shuffle_epi8(*word, swap);
    }
    words
}

#[target_feature(enable = "avx512f")]
fn load(bytes: &[u8; BLOCK]) -> __m512i {
    // SAFETY: 64 bytes lie there, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn load_words(words: &[u32; WIDTH]) -> __m512i {
    // SAFETY: 64 bytes lie there, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn store_words(words: &mut [u32; WIDTH], value: __m512i) {
    // SAFETY: 64 bytes lie there, and the store asks for no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), value) }
}
