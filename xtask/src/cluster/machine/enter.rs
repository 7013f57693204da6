//! Starts a program in a machine.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use rustix::process::setsid;

use super::join;
use crate::cluster::process::Running;

/// What a program in a machine finds its own programs by.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The first process of the machine, as it is recorded
    #[arg(long)]
    init: String,
    /// A control group of the machine
    #[arg(long = "group")]
    groups: Vec<PathBuf>,
    /// Stay with nobody, write to the end of this file, and print the process
    #[arg(long)]
    log: Option<PathBuf>,
    /// The name the program sees itself called by
    #[arg(long)]
    called: Option<String>,
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let init: Running = serde_json::from_str(&arguments.init).context("read the machine")?;
    let log = match &arguments.log {
        Some(path) => {
            let open = File::options().create(true).append(true).open(path);
            Some(open.with_context(|| format!("open {}", path.display()))?)
        }
        None => None,
    };
    // What this host sees: inside there is another.
    let proc = File::open("/proc").context("open /proc")?;
    join(&arguments.groups)?;
    enter(&init)?;
    let Some((program, words)) = arguments.command.split_first() else {
        bail!("there is no program");
    };
    let mut command = Command::new(program);
    command.args(words).env_clear().env("PATH", PATH).env("HOME", "/root").current_dir("/");
    if let Some(called) = &arguments.called {
        command.arg0(called);
    }
    let what = || format!("start {program}");
    match log {
        Some(log) => {
            setsid().context("leave the terminal")?;
            let errors = log.try_clone().context("open the log twice")?;
            command.stdin(Stdio::null()).stdout(log).stderr(errors);
            let child = command.spawn().with_context(what)?;
            // Not collected before we end: it is there to be looked at even if it has ended.
            let running = Running::seen_in(&proc, child.id())?;
            println!("{}", serde_json::to_string(&running).context("write a process")?);
        }
        None => {
            let ended = command.status().with_context(what)?;
            if !ended.success() {
                bail!("{program} ended with {ended}");
            }
        }
    }
    Ok(())
}

/// Goes where the process is. Only children of the caller are in its process tree.
fn enter(init: &Running) -> Result<()> {
    let kinds = ["cgroup", "ipc", "uts", "net", "pid", "mnt"];
    let mut namespaces = Vec::new();
    for kind in kinds {
        let path = format!("/proc/{}/ns/{kind}", init.pid);
        namespaces.push(File::open(&path).with_context(|| format!("open {path}"))?);
    }
    // Opened first: if it lives now, these are its namespaces and no other's.
    if !init.is_alive() {
        bail!("the machine has ended");
    }
    for (kind, namespace) in kinds.iter().zip(namespaces) {
        setns(namespace, CloneFlags::empty())
            .with_context(|| format!("enter the {kind} namespace"))?;
    }
    Ok(())
}
