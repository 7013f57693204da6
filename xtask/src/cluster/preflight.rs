//! What must be so before a cluster can be made here.

use std::fs;

use anyhow::{Context, Result};
use rustix::fs::statvfs;

use super::advise;
use super::cgroup::Hierarchy;
use super::place::{self, Place};
use crate::packages;

/// What a cluster needs of Debian, with what shows it.
const PACKAGES: &[(&str, &str)] = &[
    ("containerd", "/usr/bin/containerd"),
    ("runc", "runc"),
    ("containernetworking-plugins", "/usr/lib/cni/bridge"),
    ("iptables", "iptables"),
    ("iproute2", "ip"),
    ("mount", "losetup"),
    ("util-linux", "nsenter"),
];

/// What a cluster with a few images takes on the disk.
const LEAST_BYTES: u64 = 2 << 30;

/// Sees to it that a cluster can be made; gives the hierarchies of control groups.
pub(super) fn check(place: &Place) -> Result<Vec<Hierarchy>> {
    if !packages::is_root() {
        return Err(advise(
            "a cluster is made of namespaces, mounts and links: only root may make them",
            "sudo cargo xtask cluster up",
        ));
    }
    packages::ensure(PACKAGES)?;
    let hierarchies = Hierarchy::all()?;
    overlay()?;
    disk(place)?;
    Ok(hierarchies)
}

fn overlay() -> Result<()> {
    let path = "/proc/filesystems";
    let known = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    if !known.split_whitespace().any(|word| word == "overlay") {
        return Err(advise("this kernel does not have overlayfs", "modprobe overlay"));
    }
    Ok(())
}

fn disk(place: &Place) -> Result<()> {
    place::folder(place.clusters())?;
    let folder = place.clusters();
    let room = statvfs(folder).with_context(|| format!("look at {}", folder.display()))?;
    let free = room.f_bavail * room.f_frsize;
    if free < LEAST_BYTES {
        return Err(advise(
            &format!(
                "{} has {} MiB left, and a cluster needs {} MiB",
                folder.display(),
                free >> 20,
                LEAST_BYTES >> 20
            ),
            "make room, or choose another folder by ALIDADE_TESTBENCH",
        ));
    }
    Ok(())
}
