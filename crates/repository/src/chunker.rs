//! Where a file is cut into blobs: content-defined, by a gear hash whose table is a secret of the
//! repository.
//!
//! A cut lies where the hash of the 64 bytes before it has enough leading zero bits. So equal
//! content is cut at equal places, wherever it lies in a file, and a change moves only the cuts near
//! it. Readers need to know none of this.
//!
//! The table: entry `b` is the first eight bytes, little-endian, of HMAC-SHA256 with the lower-case
//! hex text of the repository's polynomial as the key and `alidade gear 1` followed by the byte `b`
//! as the message. Entry 0 is 0 instead: then the hash of 64 zero bytes is 0, and a run of zeros is
//! cut into blobs of exactly [`MIN_CHUNK`] bytes. That one blob is what `restic restore --sparse`
//! looks for.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::rabin::{Fingerprint, Rabin};

/// No chunk is shorter, save the last of a file.
pub const MIN_CHUNK: usize = 512 << 10;
/// The length that chunks are drawn to.
pub const AVG_CHUNK: usize = 1 << 20;
/// No chunk is longer.
pub const MAX_CHUNK: usize = 8 << 20;

/// Zero bits that a hash begins with where a cut is. Normalised chunking, level 2: two bits more than
/// the average asks for before it is reached, two bits less after. So few chunks are much longer than
/// others: a small change makes less new, and chunks that are hashed side by side end together.
const ZEROS_BEFORE_AVG: u32 = AVG_CHUNK.ilog2() + 2;
const ZEROS_AFTER_AVG: u32 = AVG_CHUNK.ilog2() - 2;

/// The secret table that decides where content is cut.
#[derive(Clone)]
pub struct Gear {
    kernel: alidade_kernels::gear::Gear,
}

impl std::fmt::Debug for Gear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gear")
    }
}

impl Gear {
    /// The table of the repository with that polynomial.
    #[must_use]
    pub fn of_polynomial(polynomial: u64) -> Self {
        let keyed = <Hmac<Sha256> as KeyInit>::new_from_slice(format!("{polynomial:x}").as_bytes())
            .expect("HMAC takes keys of any length");
        let mut table = Box::new([0; 256]);
        for (byte, entry) in (0u8..=255).zip(table.iter_mut()).skip(1) {
            let mut mac = keyed.clone();
            mac.update(b"alidade gear 1");
            mac.update(&[byte]);
            let tag: [u8; 32] = mac.finalize().into_bytes().into();
            let (head, _) = tag.split_first_chunk().expect("a tag is longer than eight bytes");
            *entry = u64::from_le_bytes(*head);
        }
        Self { kernel: alidade_kernels::gear::Gear::new(table) }
    }

    /// The first place from `from` on (at least [`MIN_CHUNK`]) where `chunk` may be cut.
    fn scan(&self, chunk: &[u8], from: usize) -> Option<usize> {
        let from = from.max(MIN_CHUNK);
        self.kernel
            .find(chunk, from, AVG_CHUNK - 1, ZEROS_BEFORE_AVG)
            .or_else(|| self.kernel.find(chunk, from.max(AVG_CHUNK), MAX_CHUNK, ZEROS_AFTER_AVG))
            .or_else(|| (chunk.len() >= MAX_CHUNK).then_some(MAX_CHUNK))
    }
}

/// Finds the cuts of one file, for a caller that keeps the bytes itself.
#[derive(Debug)]
pub struct Chunker<'a> {
    way: Way<'a>,
}

