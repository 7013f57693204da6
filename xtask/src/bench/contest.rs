//! Running one row: every round all contestants, in an order that turns.

use std::fs;
use std::path::Path;
use std::time::Duration;

use alidade_entity::{Cancel, Cx};
use anyhow::{Context, Result, bail, ensure};

use super::base::{Base, Bases};
use super::manifest::{self, Count, Manifest};
use super::meter::{self, Measured};
use super::place::{self, Medium, Place, Stage};
use super::rounds::Run;
use super::row::{Contestant, Origin, Row, Start};
use super::served::Served;
use super::set::{Facts, Set};
use super::statistics;
use super::tool::{Action, Class, Key, Tool, Tools};

/// Foreign CPU from which a run is repeated, in thousandths of what all cores have to give.
const FOREIGN_PERMILLE: u64 = 50;
/// How often.
const REPEATS: usize = 2;
/// Below this much foreign CPU a run is not disturbed: the system counts in steps of 10 ms.
const FOREIGN_LEAST_US: u64 = 60_000;

/// What all rows share.
pub(super) struct Arena<'a> {
    pub(super) place: &'a Place,
    pub(super) tools: &'a Tools,
    /// This program, for the verbs that nobody types; for figures a release build of it.
    pub(super) xtask: &'a Path,
    pub(super) cores: u64,
    /// Whether figures are wanted: then the machine must come to rest before each run.
    pub(super) figures: bool,
    pub(super) commit: String,
}

/// A row that is being run.
pub(super) struct Contest<'a> {
    arena: &'a Arena<'a>,
    row: &'a Row,
    set: &'a Set,
    facts: &'a Facts,
    contestants: Vec<Contestant>,
    /// By contestant.
    bases: Vec<Option<Base>>,
    /// Whose restored files were compared with the whole manifest already.
    compared: Vec<Contestant>,
}

impl<'a> Contest<'a> {
    /// Makes ready what the runs start from.
    pub(super) fn new(
        arena: &'a Arena<'a>,
        row: &'a Row,
        set: &'a Set,
        facts: &'a Facts,
        contestants: Vec<Contestant>,
    ) -> Result<Self> {
        let bases = Bases { arena, set, facts, shape: row.shape, medium: row.medium };
        let mut found = Vec::new();
        for contestant in &contestants {
            found.push(match row.start {
                Start::Empty => None,
                Start::Unchanged | Start::Changed => Some(bases.current(contestant.tool)?),
                Start::Filled => Some(bases.any(writer(*contestant))?),
                Start::DefaultKey => Some(bases.default_key(contestant.tool)?),
            });
        }
        if row.start == Start::Changed {
            set.change()?;
        }
        Ok(Self { arena, row, set, facts, contestants, bases: found, compared: Vec::new() })
    }

    /// Runs what `has` does not know yet, and gives each run to `add` as it ends. Returns how many runs
    /// are missing because a peer failed.
    pub(super) fn run(
        &mut self,
        rounds: usize,
        has: &dyn Fn(usize, &str) -> bool,
        add: &mut dyn FnMut(Run) -> Result<()>,
    ) -> Result<usize> {
        let mut left_out = 0;
        // What the row before left has no place beside what is touched.
        self.arena.place.clear(self.row.medium)?;
        self.arena.place.touch()?;
        for round in 0..rounds {
            for at in statistics::order(self.contestants.len(), round) {
                let contestant = self.contestants[at];
                if has(round, &contestant.name()) {
                    continue;
                }
                let name = || format!("{} of {}", contestant.name(), self.row.name);
                let run = match self.undisturbed(round, at) {
                    // The others' rounds are kept; that this one is missing ends the command.
                    Err(error) if self.may_fail(at) => {
                        eprintln!("{} is left out of round {round}: {error:#}", name());
                        left_out += 1;
                        continue;
                    }
                    run => run.with_context(name)?,
                };
                say(self.row, &run);
                add(run)?;
            }
        }
        Ok(left_out)
    }

