//! kubectl, as the administrator of a cluster.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::place::Place;
use super::record::Record;
use crate::peers;

/// The binary that is all of Kubernetes.
pub(super) const PEER: &str = "kubernetes";

/// Becomes kubectl with these words.
pub(super) fn run(root: &Path, place: &Place, words: &[String]) -> Result<()> {
    Record::of(place)?;
    let kubernetes = peers::path(root, PEER)?;
    let error = command(&kubernetes, place).args(words).exec();
    Err(error).context("become kubectl")
}

/// kubectl, with everything it writes below the cluster's folder.
pub(super) fn command(kubernetes: &Path, place: &Place) -> Command {
    let mut command = Command::new(kubernetes);
    command
        .arg0("kubectl")
        .env("KUBECONFIG", place.kubeconfig())
        .env("KUBECACHEDIR", place.at("kubectl"))
        .env("KUBERC", "off");
    command
}

/// What kubectl answers.
pub(super) fn ask(kubernetes: &Path, place: &Place, words: &[&str]) -> Result<String> {
    let asked = command(kubernetes, place)
        .arg("--request-timeout=5s")
        .args(words)
        .output()
        .context("run kubectl")?;
    if !asked.status.success() {
        bail!("kubectl: {}", String::from_utf8_lossy(&asked.stderr).trim());
    }
    String::from_utf8(asked.stdout).context("read what kubectl says")
}
