//! The static busybox of this machine, under all its names.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{advise, store};
use crate::packages;

/// Finds the program.
pub(super) fn find() -> Result<PathBuf> {
    let hint = "as root: apt-get install busybox-static";
    packages::ensure(&[("busybox-static", "busybox")])?;
    let found = ["/usr/bin/busybox", "/bin/busybox"].into_iter().map(PathBuf::from);
    let Some(path) = found.into_iter().find(|path| path.is_file()) else {
        return Err(advise("there is no busybox on this machine", hint));
    };
    let read = || format!("read {}", path.display());
    if !is_static(&fs::read(&path).with_context(read)?).with_context(read)? {
        let problem = format!("{} needs libraries, which an image has not", path.display());
        return Err(advise(&problem, hint));
    }
    Ok(path)
}

/// Whether a program needs no loader: no entry of its program headers names one.
fn is_static(program: &[u8]) -> Result<bool> {
    const INTERPRETER: u32 = 3;
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = program.get(at..at.checked_add(length)?)?;
        let add = |sum: u64, byte: &u8| (sum << 8) | u64::from(*byte);
        Some(bytes.iter().rev().fold(0, add))
    };
    // Magic, 64 bits, little-endian: the offsets below are those of this kind.
    if !program.starts_with(b"\x7fELF\x02\x01") {
        bail!("it is no 64-bit ELF program of this machine's byte order");
    }
    let headers = || {
        let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        (0..count)
            .map(|index| number(usize::try_from(start + index * size).ok()?, 4))
            .collect::<Option<Vec<_>>>()
    };
    let headers = headers().context("find its program headers")?;
    Ok(!headers.contains(&u64::from(INTERPRETER)))
}

/// Fills the root with the program, links for its applets, and the folders that programs expect.
pub(super) fn fill(program: &Path, root: &Path) -> Result<()> {
    skeleton(root)?;
    store::copy(program, &root.join("bin/busybox"))?;
    let out = Command::new(program)
        .arg("--list-full")
        .output()
        .with_context(|| format!("run {}", program.display()))?;
    let applets = String::from_utf8(out.stdout).context("read the names of the applets")?;
    if !out.status.success() || applets.is_empty() {
        bail!("{} --list-full ended with {}", program.display(), out.status);
    }
    for applet in applets.lines().filter(|applet| *applet != "bin/busybox") {
        let link = root.join(applet);
        store::folders(link.parent().context("find the folder of an applet")?)?;
        symlink("/bin/busybox", &link).with_context(|| format!("link {}", link.display()))?;
    }
    Ok(())
}

/// The folders that programs expect in any root.
pub(super) fn skeleton(root: &Path) -> Result<()> {
    for name in ["bin", "dev", "etc", "home", "proc", "run", "sys", "usr", "usr/bin", "var"] {
        store::folder(&root.join(name), 0o755)?;
    }
    store::folder(&root.join("root"), 0o700)?;
    store::folder(&root.join("tmp"), 0o1777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        let shell = fs::read("/bin/sh").unwrap();
        assert!(!is_static(&shell).unwrap());
        assert!(is_static(b"#!/bin/sh\n").is_err());
        assert!(is_static(&shell[..40]).is_err());
        // A program without program headers.
        let mut none = shell[..64].to_vec();
        none[56..58].fill(0);
        assert!(is_static(&none).unwrap());
    }
}
