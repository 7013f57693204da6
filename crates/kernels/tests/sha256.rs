//! The hash kernels give what the crate `sha2` gives, at every level of this processor.

use alidade_kernels::{Level, Queue, Sha256, hash_together, sha256, sha256_many_at};
use proptest::prelude::*;
use sha2::Digest as _;

fn expected(message: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(message).into()
}

/// Bytes that follow from `seed` and look random.
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

fn check(messages: &[&[u8]]) {
    let expected: Vec<_> = messages.iter().map(|message| expected(message)).collect();
    for level in Level::available() {
        let mut digests = vec![[0xaa; 32]; messages.len()];
        sha256_many_at(level, messages, &mut digests);
        assert_eq!(digests, expected, "{}", level.name());
    }
}

#[test]
fn a_message_alone_has_its_hash_whatever_its_length() {
    let bytes = noise(400, 1);
    for len in 0..=300 {
        for start in [0, 1, 7] {
            check(&[&bytes[start..start + len]]);
        }
        assert_eq!(sha256(&bytes[..len]), expected(&bytes[..len]));
    }
}

#[test]
fn any_number_of_messages_has_its_hashes() {
    let bytes = noise(1000, 2);
    for count in 0..=70 {
        let messages: Vec<&[u8]> = (0..count).map(|n| &bytes[n..n + n * 131 % 900]).collect();
        check(&messages);
        let alike: Vec<&[u8]> = (0..count).map(|n| &bytes[n..n + 640]).collect();
        check(&alike);
    }
}

#[test]
fn very_long_beside_very_short_messages_have_their_hashes() {
    let bytes = noise((3 << 20) + 5, 3);
    let mut messages: Vec<&[u8]> = vec![&bytes, &bytes[3..1 << 20], b""];
    messages.extend(bytes.chunks(977).take(61));
    check(&messages);
}

#[test]
fn messages_that_do_not_fill_the_lanes_wait_as_far_as_there_is_room() {
    let bytes = noise(1 << 20, 4);
    for level in Level::available() {
        let waits = level.name() == "avx512";
        for (room, waiting) in [(0, 0), (5 << 18, 5), (9 << 18, 8)] {
            let mut queue = Queue::at(level, room);
            let mut done = 0;
            let messages = bytes.chunks(1 << 18).cycle().take(8).map(|message| ((), message));
            queue.hash(messages, &mut [], |(), _| done += 1);
            assert_eq!(done, if waits { 8 - waiting } else { 8 }, "{}", level.name());
            queue.finish(|(), _| done += 1);
            assert_eq!(done, 8);
        }
    }
}

#[test]
fn no_message_is_no_work() {
    check(&[]);
}

#[test]
#[should_panic(expected = "each message has its place")]
fn fewer_places_than_messages_are_refused() {
    sha256_many_at(Level::PORTABLE, &[b"a", b"b"], &mut [[0; 32]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_of_any_lengths_have_their_hashes(
        lengths in prop_oneof![
            prop::collection::vec(0usize..=300, 0..=70),
            prop::collection::vec(prop_oneof![Just(0), 55usize..=57, 63usize..=65, 119usize..=129], 0..=40),
            prop::collection::vec(0usize..100_000, 0..=24),
        ],
        seed in any::<u64>(),
        misaligned in 0usize..64,
    ) {
        let bytes = noise(lengths.iter().sum::<usize>() + misaligned, seed);
        let mut rest = &bytes[misaligned..];
        let mut messages = Vec::new();
        for len in lengths {
            let (message, others) = rest.split_at(len);
            messages.push(message);
            rest = others;
        }
        check(&messages);
    }

    #[test]
    fn messages_that_wait_have_their_hashes_in_the_end(
        calls in prop::collection::vec(
            prop::collection::vec(prop_oneof![0usize..300, 0usize..9000, 0usize..200_000], 0..24), 0..6),
        room in prop_oneof![Just(0), 0usize..2_000_000],
        seed in any::<u64>(),
    ) {
        let bytes = noise(200_100, seed);
        for level in Level::available() {
            let mut queue = Queue::at(level, room);
            let (mut given, mut got) = (0, Vec::new());
            for lengths in &calls {
                let messages: Vec<&[u8]> = lengths.iter().map(|len| &bytes[len % 64..][..*len]).collect();
                let named = messages.into_iter().zip(given..).map(|(message, n)| ((n, message.to_vec()), message));
                given += lengths.len();
                queue.hash(named, &mut [], |tag, digest| got.push((tag, digest)));
            }
            queue.finish(|tag, digest| got.push((tag, digest)));
            got.sort_unstable();
            prop_assert_eq!(got.len(), given);
            for (number, ((name, message), digest)) in got.into_iter().enumerate() {
                prop_assert_eq!(name, number);
                prop_assert_eq!(digest, expected(&message));
            }
            queue.finish(|_, _| panic!("nothing waits any more"));
        }
    }

    #[test]
    fn streams_split_anyhow_and_hashed_beside_messages_have_their_hashes(
        pieces in prop::collection::vec(
            prop::collection::vec(prop_oneof![0usize..200, 0usize..5000], 0..20), 0..6),
        messages in prop::collection::vec(0usize..3000, 0..20),
        seed in any::<u64>(),
    ) {
        let contents: Vec<Vec<u8>> = pieces.iter().zip(seed..)
            .map(|(pieces, seed)| noise(pieces.iter().sum(), seed)).collect();
        let bytes = noise(3000, seed ^ 7);
        let messages: Vec<&[u8]> = messages.iter().map(|len| &bytes[..*len]).collect();
        let hashes: Vec<_> = messages.iter().map(|message| expected(message)).collect();
        for level in Level::available() {
            let mut streams = vec![Sha256::at(level); pieces.len()];
            let mut rest: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
            for round in 0..pieces.iter().map(Vec::len).max().unwrap_or(0) {
                let mut together: Vec<(&mut Sha256, &[u8])> = Vec::new();
                for ((stream, rest), pieces) in streams.iter_mut().zip(&mut rest).zip(&pieces) {
                    let Some(len) = pieces.get(round) else { continue };
                    let (piece, others) = rest.split_at(*len);
                    *rest = others;
                    together.push((stream, piece));
                }
                if round % 2 == 0 {
                    Sha256::update_many(&mut together);
                } else {
                    let mut digests = vec![[0; 32]; messages.len()];
                    hash_together(&messages, &mut digests, &mut together);
                    prop_assert_eq!(&digests, &hashes);
                }
            }
            for (stream, content) in streams.into_iter().zip(&contents) {
                let mut alone = Sha256::at(level);
                for piece in content.chunks(97) {
                    alone.update(piece);
                }
                prop_assert_eq!(alone.finish(), expected(content));
                prop_assert_eq!(stream.finish(), expected(content));
            }
        }
    }
}