#[derive(Debug)]
enum Way<'a> {
    /// Ours, and the part of the current chunk that holds no cut.
    Gear(&'a Gear, usize),
    /// restic's.
    Rabin(&'a Rabin, Box<Fingerprint>),
}

impl<'a> Chunker<'a> {
    /// At the start of a file.
    #[must_use]
    pub fn new(gear: &'a Gear) -> Self {
        Self { way: Way::Gear(gear, 0) }
    }

    /// At the start of a file that is cut as restic does.
    pub(crate) fn as_restic(rabin: &'a Rabin) -> Self {
        Self { way: Way::Rabin(rabin, Box::new(Fingerprint::new(rabin))) }
    }

    /// The length of the chunk that `buf` begins with, or `None` when `buf` ends before that is
    /// decided. At the end of the file, what is left then is its last chunk.
    ///
    /// `buf` begins where the last chunk ended; after `None` it is the same bytes and more.
    pub fn next_cut(&mut self, buf: &[u8]) -> Option<usize> {
        let seen = &buf[..buf.len().min(MAX_CHUNK)];
        match &mut self.way {
            Way::Rabin(rabin, state) => rabin.scan(state, seen),
            Way::Gear(gear, scanned) => {
                let cut = gear.scan(seen, *scanned);
                *scanned = if cut.is_some() { 0 } else { seen.len() };
                cut
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLYNOMIAL: u64 = 0x3D_A335_8B4D_C173;

    /// Bytes that look random and follow from `seed`.
    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    fn cut(data: &[u8], piece: usize) -> Vec<Vec<u8>> {
        cut_with(&Gear::of_polynomial(POLYNOMIAL), data, piece)
    }

    /// Cuts a file of which so many bytes more are seen each time.
    fn cut_with(gear: &Gear, data: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let mut chunker = Chunker::new(gear);
        let (mut cut, mut from, mut seen) = (Vec::new(), 0, 0);
        while seen < data.len() {
            seen = (seen + piece).min(data.len());
            while let Some(len) = chunker.next_cut(&data[from..seen]) {
                cut.push(data[from..from + len].to_vec());
                from += len;
            }
        }
        if from < data.len() {
            cut.push(data[from..].to_vec());
        }
        cut
    }

    #[test]
    fn the_table_is_the_documented_one() {
        let gear = Gear::of_polynomial(POLYNOMIAL);
        assert_eq!(gear.kernel.table()[0], 0);
        // printf 'alidade gear 1\001' | openssl dgst -sha256 -hmac 3da3358b4dc173
        assert_eq!(gear.kernel.table()[1], 0x8456_90C0_602C_18D5);
        assert_ne!(gear.kernel.table()[1], Gear::of_polynomial(POLYNOMIAL + 1).kernel.table()[1]);
    }

    #[test]
    fn a_run_of_zeros_is_cut_into_the_one_zero_blob() {
        let lengths: Vec<_> =
            cut(&vec![0; 5 * MIN_CHUNK + 7], 100_000).iter().map(Vec::len).collect();
        assert_eq!(lengths, [MIN_CHUNK, MIN_CHUNK, MIN_CHUNK, MIN_CHUNK, MIN_CHUNK, 7]);
    }

    #[test]
    fn a_run_of_zeros_inside_other_content_is_found_within_64_bytes() {
        let mut data = noise(900_000, 1);
        data.extend(vec![0; 4 * MIN_CHUNK]);
        data.extend(noise(900_000, 2));
        let chunks = cut(&data, 1 << 20);
        let zeros = chunks.iter().filter(|chunk| **chunk == vec![0; MIN_CHUNK]).count();
        assert!(zeros >= 3, "{zeros}");
        assert_eq!(chunks.concat(), data);
    }

    #[test]
    fn an_empty_file_has_no_chunk_and_a_byte_repeated_is_cut_at_the_maximum() {
        assert!(cut(&[], 1).is_empty());
        let chunks = cut(&vec![b'x'; 2 * MAX_CHUNK + 1], 300_000);
        assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_CHUNK, MAX_CHUNK, 1]);
    }

    #[test]
    fn chunks_of_noise_keep_to_the_bounds_and_near_the_average() {
        let data = noise(96 << 20, 3);
        let chunks = cut(&data, 1 << 20);
        for chunk in &chunks[..chunks.len() - 1] {
            assert!((MIN_CHUNK..=MAX_CHUNK).contains(&chunk.len()), "{}", chunk.len());
        }
        let average = data.len() / chunks.len();
        assert!((1 << 20..3 << 19).contains(&average), "{average}");
    }

    #[test]
    fn bytes_put_in_front_move_only_the_first_cuts() {
        let data = noise(24 << 20, 4);
        let before = cut(&data, 1 << 20);
        for shift in [1, 63, 4097, 700_001] {
            let mut moved = noise(shift, 5);
            moved.extend_from_slice(&data);
            let after = cut(&moved, 1 << 20);
            let kept = before.iter().filter(|chunk| after.contains(chunk)).count();
            assert!(kept + 4 >= before.len(), "{kept} of {} after {shift}", before.len());
        }
    }

    #[test]
    fn the_end_of_a_piece_is_no_reason_to_cut() {
        let data = noise(12 << 20, 6);
        assert_eq!(cut(&data, 3), cut(&data, data.len()));
    }

    /// Where a chunk of `data` ends, by the definition: one byte after another, no kernel.
    fn defined_cut(table: &[u64; 256], data: &[u8]) -> usize {
        let mut hash = 0u64;
        for (at, byte) in data.iter().enumerate().skip(MIN_CHUNK - 64) {
            let place = at + 1;
            hash = hash.wrapping_mul(2).wrapping_add(table[usize::from(*byte)]);
            let bits = if place < AVG_CHUNK { 22 } else { 18 };
            if place >= MIN_CHUNK && hash >> (64 - bits) == 0 || place == MAX_CHUNK {
                return place;
            }
        }
        data.len()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_cuts_are_the_defined_ones(
            parts in proptest::collection::vec((0usize..3_000_000, any::<u64>(), 0u8..4), 1..5),
            polynomial in any::<u64>(),
            piece in prop_oneof![1_000usize..5_000, 100_000usize..9_000_000],
        ) {
            let mut data = Vec::new();
            for (len, seed, kind) in parts {
                match kind {
                    0 => data.extend(vec![0; len]),
                    1 => data.extend(vec![seed.to_le_bytes()[0]; 3 * len]),
                    _ => data.extend(noise(len, seed)),
                }
            }
            let gear = Gear::of_polynomial(polynomial);
            let mut defined = Vec::new();
            let mut rest = &data[..];
            while !rest.is_empty() {
                let (chunk, others) = rest.split_at(defined_cut(gear.kernel.table(), rest));
                defined.push(chunk.len());
                rest = others;
            }
            let found: Vec<usize> = cut_with(&gear, &data, piece).iter().map(Vec::len).collect();
            prop_assert_eq!(found, defined);
        }

        #[test]
        fn however_a_file_comes_in_pieces_its_chunks_are_the_same_and_join_to_the_file(
            parts in proptest::collection::vec((0usize..1_500_000, any::<u64>(), any::<bool>()), 0..6),
            piece in prop_oneof![1_000usize..5_000, 100_000usize..9_000_000],
        ) {
            let mut data = Vec::new();
            for (len, seed, zeros) in parts {
                if zeros { data.extend(vec![0; len]) } else { data.extend(noise(len, seed)) }
            }
            let whole = cut(&data, data.len().max(1));
            prop_assert_eq!(&cut(&data, piece), &whole);
            prop_assert_eq!(whole.concat(), data);
        }
    }
}
