//! A process that was started here, and cannot be taken for another.

use std::fs::{self, File};
use std::io::Read;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use super::wait;

/// A process by its id, the moment it was started and the boot it was started in: an id that the
/// kernel gave away again is another process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    started: u64,
    boot: String,
}

/// What the kernel says of a process.
struct Stat {
    state: char,
    started: u64,
}

impl Running {
    /// The process that has this id now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let proc = File::open("/proc").context("open /proc")?;
        Self::seen_in(&proc, pid)
    }

    /// The process that has this id in that `/proc`: it need not be the one that is seen here.
    pub(super) fn seen_in(proc: &File, pid: u32) -> Result<Self> {
        let look = || format!("look at process {pid}");
        let stat = openat(proc, format!("{pid}/stat"), OFlags::RDONLY, Mode::empty());
        let mut text = String::new();
        File::from(stat.with_context(look)?).read_to_string(&mut text).with_context(look)?;
        let stat = parse(&text).with_context(look)?;
        let pid = i32::try_from(pid).with_context(look)?;
        Ok(Self { pid, started: stat.started, boot: boot()? })
    }

    /// Whether it still runs; one that waits to be collected does not.
    pub(crate) fn is_alive(&self) -> bool {
        self.stat().is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
    }

    /// Whether it was stopped by a signal.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stat().is_some_and(|stat| stat.state == 'T')
    }

    /// Sends a signal to it, and to nothing else; gives whether it was there.
    pub(crate) fn signal(&self, signal: Signal) -> Result<bool> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(false) };
        let what = || format!("send a signal to process {}", self.pid);
        // Once it is open the handle is of one process for ever: so it is opened first and looked
        // at then.
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(false),
            handle => handle.with_context(what)?,
        };
        if !self.is_alive() {
            return Ok(false);
        }
        match pidfd_send_signal(&handle, signal) {
            Err(Errno::SRCH) => Ok(false),
            sent => sent.map(|()| true).with_context(what),
        }
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        wait::until(&format!("the end of process {}", self.pid), Duration::from_secs(20), || {
            Ok(match self.is_alive() {
                false => ControlFlow::Break(()),
                true => ControlFlow::Continue("it is still there".to_owned()),
            })
        })
    }

    fn stat(&self) -> Option<Stat> {
        let is_this_boot = boot().is_ok_and(|boot| boot == self.boot);
        stat(self.pid).filter(|stat| is_this_boot && stat.started == self.started)
    }
}

/// The id that a process has inside its own namespace.
pub(super) fn inner_pid(pid: i32) -> Result<i32> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let inner = line.and_then(|ids| ids.split_whitespace().last()?.parse().ok());
    inner.with_context(|| format!("{path} has no NSpid"))
}

fn boot() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let id = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    Ok(id.trim().to_owned())
}

fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name of a program, in brackets, can hold anything: what counts comes after the last bracket.
fn parse(text: &str) -> Option<Stat> {
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Stat { state, started: fields.nth(18)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_move_the_fields() {
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = parse(&format!("17 (a) R (b) S {}", fields.join(" "))).unwrap();
        assert_eq!((stat.state, stat.started), ('S', 22));
        assert!(parse("17 (a) S 1 2").is_none());
    }

    #[test]
    fn only_the_very_same_process_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let running = Running::of(child.id()).unwrap();
        for other in [
            Running { started: running.started + 1, ..running.clone() },
            Running { boot: "another".into(), ..running.clone() },
        ] {
            assert!(!other.is_alive());
            assert!(!other.signal(Signal::KILL).unwrap());
        }
        assert!(running.is_alive());
        running.signal(Signal::STOP).unwrap();
        while !running.is_stopped() {}
        // It is never collected here before it is looked at: what is dead does not run.
        running.kill().unwrap();
        assert!(!running.is_alive());
        child.wait().unwrap();
        assert!(!running.signal(Signal::KILL).unwrap());
    }
}
