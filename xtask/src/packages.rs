//! Packages of Debian: installed where that is allowed, and named where it is not.

use std::env;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Where programs of the administrator are, on or off somebody's `PATH`.
const MORE: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Sees to it that packages are there; each comes with a program, or a file by its whole path, that
/// shows it.
pub(crate) fn ensure(packages: &[(&str, &str)]) -> Result<()> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let apt = program("apt-get").filter(|_| is_root());
    let Some(apt) = apt else {
        bail!("packages are missing: {names}\n\nhint: as root: apt-get install {names}");
    };
    eprintln!("installing {names} by apt-get");
    let install = [&["-qq", "-y", "--no-install-recommends", "install"][..], &missing].concat();
    for words in [&["-qq", "update"][..], &install] {
        // Nothing of apt-get may land on our stdout, which others read.
        let ended = Command::new(&apt)
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .status()
            .with_context(|| format!("run {}", apt.display()))?;
        if !ended.success() {
            bail!("apt-get {} ended with {ended}", words.join(" "));
        }
    }
    Ok(())
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    Path::new("/proc/self").metadata().is_ok_and(|process| process.uid() == 0)
}

fn missing<'a>(packages: &[(&'a str, &str)]) -> Vec<&'a str> {
    let is_there = |shows: &str| match shows.starts_with('/') {
        true => Path::new(shows).exists(),
        false => program(shows).is_some(),
    };
    packages.iter().filter(|(_, shows)| !is_there(shows)).map(|(name, _)| *name).collect()
}

/// A program by its name.
fn program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .chain(MORE.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        let packages = [("bash", "sh"), ("none", "no-such-program"), ("no-file", "/no/such/file")];
        assert_eq!(missing(&packages), ["none", "no-file"]);
        assert!(ensure(&packages[..1]).is_ok());
    }
}
