//! The secret polynomial of a repository: every restic demands that it be irreducible over GF(2),
//! and our gear table is derived from it.

use std::fmt;
use std::str::FromStr;

use alidade_entity::Cx;

use crate::decode::DecodeError;
use crate::{Error, Result};

/// The degree of new polynomials, restic's choice: the largest prime below 56.
const DEGREE: u32 = 53;

/// How often a random polynomial is drawn. About one in 27 is irreducible (2/53 of the odd ones),
/// so that this many misses do not happen by chance.
const DRAWS: usize = 10_000;

/// An irreducible polynomial over GF(2), bit `n` being the coefficient of `x^n`. Its text form is
/// lower-case hex without leading zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Polynomial(u64);

impl Polynomial {
    /// The polynomial with these coefficients; `None` when it is reducible. Constants count as
    /// irreducible only as far as restic's test goes, which we do not follow: they are refused.
    #[must_use]
    pub fn new(bits: u64) -> Option<Self> {
        is_irreducible(bits).then_some(Self(bits))
    }

    /// A random one of degree 53.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random(cx: &Cx) -> Result<Self> {
        for _ in 0..DRAWS {
            let mut bytes = [0; 8];
            cx.fill(&mut bytes)?;
            let bits = u64::from_le_bytes(bytes) & ((1 << DEGREE) - 1) | 1 << DEGREE | 1;
            if let Some(found) = Self::new(bits) {
                return Ok(found);
            }
        }
        Err(Error::System { attempt: "find an irreducible polynomial by chance".to_owned() })
    }

    /// The coefficients.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Polynomial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Debug for Polynomial {
    /// It is a secret of the repository.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Polynomial(…)")
    }
}

impl FromStr for Polynomial {
    type Err = DecodeError;

    fn from_str(text: &str) -> std::result::Result<Self, DecodeError> {
        let hex = !text.is_empty() && text.len() <= 16;
        if !hex || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(DecodeError::malformed("its chunker polynomial is no number"));
        }
        let bits = u64::from_str_radix(text, 16)
            .map_err(|error| DecodeError::malformed(error.to_string()))?;
        Self::new(bits)
            .ok_or_else(|| DecodeError::malformed("its chunker polynomial is not irreducible"))
    }
}

fn degree(x: u64) -> u32 {
    x.checked_ilog2().unwrap_or(0)
}

/// The remainder of `x` divided by `f`, which is not zero.
fn modulo(mut x: u64, f: u64) -> u64 {
    while x != 0 && degree(x) >= degree(f) {
        x ^= f << (degree(x) - degree(f));
    }
    x
}

/// `a * b` modulo `f`, for `a` of a degree below that of `f`.
fn mul_mod(mut a: u64, mut b: u64, f: u64) -> u64 {
    let top = 1 << (degree(f) - 1);
    let mut product = 0;
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        b >>= 1;
        // Multiply by x; the top bit is looked at before, as f may have degree 63.
        a = if a & top != 0 { (a ^ top) << 1 ^ (f ^ 1 << degree(f)) } else { a << 1 };
    }
    product
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, modulo(a, b));
    }
    a
}

/// Ben-Or's test: `f` of degree `n` is irreducible when it has no common factor with `x^(2^i) - x`
/// for any `i` up to `n / 2`, as that product holds all irreducible polynomials of degree `i`.
fn is_irreducible(f: u64) -> bool {
    if f < 2 {
        return false;
    }
    if degree(f) == 1 {
        return true;
    }
    let x = 2;
    let mut power = x;
    for _ in 1..=degree(f) / 2 {
        power = mul_mod(power, power, f);
        if gcd(f, power ^ x) != 1 {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use alidade_entity::Cancel;

    /// By trial division.
    fn is_irreducible_slowly(f: u64) -> bool {
        f > 1 && (2..f).filter(|d| degree(*d) < degree(f)).all(|d| modulo(f, d) != 0)
    }

    #[test]
    fn the_test_agrees_with_trial_division() {
        for f in 0..4096 {
            assert_eq!(is_irreducible(f), is_irreducible_slowly(f), "{f:b}");
        }
    }

    #[test]
    fn polynomials_of_stock_repositories_are_irreducible() {
        for text in ["3304b5f346baf1", "25b468838dcb75", "3da3358b4dc173"] {
            assert_eq!(text.parse::<Polynomial>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_polynomial_of_full_width_is_handled() {
        // x^63 + x + 1 is irreducible; x^63 + 1 has the factor x + 1.
        assert!(is_irreducible(1 << 63 | 3));
        assert!(!is_irreducible(1 << 63 | 1));
    }

    #[test]
    fn random_ones_have_degree_53_and_differ() {
        let cx = Cx::system(Cancel::default());
        let (a, b) = (Polynomial::random(&cx).unwrap(), Polynomial::random(&cx).unwrap());
        assert_ne!(a, b);
        assert_eq!(degree(a.bits()), DEGREE);
    }

    #[test]
    fn what_is_reducible_or_no_hex_is_refused() {
        for bad in ["", "0", "1", "4", "x", "0x11", "-b", "+b", "20000000000001", &"f".repeat(17)] {
            assert!(bad.parse::<Polynomial>().is_err(), "{bad}");
        }
    }
}
