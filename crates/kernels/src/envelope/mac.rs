//! The MAC: Poly1305 with a one-time pad.

use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit as _, UniversalHash as _};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{BLOCK, Key, Tag};

/// A MAC is not that of the bytes it came with: they were changed, or the key is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongMac;

impl std::fmt::Display for WrongMac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the MAC is wrong")
    }
}

impl std::error::Error for WrongMac {}

/// The MAC of bytes that come one after another.
pub struct Mac {
    pub(super) poly: Poly,
    /// Bytes that do not fill a block yet.
    rest: [u8; BLOCK],
    held: usize,
}

/// What is known of the whole blocks.
pub(super) enum Poly {
    Portable(Box<Poly1305>),
    #[cfg(target_arch = "x86_64")]
    Wide(super::avx512::Sum),
}

impl std::fmt::Debug for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mac(…)")
    }
}

impl Mac {
    pub(super) fn new(key: &Key, pad: &[u8; BLOCK]) -> Self {
        Self { poly: Poly::new(key, pad), rest: [0; BLOCK], held: 0 }
    }

    /// How many bytes fill the begun block, if one is begun.
    pub(super) fn to_block(&self) -> usize {
        (BLOCK - self.held) % BLOCK
    }

    /// Adds bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        if self.held > 0 {
            let (fill, others) = bytes.split_at(bytes.len().min(BLOCK - self.held));
            self.rest[self.held..self.held + fill.len()].copy_from_slice(fill);
            self.held += fill.len();
            if self.held < BLOCK {
                return;
            }
            self.poly.blocks(&[self.rest]);
            bytes = others;
        }
        let (blocks, rest) = bytes.as_chunks();
        self.poly.blocks(blocks);
        self.rest[..rest.len()].copy_from_slice(rest);
        self.held = rest.len();
    }

    /// The MAC of all that was added.
    #[must_use]
    pub fn finish(self) -> Tag {
        let rest = &self.rest[..self.held];
        match self.poly {
            Poly::Portable(poly) => poly.compute_unpadded(rest).into(),
            #[cfg(target_arch = "x86_64")]
            Poly::Wide(sum) => sum.finish(rest),
        }
    }

    /// Compares in constant time.
    ///
    /// # Errors
    /// When `tag` is not the MAC of what was added.
    pub fn verify(self, tag: &Tag) -> Result<(), WrongMac> {
        if bool::from(self.finish().ct_eq(tag)) { Ok(()) } else { Err(WrongMac) }
    }
}

impl Poly {
    fn new(key: &Key, pad: &[u8; BLOCK]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if key.0.wide.is_some() {
            return Self::Wide(super::avx512::Sum::new(key.clone(), pad));
        }
        let mut both = Zeroizing::new([0; 2 * BLOCK]);
        both[..BLOCK].copy_from_slice(&*key.0.r);
        both[BLOCK..].copy_from_slice(pad);
        Self::Portable(Box::new(Poly1305::new((&*both).into())))
    }

    fn blocks(&mut self, blocks: &[[u8; BLOCK]]) {
        match self {
            Self::Portable(poly) => poly.update(poly1305::Block::cast_slice_from_core(blocks)),
            #[cfg(target_arch = "x86_64")]
            Self::Wide(sum) => sum.blocks(blocks),
        }
    }
}
