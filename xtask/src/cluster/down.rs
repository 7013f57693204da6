//! Ends a cluster.

use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result};

use super::lock::Lock;
use super::machine::Machine;
use super::place::Place;
use super::record::Record;
use super::{cgroup, loops, network};

/// Ends the cluster and leaves nothing of it; one that is not there is ended already.
pub(super) fn run(place: &Place) -> Result<()> {
    if !place.folder().exists() && !place.lock().exists() {
        eprintln!("there is no cluster {}", place.name());
        return Ok(());
    }
    let lock = Lock::take(place)?;
    sweep(place)?;
    lock.remove()?;
    // The folder of all clusters goes with the last of them.
    match fs::remove_dir(place.clusters()) {
        Err(error)
            if !matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) =>
        {
            Err(error).with_context(|| format!("remove {}", place.clusters().display()))
        }
        _ => Ok(()),
    }
}

/// Ends whatever there is of the cluster, whole or half made. What is recorded is what was started
/// here; nothing else is touched.
pub(super) fn sweep(place: &Place) -> Result<()> {
    let machines = Machine::all(place)?;
    let devices = loops::of(place, &machines)?;
    for (name, machine) in &machines {
        machine.kill().with_context(|| format!("end the machine {name}"))?;
    }
    loops::detach(devices)?;
    if let Some(record) = Record::find(place)? {
        network::leave(&record.link)?;
        for group in &record.groups {
            cgroup::remove(group)?;
        }
    }
    match fs::remove_dir_all(place.folder()) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", place.folder().display()))
        }
        _ => Ok(()),
    }
}
