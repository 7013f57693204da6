//! The sparse files that raw volumes are.

use std::fs::{File, OpenOptions};
use std::path::Path;

use anyhow::{Context, Result};

/// Makes an empty disk.
pub(crate) fn create(path: &Path, bytes: u64) -> Result<()> {
    let show = || format!("create {}", path.display());
    let file = File::create_new(path).with_context(show)?;
    file.set_len(bytes).with_context(show)?;
    file.sync_all().with_context(show)
}

/// Makes a disk that shares what another holds; `bytes` is its size, not less than the other's.
pub(crate) fn copy(from: &Path, to: &Path, bytes: u64) -> Result<()> {
    let show = || format!("copy {} to {}", from.display(), to.display());
    let source = File::open(from).with_context(show)?;
    let file = File::create_new(to).with_context(show)?;
    rustix::fs::ioctl_ficlone(&file, &source).with_context(show)?;
    file.set_len(bytes).with_context(show)?;
    file.sync_all().with_context(show)
}

/// Makes a disk longer.
pub(crate) fn grow(path: &Path, bytes: u64) -> Result<()> {
    let show = || format!("make {} {bytes} bytes long", path.display());
    let file = OpenOptions::new().write(true).open(path).with_context(show)?;
    file.set_len(bytes).with_context(show)?;
    file.sync_all().with_context(show)
}
