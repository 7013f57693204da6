//! The envelope every secret byte of a repository lies in: `IV ‖ AES-256-CTR ‖ MAC`, where the MAC
//! is Poly1305 over the ciphertext, keyed by `r` and the AES-128 encryption of the IV.
//!
//! Nothing binds an envelope to its place: who opens one must also check the hash of what is in it.

use std::fmt;

use alidade_entity::Cx;
use alidade_kernels::envelope;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::decode::{DecodeError, Decoded};
use crate::{Error, Result};

/// Bytes of the IV an envelope begins with.
pub const IV_LEN: usize = 16;
/// Bytes of the MAC an envelope ends with.
pub const MAC_LEN: usize = 16;
/// Bytes an envelope is longer than what is in it.
pub const OVERHEAD: usize = IV_LEN + MAC_LEN;

/// An IV: random, never used twice under one key, never all zero.
pub type Iv = [u8; IV_LEN];
/// A MAC.
pub type Tag = [u8; MAC_LEN];

/// A key that seals and opens envelopes: the master key of a repository, or the one derived from a
/// password. Wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey {
    encrypt: [u8; 32],
    mac_k: [u8; 16],
    mac_r: [u8; 16],
    /// What follows from the others; wipes itself.
    #[zeroize(skip)]
    kernel: envelope::Key,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// A new random key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate(cx: &Cx) -> Result<Self> {
        let mut bytes = zeroize::Zeroizing::new([0; 64]);
        cx.fill(&mut bytes[..])?;
        Self::from_bytes(&bytes).ok_or_else(|| Error::System {
            attempt: "generate a key: the randomness is all zero".to_owned(),
        })
    }

    /// The key of 64 bytes in the order in which scrypt yields them: 32 for AES-256, 16 `k`, 16 `r`.
    /// `None` when a part is all zero, which restic refuses as well.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 64]) -> Option<Self> {
        let (encrypt, mac) = bytes.split_first_chunk()?;
        let (mac_k, mac_r) = (mac.first_chunk()?, mac.last_chunk()?);
        let parts: [&[u8]; 3] = [encrypt, mac_k, mac_r];
        parts.iter().all(|part| part.iter().any(|byte| *byte != 0)).then(|| Self {
            encrypt: *encrypt,
            mac_k: *mac_k,
            mac_r: *mac_r,
            kernel: envelope::Key::new(encrypt, mac_k, mac_r),
        })
    }

    /// The AES-256 key, `k` and `r`, for the key file.
    pub(crate) fn parts(&self) -> (&[u8; 32], &[u8; 16], &[u8; 16]) {
        (&self.encrypt, &self.mac_k, &self.mac_r)
    }

    /// A random IV.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random_iv(cx: &Cx) -> Result<Iv> {
        let mut iv = [0; IV_LEN];
        cx.fill(&mut iv)?;
        if iv == [0; IV_LEN] {
            return Err(Error::System {
                attempt: "generate an IV: the randomness is all zero".to_owned(),
            });
        }
        Ok(iv)
    }

    /// The envelope of `plain` under a fresh IV.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn seal(&self, cx: &Cx, plain: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(plain.len() + OVERHEAD);
        self.seal_into(cx, plain, &mut out)?;
        Ok(out)
    }

    /// Appends the envelope of `plain` under a fresh IV to `out`; returns its length.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn seal_into(&self, cx: &Cx, plain: &[u8], out: &mut Vec<u8>) -> Result<usize> {
        let mut sealer = self.sealer(Self::random_iv(cx)?)?;
        let start = out.len();
        out.extend_from_slice(sealer.iv());
        let body = out.len();
        out.extend_from_slice(plain);
        sealer.update(&mut out[body..]);
        out.extend_from_slice(&sealer.finish());
        Ok(out.len() - start)
    }

    /// Begins an envelope that is written in pieces.
    ///
    /// # Errors
    /// When the IV is all zero.
    pub fn sealer(&self, iv: Iv) -> Result<Sealer> {
        if iv == [0; IV_LEN] {
            return Err(Error::System { attempt: "seal under an IV of zeros".to_owned() });
        }
        Ok(Sealer { kernel: self.kernel.sealer(&iv), iv })
    }

    /// What is in an envelope.
    ///
    /// # Errors
    /// When it is too short, its IV is all zero, or its MAC is wrong.
    pub fn open(&self, sealed: &[u8]) -> Decoded<Vec<u8>> {
        let mut plain = vec![0; sealed.len().checked_sub(OVERHEAD).ok_or_else(too_short)?];
        self.open_to(sealed, &mut plain)?;
        Ok(plain)
    }

    /// Opens an envelope where it lies: `sealed` becomes the bytes with what was in it, to be found
    /// in the returned part. On failure nothing is changed.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_in_place<'a>(&self, sealed: &'a mut [u8]) -> Decoded<&'a mut [u8]> {
        let (iv, rest) = sealed.split_first_chunk_mut::<IV_LEN>().ok_or_else(too_short)?;
        let (body, tag) = rest.split_last_chunk_mut::<MAC_LEN>().ok_or_else(too_short)?;
        check_iv(iv)?;
        self.kernel.open(iv, body, tag).map_err(wrong_mac)?;
        Ok(body)
    }

    /// Opens an envelope into `plain`, which must be as long as what is in it. When the MAC is wrong,
    /// `plain` becomes all zeros.
    ///
    /// # Errors
    /// As [`Self::open`]; when the length is another one.
    pub fn open_to(&self, sealed: &[u8], plain: &mut [u8]) -> Decoded<()> {
        let (iv, rest) = sealed.split_first_chunk::<IV_LEN>().ok_or_else(too_short)?;
        let (body, tag) = rest.split_last_chunk::<MAC_LEN>().ok_or_else(too_short)?;
        check_iv(iv)?;
        if body.len() != plain.len() {
            let why = format!("it holds {} bytes, not {}", body.len(), plain.len());
            return Err(DecodeError::malformed(why));
        }
        self.kernel.open_to(iv, body, tag, plain).map_err(wrong_mac)
    }

    /// Begins the check of an envelope that is read in pieces.
    ///
    /// # Errors
    /// When the IV is all zero.
    pub fn verifier(&self, iv: &Iv) -> Decoded<Mac> {
        check_iv(iv)?;
        Ok(Mac { kernel: self.kernel.mac(iv) })
    }

    /// Begins the opening of an envelope that was checked before with [`Self::verifier`]. The same
    /// bytes must be read again; who cannot be sure of that checks what comes out by its hash.
    ///
    /// # Errors
    /// When the IV is all zero.
    pub fn opener(&self, iv: &Iv) -> Decoded<Opener> {
        check_iv(iv)?;
        Ok(Opener { kernel: self.kernel.opener(iv) })
    }
}