    /// Runs one contestant, again where too much else ran.
    fn undisturbed(&mut self, round: usize, at: usize) -> Result<Run> {
        let (mut repeats, mut failures) = (0, 0);
        loop {
            let (measured, stored_bytes) = match self.once(at) {
                // A peer's crash is told, and is no reason to lose the others' rounds.
                Err(error) if self.may_fail(at) && failures < REPEATS => {
                    eprintln!("  again: {error:#}");
                    failures += 1;
                    continue;
                }
                done => done?,
            };
            let disturbed = self.arena.figures && is_disturbed(&measured, self.arena.cores);
            if disturbed && repeats < REPEATS {
                eprintln!("  again: {} ms of CPU went to others", measured.foreign_us / 1_000);
                repeats += 1;
                continue;
            }
            return Ok(Run {
                round,
                contestant: self.contestants[at].name(),
                measured,
                stored_bytes,
                repeats,
                failures,
                disturbed,
                at: Cx::system(Cancel::default()).now().to_string(),
                commit: self.arena.commit.clone(),
            });
        }
    }

    /// A peer, where figures are wanted: in a rehearsal each must do what it is asked.
    fn may_fail(&self, at: usize) -> bool {
        self.arena.figures && self.contestants[at].tool != Tool::Alidade
    }

    fn once(&mut self, at: usize) -> Result<(Measured, u64)> {
        let contestant = self.contestants[at];
        let mut stage = self.stage(at)?;
        let tools = self.arena.tools;
        let served = match self.row.medium {
            Medium::S3 => Some(Served::start(&tools.versitygw, &stage.repository)?),
            Medium::Tmpfs | Medium::Disk => None,
        };
        stage.served = served.as_ref().map(Served::address);
        let source = self.row.shape.source(contestant.tool, self.set);
        let line = tools
            .line(contestant.tool, self.row.action, &stage, &source)?
            .with_context(|| format!("{} cannot do this", contestant.tool.name()))?;
        let reads = matches!(self.row.start, Start::Filled | Start::DefaultKey);
        let before = if reads { 0 } else { place::stored(&stage.repository.canonicalize()?)? };
        let snapshots = if reads { 0 } else { self.snapshots(contestant.tool, &stage)? };
        if reads {
            manifest::read_all(&stage.repository.canonicalize()?)?;
        } else {
            let found = self.set.warm()?;
            ensure!(
                self.row.start == Start::Changed || found == expected(self.facts),
                "the source is another one: {found:?}"
            );
        }
        if self.arena.figures {
            settle(self.arena.cores)?;
        }
        let output = self.arena.place.output();
        let before_us = served.as_ref().map_or(Ok(0), Served::cpu_us)?;
        let mut measured = line.measure(self.arena.xtask, &output)?;
        // A server is none of the others that a run is disturbed by.
        let served_us = served.as_ref().map_or(Ok(0), Served::cpu_us)?.saturating_sub(before_us);
        measured.foreign_us = measured.foreign_us.saturating_sub(served_us);
        if measured.exit != Some(0) {
            let said = fs::read(&output).with_context(|| format!("read {}", output.display()))?;
            let said = String::from_utf8_lossy(&said);
            let tail = said.len().saturating_sub(2_000);
            bail!(
                "it ended with {:?}: {}",
                measured.exit,
                said.get(tail..).unwrap_or(&said).trim()
            );
        }
        if !reads {
            let after = self.snapshots(contestant.tool, &stage)?;
            ensure!(after == snapshots + 1, "{after} snapshots came of {snapshots}");
        }
        let stored = place::stored(&stage.repository.canonicalize()?)?.saturating_sub(before);
        if matches!(self.row.action, Action::Restore(_)) {
            self.compare(contestant, &stage)?;
        }
        Ok((measured, stored))
    }

    /// The stage as the row wants it before a run.
    fn stage(&self, at: usize) -> Result<Stage> {
        let tool = self.contestants[at].tool;
        let place = self.arena.place;
        let stage = place.clear(self.row.medium)?;
        match (&self.bases[at], self.row.start) {
            (None, _) => {
                let class = match self.row.action {
                    Action::Backup(class) => class,
                    Action::Restore(_) | Action::Check | Action::Open => Class::Default,
                };
                self.arena.tools.create(tool, &stage, class, Key::Bench)?;
                Ok(stage)
            }
            (Some(base), Start::Unchanged | Start::Changed) => {
                place::copy(&base.repository, &stage.repository.canonicalize()?)?;
                place::copy(&base.home, &stage.home.canonicalize()?)?;
                Ok(stage)
            }
            (Some(base), Start::Empty | Start::Filled | Start::DefaultKey) => {
                for name in Tools::kept_of_home(tool) {
                    fs::copy(base.home.join(name), stage.home.join(name))
                        .with_context(|| format!("copy {name}"))?;
                }
                place.stage(&base.repository, &stage.home.canonicalize()?)
            }
        }
    }

