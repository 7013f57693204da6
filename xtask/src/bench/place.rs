//! Where data sets, repositories and restored files lie: a folder on a disk, and a tmpfs in it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::manifest;
use super::served::Address;
use super::set::Scale;

/// The folder that everything lies in. The tmpfs is mounted while this lives.
pub(super) struct Place {
    root: PathBuf,
    scale: Scale,
}

/// What one run works with. The paths are the same for every run, so that what a tool writes down
/// about them stays true when a repository is copied: `repository` and `home` are links.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) repository: PathBuf,
    /// Home directory, caches and temporary files.
    pub(super) home: PathBuf,
    /// What is restored lands here.
    pub(super) target: PathBuf,
    /// Where tools find the repository when they are not to see its folder.
    pub(super) served: Option<Address>,
}

/// On what a repository is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Tmpfs,
    Disk,
    /// A bucket that is far away; what is in it lies on a tmpfs.
    S3,
}

impl Place {
    /// Makes the folder ready and mounts the tmpfs.
    pub(super) fn new(data: &Path, scale: Scale) -> Result<Self> {
        let root = data.join(match scale {
            Scale::Full => "full",
            Scale::Smoke => "smoke",
        });
        let place = Self { root, scale };
        for folder in ["sets", "bases", "disk", "tmpfs", "now"] {
            make(&place.root.join(folder))?;
        }
        place.unmount()?;
        let (size, _) = place.sizes();
        let options = format!("size={size}m,nr_inodes=4m,mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "alidade-bench"])
            .arg(place.tmpfs())
            .status()
            .context("run mount")?;
        if !mounted.success() {
            bail!("mounting a tmpfs ended with {mounted}: the bench must run as root");
        }
        Ok(place)
    }

    /// Size of the tmpfs, and how much of it is touched before a row: what the largest repository
    /// or restored data set takes. MiB.
    const fn sizes(&self) -> (usize, usize) {
        match self.scale {
            Scale::Full => (11 << 10, 6 << 10),
            Scale::Smoke => (400, 8),
        }
    }

    /// Where the tmpfs is mounted.
    pub(super) fn tmpfs(&self) -> PathBuf {
        self.root.join("tmpfs")
    }

    /// Where data sets lie.
    pub(super) fn sets(&self) -> PathBuf {
        self.root.join("sets")
    }

    /// Where a repository is kept that many runs start from.
    pub(super) fn base(&self, name: &str) -> PathBuf {
        self.root.join("bases").join(name)
    }

    /// A file for what the command at hand prints.
    pub(super) fn output(&self) -> PathBuf {
        self.root.join("output")
    }

    /// Touches pages before they are needed: on a virtual machine the first write to a page that
    /// the host has not given yet costs more than all that is measured.
    pub(super) fn touch(&self) -> Result<()> {
        let path = self.tmpfs().join("touched");
        let mut file = File::create(&path).context("touch the tmpfs")?;
        let piece = vec![1; 1 << 20];
        for _ in 0..self.sizes().1 {
            file.write_all(&piece).context("touch the tmpfs")?;
        }
        drop(file);
        fs::remove_file(&path).context("touch the tmpfs")
    }

    /// Empties what the run before left, and gives the stage for a new one, with an empty
    /// repository folder and an empty home.
    pub(super) fn clear(&self, medium: Medium) -> Result<Stage> {
        for folder in
            [self.tmpfs().join("stage"), self.tmpfs().join("target"), self.root.join("disk")]
        {
            remove(&folder)?;
        }
        make(&self.tmpfs().join("target"))?;
        let real = match medium {
            Medium::Tmpfs | Medium::S3 => self.tmpfs().join("stage"),
            Medium::Disk => self.root.join("disk"),
        };
        self.stage(&real.join("repository"), &real.join("home"))
    }

    /// A stage with the repository and the home at these places.
    pub(super) fn stage(&self, repository: &Path, home: &Path) -> Result<Stage> {
        let now = self.root.join("now");
        for (name, real) in [("repository", repository), ("home", home)] {
            make(real)?;
            let link = now.join(name);
            remove(&link)?;
            symlink(real, &link).with_context(|| format!("link {}", link.display()))?;
        }
        make(&home.join("tmp"))?;
        Ok(Stage {
            repository: now.join("repository"),
            home: now.join("home"),
            target: self.tmpfs().join("target"),
            served: None,
        })
    }

    fn unmount(&self) -> Result<()> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
        let tmpfs = self.tmpfs().canonicalize().context("find the tmpfs")?;
        let tmpfs = tmpfs.to_string_lossy();
        for _ in mounts.lines().filter(|line| line.split(' ').nth(1) == Some(&*tmpfs)) {
            let ended = Command::new("umount").arg(&*tmpfs).status().context("run umount")?;
            if !ended.success() {
                bail!("umount {tmpfs} ended with {ended}");
            }
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("warning: the tmpfs is left mounted: {error:#}");
        }
    }
}

/// Copies a folder with everything in it; files are new ones.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    make(to)?;
    let ended = Command::new("cp")
        .args(["-a", "--no-target-directory"])
        .arg(from)
        .arg(to)
        .status()
        .context("run cp")?;
    if !ended.success() {
        bail!("copying {} ended with {ended}", from.display());
    }
    Ok(())
}

/// Bytes of all files below a folder.
pub(super) fn stored(folder: &Path) -> Result<u64> {
    Ok(manifest::count(folder)?.bytes)
}

pub(super) fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

/// Removes a file, a link or a folder with everything in it; absent is fine.
pub(super) fn remove(path: &Path) -> Result<()> {
    let Ok(found) = path.symlink_metadata() else { return Ok(()) };
    if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
        .with_context(|| format!("remove {}", path.display()))
}
