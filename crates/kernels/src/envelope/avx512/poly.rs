//! Poly1305 of eight blocks at a time.
//!
//! Lane `j` sums up every eighth block, each time times `r^8`; at the end lane `j` is multiplied by
//! the power of `r` its last block still lacks, and the lanes are added. Four groups of eight
//! are multiplied by four powers before anything is carried.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_loadu_si512, _mm512_madd52hi_epu64,
    _mm512_madd52lo_epu64, _mm512_or_si512, _mm512_reduce_add_epi64, _mm512_set_epi64,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64,
    _mm512_ternarylogic_epi64, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::super::poly44::{ABOVE_BLOCK, Limbs, MASK_42, MASK_44, carried, times};

/// Bytes of eight blocks.
pub(super) const GROUP: usize = 128;

/// Four groups.
pub(super) type Four = [[u8; GROUP]; 4];

const WIDTH: usize = 8;

/// Which block of a group lies in which lane: the loads bring blocks 0 to 3 and 4 to 7, and the
/// unpacking interleaves them.
const BLOCK_OF_LANE: [usize; WIDTH] = [0, 4, 1, 5, 2, 6, 3, 7];

/// The powers of `r` a sum is multiplied by. A power is its three limbs, then the upper two times
/// 20: what they are multiplied by when they come round.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Powers {
    /// `r^8`, `r^16`, `r^24`, `r^32`.
    steps: [[u64; 5]; 4],
    /// For each lane the power its last block lacks.
    last: [[u64; WIDTH]; 5],
    r: Limbs,
}

impl Powers {
    pub(super) fn of(r: Limbs) -> Self {
        let mut powers = [r; WIDTH];
        for at in 1..WIDTH {
            powers[at] = times(powers[at - 1], r);
        }
        let mut steps = [powers[WIDTH - 1]; 4];
        for at in 1..4 {
            steps[at] = times(steps[at - 1], steps[0]);
        }
        let mut last = [[0; WIDTH]; 5];
        for (lane, block) in BLOCK_OF_LANE.into_iter().enumerate() {
            for (row, limb) in last.iter_mut().zip(with_twenties(powers[WIDTH - 1 - block])) {
                row[lane] = limb;
            }
        }
        Self { steps: steps.map(with_twenties), last, r }
    }

    pub(super) fn r(&self) -> Limbs {
        self.r
    }
}

fn with_twenties(n: Limbs) -> [u64; 5] {
    [n[0], n[1], n[2], n[1] * 20, n[2] * 20]
}

/// Absorbs groups into a sum.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
pub(super) fn absorb(sum: Limbs, powers: &Powers, groups: &[[u8; GROUP]]) -> Limbs {
    let mut lanes = Lanes::begin(sum);
    let (fours, ones) = groups.as_chunks();
    for four in fours {
        lanes = lanes.absorb_four(powers, four);
    }
    for one in ones {
        lanes.absorb_one(powers, one);
    }
    lanes.end(powers)
}

/// Eight sums.
pub(super) struct Lanes {
    sums: [__m512i; 3],
    /// What the first group is yet to be added to: the sum so far, in the lane of the first block.
    first: [__m512i; 3],
}

impl Lanes {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
    pub(super) fn begin(sum: Limbs) -> Self {
        let zero = _mm512_setzero_si512();
        let mut first = [zero; 3];
        for (lanes, limb) in first.iter_mut().zip(sum) {
            *lanes = _mm512_set_epi64(0, 0, 0, 0, 0, 0, 0, limb.cast_signed());
        }
        Self { sums: [zero; 3], first }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
    pub(super) fn absorb_four(self, powers: &Powers, groups: &Four) -> Self {
        let mut four = Absorbing::begin(self, powers, groups);
        macro_rules! steps {
            ($($at:literal)*) => { $(four.step::<$at>();)* };
        }
        steps!(0 1 2 3 4 5 6 7 8 9 10 11);
        four.end()
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
    fn absorb_one(&mut self, powers: &Powers, group: &[u8; GROUP]) {
        let mut product = Product::of(added(blocks(group), self.first));
        self.first = [_mm512_setzero_si512(); 3];
        let power = everywhere(&powers.steps[0]);
        for (at, limb) in self.sums.into_iter().enumerate() {
            product.add(at, limb, &power);
        }
        self.sums = product.reduced();
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
    pub(super) fn end(self, powers: &Powers) -> Limbs {
        let mut product = Product::of([_mm512_setzero_si512(); 3]);
        let mut last = [_mm512_setzero_si512(); 5];
        for (register, lanes) in last.iter_mut().zip(&powers.last) {
            // SAFETY: 64 bytes lie there, and the load asks for no alignment.
            *register = unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) };
        }
        for (at, limb) in self.sums.into_iter().enumerate() {
            product.add(at, limb, &last);
        }
        let mut sum = [0; 3];
        for (limb, lanes) in sum.iter_mut().zip(product.reduced()) {
            *limb = _mm512_reduce_add_epi64(lanes).cast_unsigned();
        }
        carried(sum)
    }
}

/// Four groups on their way into the sums, in twelve steps, so that other work can be done between:
/// the processor starts what it can of what it is told next, but does not look far ahead.
pub(super) struct Absorbing<'a> {
    lanes: Lanes,
    powers: &'a Powers,
    groups: &'a Four,
    product: Product,
    /// What is being multiplied, three steps for each.
    number: [__m512i; 3],
}

