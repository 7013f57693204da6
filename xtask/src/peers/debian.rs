//! The oldest restic we agree with, as Debian 12 packs it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages;

/// Its name among the peers.
pub(super) const NAME: &str = "restic-debian";

const BINARY: &str = "/usr/bin/restic";
const VERSION: &str = "0.14.";

/// Finds it; installs it first when that is allowed.
pub(super) fn find() -> Result<PathBuf> {
    let path = PathBuf::from(BINARY);
    packages::ensure(&[("restic", BINARY)])?;
    let asked = Command::new(&path)
        .arg("version")
        .output()
        .with_context(|| format!("run {BINARY} version"))?;
    let said = String::from_utf8_lossy(&asked.stdout);
    check(&said)?;
    Ok(path)
}

fn check(said: &str) -> Result<()> {
    let version = said.strip_prefix("restic ").and_then(|rest| rest.split(' ').next());
    match version {
        Some(version) if version.starts_with(VERSION) => Ok(()),
        _ => bail!(
            "{BINARY} is not restic {VERSION}x as in Debian 12, it says `{}`",
            said.lines().next().unwrap_or_default()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn only_the_version_of_debian_12_will_do() {
        assert!(check("restic 0.14.0 compiled with go1.19.4 on linux/amd64\n").is_ok());
        for said in
            ["restic 0.18.1 compiled with go1.26 on linux/amd64\n", "restic 0.1", "", "x 0.14.0"]
        {
            assert!(check(said).is_err(), "{said}");
        }
    }
}
