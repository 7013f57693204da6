//! A bound on bytes a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lets bytes pass at a rate, one after the other.
#[derive(Debug)]
pub(crate) struct Limit {
    /// Bytes a second; `None` for no bound.
    rate: Option<u64>,
    /// When the bytes that were let pass will have passed.
    free: Mutex<Option<Instant>>,
}

impl Limit {
    /// A limit of so many bytes a second.
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.filter(|rate| *rate > 0), free: Mutex::default() }
    }

    /// How long to wait before so many bytes may pass; counts them as passed.
    pub(crate) fn wait_for(&self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let begins = free.map_or(now, |free| free.max(now));
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        *free = Some(begins + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        begins - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_at_the_rate_and_no_faster_after_a_pause() {
        let limit = Limit::new(Some(1000));
        let now = Instant::now();
        assert_eq!(limit.wait_for(500, now), Duration::ZERO);
        assert_eq!(limit.wait_for(2000, now), Duration::from_millis(500));
        assert_eq!(limit.wait_for(1, now), Duration::from_millis(2500));
        let later = now + Duration::from_secs(60);
        assert_eq!(limit.wait_for(1000, later), Duration::ZERO);
        assert_eq!(limit.wait_for(1, later), Duration::from_secs(1));
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let limit = Limit::new(None);
        assert_eq!(limit.wait_for(u64::MAX, Instant::now()), Duration::ZERO);
    }
}
