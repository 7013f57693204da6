//! A machine: namespaces of its own with a first process of ours.
//!
//! What runs in it, and every mount, link and address in it, ends when that one process is killed.
//! It has a process tree, a root, a network, a host name and control groups of its own; its root is
//! this host's, and what it writes there is seen by it alone and kept in memory.

mod enter;
mod init;
mod root;
mod slow;

use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::cgroup::{self, Hierarchy};
use super::place::{self, Place};
use super::process::Running;

/// Verbs that nobody types: the bench runs itself so.
#[derive(clap::Subcommand)]
pub(crate) enum Verb {
    /// Make the namespaces and start the first process
    Make(init::Make),
    /// Be the first process
    Init,
    /// Start a program in a machine
    Enter(enter::Arguments),
    /// Stop a process again and again
    Slow(slow::Arguments),
}

pub(crate) fn run(verb: &Verb) -> Result<()> {
    match verb {
        Verb::Make(arguments) => init::make(arguments),
        Verb::Init => init::run(),
        Verb::Enter(arguments) => enter::run(arguments),
        Verb::Slow(arguments) => slow::run(arguments),
    }
}

/// What the first process makes of its namespaces.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) hostname: String,
    /// The folder of the cluster: the same inside and outside.
    pub(super) state: PathBuf,
    /// Other paths that must be seen inside.
    pub(super) visible: Vec<PathBuf>,
    /// Folders of the cluster that are seen at another path inside.
    pub(super) binds: Vec<(PathBuf, PathBuf)>,
    pub(super) files: Vec<(PathBuf, String)>,
    /// Settings of the kernel for the machine's network, below /proc/sys.
    pub(super) settings: Vec<(String, String)>,
    /// Settings of the whole host that are only shown with these values, and stay as they are.
    pub(super) shown: Vec<(String, String)>,
    pub(super) hierarchies: Vec<Hierarchy>,
}

/// A machine as it is recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) init: Running,
    groups: Vec<PathBuf>,
}

/// A machine whose first process waits to be told what to make. If nobody tells it, it ends.
pub(super) struct Unborn {
    pub(super) machine: Machine,
    name: String,
    log: PathBuf,
    tells: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Unborn {
    /// Makes the namespaces of a machine and records its first process.
    pub(super) fn make(place: &Place, name: &str, groups: Vec<PathBuf>) -> Result<Self> {
        let log = place.log(&format!("machine-{name}"));
        place::write(&log, "")?;
        let errors = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut make = Command::new(this_program()?);
        make.args(["cluster-machine", "make"]);
        for group in &groups {
            make.arg("--group").arg(group);
        }
        let mut maker = make
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context("make a machine")?;
        let tells = maker.stdin.take().context("talk to a machine")?;
        let mut says = BufReader::new(maker.stdout.take().context("listen to a machine")?);
        let mut line = String::new();
        says.read_line(&mut line).context("listen to a machine")?;
        let ended = maker.wait().context("wait for the maker of a machine")?;
        let (true, Ok(pid)) = (ended.success(), line.trim().parse()) else {
            bail!("the machine {name} was not made: {}", said(&log));
        };
        let machine = Machine { init: Running::of(pid)?, groups };
        // Recorded before it makes anything: killed now, we leave a process that ends by itself.
        place::keep(&place.at("machines").join(format!("{name}.json")), &machine)?;
        Ok(Self { machine, name: name.to_owned(), log, tells, says })
    }

    /// Tells it what to make, and waits until it has.
    pub(super) fn born(mut self, plan: &Plan) -> Result<Machine> {
        let mut text = serde_json::to_string(plan).context("write the plan of a machine")?;
        text.push('\n');
        self.tells.write_all(text.as_bytes()).context("tell a machine what to make")?;
        let mut answer = String::new();
        self.says.read_to_string(&mut answer).context("listen to a machine")?;
        if answer.trim() != init::READY {
            bail!("the machine {} did not start: {}", self.name, said(&self.log));
        }
        Ok(self.machine)
    }
}

/// What a log has, for an error.
fn said(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.trim().to_owned()
}

impl Machine {
    /// The machines that are recorded, by name.
    pub(crate) fn all(place: &Place) -> Result<Vec<(String, Self)>> {
        place::all(&place.at("machines"))
    }

    /// One of them.
    pub(crate) fn named(place: &Place, name: &str) -> Result<Self> {
        let path = place.at("machines").join(format!("{name}.json"));
        place::kept(&path)?.with_context(|| format!("there is no machine {name}"))
    }

    /// Kills everything in it.
    pub(super) fn kill(&self) -> Result<()> {
        self.init.kill()
    }

    /// A program that runs in it in the foreground, with our input and output.
    pub(crate) fn command(&self, program: &Path) -> Result<Command> {
        let mut command = self.enter()?;
        command.arg("--").arg(program);
        Ok(command)
    }

    /// Starts a program that stays; its output goes to the end of `log`.
    pub(super) fn start(&self, arg0: &str, argv: &[String], log: &Path) -> Result<Running> {
        if let Some(folder) = log.parent() {
            place::folder(folder)?;
        }
        let mut command = self.enter()?;
        command.arg("--log").arg(log).arg("--called").arg(arg0).arg("--").args(argv);
        let ended = command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("enter a machine")?;
        match (ended.status.success(), serde_json::from_slice(&ended.stdout)) {
            (true, Ok(running)) => Ok(running),
            _ => bail!("{} was not started: {}", argv.join(" "), ended.status),
        }
    }

    fn enter(&self) -> Result<Command> {
        let mut command = Command::new(this_program()?);
        let init = serde_json::to_string(&self.init).context("write a process")?;
        command.args(["cluster-machine", "enter", "--init", &init]);
        for group in &self.groups {
            command.arg("--group").arg(group);
        }
        Ok(command)
    }
}

/// This program, by a path that is seen in machines too.
pub(super) fn this_program() -> Result<PathBuf> {
    env::current_exe().context("find this program")
}

/// Enters the groups of a machine; the caller's children are born in them.
fn join(groups: &[PathBuf]) -> Result<()> {
    cgroup::join(groups, true)
}
