//! The oldest restic we agree with, as Debian 12 packs it.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Its name among the peers.
pub(super) const NAME: &str = "restic-debian";

const BINARY: &str = "/usr/bin/restic";
const VERSION: &str = "0.14.";

/// Finds it; installs it first when that is allowed.
pub(super) fn find() -> Result<PathBuf> {
    let path = PathBuf::from(BINARY);
    if !path.exists() {
        install()?;
    }
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

fn install() -> Result<()> {
    let is_root = Path::new("/proc/self").metadata().is_ok_and(|process| process.uid() == 0);
    let apt = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .map(|folder| folder.join("apt-get"))
        .find(|path| path.is_file());
    let Some(apt) = apt.filter(|_| is_root) else {
        bail!("{BINARY} is missing; as root: apt-get install restic");
    };
    eprintln!("installing restic by apt-get");
    for arguments in
        [&["-qq", "update"][..], &["-qq", "-y", "--no-install-recommends", "install", "restic"]]
    {
        // Nothing of apt-get may land on our stdout, which holds paths.
        let ended = Command::new(&apt)
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(std::process::Stdio::null())
            .stdout(std::io::stderr())
            .status()
            .with_context(|| format!("run {}", apt.display()))?;
        if !ended.success() {
            bail!("apt-get {} ended with {ended}", arguments.join(" "));
        }
    }
    Ok(())
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
