//! What an image is made of, as its `image.toml` says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// The file that shows that a folder is an image.
pub(super) const FILE: &str = "image.toml";

/// Counts up when the way images are made changes: what older code built is not taken then.
const GENERATION: u32 = 1;

/// One image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Recipe {
    #[serde(skip)]
    folder: PathBuf,
    pub(super) origin: Origin,
    /// Debian packages; with their dependencies they are the whole root.
    #[serde(default)]
    pub(super) packages: Vec<String>,
    #[serde(default)]
    pub(super) entrypoint: Vec<String>,
    #[serde(default)]
    pub(super) command: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    #[serde(default)]
    pub(super) user: String,
    #[serde(default)]
    pub(super) workdir: String,
    /// The signal that ends it; SIGTERM when nothing is said.
    #[serde(default)]
    pub(super) stop_signal: Option<String>,
    /// Public names it answers to as well.
    #[serde(default, rename = "alias")]
    pub(super) aliases: Vec<Alias>,
}

/// Where the root of an image comes from.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Origin {
    /// One C file, compiled here.
    C,
    /// The static busybox of this machine.
    Busybox,
    /// Our own program, with the libraries it needs.
    Alidade,
    /// Packages of Debian, put together by mmdebstrap.
    Debian,
}

/// A public name that an image answers to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alias {
    pub(super) name: String,
    /// Why: which blueprint, chart or default names it. For the reader of the file.
    pub(super) reason: String,
}

impl Recipe {
    /// Reads the recipe in `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let read = || format!("read {}", path.display());
        let text = fs::read_to_string(&path).with_context(read)?;
        let mut recipe: Self = toml::from_str(&text).with_context(read)?;
        recipe.folder = folder.to_owned();
        recipe.check().with_context(read)?;
        Ok(recipe)
    }

    fn check(&self) -> Result<()> {
        if (self.origin == Origin::Debian) == self.packages.is_empty() {
            bail!("packages belong to the origin debian, and to no other");
        }
        for alias in &self.aliases {
            if !is_full(&alias.name) {
                bail!("`{}` is not REGISTRY/PATH:TAG", alias.name);
            }
            if alias.reason.is_empty() {
                bail!("`{}` has no reason", alias.name);
            }
        }
        Ok(())
    }

    pub(super) fn name(&self) -> String {
        self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The file of that name beside the recipe.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The files that are laid over the root, if there are any.
    pub(super) fn overlay(&self) -> Option<PathBuf> {
        Some(self.folder.join("root")).filter(|path| path.is_dir())
    }

    /// A short hash of the recipe, of all files beside it, and of what else goes in.
    pub(super) fn key(&self, material: &[u8]) -> Result<String> {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(&GENERATION.to_le_bytes());
        add(std::env::consts::ARCH.as_bytes());
        add(material);
        for path in files(&self.folder)? {
            let read = || format!("read {}", path.display());
            let below = path.strip_prefix(&self.folder).with_context(read)?;
            add(below.as_os_str().as_encoded_bytes());
            let mode = fs::metadata(&path).with_context(read)?.permissions().mode();
            add(&[u8::from(mode & 0o100 != 0)]);
            add(&fs::read(&path).with_context(read)?);
        }
        Ok(short(&hash.finalize()))
    }
}

/// The first bytes of a hash, for a file name.
pub(super) fn short(hash: &[u8]) -> String {
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a name says its registry and its tag: only such a name means the same everywhere.
fn is_full(name: &str) -> bool {
    let Some((registry, path)) = name.split_once('/') else { return false };
    let tagged = path.rsplit_once(':').is_some_and(|(path, tag)| {
        !path.is_empty() && !tag.is_empty() && !tag.contains(['/', '@'])
    });
    registry.contains('.') && tagged
}

/// All files below a folder, in an order that is always the same.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || format!("list {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn recipe(text: &str) -> Result<Recipe> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), text).unwrap();
        Recipe::read(folder.path())
    }

    #[test]
    fn a_recipe_that_says_too_little_or_too_much_is_refused() {
        recipe("origin = 'c'").unwrap();
        recipe("origin = 'debian'\npackages = ['jq']").unwrap();
        for text in [
            "",
            "origin = 'debian'",
            "origin = 'busybox'\npackages = ['jq']",
            "origin = 'registry'",
            "origin = 'c'\nentry-point = ['/pause']",
            "origin = 'c'\n[[alias]]\nname = 'busybox'\nreason = 'x'",
            "origin = 'c'\n[[alias]]\nname = 'docker.io/library/busybox'\nreason = 'x'",
            "origin = 'c'\n[[alias]]\nname = 'localhost:5000/busybox'\nreason = 'x'",
            "origin = 'c'\n[[alias]]\nname = 'docker.io/library/busybox:1'\nreason = ''",
        ] {
            assert!(recipe(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_file_its_place_and_whether_it_runs_counts_for_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("root/bin")).unwrap();
        fs::write(at(FILE), "origin = 'c'").unwrap();
        let key = |material: &[u8]| Recipe::read(folder.path()).unwrap().key(material).unwrap();
        let mut keys = vec![key(b""), key(b"gcc 12")];
        fs::write(at("root/bin/entry"), "x").unwrap();
        keys.push(key(b""));
        fs::set_permissions(at("root/bin/entry"), fs::Permissions::from_mode(0o755)).unwrap();
        keys.push(key(b""));
        assert_eq!(key(b""), key(b""));
        fs::rename(at("root/bin/entry"), at("root/entry")).unwrap();
        keys.push(key(b""));
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn no_two_images_of_this_checkout_answer_to_one_name() {
        let root = crate::checkout().unwrap();
        let mut owners = BTreeMap::new();
        for name in super::super::known(&root).unwrap() {
            let recipe = Recipe::read(&root.join("testbench/images").join(&name)).unwrap();
            for alias in recipe.aliases {
                assert!(!alias.reason.is_empty());
                if let Some(other) = owners.insert(alias.name.clone(), name.clone()) {
                    panic!("{} is {other} and {name}", alias.name);
                }
            }
        }
        assert!(owners.contains_key("registry.k8s.io/pause:3.10"));
    }
}
