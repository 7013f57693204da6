//! What every SHA-256 kernel is: some lanes, each with a state, advanced together.

use crate::Level;
use crate::level::Set;

use super::{BLOCK, portable};

/// `N` SHA-256 states that advance together.
pub(super) trait Lanes<const N: usize> {
    /// Puts a state into a lane.
    fn set(&mut self, lane: usize, state: &[u32; 8]);

    /// The state of a lane.
    fn get(&self, lane: usize) -> [u32; 8];

    /// Compresses the first `blocks` blocks of each input into the state of its lane. No input is
    /// shorter; the same input may stand in several lanes.
    fn advance(&mut self, inputs: &[&[u8]; N], blocks: usize);
}

/// Compresses whole blocks into one state.
pub(super) fn compress_one(level: Level, state: &mut [u32; 8], blocks: &[u8]) {
    debug_assert_eq!(blocks.len() % BLOCK, 0);
    if blocks.is_empty() {
        return;
    }
    match level.set() {
        Set::Portable => advance_one(&mut portable::One::new(), state, blocks),
        #[cfg(target_arch = "x86_64")]
        Set::ShaNi | Set::Avx512 => {
            advance_one(&mut super::shani::Streams::<1>::new(level), state, blocks);
        }
    }
}

fn advance_one(lanes: &mut impl Lanes<1>, state: &mut [u32; 8], blocks: &[u8]) {
    lanes.set(0, state);
    lanes.advance(&[blocks], blocks.len() / BLOCK);
    *state = lanes.get(0);
}
