//! Subvolumes: made, frozen, copied, limited, deleted.

use std::path::Path;

use anyhow::{Context, Result};

use crate::tool::run;

/// Makes an empty subvolume.
pub(crate) fn create(path: &Path) -> Result<()> {
    run("btrfs", &["subvolume".as_ref(), "create".as_ref(), path.as_os_str()]).map(drop)
}

/// Freezes a subvolume as `to`, of one instant and read-only.
pub(crate) fn freeze(from: &Path, to: &Path) -> Result<()> {
    let words = ["subvolume".as_ref(), "snapshot".as_ref(), "-r".as_ref()];
    run("btrfs", &[&words[..], &[from.as_os_str(), to.as_os_str()]].concat()).map(drop)
}

/// Makes a writable copy that shares what it holds.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let words = ["subvolume".as_ref(), "snapshot".as_ref()];
    run("btrfs", &[&words[..], &[from.as_os_str(), to.as_os_str()]].concat()).map(drop)
}

/// Deletes a subvolume with all it holds.
pub(crate) fn delete(path: &Path) -> Result<()> {
    run("btrfs", &["subvolume".as_ref(), "delete".as_ref(), path.as_os_str()]).map(drop)
}

/// Turns counting on, which limits and [`used`] need.
pub(crate) fn count(root: &Path) -> Result<()> {
    run("btrfs", &["quota".as_ref(), "enable".as_ref(), root.as_os_str()]).map(drop)
}

/// Sets how many bytes a subvolume may refer to.
pub(crate) fn limit(path: &Path, bytes: u64) -> Result<()> {
    let bytes = bytes.to_string();
    let words = ["qgroup".as_ref(), "limit".as_ref(), bytes.as_ref(), path.as_os_str()];
    run("btrfs", &words).map(drop)
}

/// How many bytes a subvolume refers to, once all that was written is on its device.
pub(crate) fn used(path: &Path) -> Result<u64> {
    let words = ["qgroup", "show", "--raw", "-r", "-f", "--sync"].map(AsRef::as_ref);
    let said = run("btrfs", &[&words[..], &[path.as_os_str()]].concat())?;
    referenced(&said).with_context(|| format!("read what `btrfs qgroup show` says: {said}"))
}

fn referenced(said: &str) -> Option<u64> {
    let row = said.lines().find(|line| line.starts_with("0/"))?;
    row.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::referenced;

    #[test]
    fn the_row_of_the_subvolume_is_read() {
        let said = "Qgroupid    Referenced    Exclusive  Max referenced   Path \n\
                    --------    ----------    ---------  --------------   ---- \n\
                    0/256         20955136        16384        20971520   a\n";
        assert_eq!(referenced(said), Some(20_955_136));
        assert_eq!(referenced("Qgroupid    Referenced\n"), None);
    }
}
