//! Poly1305 in limbs of 44, 44 and 42 bits: the form that fits the 52-bit multipliers.
//!
//! A number modulo 2^130 - 5 is `n[0] + n[1] * 2^44 + n[2] * 2^88`. Limbs may be a little longer
//! than their width between two steps.

use super::BLOCK;

/// A number in three limbs.
pub(super) type Limbs = [u64; 3];

pub(super) const MASK_44: u64 = (1 << 44) - 1;
pub(super) const MASK_42: u64 = (1 << 42) - 1;
/// The bit that follows every whole block: 2^128, in the highest limb.
pub(super) const ABOVE_BLOCK: u64 = 1 << 40;

/// `r` with the bits cleared that Poly1305 wants cleared.
pub(super) fn clamped(r: &[u8; BLOCK]) -> Limbs {
    limbs(&(u128::from_le_bytes(*r) & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff).to_le_bytes())
}

/// The number that `bytes` are, little-endian.
pub(super) fn limbs(bytes: &[u8; BLOCK]) -> Limbs {
    let n = u128::from_le_bytes(*bytes);
    [n as u64 & MASK_44, (n >> 44) as u64 & MASK_44, (n >> 88) as u64]
}

/// `a * b`; 2^132 counts as 20. Limbs of `a` below 2^48, of `b` below 2^45.
pub(super) fn times(a: Limbs, b: Limbs) -> Limbs {
    let wide = |x: u64, y: u64| u128::from(x) * u128::from(y);
    let (b1, b2) = (b[1] * 20, b[2] * 20);
    let d0 = wide(a[0], b[0]) + wide(a[1], b2) + wide(a[2], b1);
    let d1 = wide(a[0], b[1]) + wide(a[1], b[0]) + wide(a[2], b2) + (d0 >> 44);
    let d2 = wide(a[0], b[2]) + wide(a[1], b[1]) + wide(a[2], b[0]) + (d1 >> 44);
    // What lies above 130 bits counts five times.
    let n0 = u128::from(d0 as u64 & MASK_44) + (d2 >> 42) * 5;
    let n1 = (d1 as u64 & MASK_44) + (n0 >> 44) as u64;
    [n0 as u64 & MASK_44, n1, d2 as u64 & MASK_42]
}

/// One block, whole or padded, and the bit above it: `(sum + block + above) * r`.
pub(super) fn absorb(sum: Limbs, block: &[u8; BLOCK], above: u64, r: Limbs) -> Limbs {
    let block = limbs(block);
    times([sum[0] + block[0], sum[1] + block[1], sum[2] + block[2] + above], r)
}

/// The same number with limbs of their width, save the second, which may be a bit longer.
pub(super) fn carried(n: Limbs) -> Limbs {
    let n1 = n[1] + (n[0] >> 44);
    let n2 = n[2] + (n1 >> 44);
    let n0 = (n[0] & MASK_44) + (n2 >> 42) * 5;
    [n0 & MASK_44, (n1 & MASK_44) + (n0 >> 44), n2 & MASK_42]
}

/// The MAC: the sum modulo 2^130 - 5, and the pad, modulo 2^128.
pub(super) fn finished(sum: Limbs, pad: &[u8; BLOCK]) -> [u8; BLOCK] {
    let n = carried(carried(sum));
    // Adding 5 carries out of bit 130 when the sum is not less than the modulus.
    let m0 = n[0] + 5;
    let m1 = n[1] + (m0 >> 44);
    let m2 = n[2] + (m1 >> 44);
    let less = (m2 >> 42).wrapping_sub(1);
    let choose = |n: u64, m: u64| (n & less) | (m & !less);
    let n0 = u128::from(choose(n[0], m0 & MASK_44));
    let n1 = u128::from(choose(n[1], m1 & MASK_44));
    let n2 = u128::from(choose(n[2], m2 & MASK_42));
    let n = n0.wrapping_add(n1 << 44).wrapping_add(n2 << 88);
    n.wrapping_add(u128::from_le_bytes(*pad)).to_le_bytes()
}
