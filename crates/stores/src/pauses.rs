//! Pauses between the attempts of one request.

use std::time::Duration;

use alidade_entity::Cx;
use tokio::time::Instant;

/// The first pause before a request is sent again, and the longest; each is twice the one before, and by chance
/// up to half of it shorter.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(15));

/// The pauses that there is time for.
#[derive(Debug)]
pub(crate) struct Pauses {
    pause: Duration,
    until: Instant,
}

impl Pauses {
    /// Pauses that end before that.
    pub(crate) fn until(until: Instant) -> Self {
        Self { pause: PAUSES.0, until }
    }

    /// The next one; `None` when there is no time left for it.
    pub(crate) fn next(&mut self, cx: &Cx) -> Option<Duration> {
        if Instant::now() + self.pause > self.until {
            return None;
        }
        let pause = shorter(self.pause, cx);
        self.pause = (self.pause * 2).min(PAUSES.1);
        Some(pause)
    }
}

/// The pause, by chance up to half of it shorter: who was refused together does not come back together.
fn shorter(pause: Duration, cx: &Cx) -> Duration {
    let mut chance = [0; 1];
    match cx.fill(&mut chance) {
        Ok(()) => pause - pause * u32::from(chance[0]) / 512,
        // Without chance it is the whole pause.
        Err(_) => pause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alidade_entity::Cancel;

    #[test]
    fn pauses_grow_and_end_in_time() {
        let cx = Cx::system(Cancel::default());
        let mut pauses = Pauses::until(Instant::now() + Duration::from_secs(10));
        let mut bound = PAUSES.0;
        while let Some(pause) = pauses.next(&cx) {
            assert!(pause <= bound && pause * 2 >= bound, "{pause:?} of {bound:?}");
            bound *= 2;
        }
        // None is waited for here: the first that would not fit is the one of 12.8 seconds.
        assert_eq!(bound, Duration::from_millis(12_800));
    }
}
