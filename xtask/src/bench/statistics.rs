//! The few numbers that rounds come down to.

/// Median and ends of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) median: u64,
    pub(super) least: u64,
    pub(super) most: u64,
}

impl Spread {
    /// Nothing where there are no numbers. Of an even count, the mean of the two in the middle.
    pub(super) fn of(numbers: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut all: Vec<u64> = numbers.into_iter().collect();
        all.sort_unstable();
        let (least, most) = (*all.first()?, *all.last()?);
        let (low, high) = (all[(all.len() - 1) / 2], all[all.len() / 2]);
        Some(Self { median: low.midpoint(high), least, most })
    }
}

/// The order of `count` contestants in a round: in `count` rounds each stands once in each place.
pub(super) fn order(count: usize, round: usize) -> Vec<usize> {
    (0..count).map(|at| (at + round) % count.max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_ends_are_kept() {
        for (numbers, expected) in [
            (vec![], None),
            (vec![5], Some((5, 5, 5))),
            (vec![9, 1, 4], Some((4, 1, 9))),
            (vec![1, 10, 4, 6], Some((5, 1, 10))),
            (vec![u64::MAX, u64::MAX], Some((u64::MAX, u64::MAX, u64::MAX))),
        ] {
            let found = Spread::of(numbers).map(|s| (s.median, s.least, s.most));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn every_contestant_stands_in_every_place() {
        for count in 1..6 {
            for place in 0..count {
                let mut seen: Vec<usize> =
                    (0..count).map(|round| order(count, round)[place]).collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..count).collect::<Vec<_>>());
            }
        }
        assert_eq!(order(0, 3), Vec::<usize>::new());
    }
}