impl<'a> Absorbing<'a> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
    pub(super) fn begin(lanes: Lanes, powers: &'a Powers, groups: &'a Four) -> Self {
        let product = Product::of(blocks(&groups[3]));
        Self { lanes, powers, groups, product, number: [_mm512_setzero_si512(); 3] }
    }

    /// One limb of one number is multiplied by one power; the sums, which become known last, come
    /// last.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
    pub(super) fn step<const AT: usize>(&mut self) {
        let (which, limb) = (AT / 3, AT % 3);
        if limb == 0 {
            self.number = match which {
                0 => added(blocks(&self.groups[0]), self.lanes.first),
                1 | 2 => blocks(&self.groups[which]),
                _ => self.lanes.sums,
            };
        }
        let power = everywhere(&self.powers.steps[[2, 1, 0, 3][which]]);
        self.product.add(limb, self.number[limb], &power);
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
    pub(super) fn end(self) -> Lanes {
        Lanes { sums: self.product.reduced(), first: [_mm512_setzero_si512(); 3] }
    }
}

/// The limbs of eight blocks, each with the bit above it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
fn blocks(bytes: &[u8; GROUP]) -> [__m512i; 3] {
    let (halves, _) = bytes.as_chunks::<64>();
    // SAFETY: 64 bytes lie there, and the load asks for no alignment.
    let (front, back) = unsafe {
        (
            _mm512_loadu_si512(halves[0].as_ptr().cast()),
            _mm512_loadu_si512(halves[1].as_ptr().cast()),
        )
    };
    let low = _mm512_unpacklo_epi64(front, back);
    let high = _mm512_unpackhi_epi64(front, back);
    let mask = _mm512_set1_epi64(MASK_44.cast_signed());
    let above = _mm512_set1_epi64(ABOVE_BLOCK.cast_signed());
    // Either of the first two inputs, where the third is set.
    const EITHER_WHERE: i32 = 0xa8;
    [
        _mm512_and_si512(low, mask),
        _mm512_ternarylogic_epi64::<EITHER_WHERE>(
            _mm512_srli_epi64::<44>(low),
            _mm512_slli_epi64::<20>(high),
            mask,
        ),
        _mm512_or_si512(_mm512_srli_epi64::<24>(high), above),
    ]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
fn added(a: [__m512i; 3], b: [__m512i; 3]) -> [__m512i; 3] {
    [_mm512_add_epi64(a[0], b[0]), _mm512_add_epi64(a[1], b[1]), _mm512_add_epi64(a[2], b[2])]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
fn everywhere(power: &[u64; 5]) -> [__m512i; 5] {
    let mut registers = [_mm512_setzero_si512(); 5];
    for (register, limb) in registers.iter_mut().zip(power) {
        *register = _mm512_set1_epi64(limb.cast_signed());
    }
    registers
}

/// Sums of products of limbs: the lower 52 bits of each product, and the upper ones.
struct Product {
    low: [__m512i; 3],
    high: [__m512i; 3],
}

impl Product {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
    fn of(low: [__m512i; 3]) -> Self {
        Self { low, high: [_mm512_setzero_si512(); 3] }
    }

    /// Adds limb `at` of a number times a power.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
    fn add(&mut self, at: usize, limb: __m512i, power: &[__m512i; 5]) {
        let [r0, r1, r2, r1_20, r2_20] = *power;
        let factors = [[r0, r1, r2], [r2_20, r0, r1], [r1_20, r2_20, r0]][at];
        for (at, factor) in factors.into_iter().enumerate() {
            self.low[at] = _mm512_madd52lo_epu64(self.low[at], limb, factor);
            self.high[at] = _mm512_madd52hi_epu64(self.high[at], limb, factor);
        }
    }

    /// The number, its limbs of their width but the second, which may be longer by a few bits.
    ///
    /// Four products and a group stay far below 64 bits: twelve lower parts are below 2^56, twelve
    /// upper parts below 2^46.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512ifma,aes,vaes")]
    fn reduced(self) -> [__m512i; 3] {
        let mask_44 = _mm512_set1_epi64(MASK_44.cast_signed());
        let mask_42 = _mm512_set1_epi64(MASK_42.cast_signed());
        let [d0, d1, d2] = self.low;
        // A limb is 44 bits and a lower part 52, so an upper part is 8 bits above the next limb.
        let up_0 =
            _mm512_add_epi64(_mm512_slli_epi64::<8>(self.high[0]), _mm512_srli_epi64::<44>(d0));
        let d1 = _mm512_add_epi64(d1, up_0);
        let up_1 =
            _mm512_add_epi64(_mm512_slli_epi64::<8>(self.high[1]), _mm512_srli_epi64::<44>(d1));
        let d2 = _mm512_add_epi64(d2, up_1);
        let up_2 =
            _mm512_add_epi64(_mm512_slli_epi64::<10>(self.high[2]), _mm512_srli_epi64::<42>(d2));
        // What lies above 130 bits counts five times.
        let five = _mm512_add_epi64(up_2, _mm512_slli_epi64::<2>(up_2));
        let n0 = _mm512_add_epi64(_mm512_and_si512(d0, mask_44), five);
        let n1 = _mm512_add_epi64(_mm512_and_si512(d1, mask_44), _mm512_srli_epi64::<44>(n0));
        [_mm512_and_si512(n0, mask_44), n1, _mm512_and_si512(d2, mask_42)]
    }
}
