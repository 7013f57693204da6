//! Installing a peer that is a package of npm.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The files that pin a peer.
pub(super) const FILES: [&str; 2] = ["package-lock.json", "package.json"];

/// What a peer's `package.json` says: one program of exact packages.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    config: Config,
    dependencies: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Config {
    /// The program, as its package calls it.
    program: String,
}

/// What the `package-lock.json` beside it says of every package below.
#[derive(Debug, Deserialize)]
struct Lock {
    packages: BTreeMap<String, Locked>,
}

#[derive(Debug, Deserialize)]
struct Locked {
    integrity: Option<String>,
    resolved: Option<String>,
}

impl Package {
    /// Reads the files in `folder`, and refuses what is not pinned.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let [lock, package] = FILES;
        let package: Self = json(&folder.join(package))?;
        for (name, version) in &package.dependencies {
            let is_exact = version.split('.').count() == 3
                && version.split('.').all(|part| part.parse::<u32>().is_ok());
            ensure!(is_exact, "{name}: `{version}` is not an exact version");
        }
        let lock: Lock = json(&folder.join(lock))?;
        // The first, without a name, is the folder itself.
        for (name, locked) in lock.packages.iter().filter(|(name, _)| !name.is_empty()) {
            let hash = locked.integrity.as_deref().unwrap_or_default();
            ensure!(hash.starts_with("sha512-"), "{name} has no SHA-512 in package-lock.json");
            ensure!(locked.resolved.is_none(), "{name} has an address in package-lock.json");
        }
        Ok(package)
    }
}

fn json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let read = || format!("read {}", path.display());
    let text = fs::read_to_string(path).with_context(read)?;
    serde_json::from_str(&text).with_context(read)
}

/// Installs the packages of the peer in `folder` below `scratch`, with its program at `binary` there.
pub(super) fn install(folder: &Path, binary: &Path, scratch: &Path) -> Result<()> {
    let package = Package::read(folder)?;
    for name in FILES {
        fs::copy(folder.join(name), scratch.join(name))
            .with_context(|| format!("copy {name} into {}", scratch.display()))?;
    }
    let cache = scratch.join("npm");
    let mut npm = Command::new("npm");
    npm.args(["ci", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier"])
        // Nothing of what is loaded runs before the tests run it.
        .arg("--ignore-scripts")
        .arg("--cache")
        .arg(&cache)
        .current_dir(scratch)
        .stdin(Stdio::null())
        .stdout(io::stderr());
    let ended = match npm.status() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("npm is not on the PATH; as root: apt-get install nodejs npm")
        }
        ended => ended.context("run npm ci")?,
    };
    ensure!(ended.success(), "npm ci in {} ended with {ended}", folder.display());
    fs::remove_dir_all(&cache).with_context(|| format!("remove {}", cache.display()))?;
    // By a path from here: this folder is renamed.
    let program = Path::new("node_modules/.bin").join(&package.config.program);
    ensure!(scratch.join(&program).is_file(), "there is no program {}", package.config.program);
    symlink(&program, binary).with_context(|| format!("link {}", binary.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_versions_with_a_hash_and_without_an_address_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let read = |version: &str, locked: &str| {
            let package = format!(
                r#"{{"config": {{"program": "x"}}, "dependencies": {{"x": "{version}"}}}}"#
            );
            let lock = format!(r#"{{"packages": {{"": {{}}, "node_modules/x": {{{locked}}}}}}}"#);
            fs::write(folder.path().join("package.json"), package).unwrap();
            fs::write(folder.path().join("package-lock.json"), lock).unwrap();
            Package::read(folder.path())
        };
        let good = r#""integrity": "sha512-abc""#;
        assert_eq!(read("1.2.3", good).unwrap().config.program, "x");
        for (version, locked) in [
            ("^1.2.3", good),
            ("latest", good),
            ("1.2", good),
            ("1.2.3", ""),
            ("1.2.3", r#""integrity": "sha1-abc""#),
            ("1.2.3", r#""integrity": "sha512-abc", "resolved": "https://example.org/x""#),
        ] {
            assert!(read(version, locked).is_err(), "{version} {locked}");
        }
    }
}
