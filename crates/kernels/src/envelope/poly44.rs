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
    // At most a little above 2^130, so less than twice the modulus.
    let n = carried(sum);
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

#[cfg(test)]
mod tests {
    use poly1305::Poly1305;
    use poly1305::universal_hash::KeyInit as _;

    use super::*;

    #[test]
    fn the_portable_steps_sum_up_as_the_crate_does() {
        for r in [[0; 16], [1; 16], [0xff; 16], [0x5a; 16]] {
            for byte in [0, 0xfa, 0xfb, 0xff] {
                for count in [0, 1, 2, 3, 9] {
                    let bytes = vec![byte; 16 * count];
                    let mut sum = [0; 3];
                    for block in bytes.as_chunks().0 {
                        sum = absorb(sum, block, ABOVE_BLOCK, clamped(&r));
                    }
                    let mut key = [0xfe; 32];
                    key[..16].copy_from_slice(&r);
                    let expected = Poly1305::new(&key.into()).compute_unpadded(&bytes);
                    assert_eq!(finished(sum, &[0xfe; 16]), *expected, "{r:?} {byte} {count}");
                }
            }
        }
    }

    #[test]
    fn the_portable_end_of_a_sum_is_below_the_modulus() {
        let p = [(1 << 44) - 5, MASK_44, MASK_42];
        for (above, expected) in [(0, 0), (1, 1), (4, 4), (5, 5), (77, 77)] {
            let sum = [p[0] + above, p[1], p[2]];
            assert_eq!(finished(sum, &[0; 16]), u128::to_le_bytes(expected), "{above} above");
        }
        assert_eq!(finished([p[0] - 1, p[1], p[2]], &[0; 16]), (u128::MAX - 5).to_le_bytes());
        // 2^130 + 3, with a limb that is as long as a limb may be.
        assert_eq!(finished([3, 1 << 44, MASK_42], &[0; 16]), u128::to_le_bytes(8));
    }
}
