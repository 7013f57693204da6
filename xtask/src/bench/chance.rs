//! The chance that data sets are made of: seeded, the same on every machine and for ever.

use rand_core::{Rng as _, SeedableRng as _};
use rand_xorshift::XorShiftRng;
use sha2::{Digest, Sha256};

/// Begins every seed. Another text makes other data sets.
const RULE: &str = "alidade bench 1";

/// A stream of numbers that a name and a number stand for.
pub(super) struct Chance(XorShiftRng);

impl Chance {
    /// The stream of `what`, number `at`. Streams of different names have nothing in common.
    pub(super) fn of(what: &str, at: u64) -> Self {
        let hash = Sha256::digest(format!("{RULE}/{what}/{at}"));
        let mut seed = [0; 16];
        seed.copy_from_slice(&hash[..16]);
        Self(XorShiftRng::from_seed(seed))
    }

    pub(super) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`, which is not 0. Only whole numbers: floating point is not the same
    /// everywhere.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.number()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// The same as an index.
    pub(super) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    /// An index that is small more often than not: the number `n` about `1/n` as often as the first.
    pub(super) fn skewed(&mut self, bound: usize) -> usize {
        let most = self.index(bound) + 1;
        self.index(most)
    }

    /// The place in `weights` that is drawn when each is as likely as its weight.
    pub(super) fn weighed(&mut self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (at, weight) in weights.iter().enumerate() {
            if left < *weight {
                return at;
            }
            left -= weight;
        }
        0
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// Puts `items` into another order.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_every_time_and_no_two_are_alike() {
        let first = |what: &str, at| Chance::of(what, at).number();
        assert_eq!(first("x", 1), first("x", 1));
        assert_ne!(first("x", 1), first("x", 2));
        assert_ne!(first("x", 1), first("y", 1));
        assert_eq!(first("fixed", 7), 9_082_809_500_402_464_650, "the rule has changed");
    }

    #[test]
    fn weights_are_kept_and_zero_is_never_drawn() {
        let mut chance = Chance::of("weights", 0);
        let mut seen = [0_u32; 3];
        for _ in 0..10_000 {
            seen[chance.weighed(&[1, 0, 3])] += 1;
        }
        assert_eq!(seen[1], 0);
        assert!((2_300..2_700).contains(&seen[0]), "{seen:?}");
    }
}