fn too_short() -> DecodeError {
    DecodeError::malformed("it is shorter than an empty envelope")
}

fn wrong_mac(_: envelope::WrongMac) -> DecodeError {
    DecodeError::malformed("its MAC is wrong")
}

/// Refuses the IV that restic refuses: all zero.
fn check_iv(iv: &Iv) -> Decoded<()> {
    if *iv == [0; IV_LEN] {
        return Err(DecodeError::malformed("its IV is all zero"));
    }
    Ok(())
}

/// The MAC of an envelope, fed in pieces of any length.
pub struct Mac {
    kernel: envelope::Mac,
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mac(…)")
    }
}

impl Mac {
    /// Adds ciphertext.
    pub fn update(&mut self, bytes: &[u8]) {
        self.kernel.update(bytes);
    }

    /// The MAC of all that was added.
    #[must_use]
    pub fn finish(self) -> Tag {
        self.kernel.finish()
    }

    /// Compares in constant time.
    ///
    /// # Errors
    /// When `tag` is not the MAC of what was added.
    pub fn verify(self, tag: &Tag) -> Decoded<()> {
        self.kernel.verify(tag).map_err(wrong_mac)
    }
}

/// Seals an envelope in pieces. Write [`Sealer::iv`], then every piece, then the MAC.
pub struct Sealer {
    kernel: envelope::Sealer,
    iv: Iv,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// The IV: the first bytes of the envelope.
    #[must_use]
    pub fn iv(&self) -> &Iv {
        &self.iv
    }

    /// Turns the next piece of any length into ciphertext where it lies.
    pub fn update(&mut self, piece: &mut [u8]) {
        self.kernel.update(piece);
    }

