//! Other programs that the tests talk to, pinned.
//!
//! A peer is a folder `testbench/NAME/` with a `go.mod` that has one `tool` line and exact
//! versions, and a committed `go.sum`. It is built once and kept in a cache folder under a name
//! that holds the hash of these files; with a warm cache neither Go nor a network is needed.
//! Where it has a `main.go` it has no `tool` line, and that program is built. A file `ldflags` sets
//! variables by the linker (`-X main.version=v1.2.3`, one a line): some peers take their version so.
//! A folder with a `peer.toml` is a Rust program instead; it takes long to build and is built only
//! when it is asked for by name. A folder with a `package.json` and its `package-lock.json` is a
//! program of npm, which is installed without running any script.
//! `restic-debian` is not built: it is the oldest reader there must be, as Debian 12 packs it.

mod cargo;
mod debian;
mod golang;
mod npm;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which peers; without a name all but those that take long to build
    names: Vec<String>,
}

/// Makes the peers available and prints one path a line, in the order of the names.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let known = known(root)?;
    let quick = |name: &&String| !is_slow(root, name);
    let names: Vec<String> = match &arguments.names[..] {
        [] => known.iter().filter(quick).cloned().collect(),
        names => names.to_vec(),
    };
    for path in paths(root, &names)? {
        println!("{}", path.display());
    }
    Ok(())
}

/// Makes the peers available and gives their binaries, in the order of the names.
pub(crate) fn paths(root: &Path, names: &[String]) -> Result<Vec<PathBuf>> {
    let known = known(root)?;
    let mut paths = Vec::new();
    for name in names {
        if !known.contains(name) {
            bail!("there is no peer `{name}`; there are: {}", known.join(", "));
        }
        paths.push(if name == debian::NAME { debian::find()? } else { built(root, name)? });
    }
    Ok(paths)
}

/// Makes one peer available and gives its binary.
pub(crate) fn path(root: &Path, name: &str) -> Result<PathBuf> {
    let mut paths = paths(root, &[name.to_owned()])?;
    paths.pop().with_context(|| format!("find the peer {name}"))
}

/// The binary of rustic where it is built already; it is needed by the benchmark alone.
pub(crate) fn rustic(root: &Path) -> Result<Option<PathBuf>> {
    let binary = home(root, "rustic")?.join("rustic");
    Ok(binary.is_file().then_some(binary))
}

/// What a peer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Go,
    Cargo,
    Npm,
}

impl Origin {
    const ALL: [Self; 3] = [Self::Go, Self::Cargo, Self::Npm];

    /// The files that pin it; the last of them shows that it is one.
    const fn files(self) -> &'static [&'static str] {
        match self {
            Self::Go => &["go.sum", "go.mod"],
            Self::Cargo => &["peer.toml"],
            Self::Npm => &npm::FILES,
        }
    }

    /// The origin of the peer in a folder, if it is one.
    fn of(folder: &Path) -> Option<Self> {
        let shows =
            |origin: &Self| origin.files().last().is_some_and(|file| folder.join(file).is_file());
        Self::ALL.into_iter().find(shows)
    }
}

/// Whether a peer is built only when it is asked for.
fn is_slow(root: &Path, name: &str) -> bool {
    Origin::of(&root.join("testbench").join(name)) == Some(Origin::Cargo)
}

