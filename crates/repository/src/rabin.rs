//! Where restic cuts: a Rabin fingerprint of the 64 bytes before, by the repository's polynomial.
//!
//! For repositories that restic began: what it stored is found again only where it would have cut. It is
//! slower than our own cuts (a byte at a time), and a large file is cut by one thread.
//!
//! The fingerprint of a window is its bytes, as a polynomial over GF(2), modulo the repository's. A cut is
//! where its lowest 20 bits are zero, 512 KiB to 8 MiB behind the last one. The first byte of a chunk that
//! counts is that 64 bytes before the least length; before it stands, as in restic, a byte of 1.

use crate::chunker::{MAX_CHUNK, MIN_CHUNK};
use crate::polynomial::Polynomial;
use crate::{Error, Result};

/// Bytes that the fingerprint looks back.
const WINDOW: usize = 64;
/// A cut is where these bits are zero.
const MASK: u64 = (1 << 20) - 1;

/// The tables of a polynomial.
pub(crate) struct Rabin {
    /// What a byte adds that leaves the window.
    out: [u64; 256],
    /// What takes the bits away that stick out at the top.
    modulo: [u64; 256],
    shift: u32,
}

impl std::fmt::Debug for Rabin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rabin")
    }
}

/// Where a file is.
#[derive(Clone, Debug)]
pub(crate) struct Fingerprint {
    digest: u64,
    window: [u8; WINDOW],
    at: usize,
    /// Bytes of the current chunk that are behind.
    seen: usize,
}

/// Where the contents of files are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cuts {
    /// Where we do.
    #[default]
    Ours,
    /// Where restic does: what it stored is found again.
    Restic,
}

impl Rabin {
    /// The tables when files are cut as restic does.
    ///
    /// # Errors
    /// When restic could not have made the polynomial.
    pub(crate) fn chosen(cuts: Cuts, polynomial: Polynomial) -> Result<Option<Self>> {
        if cuts == Cuts::Ours {
            return Ok(None);
        }
        let why = "cut as restic does: the repository's polynomial is none of restic's";
        Self::of(polynomial).map(Some).ok_or_else(|| Error::Usage(why.to_owned()))
    }

    /// The tables; `None` for a polynomial of a degree that no restic makes.
    pub(crate) fn of(polynomial: Polynomial) -> Option<Self> {
        let bits = polynomial.bits();
        let degree = bits.ilog2();
        // The highest byte lies over the degree, and a byte more must fit.
        if !(8..=53).contains(&degree) {
            return None;
        }
        let mut tables = Self { out: [0; 256], modulo: [0; 256], shift: degree - 8 };
        for byte in 0..=255u8 {
            let high = u64::from(byte) << degree;
            tables.modulo[usize::from(byte)] = reduced(high, bits) | high;
        }
        for byte in 0..=255u8 {
            let mut digest = reduced(u64::from(byte), bits);
            for _ in 1..WINDOW {
                digest = tables.append(digest, 0);
            }
            tables.out[usize::from(byte)] = digest;
        }
        Some(tables)
    }

    fn append(&self, digest: u64, byte: u8) -> u64 {
        let high = usize::try_from(digest >> self.shift & 0xFF).unwrap_or(0);
        (digest << 8 | u64::from(byte)) ^ self.modulo[high]
    }

    /// The length of the chunk that `chunk` begins with, when that is decided: `from` was the state after
    /// the bytes that were looked at before.
    pub(crate) fn scan(&self, from: &mut Fingerprint, chunk: &[u8]) -> Option<usize> {
        let begin = from.seen.max(MIN_CHUNK - WINDOW);
        let Fingerprint { mut digest, mut at, .. } = *from;
        for (number, &byte) in chunk.iter().enumerate().skip(begin) {
            let gone = std::mem::replace(&mut from.window[at], byte);
            at = (at + 1) % WINDOW;
            digest = self.append(digest ^ self.out[usize::from(gone)], byte);
            let len = number + 1;
            if len >= MIN_CHUNK && (digest & MASK == 0 || len >= MAX_CHUNK) {
                *from = Fingerprint::new(self);
                return Some(len);
            }
        }
        (from.digest, from.at) = (digest, at);
        from.seen = chunk.len().max(from.seen);
        None
    }
}

impl Fingerprint {
    /// At the beginning of a chunk.
    pub(crate) fn new(rabin: &Rabin) -> Self {
        let mut window = [0; WINDOW];
        window[0] = 1;
        Self { digest: rabin.append(0, 1), window, at: 1, seen: 0 }
    }
}

/// The remainder of `x` by the polynomial `by`.
fn reduced(mut x: u64, by: u64) -> u64 {
    while x != 0 && x.ilog2() >= by.ilog2() {
        x ^= by << (x.ilog2() - by.ilog2());
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rabin() -> Rabin {
        Rabin::of(Polynomial::new(0x3D_A335_8B4D_C173).unwrap()).unwrap()
    }

    /// The same by the definition: the last 64 bytes as one polynomial.
    fn fingerprint(window: &[u8]) -> u64 {
        let by = 0x3D_A335_8B4D_C173;
        window.iter().fold(0, |digest, byte| {
            (0..8)
                .rev()
                .fold(digest, |digest, bit| reduced(digest << 1 | u64::from(byte >> bit & 1), by))
        })
    }

    #[test]
    fn what_slides_is_the_fingerprint_of_the_last_64_bytes() {
        let rabin = rabin();
        let bytes: Vec<u8> =
            (0..300u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        let mut state = Fingerprint::new(&rabin);
        for (number, &byte) in bytes.iter().enumerate() {
            let gone = std::mem::replace(&mut state.window[state.at], byte);
            state.at = (state.at + 1) % WINDOW;
            state.digest = rabin.append(state.digest ^ rabin.out[usize::from(gone)], byte);
            if number + 1 >= WINDOW {
                assert_eq!(state.digest, fingerprint(&bytes[number + 1 - WINDOW..=number]));
            }
        }
    }

    #[test]
    fn cuts_do_not_depend_on_how_much_is_seen_at_a_time() {
        let rabin = rabin();
        let bytes: Vec<u8> = (0..12u32 << 20)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ (n >> 9) as u8)
            .collect();
        let cut = |piece: usize| {
            let (mut cuts, mut begin, mut state) = (Vec::new(), 0, Fingerprint::new(&rabin));
            let mut seen = 0;
            while seen < bytes.len() {
                seen = (seen + piece).min(bytes.len());
                while let Some(len) = rabin.scan(&mut state, &bytes[begin..seen]) {
                    begin += len;
                    cuts.push(len);
                }
            }
            cuts
        };
        let whole = cut(bytes.len());
        assert!(whole.iter().all(|len| (MIN_CHUNK..=MAX_CHUNK).contains(len)) && !whole.is_empty());
        assert_eq!(cut(1 << 20), whole);
        assert_eq!(cut(300_007), whole);
    }

    #[test]
    fn polynomials_of_other_degrees_have_no_tables() {
        assert!(Rabin::of(Polynomial::new(0b111).unwrap()).is_none());
    }
}