    /// The MAC: the last bytes of the envelope.
    #[must_use]
    pub fn finish(self) -> Tag {
        self.kernel.finish()
    }
}

/// Decrypts, in pieces, what a [`Mac`] has verified before.
pub struct Opener {
    kernel: envelope::Opener,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener(…)")
    }
}

impl Opener {
    /// Turns the next piece of ciphertext, of any length, into plain bytes where it lies.
    pub fn update(&mut self, piece: &mut [u8]) {
        self.kernel.update(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alidade_entity::Cancel;

    fn cx() -> Cx {
        Cx::system(Cancel::default())
    }

    fn key() -> MasterKey {
        let mut bytes = [0; 64];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::try_from(at).unwrap() + 1;
        }
        MasterKey::from_bytes(&bytes).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_and_any_changed_bit_is_noticed() {
        let key = key();
        for len in [0, 1, 15, 16, 17, 31, 32, 100, 4096, 8192, 8193, 20_000] {
            let plain = vec![7; len];
            let sealed = key.seal(&cx(), &plain).unwrap();
            assert_eq!(sealed.len(), len + OVERHEAD);
            assert_eq!(key.open(&sealed).unwrap(), plain);
            assert_eq!(key.open_in_place(&mut sealed.clone()).unwrap(), plain);
            let mut other = vec![7; plain.len()];
            key.open_to(&sealed, &mut other).unwrap();
            assert_eq!(other, plain);
            let mut longer = vec![7; plain.len() + 1];
            assert!(key.open_to(&sealed, &mut longer).is_err());
            assert!(longer.iter().all(|byte| *byte == 7));
            for at in (0..sealed.len()).step_by(sealed.len() / 9) {
                let mut bad = sealed.clone();
                bad[at] ^= 0x10;
                assert!(key.open(&bad).is_err(), "byte {at} of {len}");
                let before = bad.clone();
                assert!(key.open_to(&bad, &mut other).is_err());
                assert_eq!(other, vec![0; len], "nothing is let out");
                other.fill(7);
                assert!(key.open_in_place(&mut bad).is_err());
                assert_eq!(bad, before, "nothing stays decrypted");
            }
        }
    }

    #[test]
    fn too_short_an_envelope_is_refused() {
        for len in 0..OVERHEAD {
            assert!(key().open(&vec![1; len]).is_err(), "{len}");
        }
    }

    #[test]
    fn pieces_of_any_length_make_the_same_envelope_as_one_piece() {
        let plain: Vec<u8> = (0..1000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for step in [1, 3, 16, 17, 64, 999] {
            let mut sealer = key().sealer([9; IV_LEN]).unwrap();
            let mut sealed = sealer.iv().to_vec();
            for piece in plain.chunks(step) {
                let mut piece = piece.to_vec();
                sealer.update(&mut piece);
                sealed.extend_from_slice(&piece);
            }
            sealed.extend_from_slice(&sealer.finish());
            assert_eq!(key().open(&sealed).unwrap(), plain, "step {step}");

            let mut mac = key().verifier(&[9; IV_LEN]).unwrap();
            let mut opener = key().opener(&[9; IV_LEN]).unwrap();
            let mut body = sealed[IV_LEN..sealed.len() - MAC_LEN].to_vec();
            for piece in body.chunks_mut(step) {
                mac.update(piece);
                opener.update(piece);
            }
            assert_eq!(body, plain);
            mac.verify(sealed.last_chunk().unwrap()).unwrap();
        }
    }

    #[test]
    fn keys_and_ivs_of_zeros_are_refused() {
        assert!(MasterKey::from_bytes(&[0; 64]).is_none());
        for part in [0..32, 32..48, 48..64] {
            let mut bytes = [1; 64];
            bytes[part].fill(0);
            assert!(MasterKey::from_bytes(&bytes).is_none());
        }
        assert!(key().sealer([0; IV_LEN]).is_err());
        assert!(key().opener(&[0; IV_LEN]).is_err());
        let mut sealed = key().seal(&cx(), b"x").unwrap();
        sealed[..IV_LEN].fill(0);
        assert!(key().open(&sealed).is_err());
    }

    #[test]
    fn a_key_never_prints_itself() {
        assert_eq!(format!("{:?}", key()), "MasterKey(…)");
    }
}
