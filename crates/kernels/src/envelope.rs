//! Sealing: AES-256-CTR, and Poly1305 over the ciphertext with the key `r ‖ AES-128_k(IV)`.
//!
//! The counter is the whole IV, big-endian. Nothing here depends on a secret in time or in the
//! addresses it touches: no table, no branch.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod cipher;
mod mac;
mod open;
#[cfg(target_arch = "x86_64")]
mod poly44;

use std::sync::Arc;

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use zeroize::Zeroizing;

use crate::Level;

pub use cipher::Opener;
pub use mac::{Mac, WrongMac};

use cipher::Cipher;

/// Bytes of a block of AES and of Poly1305, of an IV, and of a MAC.
pub(crate) const BLOCK: usize = 16;

/// What is enciphered and then hashed, or copied and then decrypted, while it still lies in the first
/// cache.
const WINDOW: usize = 8 << 10;

/// An IV. Who chooses it never uses one twice with the same key.
pub type Iv = [u8; BLOCK];
/// A MAC.
pub type Tag = [u8; BLOCK];

/// Everything that follows from a key and is worth computing once. A clone shares it; it is wiped
/// when the last one is dropped.
#[derive(Clone)]
pub struct Key(Arc<Schedule>);

struct Schedule {
    encrypt: aes::Aes256,
    pad: aes::Aes128,
    r: Zeroizing<[u8; BLOCK]>,
    #[cfg(target_arch = "x86_64")]
    wide: Option<Box<avx512::Wide>>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// The key of an AES-256 key, and of `k` and `r` for the MAC (`r` is clamped here).
    #[must_use]
    pub fn new(encrypt: &[u8; 32], k: &[u8; 16], r: &[u8; 16]) -> Self {
        Self::at(Level::detect(), encrypt, k, r)
    }

    /// As [`Self::new`], with the instructions of `level`.
    #[must_use]
    pub fn at(level: Level, encrypt: &[u8; 32], k: &[u8; 16], r: &[u8; 16]) -> Self {
        #[cfg(not(target_arch = "x86_64"))]
        let _portable_only = level;
        Self(Arc::new(Schedule {
            encrypt: aes::Aes256::new(encrypt.into()),
            pad: aes::Aes128::new(k.into()),
            r: Zeroizing::new(*r),
            #[cfg(target_arch = "x86_64")]
            wide: avx512::Wide::new(level, encrypt, r).map(Box::new),
        }))
    }

    /// Turns `plain` into ciphertext where it lies, and returns its MAC.
    #[must_use]
    pub fn seal(&self, iv: &Iv, plain: &mut [u8]) -> Tag {
        let mut sealer = self.sealer(iv);
        sealer.update(plain);
        sealer.finish()
    }

    /// Checks the MAC of ciphertext.
    ///
    /// # Errors
    /// When `tag` is not its MAC.
    pub fn verify(&self, iv: &Iv, sealed: &[u8], tag: &Tag) -> Result<(), WrongMac> {
        let mut mac = self.mac(iv);
        mac.update(sealed);
        mac.verify(tag)
    }

    /// Begins to seal what comes in pieces.
    #[must_use]
    pub fn sealer(&self, iv: &Iv) -> Sealer {
        Sealer { cipher: Cipher::new(self, iv), mac: self.mac(iv) }
    }

    /// Begins to decrypt what comes in pieces, without a look at its MAC.
    #[must_use]
    pub fn opener(&self, iv: &Iv) -> Opener {
        Opener(Cipher::new(self, iv))
    }

    /// Begins the MAC of ciphertext that comes in pieces.
    #[must_use]
    pub fn mac(&self, iv: &Iv) -> Mac {
        let mut pad = Zeroizing::new(*iv);
        self.0.pad.encrypt_block((&mut *pad).into());
        Mac::new(self, &pad)
    }
}

/// Seals in pieces.
pub struct Sealer {
    cipher: Cipher,
    mac: Mac,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// Turns the next piece of any length into ciphertext where it lies.
    pub fn update(&mut self, piece: &mut [u8]) {
        let to_block = self.mac.to_block().min(piece.len());
        let (first, mut piece) = piece.split_at_mut(to_block);
        self.one_after_the_other(first);
        #[cfg(target_arch = "x86_64")]
        {
            let done = avx512::seal(&mut self.cipher, &mut self.mac, piece);
            piece = &mut piece[done..];
        }
        for window in piece.chunks_mut(WINDOW) {
            self.one_after_the_other(window);
        }
    }

    fn one_after_the_other(&mut self, window: &mut [u8]) {
        self.cipher.apply(window);
        self.mac.update(window);
    }

    /// The MAC of all pieces.
    #[must_use]
    pub fn finish(self) -> Tag {
        self.mac.finish()
    }
}
