use crate::envelope::Key;
use crate::{Level, sha256_many_at};

/// A kernel gave a wrong answer to a question whose answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// At which level.
    pub level: Level,
    /// Which kernel.
    pub kernel: &'static str,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the {} kernel gives wrong results at level {}", self.kernel, self.level.name())
    }
}

impl std::error::Error for Broken {}

/// Asks every kernel at `level` questions whose answers are known.
///
/// # Errors
/// The first kernel that answers wrong.
pub fn self_test(level: Level) -> Result<(), Broken> {
    match TESTS.into_iter().find(|(_, is_right)| !is_right(level)) {
        Some((kernel, _)) => Err(Broken { level, kernel }),
        None => Ok(()),
    }
}

/// A kernel and how to ask it.
type Test = (&'static str, fn(Level) -> bool);

const TESTS: [Test; 2] = [("sha256", sha256_is_right), ("envelope", envelope_is_right)];

/// The bytes the tests run on: `n * 7 + 3`, modulo 256, is byte `n`.
const fn pattern<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        bytes[at] = (at * 7 + 3).to_le_bytes()[0];
        at += 1;
    }
    bytes
}

/// Forty messages of mixed lengths, so that every lane is filled, emptied and filled again; the
/// answers are hashed together.
fn sha256_is_right(level: Level) -> bool {
    const BYTES: [u8; 1024] = pattern();
    const COUNT: usize = 40;
    let messages: [&[u8]; COUNT] = std::array::from_fn(|at| &BYTES[at..at + at * 67 % 900]);
    let mut digests = [[0; 32]; COUNT];
    sha256_many_at(level, &messages, &mut digests);
    let mut digest = [[0; 32]];
    sha256_many_at(level, &[digests.as_flattened()], &mut digest);
    digest[0] == SHA256_ANSWER
}

/// A message that runs through every loop of both kernels, in one piece and in two, under an IV whose
/// counter carries; and its way back.
fn envelope_is_right(level: Level) -> bool {
    const PLAIN: [u8; 1500] = pattern();
    let iv = (u128::MAX - 40).to_be_bytes();
    let key = Key::at(level, &pattern(), &pattern(), &[0xff; 16]);
    let mut sealed = PLAIN;
    let tag = key.seal(&iv, &mut sealed);
    let mut in_two = PLAIN;
    let mut sealer = key.sealer(&iv);
    let (front, back) = in_two.split_at_mut(777);
    sealer.update(front);
    sealer.update(back);
    let mut digest = [[0; 32]];
    sha256_many_at(Level::PORTABLE, &[&sealed], &mut digest);
    digest[0] == ENVELOPE_ANSWER.0
        && tag == ENVELOPE_ANSWER.1
        && (in_two, sealer.finish()) == (sealed, tag)
        && key.open(&iv, &mut in_two, &tag).is_ok()
        && in_two == PLAIN
        && key.verify(&iv, &sealed, &[0; 16]).is_err()
}

/// The SHA-256 of the ciphertext, and the MAC.
const ENVELOPE_ANSWER: ([u8; 32], [u8; 16]) = (
    [
        0xb2, 0x95, 0x6b, 0x50, 0x1e, 0xa9, 0x27, 0x7a, 0x60, 0xdb, 0x33, 0xe6, 0x43, 0x43, 0x3d,
        0xe4, 0x4d, 0xee, 0xfc, 0x79, 0x23, 0xa4, 0x43, 0xfa, 0x61, 0xee, 0x6a, 0x18, 0x4c, 0xd6,
        0xeb, 0x97,
    ],
    [
        0x57, 0xcf, 0x1d, 0xb7, 0xb4, 0x72, 0x29, 0x99, 0xe5, 0x5f, 0x90, 0x6b, 0x88, 0x84, 0xfd,
        0x45,
    ],
);

const SHA256_ANSWER: [u8; 32] = [
    0xc5, 0x18, 0x73, 0x4b, 0x1e, 0x5e, 0x26, 0xb9, 0x8c, 0x8e, 0x4e, 0xb5, 0x1c, 0x75, 0xe1, 0x2e,
    0xa6, 0x2a, 0x5e, 0x0f, 0x9c, 0xe6, 0xa2, 0xaa, 0x44, 0xe9, 0x71, 0x3d, 0x2e, 0x17, 0xce, 0xd6,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_of_this_processor_gives_the_known_answers() {
        for level in Level::available() {
            assert_eq!(self_test(level), Ok(()), "{}", level.name());
        }
        assert_eq!(Level::broken(), None);
        assert_eq!(Some(Level::detect()), Level::available().last());
    }

    #[test]
    fn the_known_answers_are_those_of_the_crates() {
        use sha2::{Digest as _, Sha256};
        const BYTES: [u8; 1024] = pattern();
        let digests: Vec<[u8; 32]> =
            (0..40).map(|at| Sha256::digest(&BYTES[at..at + at * 67 % 900]).into()).collect();
        assert_eq!(Sha256::digest(digests.as_flattened()), SHA256_ANSWER);

        use aes::cipher::{
            BlockCipherEncrypt as _, KeyInit as _, KeyIvInit as _, StreamCipher as _,
        };
        let iv = (u128::MAX - 40).to_be_bytes();
        let mut sealed: [u8; 1500] = pattern();
        ctr::Ctr128BE::<aes::Aes256>::new(&pattern::<32>().into(), &iv.into())
            .apply_keystream(&mut sealed);
        let mut pad = iv.into();
        aes::Aes128::new(&pattern::<16>().into()).encrypt_block(&mut pad);
        let mut key = [0xff; 32];
        key[16..].copy_from_slice(&pad);
        let tag: [u8; 16] = poly1305::Poly1305::new(&key.into()).compute_unpadded(&sealed).into();
        assert_eq!((Sha256::digest(sealed).into(), tag), ENVELOPE_ANSWER);
    }
}
