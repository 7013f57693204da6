//! A part of a cluster: one program in one machine, that can be killed, stopped and started again.

use std::path::PathBuf;

use anyhow::{Result, bail};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::advise;
use super::lock::Lock;
use super::machine::{Machine, this_program};
use super::place::{self, Place};
use super::process::{Running, inner_pid};
use super::record::Record;

/// What is to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Program {
    /// The machine it runs in.
    pub(crate) machine: String,
    /// The name it sees itself called by.
    pub(crate) called: String,
    /// Its path and its words.
    pub(crate) argv: Vec<String>,
}

/// A part as it is recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    program: Program,
    running: Running,
    /// What stops it again and again, if it is slowed.
    slowed: Option<Running>,
}

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Slowed,
    Paused,
    Ended,
}

impl State {
    /// A word for it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Slowed => "slowed",
            Self::Paused => "paused",
            Self::Ended => "ended",
        }
    }
}

impl Part {
    /// Starts a program and records it under a name.
    pub(crate) fn start(place: &Place, name: &str, program: Program) -> Result<Self> {
        let machine = Machine::named(place, &program.machine)?;
        let running = machine.start(&program.called, &program.argv, &place.log(name))?;
        let part = Self { program, running, slowed: None };
        part.keep(place, name)?;
        Ok(part)
    }

    /// All parts by name.
    pub(crate) fn all(place: &Place) -> Result<Vec<(String, Self)>> {
        place::all(&place.at("parts"))
    }

    /// The part of this name.
    pub(crate) fn named(place: &Place, name: &str) -> Result<Self> {
        if let Some(part) = place::kept(&path(place, name))? {
            return Ok(part);
        }
        let names: Vec<String> = Self::all(place)?.into_iter().map(|(name, _)| name).collect();
        Err(advise(
            &format!("the cluster {} has no part `{name}`", place.name()),
            &format!("its parts: {}", names.join(", ")),
        ))
    }

    pub(crate) fn state(&self) -> State {
        if !self.running.is_alive() {
            State::Ended
        } else if self.slowed.as_ref().is_some_and(Running::is_alive) {
            State::Slowed
        } else if self.running.is_stopped() {
            State::Paused
        } else {
            State::Running
        }
    }

    /// Its process id on the host.
    pub(crate) fn pid(&self) -> i32 {
        self.running.pid
    }

    /// The machine it runs in.
    pub(crate) fn machine(&self) -> &str {
        &self.program.machine
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self, place: &Place, name: &str) -> Result<()> {
        self.hurry(place, name)?;
        self.running.kill()
    }

    /// Starts it again where it has ended.
    pub(crate) fn restart(self, place: &Place, name: &str) -> Result<()> {
        match self.state() {
            State::Ended => Self::start(place, name, self.program).map(drop),
            _ => Ok(()),
        }
    }

    /// Stops it without ending it.
    pub(crate) fn pause(&mut self, place: &Place, name: &str) -> Result<()> {
        self.hurry(place, name)?;
        self.tell(name, Signal::STOP)
    }

    /// Lets it go on, at full speed.
    pub(crate) fn resume(&mut self, place: &Place, name: &str) -> Result<()> {
        self.hurry(place, name)?;
        self.tell(name, Signal::CONT)
    }

    /// Makes all its answers come late, by about so much.
    pub(crate) fn slow(&mut self, place: &Place, name: &str, milliseconds: u64) -> Result<()> {
        self.resume(place, name)?;
        if milliseconds == 0 {
            return Ok(());
        }
        let machine = Machine::named(place, &self.program.machine)?;
        let argv = [
            this_program()?.display().to_string(),
            "cluster-machine".into(),
            "slow".into(),
            format!("--pid={}", inner_pid(self.running.pid)?),
            format!("--milliseconds={milliseconds}"),
        ];
        let log = place.log(&format!("{name}-slow"));
        self.slowed = Some(machine.start("alidade-bench-slow", &argv, &log)?);
        self.keep(place, name)
    }

    /// Ends what slows it.
    fn hurry(&mut self, place: &Place, name: &str) -> Result<()> {
        let Some(slowed) = self.slowed.take() else { return Ok(()) };
        slowed.kill()?;
        self.running.signal(Signal::CONT)?;
        self.keep(place, name)
    }

    fn tell(&self, name: &str, signal: Signal) -> Result<()> {
        if !self.running.signal(signal)? {
            let hint = format!("cargo xtask cluster start {name}");
            return Err(advise(&format!("{name} does not run"), &hint));
        }
        Ok(())
    }

    fn keep(&self, place: &Place, name: &str) -> Result<()> {
        place::keep(&path(place, name), self)
    }
}

fn path(place: &Place, name: &str) -> PathBuf {
    place.at("parts").join(format!("{name}.json"))
}

/// What can be done to a part.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Kill,
    Start,
    Pause,
    Resume,
    Slow(u64),
}

/// Does something to some parts of a cluster that is up.
pub(super) fn run(place: &Place, names: &[String], deed: Deed) -> Result<()> {
    // Asked before, so that a name that is nobody's leaves no lock.
    Record::of(place)?;
    let _lock = Lock::take(place)?;
    let parts = names.iter().map(|name| Part::named(place, name)).collect::<Result<Vec<_>>>()?;
    if parts.is_empty() {
        bail!("no part was named");
    }
    for (name, mut part) in names.iter().zip(parts) {
        match deed {
            Deed::Kill => part.kill(place, name)?,
            Deed::Start => part.restart(place, name)?,
            Deed::Pause => part.pause(place, name)?,
            Deed::Resume => part.resume(place, name)?,
            Deed::Slow(milliseconds) => part.slow(place, name, milliseconds)?,
        }
        let part = Part::named(place, name)?;
        println!("{name}: {}", part.state().word());
    }
    Ok(())
}
