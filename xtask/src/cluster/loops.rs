//! Loop devices belong to the whole host, whoever made them: what a cluster made is found and
//! detached when it ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::fs::{major, minor};
use serde::Deserialize;

use super::machine::Machine;
use super::place::Place;

/// Prints each device whose file is found in a machine at the path the kernel names, with the same
/// number on the same device: only then it is a file of that machine's. Nodes of devices are among
/// them, for kubelet makes a loop device of every block volume, below its own folder.
const INSIDE: &str = r#"
for file in /sys/block/loop*/loop/backing_file; do
    loop=${file#/sys/block/}; loop=${loop%%/*}
    path=$(cat "$file" 2>/dev/null) || continue
    case $path in /dev/*) continue ;; esac
    [ -e "$path" ] || continue
    there=$(stat --dereference --format '%Hd:%Ld %i' "$path") || continue
    set -- $(losetup --noheadings --output BACK-MAJ:MIN,BACK-INO "/dev/$loop")
    [ "$there" = "$*" ] && echo "/dev/$loop"
done
exit 0
"#;

#[derive(Deserialize)]
struct Listed {
    loopdevices: Vec<Device>,
}

/// A loop device, with where its file is: a device, and a number there.
#[derive(Deserialize)]
struct Device {
    name: PathBuf,
    #[serde(rename = "back-maj:min")]
    on: Option<String>,
    #[serde(rename = "back-ino")]
    number: Option<u64>,
}

/// The devices that the machines of a cluster have, and those on files of its folder: a pod may
/// have made one in a mount namespace of its own.
pub(super) fn of(place: &Place, machines: &[(String, Machine)]) -> Result<Vec<PathBuf>> {
    let mut found = on_files_of(&place.folder(), all()?)?;
    for (name, machine) in machines.iter().filter(|(_, machine)| machine.init.is_alive()) {
        let asked = machine
            .command(Path::new("/bin/sh"))?
            .args(["-c", INSIDE])
            .output()
            .with_context(|| format!("look for loop devices in {name}"))?;
        let said = String::from_utf8_lossy(&asked.stdout);
        found.extend(said.lines().map(PathBuf::from));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn on_files_of(folder: &Path, devices: Vec<Device>) -> Result<Vec<PathBuf>> {
    let Ok(metadata) = fs::metadata(folder) else { return Ok(Vec::new()) };
    let disk = format!("{}:{}", major(metadata.dev()), minor(metadata.dev()));
    let wanted: BTreeMap<u64, PathBuf> = devices
        .into_iter()
        // It is padded.
        .filter(|device| device.on.as_deref().map(str::trim) == Some(&disk))
        .filter_map(|device| Some((device.number?, device.name)))
        .collect();
    let mut found = Vec::new();
    if !wanted.is_empty() {
        search(folder, &wanted, &mut found)?;
    }
    Ok(found)
}

/// Finds the files with these numbers; what vanishes meanwhile is in use by nobody.
fn search(folder: &Path, wanted: &BTreeMap<u64, PathBuf>, found: &mut Vec<PathBuf>) -> Result<()> {
    let list = || format!("list {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(list)?,
    };
    for entry in entries {
        let entry = entry.with_context(list)?;
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            search(&entry.path(), wanted, found)?;
        } else if metadata.is_file() {
            found.extend(wanted.get(&metadata.ino()).cloned());
        }
    }
    Ok(())
}

/// Detaches devices; one that lies on another goes first.
pub(super) fn detach(mut devices: Vec<PathBuf>) -> Result<()> {
    let is_attached = |device: &PathBuf| {
        let name = device.file_name().unwrap_or_default();
        Path::new("/sys/block").join(name).join("loop/backing_file").exists()
    };
    // Each pass frees what the one before had held.
    for _ in 0..3 {
        devices.retain(is_attached);
        for device in &devices {
            // It goes now, or when its last user is gone.
            let ended = Command::new("losetup").arg("--detach").arg(device).output();
            let ended = ended.context("run losetup")?;
            let said = String::from_utf8_lossy(&ended.stderr);
            ensure!(
                ended.status.success() || !is_attached(device),
                "detach {}: {}",
                device.display(),
                said.trim()
            );
        }
    }
    Ok(())
}

fn all() -> Result<Vec<Device>> {
    let asked = Command::new("losetup")
        .args(["--list", "--json", "--output", "NAME,BACK-MAJ:MIN,BACK-INO"])
        .output()
        .context("run losetup")?;
    // Where there is no loop device there is no document either.
    if asked.stdout.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let listed: Listed = serde_json::from_slice(&asked.stdout).context("read what losetup says")?;
    Ok(listed.loopdevices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_the_number_of_its_file_on_the_same_disk() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("disk"), "").unwrap();
        let metadata = fs::metadata(deep.join("disk")).unwrap();
        let disk = format!("{}:{}", major(metadata.dev()), minor(metadata.dev()));
        let device = |name: &str, on: &str, number: u64| Device {
            name: name.into(),
            on: Some(format!("  {on} ")),
            number: Some(number),
        };
        let devices = vec![
            device("/dev/loop0", &disk, metadata.ino()),
            device("/dev/loop1", &disk, u64::MAX),
            device("/dev/loop2", "1:2", metadata.ino()),
        ];
        let found = on_files_of(folder.path(), devices).unwrap();
        assert_eq!(found, [PathBuf::from("/dev/loop0")]);
        assert!(on_files_of(&folder.path().join("none"), Vec::new()).unwrap().is_empty());
    }
}
