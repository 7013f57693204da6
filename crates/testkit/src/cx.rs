use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use alidade_entity::{Cancel, Chance, Clock, Cx, Result};
use alidade_model::Time;

/// A clock that stands still until it is told to move.
///
/// Sleeping moves it, and returns at once.
#[derive(Debug)]
pub struct TestClock {
    start: Time,
    /// Nanoseconds by which the time of day was set off from `start` and the time elapsed.
    set_off: AtomicI64,
    /// Nanoseconds.
    elapsed: AtomicU64,
}

impl TestClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn starting_at(start: Time) -> Self {
        Self { start, set_off: AtomicI64::new(0), elapsed: AtomicU64::new(0) }
    }

    /// Lets time pass: the time of day and the time elapsed.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.elapsed.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Sets the time of day, forwards or backwards, as an administrator does; no time passes.
    ///
    /// # Panics
    /// When that is more than 292 years away from where the clock started.
    pub fn set(&self, now: Time) {
        let set_off = now.as_nanos() - self.start.as_nanos();
        let set_off = set_off - i128::from(self.elapsed.load(Ordering::SeqCst));
        let set_off = i64::try_from(set_off).expect("tests stay within 292 years");
        self.set_off.store(set_off, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Time {
        let passed = i128::from(self.elapsed.load(Ordering::SeqCst));
        let set_off = i128::from(self.set_off.load(Ordering::SeqCst));
        Time::from_nanos(self.start.as_nanos() + passed + set_off)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.elapsed.load(Ordering::SeqCst))
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }
}

/// Randomness that a seed replays: SplitMix64.
#[derive(Debug)]
pub struct TestChance {
    state: AtomicU64,
}

impl TestChance {
    /// The randomness of that seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let state = self.state.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    ///
    /// # Panics
    /// When `end` is 0.
    pub fn below(&self, end: u64) -> u64 {
        self.next() % end
    }
}

impl Chance for TestChance {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        for chunk in bytes.chunks_mut(8) {
            let next = self.next().to_le_bytes();
            chunk.copy_from_slice(&next[..chunk.len()]);
        }
        Ok(())
    }
}

/// A context whose clock, randomness and cancellation are in the hands of the test.
#[derive(Debug)]
pub struct TestCx {
    cx: Cx,
    clock: Arc<TestClock>,
    chance: Arc<TestChance>,
}

impl TestCx {
    /// The context of that seed; its clock shows 2026-01-01T00:00:00Z.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        let clock = Arc::new(TestClock::starting_at(Time::new(1_767_225_600, 0)));
        let chance = Arc::new(TestChance::seeded(seed));
        let cx = Cx::new(clock.clone(), chance.clone(), Cancel::default());
        Self { cx, clock, chance }
    }

    /// What is handed to the code under test.
    #[must_use]
    pub fn cx(&self) -> &Cx {
        &self.cx
    }

    /// Its clock.
    #[must_use]
    pub fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// Its randomness.
    #[must_use]
    pub fn chance(&self) -> &TestChance {
        &self.chance
    }

    /// Tells the run to stop.
    pub fn cancel(&self) {
        self.cx.cancel().cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_and_another_seed_does_not() {
        let draw = |seed| {
            let mut bytes = [0; 21];
            TestCx::seeded(seed).cx().fill(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn the_clock_moves_only_when_told_and_never_loses_elapsed_time() {
        let test = TestCx::seeded(1);
        let start = test.cx().now();
        assert_eq!(test.cx().now(), start);
        test.clock().sleep(Duration::from_millis(1_500));
        assert_eq!(test.cx().now(), Time::new(start.seconds + 1, 500_000_000));
        test.clock().set(Time::new(10, 0));
        assert_eq!(test.cx().now(), Time::new(10, 0));
        test.clock().advance(Duration::from_secs(1));
        assert_eq!(test.cx().now(), Time::new(11, 0));
        assert_eq!(test.clock().elapsed(), Duration::from_millis(2_500));
    }

    #[test]
    fn a_cancelled_run_is_told_so() {
        let test = TestCx::seeded(1);
        test.cx().check().unwrap();
        test.cancel();
        assert!(test.cx().check().is_err());
    }
}
