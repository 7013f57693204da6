//! Slows a process: it is stopped most of the time, and so everything it answers comes late.

use std::time::Duration;

use alidade_entity::{Clock, SystemClock};
use anyhow::Result;
use rustix::process::Signal;

use crate::cluster::process::Running;

/// How long it runs between two stops.
const RUNS: Duration = Duration::from_millis(20);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The process, as it is seen in this machine
    #[arg(long)]
    pid: u32,
    /// How long each stop is
    #[arg(long)]
    milliseconds: u64,
}

/// Until the process ends or this one is ended; whoever ends it lets the process go on.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let clock = SystemClock::new();
    let process = Running::of(arguments.pid)?;
    while process.signal(Signal::STOP)? {
        clock.sleep(Duration::from_millis(arguments.milliseconds));
        process.signal(Signal::CONT)?;
        clock.sleep(RUNS);
    }
    Ok(())
}
