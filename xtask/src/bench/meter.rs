//! One command, measured: wall time, CPU, memory, and what else ran meanwhile.
//!
//! The system counts the CPU and the maximum RSS of all children of a process together, and a
//! child begins with the RSS of the one that starts it. So each command is started by a small new
//! process of its own: this program again, by a verb that nobody types.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use alidade_entity::{Cancel, Cx};
use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the command's output goes, both kinds
    #[arg(long)]
    output: PathBuf,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// What a command took. All times are microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Measured {
    /// The exit code; nothing when a signal ended it.
    pub(super) exit: Option<i32>,
    pub(super) wall_us: u64,
    pub(super) user_us: u64,
    pub(super) sys_us: u64,
    pub(super) max_rss_kib: u64,
    /// CPU time that neither the command nor kernel threads took, of all cores, and time that the
    /// host took away.
    pub(super) foreign_us: u64,
}

impl Measured {
    /// Foreign CPU as a share of what all cores had to give, in thousandths.
    pub(super) fn foreign_permille(&self, cores: u64) -> u64 {
        self.foreign_us * 1_000 / (self.wall_us * cores).max(1)
    }
}

/// A command: its program, its words and its whole environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) program: PathBuf,
    pub(super) words: Vec<String>,
    pub(super) environment: Vec<(&'static str, String)>,
}

impl Line {
    pub(super) fn new<W: Into<String>>(
        program: impl Into<PathBuf>,
        words: impl IntoIterator<Item = W>,
    ) -> Self {
        Self {
            program: program.into(),
            words: words.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Runs it without measuring, and gives what it printed.
    pub(super) fn output(&self) -> Result<Vec<u8>> {
        let say = || format!("run {} {}", self.program.display(), self.words.join(" "));
        let output = self.command(&self.program).args(&self.words).output().with_context(say)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{} ended with {}: {}", say(), output.status, said.trim());
        }
        Ok(output.stdout)
    }

    /// Runs it, measured by the program `xtask`; what it printed is in the file `output`.
    pub(super) fn measure(&self, xtask: &Path, output: &Path) -> Result<Measured> {
        let metered = self
            .command(xtask)
            .arg("bench-meter")
            .arg("--output")
            .arg(output)
            .arg("--")
            .arg(&self.program)
            .args(&self.words)
            .output()
            .context("run the meter")?;
        if !metered.status.success() {
            bail!("the meter failed: {}", String::from_utf8_lossy(&metered.stderr).trim());
        }
        serde_json::from_slice(&metered.stdout).context("read what the meter says")
    }
}

/// The verb that nobody types: runs the command and prints what it took.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Some((program, words)) = arguments.command.split_first() else {
        bail!("there is no command");
    };
    let output = File::create(&arguments.output)
        .with_context(|| format!("create {}", arguments.output.display()))?;
    let errors = output.try_clone().context("open the output twice")?;
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).stdout(output).stderr(errors);
    let cx = Cx::system(Cancel::default());
    let threads = kernel_threads_us()?;
    let busy = busy_us()?;
    let begin = cx.clock().elapsed();
    let ended = command.status().with_context(|| format!("start {program}"))?;
    let wall = cx.clock().elapsed().saturating_sub(begin);
    let busy = busy_us()?.saturating_sub(busy);
    let threads = kernel_threads_us()?.saturating_sub(threads);
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("ask what the command took")?;
    let user_us = u64::try_from(usage.user_time().num_microseconds()).unwrap_or(0);
    let sys_us = u64::try_from(usage.system_time().num_microseconds()).unwrap_or(0);
    let measured = Measured {
        exit: ended.code(),
        wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
        user_us,
        sys_us,
        max_rss_kib: u64::try_from(usage.max_rss()).unwrap_or(0),
        foreign_us: busy.saturating_sub(threads).saturating_sub(user_us + sys_us),
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

/// The system counts CPU in these: 100 a second on every Linux that matters.
const TICK_US: u64 = 10_000;

/// CPU time of all cores since the start of the machine that was not idle.
pub(super) fn busy_us() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    busy_of(&stat).context("read /proc/stat")
}

fn busy_of(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // user, nice, system, (idle, iowait,) irq, softirq, steal; guests are counted in user.
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum();
    Some(busy * TICK_US)
}

/// CPU time of all kernel threads: they work for whoever runs, above all for writing back.
fn kernel_threads_us() -> Result<u64> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let path = entry.context("list /proc")?.path().join("stat");
        // What is no process, or has just ended, has nothing to say.
        if let Ok(stat) = fs::read_to_string(path) {
            ticks += kernel_thread_ticks(&stat).unwrap_or(0);
        }
    }
    Ok(ticks * TICK_US)
}

/// CPU time that a process took so far, without its children.
pub(super) fn process_us(id: u32) -> Result<u64> {
    let path = format!("/proc/{id}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let ticks = process_ticks(&stat).with_context(|| format!("read {path}"))?;
    Ok(ticks * TICK_US)
}

/// User and system time behind the name, which may hold anything.
fn process_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// User and system time of a kernel thread, the children of process 2; none for others.
fn kernel_thread_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    if rest.split(' ').nth(1)? != "2" {
        return None;
    }
    process_ticks(stat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_all_but_idle_and_waiting() {
        let stat = "cpu  1 20 300 4000 50000 600000 7000000 80000000 9 9\ncpu0 1";
        assert_eq!(busy_of(stat), Some(87_600_321 * TICK_US));
        assert_eq!(busy_of("intr 1"), None);
    }

    #[test]
    fn only_kernel_threads_are_counted() {
        let thread = "42 (kworker/0:1 x) y) S 2 0 0 0 -1 69238880 0 0 0 0 3 4 0 0 20";
        assert_eq!(kernel_thread_ticks(thread), Some(7));
        let other = "42 (kworker) S 1 0 0 0 -1 69238880 0 0 0 0 3 4 0 0 20";
        assert_eq!((kernel_thread_ticks(other), process_ticks(other)), (None, Some(7)));
    }

    #[test]
    fn foreign_cpu_is_a_share_of_all_cores() {
        let measured = Measured {
            exit: Some(0),
            wall_us: 1_000_000,
            user_us: 0,
            sys_us: 0,
            max_rss_kib: 0,
            foreign_us: 100_000,
        };
        assert_eq!(measured.foreign_permille(2), 50);
    }
}
