//! Where a cluster keeps what it has: one folder, and nothing beside it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::advise;

/// The folder of one cluster, which need not be there.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    name: String,
    clusters: PathBuf,
}

impl Place {
    /// The place of the cluster of this name.
    pub(crate) fn new(root: &Path, name: &str) -> Result<Self> {
        let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if name.len() > 30 || !starts || !name.bytes().all(is_fine) {
            return Err(advise(
                &format!("`{name}` is no name for a cluster"),
                "up to 30 small letters, digits and `-`, a letter or digit first",
            ));
        }
        Ok(Self { name: name.to_owned(), clusters: clusters(root) })
    }

    /// What the cluster is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The folder of all clusters.
    pub(crate) fn clusters(&self) -> &Path {
        &self.clusters
    }

    /// The folder of this cluster.
    pub(crate) fn folder(&self) -> PathBuf {
        self.clusters.join(&self.name)
    }

    /// The file that whoever changes this cluster holds; it lies outside the folder that goes.
    pub(crate) fn lock(&self) -> PathBuf {
        self.clusters.join(format!(".{}.lock", self.name))
    }

    /// What sets the things of this cluster that are not in its folder apart from those of all
    /// others on this host: eight digits.
    pub(super) fn mark(&self) -> String {
        let hash = Sha256::digest(self.folder().as_os_str().as_encoded_bytes());
        hash[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A path in the folder.
    pub(crate) fn at(&self, below: &str) -> PathBuf {
        self.folder().join(below)
    }

    /// The administrator's credentials.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.at("kubeconfig")
    }

    /// The log of a part.
    pub(crate) fn log(&self, part: &str) -> PathBuf {
        self.at("logs").join(format!("{part}.log"))
    }
}

/// The folder of all clusters of this cache.
pub(super) fn clusters(root: &Path) -> PathBuf {
    crate::peers::cache(root, |key| env::var_os(key)).join("clusters")
}

/// Makes a folder and those above it.
pub(super) fn folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))
}

/// Writes a file, and the folders above it.
pub(super) fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(above) = path.parent() {
        folder(above)?;
    }
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// Writes a document whole or not at all.
pub(super) fn keep(path: &Path, document: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(document).context("write a document")?;
    let new = path.with_extension("new");
    write(&new, &text)?;
    fs::rename(&new, path).with_context(|| format!("write {}", path.display()))
}

/// Reads a document that may not be there.
pub(super) fn kept<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let read = || format!("read {}", path.display());
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read_now => {
            Ok(Some(serde_json::from_slice(&read_now.with_context(read)?).with_context(read)?))
        }
    }
}

/// The documents in a folder, by name without the ending.
pub(super) fn all<T: DeserializeOwned>(folder: &Path) -> Result<Vec<(String, T)>> {
    let list = || format!("list {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(list)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(list)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"))
        else {
            continue;
        };
        if let Some(document) = kept(&path)? {
            found.push((name.to_owned(), document));
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_folder_and_one_host() {
        let root = Path::new("/checkout");
        for name in ["default", "a", "two-1", "0"] {
            assert_eq!(Place::new(root, name).unwrap().name(), name);
        }
        let long = "a".repeat(31);
        let marks = ["a", "b"].map(|name| Place::new(root, name).unwrap().mark());
        assert!(marks[0] != marks[1] && marks[0].len() == 8, "{marks:?}");
        for name in ["", "../x", "A", "-a", ".", "a b", "a_b", &long] {
            assert!(Place::new(root, name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_was_kept_is_read_again_and_what_was_not_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/one.json");
        assert_eq!(kept::<u8>(&path).unwrap(), None);
        keep(&path, &7_u8).unwrap();
        assert_eq!(kept::<u8>(&path).unwrap(), Some(7));
        assert_eq!(all::<u8>(&folder.path().join("deep")).unwrap(), [("one".to_owned(), 7)]);
        assert!(all::<u8>(&folder.path().join("none")).unwrap().is_empty());
        fs::write(&path, "{").unwrap();
        assert!(kept::<u8>(&path).is_err());
    }
}
