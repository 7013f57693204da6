//! How a run goes, told on standard error while it goes.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use alidade_entity::{Clock, Progress, Step};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::args::ProgressForm;
use crate::size::{grouped, human};

/// Counts what a run reports. Reporting takes a few atomic additions.
#[derive(Default)]
pub(crate) struct Counters {
    entries: AtomicU64,
    bytes: AtomicU64,
    expected_entries: AtomicU64,
    expected_bytes: AtomicU64,
    phase: Mutex<String>,
}

impl Progress for Counters {
    fn report(&self, step: Step<'_>) {
        match step {
            Step::Phase(name) => {
                name.clone_into(&mut lock(&self.phase));
                for counter in
                    [&self.entries, &self.bytes, &self.expected_entries, &self.expected_bytes]
                {
                    counter.store(0, Ordering::Relaxed);
                }
            }
            Step::Expect { entries, bytes } => {
                self.expected_entries.store(entries, Ordering::Relaxed);
                self.expected_bytes.store(bytes, Ordering::Relaxed);
            }
            Step::Entries(more) => {
                self.entries.fetch_add(more, Ordering::Relaxed);
            }
            Step::Bytes(more) => {
                self.bytes.fetch_add(more, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// What was counted at one instant; also one line of `--progress json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Sight {
    phase: String,
    entries: u64,
    /// 0 when unknown.
    expected_entries: u64,
    bytes: u64,
    /// 0 when unknown.
    expected_bytes: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct Line {
    progress: Sight,
}

impl Sight {
    /// True when there is nothing to tell yet.
    fn is_empty(&self) -> bool {
        self.entries == 0 && self.bytes == 0
    }

    fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.bytes as f64 / self.seconds } else { 0.0 }
    }

    /// The part that is done: by bytes where they are known, else by entries; in thousandths.
    fn share(&self) -> u64 {
        let (done, all) = match (self.expected_bytes, self.expected_entries) {
            (0, 0) => return 0,
            (0, entries) => (self.entries, entries),
            (bytes, _) => (self.bytes, bytes),
        };
        u64::try_from(u128::from(done.min(all)) * 1000 / u128::from(all)).unwrap_or(1000)
    }

    fn words(&self) -> String {
        let of = |done: String, all: Option<String>| match all {
            Some(all) => format!("{done} of {all}"),
            None => done,
        };
        let all = (self.expected_entries > 0).then(|| grouped(self.expected_entries));
        let mut parts = vec![format!("{} entries", of(grouped(self.entries), all))];
        let all = (self.expected_bytes > 0).then(|| human(self.expected_bytes));
        parts.push(of(human(self.bytes), all));
        parts.push(format!("{}/s", human(self.rate() as u64)));
        if self.expected_bytes > self.bytes && self.rate() > 0.0 {
            let left = (self.expected_bytes - self.bytes) as f64 / self.rate();
            parts.push(format!("{} left", clock_text(left as u64)));
        }
        parts.join(", ")
    }
}

fn clock_text(seconds: u64) -> String {
    match seconds {
        0..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

/// How it is shown, decided once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    /// A bar that is drawn again and again.
    Bar,
    /// A line every few seconds.
    Lines,
    /// A JSON document per line.
    Json,
    /// Nothing.
    Nothing,
}

impl Show {
    /// What the options mean on this standard error.
    #[must_use]
    pub(crate) fn decide(form: ProgressForm, json: bool, quiet: bool) -> Self {
        match form {
            ProgressForm::None => Self::Nothing,
            ProgressForm::Plain => Self::Lines,
            ProgressForm::Json => Self::Json,
            ProgressForm::Auto if quiet => Self::Nothing,
            ProgressForm::Auto if json => Self::Json,
            ProgressForm::Auto if std::io::stderr().is_terminal() => Self::Bar,
            ProgressForm::Auto => Self::Nothing,
        }
    }

    fn pause(self) -> Duration {
        match self {
            Self::Bar => Duration::from_millis(100),
            Self::Json | Self::Nothing => Duration::from_secs(1),
            Self::Lines => Duration::from_secs(5),
        }
    }
}

/// Shows the counters until it is stopped or dropped; its thread ends with it.
pub(crate) struct Ticker {
    counters: Arc<Counters>,
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    bar: Option<ProgressBar>,
}

impl Ticker {
    /// Begins to show.
    #[must_use]
    pub(crate) fn start(show: Show, clock: Arc<dyn Clock>) -> Self {
        let counters = Arc::new(Counters::default());
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let bar = (show == Show::Bar).then(bar);
        let thread = (show != Show::Nothing).then(|| {
            let (counters, stop, bar) = (Arc::clone(&counters), Arc::clone(&stop), bar.clone());
            std::thread::spawn(move || tick(show, &*clock, &counters, &stop, bar.as_ref()))
        });
        Self { counters, stop, thread, bar }
    }

    /// What runs report to.
    #[must_use]
    pub(crate) fn counters(&self) -> Arc<dyn Progress> {
        Arc::clone(&self.counters) as Arc<dyn Progress>
    }

    /// Says what begins, and how much is to be expected; 0 for what nobody knows.
    pub(crate) fn begin(&self, phase: &str, entries: u64, bytes: u64) {
        self.counters.report(Step::Phase(phase));
        self.counters.report(Step::Expect { entries, bytes });
    }

    /// True when somebody looks at a bar, for whom it is worth counting beforehand.
    pub(crate) fn is_bar(&self) -> bool {
        self.bar.is_some()
    }

    /// Does something that prints without the bar in the way.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Ends the showing; a bar is wiped away.
    pub(crate) fn stop(&mut self) {
        *lock(&self.stop.0) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            // Only the showing broke, and the panic was printed: the run itself goes on.
            self.bar = None;
        }
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:20}] {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
    bar.set_style(style);
    bar
}

fn tick(
    show: Show,
    clock: &dyn Clock,
    counters: &Counters,
    stop: &(Mutex<bool>, Condvar),
    bar: Option<&ProgressBar>,
) {
    let mut begun = (clock.elapsed(), String::new());
    let mut stopped = lock(&stop.0);
    while !*stopped {
        let (held, _) =
            stop.1.wait_timeout(stopped, show.pause()).unwrap_or_else(PoisonError::into_inner);
        stopped = held;
        let sight = look(counters, clock, &mut begun);
        if show != Show::Bar && sight.is_empty() {
            continue;
        }
        let line = match show {
            Show::Bar => {
                if let Some(bar) = bar {
                    bar.set_prefix(sight.phase.clone());
                    bar.set_message(sight.words());
                    bar.set_position(sight.share());
                }
                continue;
            }
            Show::Json => serde_json::to_string(&Line { progress: sight }).unwrap_or_default(),
            Show::Lines | Show::Nothing => format!("{}: {}", sight.phase, sight.words()),
        };
        if writeln!(std::io::stderr().lock(), "{line}").is_err() {
            return;
        }
    }
}

fn look(counters: &Counters, clock: &dyn Clock, begun: &mut (Duration, String)) -> Sight {
    let phase = lock(&counters.phase).clone();
    if begun.1 != phase {
        *begun = (clock.elapsed(), phase.clone());
    }
    Sight {
        phase,
        entries: counters.entries.load(Ordering::Relaxed),
        expected_entries: counters.expected_entries.load(Ordering::Relaxed),
        bytes: counters.bytes.load(Ordering::Relaxed),
        expected_bytes: counters.expected_bytes.load(Ordering::Relaxed),
        seconds: (clock.elapsed().saturating_sub(begun.0)).as_secs_f64(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_phase_begins_to_count_anew() {
        let counters = Counters::default();
        counters.report(Step::Phase("walk"));
        counters.report(Step::Entries(3));
        counters.report(Step::Phase("copy"));
        counters.report(Step::Expect { entries: 10, bytes: 1 << 20 });
        counters.report(Step::Bytes(1 << 19));
        let mut begun = (Duration::ZERO, String::new());
        let clock = alidade_entity::SystemClock::new();
        let sight = Sight { seconds: 2.0, ..look(&counters, &clock, &mut begun) };
        assert_eq!(sight.share(), 500);
        assert_eq!(sight.words(), "0 of 10 entries, 512.0 KiB of 1.0 MiB, 256.0 KiB/s, 0:02 left");
    }

    #[test]
    fn more_than_was_expected_is_never_more_than_all() {
        let sight = Sight {
            phase: String::new(),
            entries: 7,
            expected_entries: 5,
            bytes: 0,
            expected_bytes: 0,
            seconds: 0.0,
        };
        assert_eq!(sight.share(), 1000);
    }
}
