//! The first process of a machine: it makes the machine's root, and collects what ends there.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use alidade_entity::{Clock, SystemClock};
use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};
use rustix::io::Errno;
use rustix::process::{WaitOptions, setsid, wait};
use rustix::system::sethostname;

use super::super::cgroup;
use super::{Plan, root, this_program};

/// What it says once everything is made.
pub(super) const READY: &str = "ready";

#[derive(clap::Args)]
pub(crate) struct Make {
    /// A control group of the machine
    #[arg(long = "group")]
    groups: Vec<PathBuf>,
}

/// Makes the namespaces, starts the first process in them and says its id.
pub(super) fn make(arguments: &Make) -> Result<()> {
    setsid().context("leave the terminal")?;
    // The root of the new tree of groups is the group that the caller is in.
    cgroup::join(&arguments.groups, false)?;
    let namespaces = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(namespaces).context("make namespaces")?;
    cgroup::join(&arguments.groups, true)?;
    let init = Command::new(this_program()?)
        .arg0("alidade-bench-machine")
        .args(["cluster-machine", "init"])
        .spawn()
        .context("start the first process of a machine")?;
    println!("{}", init.id());
    Ok(())
}

/// Is the first process: waits for its plan, makes it so, and collects what ends, for ever.
pub(super) fn run() -> Result<()> {
    if std::process::id() != 1 {
        bail!("this is no machine");
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("wait for the plan")?;
    if !line.ends_with('\n') {
        // Whoever made this machine has died before it was recorded.
        return Ok(());
    }
    let plan: Plan = serde_json::from_str(&line).context("read the plan")?;
    root::make(&plan)?;
    sethostname(plan.hostname.as_bytes()).context("set the host name")?;
    for (path, text) in &plan.files {
        let write = || format!("write {}", path.display());
        fs::create_dir_all(path.parent().context("write a file")?).with_context(write)?;
        // The host may have a link here, to where nothing is inside.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(write);
            }
            _ => fs::write(path, text).with_context(write)?,
        }
    }
    for (path, value) in &plan.settings {
        let path = format!("/proc/sys/{path}");
        fs::write(&path, value).with_context(|| format!("set {path}"))?;
    }
    for (path, value) in &plan.shown {
        root::show(path, value)?;
    }
    say_ready()?;
    collect()
}

/// Whoever made the machine reads until there is nobody left to say anything.
fn say_ready() -> Result<()> {
    println!("{READY}");
    io::stdout().flush().context("say that it is ready")?;
    let nothing = fs::File::options().read(true).write(true).open("/dev/null");
    let nothing = nothing.context("open /dev/null")?;
    rustix::stdio::dup2_stdout(&nothing).context("close the output")?;
    rustix::stdio::dup2_stdin(&nothing).context("close the input")
}

fn collect() -> Result<()> {
    let clock = SystemClock::new();
    loop {
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => clock.sleep(Duration::from_millis(200)),
            Err(error) => return Err(error).context("collect what ended"),
        }
    }
}
