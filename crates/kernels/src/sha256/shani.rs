//! One, two or three streams of the SHA instructions, interleaved.
//!
//! Two rounds wait for the two before them; while one stream waits, another one works.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi64x,
    _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
    _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128,
};

use crate::Level;
use crate::level::Set;

use super::BLOCK;
use super::lanes::Lanes;

/// `N` states; exists only where the instructions do.
pub(super) struct Streams<const N: usize> {
    states: [[u32; 8]; N],
}

impl<const N: usize> Streams<N> {
    pub(super) fn new(level: Level) -> Self {
        assert!(level.set() >= Set::ShaNi, "the level has the SHA instructions");
        Self { states: [[0; 8]; N] }
    }
}

impl<const N: usize> Lanes<N> for Streams<N> {
    fn set(&mut self, lane: usize, state: &[u32; 8]) {
        self.states[lane] = *state;
    }

    fn get(&self, lane: usize) -> [u32; 8] {
        self.states[lane]
    }

    fn advance(&mut self, inputs: &[&[u8]; N], blocks: usize) {
        let inputs = inputs.map(|input| &input.as_chunks().0[..blocks]);
        // SAFETY: `new` has seen a level that has the instructions.
        unsafe { compress(&mut self.states, &inputs, blocks) }
    }
}

/// Compresses `blocks` blocks of each input, none of which has fewer.
#[expect(clippy::needless_range_loop, reason = "several arrays are indexed alike")]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress<const N: usize>(
    states: &mut [[u32; 8]; N],
    inputs: &[&[[u8; BLOCK]]; N],
    blocks: usize,
) {
    let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut abef = [_mm_setzero_si128(); N];
    let mut cdgh = [_mm_setzero_si128(); N];
    for n in 0..N {
        (abef[n], cdgh[n]) = paired(&states[n]);
    }
    for block in 0..blocks {
        let (abef_before, cdgh_before) = (abef, cdgh);
        let mut words = [[_mm_setzero_si128(); 4]; N];
        for n in 0..N {
            for (word, bytes) in words[n].iter_mut().zip(inputs[n][block].as_chunks::<16>().0) {
                *word = _mm_shuffle_epi8(load(bytes), swap);
            }
        }
        // Four rounds of every stream; `$at` counts fours of rounds.
        macro_rules! four_rounds {
            ($($at:literal)*) => {$(
                let constants = load_words(&ROUNDS[$at]);
                for n in 0..N {
                    if $at >= 4 {
                        let last = words[n][($at + 3) % 4];
                        let sum = _mm_add_epi32(
                            _mm_sha256msg1_epu32(words[n][$at % 4], words[n][($at + 1) % 4]),
                            _mm_alignr_epi8(last, words[n][($at + 2) % 4], 4),
                        );
                        words[n][$at % 4] = _mm_sha256msg2_epu32(sum, last);
                    }
                    let keyed = _mm_add_epi32(words[n][$at % 4], constants);
                    cdgh[n] = _mm_sha256rnds2_epu32(cdgh[n], abef[n], keyed);
                    abef[n] =
                        _mm_sha256rnds2_epu32(abef[n], cdgh[n], _mm_shuffle_epi32(keyed, 0x0e));
                }
            )*};
        }
        four_rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for n in 0..N {
            abef[n] = _mm_add_epi32(abef[n], abef_before[n]);
            cdgh[n] = _mm_add_epi32(cdgh[n], cdgh_before[n]);
        }
    }
    for n in 0..N {
        states[n] = unpaired(abef[n], cdgh[n]);
    }
}

/// The state in the order the instructions want: words a, b, e, f and c, d, g, h, first one highest.
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn paired(state: &[u32; 8]) -> (__m128i, __m128i) {
    let (halves, _) = state.as_chunks::<4>();
    let badc = _mm_shuffle_epi32(load_words(&halves[0]), 0xb1);
    let hgfe = _mm_shuffle_epi32(load_words(&halves[1]), 0x1b);
    (_mm_alignr_epi8(badc, hgfe, 8), _mm_blend_epi16(hgfe, badc, 0xf0))
}

/// The reverse of [`paired`].
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn unpaired(abef: __m128i, cdgh: __m128i) -> [u32; 8] {
    let feba = _mm_shuffle_epi32(abef, 0x1b);
    let dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    let mut state = [0; 8];
    let (halves, _) = state.as_chunks_mut::<4>();
    store_words(&mut halves[0], _mm_blend_epi16(feba, dchg, 0xf0));
    store_words(&mut halves[1], _mm_alignr_epi8(dchg, feba, 8));
    state
}

#[target_feature(enable = "sse2")]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: sixteen bytes lie there, and the load asks for no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
fn load_words(words: &[u32; 4]) -> __m128i {
    // SAFETY: sixteen bytes lie there, and the load asks for no alignment.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
fn store_words(words: &mut [u32; 4], value: __m128i) {
    // SAFETY: sixteen bytes lie there, and the store asks for no alignment.
    unsafe { _mm_storeu_si128(words.as_mut_ptr().cast(), value) }
}

/// The constants of the rounds, four by four.
const ROUNDS: [[u32; 4]; 16] = {
    let mut fours = [[0; 4]; 16];
    let mut at = 0;
    while at < 64 {
        fours[at / 4][at % 4] = super::ROUNDS[at];
        at += 1;
    }
    fours
};