    /// Where only one can be, an archive, the one before does not count.
    fn snapshots(&self, tool: Tool, stage: &Stage) -> Result<usize> {
        self.arena.tools.snapshots(tool, stage)
    }

    /// Refuses what was restored unless it is what was backed up: files and bytes every time, the
    /// whole manifest once.
    fn compare(&mut self, contestant: Contestant, stage: &Stage) -> Result<()> {
        // Beside the source our snapshots hold a file of our own; all tools bring it back.
        let below = stage.target.join(self.set.source().strip_prefix("/")?);
        let root = if below.is_dir() { below } else { stage.target.clone() };
        let (found, wanted) = (manifest::count(&root)?, expected(self.facts));
        ensure!(found == wanted, "{found:?} came back of {wanted:?}");
        if !self.compared.contains(&contestant) {
            Manifest::of(&root)?.check("that was restored", self.set.digest())?;
            self.compared.push(contestant);
        }
        Ok(())
    }
}

/// Who wrote the repository that a contestant reads.
fn writer(contestant: Contestant) -> Tool {
    match contestant.origin {
        Origin::Common if contestant.tool.shares_the_format() => Tool::Alidade,
        Origin::Common | Origin::Own => contestant.tool,
    }
}

fn expected(facts: &Facts) -> Count {
    Count { files: facts.files, bytes: facts.bytes }
}

fn is_disturbed(measured: &Measured, cores: u64) -> bool {
    measured.foreign_permille(cores) > FOREIGN_PERMILLE && measured.foreign_us > FOREIGN_LEAST_US
}

/// Writes back what is waiting, then waits until the machine does little else, ten seconds at most.
fn settle(cores: u64) -> Result<()> {
    rustix::fs::sync();
    let cx = Cx::system(Cancel::default());
    let step = Duration::from_millis(300);
    for _ in 0..30 {
        let before = meter::busy_us()?;
        cx.clock().sleep(step);
        let busy = meter::busy_us()?.saturating_sub(before);
        let all = u64::try_from(step.as_micros()).unwrap_or(u64::MAX) * cores;
        if busy * 1_000 < all * FOREIGN_PERMILLE {
            break;
        }
    }
    Ok(())
}

fn say(row: &Row, run: &Run) {
    let measured = &run.measured;
    eprintln!(
        "{} round {} {:12} {:8.3} s, CPU {:8.3} s, {:5} MiB, stored {:9} bytes{}",
        row.name,
        run.round,
        run.contestant,
        measured.wall_us as f64 / 1e6,
        (measured.user_us + measured.sys_us) as f64 / 1e6,
        measured.max_rss_kib >> 10,
        run.stored_bytes,
        if run.disturbed { ", disturbed" } else { "" }
    );
}

/// The commit of the checkout, with a mark when it holds more than that.
pub(super) fn commit(root: &Path) -> String {
    let git = |words: &[&str]| {
        let output = std::process::Command::new("git").arg("-C").arg(root).args(words).output();
        output
            .ok()
            .filter(|output| output.status.success())
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match (git(&["rev-parse", "--short=12", "HEAD"]), git(&["status", "--porcelain"])) {
        (Some(head), Some(changes)) if changes.is_empty() => head,
        (Some(head), _) => format!("{head}+"),
        (None, _) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(wall_us: u64, foreign_us: u64) -> Measured {
        let (user_us, sys_us, max_rss_kib) = (0, 0, 0);
        Measured { exit: Some(0), wall_us, user_us, sys_us, max_rss_kib, foreign_us }
    }

    #[test]
    fn a_run_is_disturbed_by_more_than_five_per_cent_of_the_machine() {
        assert!(!is_disturbed(&measured(10_000_000, 1_000_000), 2));
        assert!(is_disturbed(&measured(10_000_000, 1_100_000), 2));
        assert!(!is_disturbed(&measured(100_000, 50_000), 2), "less than the clock can tell");
    }

    #[test]
    fn what_is_common_was_written_by_us() {
        let of = |tool, origin| writer(Contestant { tool, origin });
        assert_eq!(of(Tool::Restic, Origin::Common), Tool::Alidade);
        assert_eq!(of(Tool::Restic, Origin::Own), Tool::Restic);
        assert_eq!(of(Tool::Kopia, Origin::Common), Tool::Kopia);
    }
}
