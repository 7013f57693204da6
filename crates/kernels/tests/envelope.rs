//! The envelope kernels give what the crates `aes`, `ctr` and `poly1305` give, at every level of this
//! processor.

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _, KeyIvInit as _, StreamCipher as _};
use alidade_kernels::Level;
use alidade_kernels::envelope::{Iv, Key, Tag, WrongMac};
use proptest::prelude::*;

struct Parts {
    encrypt: [u8; 32],
    k: [u8; 16],
    r: [u8; 16],
}

impl Parts {
    fn from_seed(seed: u64) -> Self {
        let mut parts = Self { encrypt: [0; 32], k: [0; 16], r: [0; 16] };
        let bytes = noise(64, seed);
        parts.encrypt.copy_from_slice(&bytes[..32]);
        parts.k.copy_from_slice(&bytes[32..48]);
        parts.r.copy_from_slice(&bytes[48..]);
        parts
    }

    fn at(&self, level: Level) -> Key {
        Key::at(level, &self.encrypt, &self.k, &self.r)
    }

    /// By the crates, in one piece.
    fn expected(&self, iv: &Iv, plain: &[u8]) -> (Vec<u8>, Tag) {
        let mut sealed = plain.to_vec();
        ctr::Ctr128BE::<aes::Aes256>::new(&self.encrypt.into(), &(*iv).into())
            .apply_keystream(&mut sealed);
        let mut pad = (*iv).into();
        aes::Aes128::new(&self.k.into()).encrypt_block(&mut pad);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.r);
        key[16..].copy_from_slice(&pad);
        let tag = poly1305::Poly1305::new(&key.into()).compute_unpadded(&sealed);
        (sealed, tag.into())
    }
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15);
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next).take(len / 8 + 1).flatten().collect();
    bytes.truncate(len);
    bytes
}

/// Seals and opens `plain`, which lies at an address of any alignment, in one piece and in pieces
/// of these lengths.
fn check(parts: &Parts, iv: &Iv, plain: &[u8], pieces: &[usize]) {
    let (sealed, tag) = parts.expected(iv, plain);
    for level in Level::available() {
        let key = parts.at(level);
        let name = level.name();
        for misaligned in [0, 1, 15] {
            let mut room = vec![0; plain.len() + misaligned];
            let buffer = &mut room[misaligned..];
            buffer.copy_from_slice(plain);
            assert_eq!(key.seal(iv, buffer), tag, "MAC of {} at {name}", plain.len());
            assert_eq!(buffer, sealed, "ciphertext of {} at {name}", plain.len());
            let mut opened = vec![0xaa; plain.len() + misaligned];
            assert_eq!(key.open_to(iv, buffer, &tag, &mut opened[misaligned..]), Ok(()));
            assert_eq!(&opened[misaligned..], plain, "opened of {} at {name}", plain.len());
            assert_eq!(key.open(iv, buffer, &tag), Ok(()));
            assert_eq!(buffer, plain, "plain bytes of {} at {name}", plain.len());
        }
        let mut buffer = plain.to_vec();
        let mut sealer = key.sealer(iv);
        in_pieces(&mut buffer, pieces, |piece| sealer.update(piece));
        assert_eq!(buffer, sealed, "{name}");
        assert_eq!(sealer.finish(), tag, "{name}");
        let (mut mac, mut opener) = (key.mac(iv), key.opener(iv));
        in_pieces(&mut buffer, pieces, |piece| {
            mac.update(piece);
            opener.update(piece);
        });
        assert_eq!(buffer, plain, "{name}");
        assert_eq!(mac.verify(&tag), Ok(()), "{name}");
    }
}

fn in_pieces(mut rest: &mut [u8], pieces: &[usize], mut each: impl FnMut(&mut [u8])) {
    for len in pieces {
        let (piece, others) = rest.split_at_mut((*len).min(rest.len()));
        each(piece);
        rest = others;
    }
    each(rest);
}

