//! The programs of storage, where every machine sees them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::super::place::{self, Place};
use crate::peers;

/// The official sidecars, by the names of their peers.
pub(super) const SIDECARS: [&str; 4] =
    ["csi-provisioner", "csi-snapshotter", "snapshot-controller", "csi-snapshot-metadata"];

/// The driver's program.
pub(super) const DRIVER: &str = "alidade-csi";

/// Where a program is, once [`provide`] was called.
pub(super) fn path(place: &Place, name: &str) -> PathBuf {
    place.at("storage/bin").join(name)
}

/// Puts all of them into the cluster's folder, which machines see at the same path.
pub(super) fn provide(root: &Path, place: &Place) -> Result<()> {
    let names = SIDECARS.map(str::to_owned);
    let mut programs = vec![(DRIVER.to_owned(), built(root)?)];
    programs.extend(names.iter().cloned().zip(peers::paths(root, &names)?));
    place::folder(&place.at("storage/bin"))?;
    for (name, from) in programs {
        let to = path(place, &name);
        let show = || format!("copy {} to {}", from.display(), to.display());
        // Beside its name first: the old one may be running.
        let new = to.with_extension("new");
        fs::copy(&from, &new).and_then(|_| fs::rename(&new, &to)).with_context(show)?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

/// Builds the driver from this checkout.
fn built(root: &Path) -> Result<PathBuf> {
    let words = ["build", "--locked", "--package", DRIVER, "--message-format=json"];
    let built = Command::new("cargo")
        .args(words)
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(io::stderr())
        .output()
        .context("run cargo build")?;
    if !built.status.success() {
        bail!("cargo build of the CSI driver ended with {}", built.status);
    }
    let said = String::from_utf8_lossy(&built.stdout);
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let executables = messages.filter_map(|message| message.executable);
    executables.last().context("find the CSI driver that cargo built")
}
