//! Loop devices that end with their last user.
//!
//! Each is set to clear itself when it is closed, so none outlives the mount or the process that
//! holds it, however that one ended.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::tool::run;

/// A loop device that is held open.
#[derive(Debug)]
pub(crate) struct Held {
    /// Such as `/dev/loop3`.
    pub(crate) device: PathBuf,
    _open: File,
}

/// The loop device of a file, if it has one already.
pub(crate) fn find(file: &Path) -> Result<Option<PathBuf>> {
    let words = ["--list", "--noheadings", "--output", "NAME", "--associated"].map(AsRef::as_ref);
    let said = run("losetup", &[&words[..], &[file.as_os_str()]].concat())?;
    Ok(said.lines().map(str::trim).find(|line| !line.is_empty()).map(PathBuf::from))
}

/// Opens the loop device of a file, the same one for all who ask; makes it first where there is none,
/// at `wanted` if that one is free. The caller holds the lock of the pool.
pub(crate) fn hold(file: &Path, wanted: Option<&Path>) -> Result<Held> {
    if let Some(device) = find(file)? {
        return open(device);
    }
    let at = |device: &Path| run("losetup", &[device.as_os_str(), file.as_os_str()]);
    let device = match wanted.filter(|device| at(device).is_ok()) {
        Some(device) => device.to_owned(),
        None => {
            let words = ["--find".as_ref(), "--show".as_ref(), file.as_os_str()];
            PathBuf::from(run("losetup", &words)?.trim())
        }
    };
    let held = open(device)?;
    // One that is open is not detached by this, but marked to go when it is closed.
    run("losetup", &["--detach".as_ref(), held.device.as_os_str()])?;
    Ok(held)
}

fn open(device: PathBuf) -> Result<Held> {
    let open = OpenOptions::new().read(true).write(true).open(&device);
    let open = open.with_context(|| format!("open {}", device.display()))?;
    Ok(Held { device, _open: open })
}

/// Tells a loop device that its file has grown.
pub(crate) fn grow(device: &Path) -> Result<()> {
    run("losetup", &["--set-capacity".as_ref(), device.as_os_str()]).map(drop)
}
