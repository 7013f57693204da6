//! The key stream: AES-256 in counter mode.

use aes::cipher::{InnerIvInit as _, StreamCipher as _, StreamCipherCoreWrapper};
use ctr::flavors::Ctr128BE;

use super::{Iv, Key};

type Portable = StreamCipherCoreWrapper<ctr::CtrCore<aes::Aes256, Ctr128BE>>;

/// Decrypts in pieces. Who uses it has checked the MAC before, or checks by other means what comes
/// out.
pub struct Opener(pub(super) Cipher);

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opener(…)")
    }
}

impl Opener {
    /// Turns the next piece of ciphertext, of any length, into plain bytes where it lies.
    pub fn update(&mut self, piece: &mut [u8]) {
        self.0.apply(piece);
    }
}

/// The key stream of one IV, and how far it is used.
pub(super) enum Cipher {
    Portable(Box<Portable>),
    #[cfg(target_arch = "x86_64")]
    Wide(super::avx512::Stream),
}

impl Cipher {
    pub(super) fn new(key: &Key, iv: &Iv) -> Self {
        #[cfg(target_arch = "x86_64")]
        if key.0.wide.is_some() {
            return Self::Wide(super::avx512::Stream::new(key.clone(), iv));
        }
        let core = ctr::CtrCore::inner_iv_init(key.0.encrypt.clone(), iv.into());
        Self::Portable(Box::new(Portable::from_core(core)))
    }

    /// Adds the next bytes of the key stream to `bytes`.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        match self {
            Self::Portable(stream) => stream.apply_keystream(bytes),
            #[cfg(target_arch = "x86_64")]
            Self::Wide(stream) => stream.apply(bytes),
        }
    }
}
