//! Building a peer that is a Rust program.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// What a peer's `peer.toml` says: a package and the one version of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Pinned {
    package: String,
    version: String,
    #[serde(default = "yes")]
    default_features: bool,
}

fn yes() -> bool {
    true
}

impl Pinned {
    /// Reads the `peer.toml` in `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("peer.toml");
        let read = || format!("read {}", path.display());
        let text = fs::read_to_string(&path).with_context(read)?;
        let pinned: Self = toml::from_str(&text).with_context(read)?;
        if !pinned.version.split('.').all(|part| part.parse::<u32>().is_ok()) {
            bail!("{}: `{}` is not an exact version", path.display(), pinned.version);
        }
        Ok(pinned)
    }
}

/// Builds the program of the peer in `folder` into the file `binary`, in `scratch`.
pub(super) fn build(folder: &Path, binary: &Path, scratch: &Path) -> Result<()> {
    let pinned = Pinned::read(folder)?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["install", "--locked", "--no-track", "--version", &pinned.version])
        .args(if pinned.default_features { &[][..] } else { &["--no-default-features"][..] })
        .arg("--root")
        .arg(scratch)
        .arg(&pinned.package)
        // Not in a checkout: its own target folder, and none of our settings.
        .env("CARGO_TARGET_DIR", scratch.join("target"))
        .current_dir(scratch)
        .stdin(Stdio::null())
        .stdout(io::stderr());
    let ended = cargo.status().context("run cargo install")?;
    if !ended.success() {
        bail!("cargo install {} ended with {ended}", pinned.package);
    }
    let name = binary.file_name().context("find the name of the binary")?;
    fs::rename(scratch.join("bin").join(name), binary)
        .with_context(|| format!("keep {}", binary.display()))?;
    for left in ["target", "bin"] {
        let path = scratch.join(left);
        fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_exact_version_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            fs::write(folder.path().join("peer.toml"), text).unwrap();
            Pinned::read(folder.path())
        };
        assert!(read("package = 'x'\nversion = '1.2.3'\n").unwrap().default_features);
        for text in
            ["package = 'x'", "package = 'x'\nversion = '^1'", "package = 'x'\nversion = 'latest'"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