/// All peers by name.
fn known(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("testbench");
    let mut names = vec![debian::NAME.to_owned()];
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        if Origin::of(&entry.path()).is_some() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The binary of a peer, from the cache or built now.
fn built(root: &Path, name: &str) -> Result<PathBuf> {
    let folder = root.join("testbench").join(name);
    let cache = cache(root, |key| env::var_os(key));
    let home = home(root, name)?;
    let binary = home.join(name);
    if binary.is_file() {
        return Ok(binary);
    }
    eprintln!("building {name} once, into {}", home.display());
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    // Built beside its place and then renamed: an interrupted build is never taken for a peer.
    let scratch = tempfile::Builder::new()
        .prefix(&format!(".{name}-"))
        .tempdir_in(&cache)
        .with_context(|| format!("create a folder in {}", cache.display()))?;
    let new = scratch.path().join(name);
    match Origin::of(&folder).with_context(|| format!("{} is no peer", folder.display()))? {
        Origin::Go => golang::build(&folder, &new, &cache)?,
        Origin::Cargo => cargo::build(&folder, &new, scratch.path())?,
        Origin::Npm => npm::install(&folder, &new, scratch.path())?,
    }
    match fs::rename(scratch.path(), &home) {
        Ok(()) => drop(scratch.keep()),
        // Another process was faster; what it built is the same.
        Err(_) if binary.is_file() => {}
        Err(error) => return Err(error).with_context(|| format!("create {}", home.display())),
    }
    Ok(binary)
}

/// The folder in the cache for this peer, as its files pin it.
fn home(root: &Path, name: &str) -> Result<PathBuf> {
    let folder = root.join("testbench").join(name);
    let cache = cache(root, |key| env::var_os(key));
    Ok(cache.join(format!("{name}-{}", fingerprint(&folder)?)))
}

/// Where built peers are kept: `ALIDADE_TESTBENCH`, else below the user's cache folder, else in
/// the build folder of this checkout.
pub(crate) fn cache(root: &Path, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let folder = |key: &str| variable(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(chosen) = folder("ALIDADE_TESTBENCH") {
        return root.join(chosen);
    }
    let caches = folder("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| folder("HOME").map(|home| home.join(".cache")));
    match caches {
        Some(caches) => caches.join("alidade-testbench"),
        None => root.join("target/testbench"),
    }
}

/// A short hash of the names and contents of all files of a peer's folder.
fn fingerprint(folder: &Path) -> Result<String> {
    let list = || format!("list {}", folder.display());
    let mut paths = fs::read_dir(folder)
        .with_context(list)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .with_context(list)?;
    paths.sort();
    let origin = Origin::of(folder).with_context(|| format!("{} is no peer", folder.display()))?;
    for needed in origin.files() {
        if !paths.contains(&folder.join(needed)) {
            bail!("{} has no {needed}", folder.display());
        }
    }
    let mut hash = Sha256::new();
    for path in paths.iter().filter(|path| path.is_file()) {
        let content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        for part in [name, &content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache_with(variables: &[(&str, &str)]) -> PathBuf {
        cache(Path::new("/checkout"), |key| {
            variables.iter().find(|(name, _)| *name == key).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_cache_is_where_the_environment_says_and_never_nowhere() {
        let home = ("HOME", "/home/anna");
        assert_eq!(cache_with(&[home]), Path::new("/home/anna/.cache/alidade-testbench"));
        let xdg = ("XDG_CACHE_HOME", "/caches");
        assert_eq!(cache_with(&[home, xdg]), Path::new("/caches/alidade-testbench"));
        let relative = ("XDG_CACHE_HOME", "caches");
        assert_eq!(cache_with(&[home, relative]), Path::new("/home/anna/.cache/alidade-testbench"));
        let own = ("ALIDADE_TESTBENCH", "/own");
        assert_eq!(cache_with(&[home, xdg, own]), Path::new("/own"));
        assert_eq!(cache_with(&[("HOME", "")]), Path::new("/checkout/target/testbench"));
    }

    #[test]
    fn every_byte_of_the_module_files_counts_for_the_fingerprint() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("go.mod", "one");
        assert!(fingerprint(folder.path()).is_err(), "a go.sum must be committed");
        write("go.sum", "two");
        let before = fingerprint(folder.path()).unwrap();
        assert_eq!(fingerprint(folder.path()).unwrap(), before);
        write("go.mod", "onet");
        write("go.sum", "wo");
        let moved = fingerprint(folder.path()).unwrap();
        write("main.go", "");
        let more = fingerprint(folder.path()).unwrap();
        assert_eq!(std::collections::BTreeSet::from([before, moved, more]).len(), 3);
    }

    #[test]
    fn the_peers_of_this_checkout_have_one_tool_and_exact_versions() {
        let root = crate::checkout().unwrap();
        let known = known(&root).unwrap();
        assert!(
            known.contains(&"restic".to_owned()) && known.contains(&"restic-debian".to_owned())
        );
        for name in known.iter().filter(|name| *name != debian::NAME) {
            let folder = root.join("testbench").join(name);
            fingerprint(&folder).unwrap();
            match Origin::of(&folder).unwrap() {
                Origin::Go => drop(golang::Module::read(&folder).unwrap()),
                Origin::Cargo => drop(cargo::Pinned::read(&folder).unwrap()),
                Origin::Npm => drop(npm::Package::read(&folder).unwrap()),
            }
        }
    }
}
