//! The gear kernel finds the places that the definition of the hash gives.

use alidade_kernels::gear::{Gear, WINDOW};
use alidade_kernels::is_zero;
use proptest::prelude::*;

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

fn table(seed: u64) -> Box<[u64; 256]> {
    let mut table = Box::new([0; 256]);
    for (entry, bytes) in table.iter_mut().zip(noise(256 * 8, seed).as_chunks().0).skip(1) {
        *entry = u64::from_le_bytes(*bytes);
    }
    table
}

/// By the definition, one place after another.
fn expected(table: &[u64; 256], data: &[u8], from: usize, to: usize, zeros: u32) -> Option<usize> {
    (from..=to.min(data.len())).find(|place| {
        let window = &data[place - WINDOW..*place];
        let hash = window
            .iter()
            .fold(0u64, |hash, byte| hash.wrapping_mul(2).wrapping_add(table[usize::from(*byte)]));
        hash.leading_zeros() >= zeros
    })
}

fn check(seed: u64, data: &[u8], from: usize, to: usize, zeros: u32) {
    let table = table(seed);
    let expected = expected(&table, data, from, to, zeros);
    let found = Gear::new(table).find(data, from, to, zeros);
    assert_eq!(found, expected, "from {from} to {to}, {zeros} zeros");
}

#[test]
fn every_place_is_found_one_after_another() {
    let data = noise(40_000, 1);
    for zeros in [1, 5, 9, 12] {
        let table = table(2);
        let mut from = WINDOW;
        while let Some(place) = expected(&table, &data, from, data.len(), zeros) {
            let found = Gear::new(table.clone()).find(&data, from, data.len(), zeros);
            assert_eq!(found, Some(place), "from {from}");
            from = place + if zeros < 5 { 997 } else { 1 };
        }
        check(2, &data, from, data.len(), zeros);
    }
}

#[test]
fn a_place_is_found_wherever_it_lies_and_whatever_the_ends_are() {
    // Zeros hash to zero, so a place lies 64 bytes into them; the rest hashes to what has no zeros.
    let mut table = Box::new([0; 256]);
    table[1] = 0x9E37_79B9_7F4A_7C15;
    for zeros_at in (0..5000).chain((30_000..36_000).step_by(7)).step_by(11) {
        let mut data = vec![1; 37_000];
        data[zeros_at..zeros_at + 64].fill(0);
        let place = Some(zeros_at + 64);
        let gear = Gear::new(table.clone());
        assert_eq!(gear.find(&data, WINDOW, data.len(), 40), place);
        assert_eq!(gear.find(&data, WINDOW, zeros_at + 64, 40), place);
        assert_eq!(gear.find(&data, zeros_at + 64, usize::MAX, 40), place);
        assert_eq!(gear.find(&data, WINDOW, zeros_at + 63, 40), None);
        assert_eq!(gear.find(&data, zeros_at + 65, data.len(), 40), None);
        assert_eq!(gear.find(&data[..zeros_at + 63], WINDOW, usize::MAX, 40), None);
    }
}

#[test]
fn nothing_is_zero_too() {
    for len in (0..400).chain([4095, 4096, 4097, 1 << 16]) {
        for start in [0, 1, 7] {
            let mut bytes = vec![0; len + start];
            assert!(is_zero(&bytes[start..]));
            for at in (start..len + start).step_by(1 + len / 300) {
                bytes[at] = 0x10;
                assert!(!is_zero(&bytes[start..]), "{at} of {len}");
                assert!(is_zero(&bytes[at + 1..]));
                assert!(is_zero(&bytes[..at]));
                bytes[at] = 0;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_the_table_the_content_and_the_ends_the_place_is_the_defined_one(
        seed in any::<u64>(),
        parts in prop::collection::vec((0usize..9_000, 0u8..4), 0..12),
        zeros in 1u32..24,
        from in prop_oneof![Just(WINDOW), WINDOW..200, WINDOW..60_000],
        to in prop_oneof![Just(usize::MAX), 0usize..70_000],
        misaligned in 0usize..9,
    ) {
        let mut data = vec![0; misaligned];
        for (n, (len, kind)) in parts.into_iter().enumerate() {
            match kind {
                0 => data.extend(vec![0; len]),
                1 => data.extend(vec![0xff; len]),
                _ => data.extend(noise(len, seed ^ n as u64)),
            }
        }
        check(seed, &data[misaligned..], from, to, zeros);
    }
}
