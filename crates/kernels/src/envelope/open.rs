//! Opening: checking and decrypting in one pass.

use super::cipher::Cipher;
use super::{Iv, Key, Mac, Tag, WINDOW, WrongMac};

impl Key {
    /// Turns `sealed` into plain bytes where it lies. It is left as it was when the MAC is wrong.
    ///
    /// # Errors
    /// When `tag` is not its MAC.
    pub fn open(&self, iv: &Iv, sealed: &mut [u8], tag: &Tag) -> Result<(), WrongMac> {
        let (mut cipher, mut mac) = (Cipher::new(self, iv), self.mac(iv));
        let done = open_wide(&mut cipher, &mut mac, sealed);
        mac.update(&sealed[done..]);
        if let Err(wrong) = mac.verify(tag) {
            // Nothing that was decrypted is let out: enciphered again it is what it was.
            Cipher::new(self, iv).apply(&mut sealed[..done]);
            return Err(wrong);
        }
        cipher.apply(&mut sealed[done..]);
        Ok(())
    }

    /// Makes `plain` what is in `sealed`, and all zeros when the MAC is wrong.
    ///
    /// # Errors
    /// When `tag` is not the MAC of `sealed`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn open_to(
        &self,
        iv: &Iv,
        sealed: &[u8],
        tag: &Tag,
        plain: &mut [u8],
    ) -> Result<(), WrongMac> {
        assert_eq!(sealed.len(), plain.len(), "what is opened is as long as what was sealed");
        let (mut cipher, mut mac) = (Cipher::new(self, iv), self.mac(iv));
        let done = open_wide_to(&mut cipher, &mut mac, sealed, plain);
        mac.update(&sealed[done..]);
        if let Err(wrong) = mac.verify(tag) {
            plain.fill(0);
            return Err(wrong);
        }
        for (from, to) in sealed[done..].chunks(WINDOW).zip(plain[done..].chunks_mut(WINDOW)) {
            to.copy_from_slice(from);
            cipher.apply(to);
        }
        Ok(())
    }
}

/// Hashes and decrypts as much as goes through both loops at once; returns how many bytes that were.
#[cfg(target_arch = "x86_64")]
fn open_wide(cipher: &mut Cipher, mac: &mut Mac, bytes: &mut [u8]) -> usize {
    super::avx512::open(cipher, mac, bytes)
}

/// As [`open_wide`], from one place to another.
#[cfg(target_arch = "x86_64")]
fn open_wide_to(cipher: &mut Cipher, mac: &mut Mac, sealed: &[u8], plain: &mut [u8]) -> usize {
    super::avx512::open_to(cipher, mac, sealed, plain)
}

#[cfg(not(target_arch = "x86_64"))]
fn open_wide(_: &mut Cipher, _: &mut Mac, _: &mut [u8]) -> usize {
    0
}

#[cfg(not(target_arch = "x86_64"))]
fn open_wide_to(_: &mut Cipher, _: &mut Mac, _: &[u8], _: &mut [u8]) -> usize {
    0
}