#[test]
fn whatever_its_length_what_is_sealed_is_what_the_crates_seal() {
    let parts = Parts::from_seed(1);
    let bytes = noise(70_000, 2);
    for len in (0..=1100).chain([4095, 4096, 4097, 8191, 8192, 8193, 16_383, 65_537]) {
        check(&parts, &[9; 16], &bytes[..len], &[3, 13, 16, 0, 500, 512, 1]);
    }
}

#[test]
fn a_mebibyte_is_sealed_as_the_crates_seal_it() {
    let bytes = noise(1 << 20, 3);
    check(&Parts::from_seed(4), &[7; 16], &bytes, &[1 << 19, 12_345]);
}

#[test]
fn the_counter_carries_through_all_128_bits() {
    let parts = Parts::from_seed(5);
    let bytes = noise(3000, 6);
    for before_the_end in 0..=70u128 {
        for highest in [u128::MAX, u128::from(u64::MAX), u128::MAX >> 1, 0xffff_ffff] {
            let iv = (highest - before_the_end).to_be_bytes();
            check(&parts, &iv, &bytes, &[100, 700]);
        }
    }
}

#[test]
fn sums_near_the_modulus_are_reduced_as_the_crate_reduces_them() {
    // Blocks of ones and tiny r bring the sum next to 2^130 - 5; blocks are chosen as ciphertext, so
    // only the MAC is compared.
    for r in [[0; 16], [0xff; 16], one(0), one(4), one(9), one(15)] {
        let parts = Parts { encrypt: [1; 32], k: [2; 16], r };
        for byte in [0, 1, 0xfa, 0xfb, 0xff] {
            for len in [0, 1, 15, 16, 17, 32, 48, 127, 128, 129, 255, 256, 512, 640, 1024, 4096] {
                let mut sealed = vec![byte; len];
                for last in [byte, 0xfb, 0xff] {
                    if let Some(end) = sealed.last_mut() {
                        *end = last;
                    }
                    let mut mac = parts.at(Level::PORTABLE).mac(&[3; 16]);
                    mac.update(&sealed);
                    let tag = mac.finish();
                    for level in Level::available() {
                        assert_eq!(
                            parts.at(level).verify(&[3; 16], &sealed, &tag),
                            Ok(()),
                            "{r:?} {byte} {len}"
                        );
                    }
                }
            }
        }
    }
}

fn one(at: usize) -> [u8; 16] {
    let mut r = [0; 16];
    r[at] = 1;
    r
}

#[test]
fn any_changed_bit_is_noticed_and_nothing_is_decrypted() {
    let parts = Parts::from_seed(8);
    for len in [1, 16, 100, 512, 700, 1100] {
        let (sealed, tag) = parts.expected(&[5; 16], &noise(len, 9));
        for level in Level::available() {
            let key = parts.at(level);
            for bit in 0..len * 8 {
                let mut bad = sealed.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                let before = bad.clone();
                let mut opened = vec![7; len];
                assert_eq!(key.open_to(&[5; 16], &bad, &tag, &mut opened), Err(WrongMac));
                assert_eq!(opened, vec![0; len]);
                assert_eq!(key.open(&[5; 16], &mut bad, &tag), Err(WrongMac));
                assert_eq!(bad, before);
            }
            for bit in 0..128 {
                let mut bad = tag;
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(key.verify(&[5; 16], &sealed, &bad), Err(WrongMac));
            }
        }
    }
}

#[test]
fn nothing_prints_a_key() {
    let key = Parts::from_seed(1).at(Level::PORTABLE);
    assert_eq!(format!("{key:?} {:?}", key.sealer(&[1; 16])), "Key(…) Sealer(…)");
    assert_eq!(format!("{:?} {:?}", key.opener(&[1; 16]), key.mac(&[1; 16])), "Opener(…) Mac(…)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_key_iv_bytes_and_pieces_seal_as_the_crates_do(
        seed in any::<u64>(),
        iv in any::<[u8; 16]>(),
        len in prop_oneof![0usize..=300, 0usize..20_000],
        pieces in prop::collection::vec(prop_oneof![0usize..40, 0usize..3000], 0..12),
    ) {
        check(&Parts::from_seed(seed), &iv, &noise(len, seed ^ 1), &pieces);
    }
}
