//! Waiting, never without a limit.

use std::ops::ControlFlow;
use std::time::Duration;

use alidade_entity::{Clock, SystemClock};
use anyhow::{Result, bail};

const STEP: Duration = Duration::from_millis(100);

/// Asks until the answer is there. What is not there yet says why: the last of it is in the error.
pub(super) fn until<T>(
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> Result<ControlFlow<T, String>>,
) -> Result<T> {
    let clock = SystemClock::new();
    let begun = clock.elapsed();
    loop {
        let why = match ask()? {
            ControlFlow::Break(answer) => return Ok(answer),
            ControlFlow::Continue(why) => why,
        };
        if clock.elapsed() - begun > within {
            bail!("{what}: not within {} s: {why}", within.as_secs());
        }
        clock.sleep(STEP);
    }
}

/// Says how long each phase of a verb took.
pub(super) struct Phases {
    clock: SystemClock,
    begun: Duration,
}

impl Phases {
    pub(super) fn begin() -> Self {
        let clock = SystemClock::new();
        let begun = clock.elapsed();
        Self { clock, begun }
    }

    /// Tells that something is done now.
    pub(super) fn done(&self, what: &str) {
        eprintln!("{:>6.1} s  {what}", (self.clock.elapsed() - self.begun).as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_is_an_error_with_the_last_reason() {
        let mut asked = 0;
        let error = until::<()>("the moon", Duration::ZERO, || {
            asked += 1;
            Ok(ControlFlow::Continue(format!("asked {asked} times")))
        });
        assert_eq!(error.unwrap_err().to_string(), "the moon: not within 0 s: asked 1 times");
        assert_eq!(until("x", Duration::ZERO, || Ok(ControlFlow::Break(7))).unwrap(), 7);
    }
}
