//! Our own program, with the libraries it needs and the certificates of this machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{busybox, docker, store};
use crate::packages;

/// Where the program is in the image.
const PROGRAM: &str = "usr/bin/alidade";

/// Authorities that a normal image trusts. Where this machine has none, the image has none.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The program and its libraries, as they are on this machine.
pub(super) struct Product {
    /// What is copied, and where to.
    files: Vec<(PathBuf, PathBuf)>,
}

impl Product {
    /// Builds the program and finds what it needs.
    pub(super) fn of(root: &Path, release: bool) -> Result<Self> {
        let program = build(root, release)?;
        let mut files = vec![(program.clone(), PathBuf::from(PROGRAM))];
        let asked =
            Command::new("ldd").arg(&program).env("LC_ALL", "C").output().context("run ldd")?;
        if !asked.status.success() {
            bail!("ldd {} ended with {}", program.display(), asked.status);
        }
        for library in libraries(&String::from_utf8_lossy(&asked.stdout))? {
            let place = library.strip_prefix("/").unwrap_or(&library).to_owned();
            files.push((library, place));
        }
        let authorities = PathBuf::from(AUTHORITIES);
        if authorities.is_file() {
            let place = AUTHORITIES.trim_start_matches('/').into();
            files.push((authorities, place));
        }
        Ok(Self { files })
    }

    /// The hash of everything that is copied.
    pub(super) fn material(&self) -> Result<Vec<u8>> {
        let mut hash = Sha256::new();
        for (from, to) in &self.files {
            hash.update(format!("{} {}\n", docker::digest(from)?, to.display()));
        }
        Ok(hash.finalize().to_vec())
    }

    /// Copies it into the root.
    pub(super) fn fill(&self, root: &Path) -> Result<()> {
        busybox::skeleton(root)?;
        for (from, to) in &self.files {
            store::copy(from, &root.join(to))?;
        }
        let program = root.join(PROGRAM);
        // The debugging data of a development build is most of it, and nobody debugs in a pod.
        packages::ensure(&[("binutils", "strip")])?;
        let ended = Command::new("strip")
            .arg("--strip-debug")
            .arg(&program)
            .stdin(Stdio::null())
            .status()
            .context("run strip")?;
        if !ended.success() {
            bail!("strip ended with {ended}");
        }
        Ok(())
    }
}

fn build(root: &Path, release: bool) -> Result<PathBuf> {
    eprintln!("building alidade");
    let ended = Command::new("cargo")
        .args(["build", "--locked", "--quiet", "--package", "alidade"])
        .args(release.then_some("--release"))
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("start cargo")?;
    if !ended.success() {
        bail!("alidade does not build");
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let folder = if release { "release" } else { "debug" };
    // By its real path: `ldd` is run elsewhere.
    let program = root.join(target).join(folder).join("alidade");
    fs::canonicalize(&program).with_context(|| format!("find {}", program.display()))
}

/// The files that a listing of `ldd` names: libraries and the loader.
fn libraries(said: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in said.lines().map(str::trim) {
        if line == "statically linked" {
            continue;
        }
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        let path = place.rsplit_once(" (").map_or(place, |(path, _address)| path);
        if path == "not found" {
            bail!("the library {name} is not on this machine");
        }
        // What has no path is in the kernel.
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_libraries_and_the_loader_are_found_and_what_is_missing_is_named() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f1)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f2)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f3)\n";
        let found = libraries(said).unwrap();
        let names = [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib/x86_64-linux-gnu/libgcc_s.so.1",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert_eq!(found, names.map(PathBuf::from));
        assert_eq!(libraries("\tstatically linked\n").unwrap(), [PathBuf::new(); 0]);
        let error = libraries("\tlibx.so.1 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libx.so.1"), "{error}");
    }
}
