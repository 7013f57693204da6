//! The file system that holds everything: an image file, mounted by way of a loop device.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::records::{Group, Kind, Records, Snapshot, Volume, new_id};
use crate::tool::run;
use crate::{btrfs, loops, mounts};

/// The least an image can be.
const SMALLEST: u64 = 256 << 20;

/// Where frozen volumes are.
const FROZEN: &str = "frozen";
/// Where raw volumes are: one subvolume, so that all can be frozen in one instant.
const DISKS: &str = "disks";
/// Where volumes with a file system are.
const TREES: &str = "trees";
/// Where things are made before they get their names.
const SCRATCH: &str = "scratch";

/// A mounted pool.
#[derive(Debug)]
pub(crate) struct Pool {
    root: PathBuf,
    pub(crate) records: Records,
}

/// Holds the lock of a pool, which all processes of all nodes share.
#[derive(Debug)]
pub(crate) struct Locked {
    _file: File,
}

impl Pool {
    /// Mounts the image at `root`; makes the image first, `bytes` long, where there is none.
    ///
    /// Any number of processes may do so at once, also in mount namespaces of their own.
    pub(crate) fn open(image: &Path, bytes: u64, root: &Path) -> Result<Self> {
        let beside = image.with_extension("lock");
        let _locked = lock(&beside)?;
        if !image.exists() {
            create(image, bytes)?;
        }
        fs::create_dir_all(root).with_context(|| format!("create {}", root.display()))?;
        let root = root.canonicalize().with_context(|| format!("find {}", root.display()))?;
        if mounts::at(&root)?.is_none() {
            mount(image, &root)?;
        }
        let disks = root.join(DISKS);
        if !disks.exists() {
            btrfs::count(&root)?;
            btrfs::create(&disks)?;
        }
        for folder in [TREES, FROZEN, SCRATCH] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let records = Records::open(&root.join("records"))?;
        Ok(Self { root, records })
    }

    /// Takes the mount away; volumes that are mounted elsewhere stay so.
    pub(crate) fn close(&self) -> Result<()> {
        mounts::unmount(&self.root)
    }

    /// Waits for the lock. Who changes something holds it.
    pub(crate) fn lock(&self) -> Result<Locked> {
        lock(&self.root.join("lock"))
    }

    /// Where the content of a volume is.
    pub(crate) fn volume(&self, volume: &Volume) -> PathBuf {
        let folder = if volume.kind == Kind::Block { DISKS } else { TREES };
        self.root.join(folder).join(&volume.id)
    }

    /// Where the content of a snapshot is.
    pub(crate) fn snapshot(&self, snapshot: &Snapshot) -> PathBuf {
        self.root.join(FROZEN).join(&snapshot.id)
    }

    /// How many bytes there are, and how many of them are free.
    pub(crate) fn space(&self) -> Result<(u64, u64)> {
        let show = || format!("ask for the free space of {}", self.root.display());
        let told = rustix::fs::statvfs(&self.root).with_context(show)?;
        Ok((told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize))
    }

    /// Freezes all raw volumes in one instant and gives the folder to `take` from. The caller holds
    /// the lock.
    pub(crate) fn with_frozen_disks<T>(&self, take: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let frozen = self.root.join(SCRATCH).join(new_id("disks")?);
        btrfs::freeze(&self.root.join(DISKS), &frozen)?;
        let taken = take(&frozen);
        btrfs::delete(&frozen)?;
        taken
    }

    /// Removes what a killed process left: content that no record names, members of a group that
    /// was never finished. The caller holds the lock.
    pub(crate) fn sweep(&self) -> Result<()> {
        let groups: Vec<String> =
            self.records.all::<Group>()?.into_iter().map(|group| group.id).collect();
        for snapshot in self.records.all::<Snapshot>()? {
            if snapshot.group.as_ref().is_some_and(|group| !groups.contains(group)) {
                self.records.remove::<Snapshot>(&snapshot.id)?;
            }
        }
        let volumes = self.records.all::<Volume>()?.into_iter().map(|volume| volume.id);
        let volumes: Vec<String> = volumes.collect();
        let snapshots = self.records.all::<Snapshot>()?.into_iter().map(|snapshot| snapshot.id);
        let snapshots: Vec<String> = snapshots.collect();
        self.keep_only(TREES, &volumes)?;
        self.keep_only(DISKS, &volumes)?;
        self.keep_only(FROZEN, &snapshots)?;
        self.keep_only(SCRATCH, &[])
    }

    fn keep_only(&self, folder: &str, names: &[String]) -> Result<()> {
        let folder = self.root.join(folder);
        let list = || format!("list {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(list)? {
            let entry = entry.with_context(list)?;
            if !names.iter().any(|name| entry.file_name() == name.as_str()) {
                discard(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Deletes the content of a volume or of a snapshot; none is no error.
pub(crate) fn discard(path: &Path) -> Result<()> {
    if path.is_dir() {
        return btrfs::delete(path);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("delete {}", path.display())),
    }
}

fn lock(path: &Path) -> Result<Locked> {
    let show = || format!("lock {}", path.display());
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).open(path).with_context(show)?;
    flock(&file, FlockOperation::LockExclusive).with_context(show)?;
    Ok(Locked { _file: file })
}

/// Made under another name first: an interrupted start leaves no half image.
fn create(image: &Path, bytes: u64) -> Result<()> {
    ensure!(bytes >= SMALLEST, "an image of {bytes} bytes is too small, {SMALLEST} are needed");
    let show = || format!("create {}", image.display());
    let new = image.with_extension("new");
    let file = File::create(&new).with_context(show)?;
    file.set_len(bytes).with_context(show)?;
    run("mkfs.btrfs", &["--quiet".as_ref(), "--force".as_ref(), new.as_os_str()])?;
    fs::rename(&new, image).with_context(show)
}

fn mount(image: &Path, root: &Path) -> Result<()> {
    // A second loop device on the same file would be a second cache of the same blocks.
    let words = match loops::find(image)? {
        Some(device) => vec!["-o".into(), "noatime".into(), device.into_os_string()],
        None => vec!["-o".into(), "loop,noatime".into(), image.as_os_str().to_owned()],
    };
    let place = root.as_os_str().to_owned();
    let kind = ["-t".into(), "btrfs".into()];
    run("mount", &[&kind[..], &words[..], &[place]].concat()).map(drop)
}
