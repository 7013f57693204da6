//! Time, chance and failure are inputs: they come in through [`Cx`], so that a run can be replayed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alidade_model::Time;

use crate::{Error, Result};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The time of day.
    fn now(&self) -> Time;
    /// Time since some fixed instant, never going back, not counting while the machine sleeps.
    fn elapsed(&self) -> Duration;
    /// Returns after `duration`.
    fn sleep(&self, duration: Duration);
}

/// Random bytes, good enough for keys.
pub trait Chance: Send + Sync {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    fn fill(&self, bytes: &mut [u8]) -> Result<()>;
}

/// Something that happened in a run, for whoever watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step<'a> {
    /// A named part of the run begins.
    Phase(&'a str),
    /// So much is to be expected in all; may be said again with better numbers.
    Expect {
        /// Entries.
        entries: u64,
        /// Bytes of content.
        bytes: u64,
    },
    /// So many more entries are settled.
    Entries(u64),
    /// So many more bytes of content are through, read or known to be unchanged.
    Bytes(u64),
}

/// Is told how a run goes. Called from many threads; must not block.
pub trait Progress: Send + Sync {
    /// Something happened.
    fn report(&self, step: Step<'_>);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn report(&self, _step: Step<'_>) {}
}

/// The clock of this machine.
#[derive(Clone, Debug)]
pub struct SystemClock {
    start: std::time::Instant,
}

impl SystemClock {
    /// The clock of this machine.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is where time comes in")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is where time comes in")]
    fn now(&self) -> Time {
        let now = std::time::SystemTime::now();
        match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => Time::from_nanos(i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)),
            Err(before) => {
                let nanos = i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX);
                Time::from_nanos(-nanos)
            }
        }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// The randomness of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemChance;

impl Chance for SystemChance {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        getrandom::fill(bytes).map_err(|error| {
            Error::with_source(crate::Class::Failed, "read random bytes", error.to_string())
        })
    }
}

/// Tells a run to stop. Clones speak of the same run.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
}

impl Cancel {
    /// One that becomes true when `flag` does: for signal handlers.
    #[must_use]
    pub fn from_flag(flag: Arc<AtomicBool>) -> Self {
        Self { flag }
    }

    /// Tells the run to stop.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// True once the run was told to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// What a run is given: clock, randomness, cancellation, and someone to tell. A cheap clone.
#[derive(Clone)]
pub struct Cx {
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    cancel: Cancel,
    progress: Arc<dyn Progress>,
}

impl fmt::Debug for Cx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}

impl Cx {
    /// A context of these parts.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, chance: Arc<dyn Chance>, cancel: Cancel) -> Self {
        Self { clock, chance, cancel, progress: Arc::new(NoProgress) }
    }

    /// The machine's clock and randomness, and nobody watching.
    #[must_use]
    pub fn system(cancel: Cancel) -> Self {
        Self::new(Arc::new(SystemClock::new()), Arc::new(SystemChance), cancel)
    }

    /// The same, with someone watching.
    #[must_use]
    pub fn watched_by(&self, progress: Arc<dyn Progress>) -> Self {
        Self { progress, ..self.clone() }
    }

    /// The same, stopped by something else.
    #[must_use]
    pub fn cancelled_by(&self, cancel: Cancel) -> Self {
        Self { cancel, ..self.clone() }
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Fills `bytes` with random ones.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        self.chance.fill(bytes)
    }

    /// Fails once the run was told to stop. Called per batch or per MiB of data.
    ///
    /// # Errors
    /// [`crate::Class::Cancelled`].
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// What tells this run to stop.
    #[must_use]
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Tells whoever watches.
    pub fn report(&self, step: Step<'_>) {
        self.progress.report(step);
    }
}
