//! What lies in the checkout: rooms, their manifests and their sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Everything the rules look at.
pub(super) struct Workshop {
    pub(super) rooms: Vec<Room>,
    /// The lints of the workspace.
    pub(super) lints: Lints,
    pub(super) lockfile: Lockfile,
}

/// One crate.
pub(super) struct Room {
    /// The folder, from the root of the checkout.
    pub(super) folder: String,
    pub(super) manifest: Manifest,
    /// Every `.rs` file.
    pub(super) sources: Vec<Source>,
}

pub(super) struct Source {
    /// The path, from the root of the checkout.
    pub(super) path: String,
    pub(super) text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Manifest {
    pub(super) package: Package,
    #[serde(default)]
    pub(super) features: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(super) lints: Lints,
    #[serde(default)]
    pub(super) dependencies: Dependencies,
    #[serde(default)]
    pub(super) dev_dependencies: Dependencies,
    #[serde(default)]
    pub(super) build_dependencies: Dependencies,
    #[serde(default)]
    pub(super) target: BTreeMap<String, Target>,
}

/// A table of lints: inherited, or with what each tool is told.
#[derive(Clone, Deserialize, Default)]
pub(super) struct Lints {
    #[serde(default)]
    pub(super) workspace: bool,
    #[serde(flatten)]
    pub(super) tools: BTreeMap<String, BTreeMap<String, toml::Value>>,
}

#[derive(Deserialize)]
struct Root {
    workspace: House,
}

#[derive(Deserialize)]
struct House {
    lints: Lints,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Target {
    #[serde(default)]
    pub(super) dependencies: Dependencies,
    #[serde(default)]
    pub(super) dev_dependencies: Dependencies,
    #[serde(default)]
    pub(super) build_dependencies: Dependencies,
}

pub(super) type Dependencies = BTreeMap<String, toml::Value>;

#[derive(Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    #[serde(default)]
    pub(super) metadata: Metadata,
}

#[derive(Deserialize, Default)]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) alidade: Alidade,
}

#[derive(Deserialize, Default)]
pub(super) struct Alidade {
    pub(super) floor: Option<String>,
}

#[derive(Deserialize, Default)]
pub(super) struct Lockfile {
    #[serde(default)]
    pub(super) package: Vec<Locked>,
}

#[derive(Deserialize)]
pub(super) struct Locked {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) source: Option<String>,
}

impl Workshop {
    /// Reads the crates of `crates/`, of the test bench and `xtask`, and the lock file.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut folders: Vec<PathBuf> = entries(&root.join("crates"))?;
        let bench = root.join("testbench");
        if bench.is_dir() {
            // Most of what lies there is no crate of ours.
            let is_crate = |folder: &PathBuf| folder.join("Cargo.toml").is_file();
            folders.extend(entries(&bench)?.into_iter().filter(is_crate));
        }
        folders.push(root.join("xtask"));
        folders.retain(|folder| folder.is_dir());
        let rooms = folders.iter().map(|folder| Room::read(root, folder)).collect::<Result<_>>()?;
        let path = root.join("Cargo.toml");
        let house: Root =
            toml::from_str(&text(&path)?).with_context(|| format!("read {}", path.display()))?;
        let path = root.join("Cargo.lock");
        let lockfile =
            toml::from_str(&text(&path)?).with_context(|| format!("read {}", path.display()))?;
        Ok(Self { rooms, lints: house.workspace.lints, lockfile })
    }

    /// How many source files there are.
    pub(super) fn files(&self) -> usize {
        self.rooms.iter().map(|room| room.sources.len()).sum()
    }
}

impl Room {
    fn read(root: &Path, folder: &Path) -> Result<Self> {
        let path = folder.join("Cargo.toml");
        let manifest =
            toml::from_str(&text(&path)?).with_context(|| format!("read {}", path.display()))?;
        let mut sources = Vec::new();
        collect(root, folder, &mut sources)?;
        Ok(Self { folder: relative(root, folder), manifest, sources })
    }

    /// The manifest's path.
    pub(super) fn manifest_path(&self) -> String {
        format!("{}/Cargo.toml", self.folder)
    }

    /// The name without the prefix of the house.
    pub(super) fn short_name(&self) -> &str {
        short_name(&self.manifest.package.name)
    }
}

/// The name of a crate without the prefix of the house.
pub(super) fn short_name(name: &str) -> &str {
    name.strip_prefix("alidade-").unwrap_or(name)
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) -> Result<()> {
    for path in entries(folder)? {
        if path.is_dir() {
            collect(root, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(Source { path: relative(root, &path), text: text(&path)? });
        }
    }
    Ok(())
}

/// What lies in a folder, by name. Build results and hidden folders are not sources.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let found = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    for entry in found {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            bail!("{} is not a name for a source file", entry.path().display());
        };
        if name != "target" && !name.starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

/// A room for tests of the rules.
#[cfg(test)]
pub(super) fn room(folder: &str, manifest: &str, sources: &[(&str, &str)]) -> Room {
    let source = |&(path, text): &(&str, &str)| Source { path: path.into(), text: text.into() };
    Room {
        folder: folder.into(),
        manifest: toml::from_str(manifest).unwrap(),
        sources: sources.iter().map(source).collect(),
    }
}
