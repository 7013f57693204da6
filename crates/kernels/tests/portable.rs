//! What Miri can run: the portable twins and the code around the kernels, on little content.
//!
//! `cargo +nightly miri test -p alidade-kernels portable`

use alidade_kernels::envelope::{Key, WrongMac};
use alidade_kernels::gear::{Gear, WINDOW};
use alidade_kernels::{Level, Sha256, hash_together, is_zero, sha256_many_at};
use sha2::Digest as _;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + 3).to_le_bytes()[0]).collect()
}

#[test]
fn portable_messages_and_streams_are_hashed_together() {
    let bytes = pattern(300);
    let messages: Vec<&[u8]> = [0, 1, 63, 64, 130].map(|len| &bytes[..len]).to_vec();
    let expected: Vec<[u8; 32]> =
        messages.iter().map(|message| sha2::Sha256::digest(message).into()).collect();
    let mut digests = [[0; 32]; 5];
    sha256_many_at(Level::PORTABLE, &messages, &mut digests);
    assert_eq!(digests, *expected);
    let mut streams = [Sha256::at(Level::PORTABLE), Sha256::at(Level::PORTABLE)];
    let [one, other] = &mut streams;
    hash_together(&messages, &mut digests, &mut [(one, &bytes[..70]), (other, &bytes[..3])]);
    let [mut one, other] = streams;
    one.update(&bytes[70..]);
    assert_eq!(digests, *expected);
    assert_eq!(one.finish(), *sha2::Sha256::digest(&bytes));
    assert_eq!(other.finish(), *sha2::Sha256::digest(&bytes[..3]));
}

#[test]
fn portable_envelopes_open_and_notice_a_change() {
    let key = Key::at(Level::PORTABLE, &[1; 32], &[2; 16], &[3; 16]);
    let plain = pattern(100);
    let mut buffer = plain.clone();
    let tag = key.seal(&[4; 16], &mut buffer);
    let mut sealer = key.sealer(&[4; 16]);
    let mut in_two = plain.clone();
    let (front, back) = in_two.split_at_mut(37);
    sealer.update(front);
    sealer.update(back);
    assert_eq!((sealer.finish(), &in_two), (tag, &buffer));
    assert_eq!(key.open(&[4; 16], &mut buffer, &tag), Ok(()));
    assert_eq!(buffer, plain);
    assert_eq!(key.open(&[4; 16], &mut buffer, &tag), Err(WrongMac));
}

#[test]
fn portable_scans_find_the_first_place() {
    let mut table = Box::new([0x9E37_79B9_7F4A_7C15; 256]);
    table[0] = 0;
    let mut content = vec![1; 20_000];
    content[18_000..18_064].fill(0);
    assert_eq!(Gear::new(table).find(&content, WINDOW, usize::MAX, 40), Some(18_064));
    assert!(is_zero(&content[18_000..18_064]));
    assert!(!is_zero(&content));
}
