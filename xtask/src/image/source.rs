//! What fills the root of an image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Wishes;
use super::busybox;
use super::compiled;
use super::debian;
use super::product::Product;
use super::recipe::{Origin, Recipe};

/// The origin of an image, found on this machine.
pub(super) enum Source {
    C(compiled::Program),
    Busybox(PathBuf),
    Alidade(Product),
    /// With the folder where its packages are kept.
    Debian(PathBuf),
}

impl Source {
    /// Finds it; our own program is built first.
    pub(super) fn of(root: &Path, cache: &Path, recipe: &Recipe, wishes: Wishes) -> Result<Self> {
        Ok(match recipe.origin {
            Origin::C => Self::C(compiled::Program::of(recipe)?),
            Origin::Busybox => Self::Busybox(busybox::find()?),
            Origin::Alidade => Self::Alidade(Product::of(root, wishes.release)?),
            Origin::Debian => Self::Debian(cache.join("debs")),
        })
    }

    /// What goes in besides the files of the recipe, for its key.
    pub(super) fn material(&self) -> Result<Vec<u8>> {
        Ok(match self {
            Self::C(program) => program.compiler().into(),
            Self::Busybox(path) => super::docker::digest(path)?.into(),
            Self::Alidade(product) => product.material()?,
            Self::Debian(_) => Vec::new(),
        })
    }

    /// How many bytes of the disk a build takes at most.
    pub(super) fn needs(&self) -> u64 {
        match self {
            Self::C(_) | Self::Busybox(_) => 64 << 20,
            Self::Alidade(_) => 1 << 30,
            Self::Debian(_) => 3 << 30,
        }
    }

    /// Fills the root, and says which versions of packages came.
    pub(super) fn fill(&self, recipe: &Recipe, root: &Path) -> Result<Versions> {
        match self {
            Self::C(program) => program.build(root)?,
            Self::Busybox(path) => busybox::fill(path, root)?,
            Self::Alidade(product) => product.fill(root)?,
            Self::Debian(debs) => return debian::fill(recipe, root, debs),
        }
        Ok(Versions::default())
    }
}

/// The versions of the Debian packages in an image, by package.
#[derive(Debug, Default)]
pub(super) struct Versions(pub(super) BTreeMap<String, String>);

impl Versions {
    /// A hash of all of them; there is none for an image without packages.
    pub(super) fn hash(&self) -> Option<Vec<u8>> {
        (!self.0.is_empty()).then(|| Sha256::digest(self.text()).to_vec())
    }

    /// The versions of what the recipe names; all of them would be too long for a label.
    pub(super) fn labels(&self, recipe: &Recipe) -> Value {
        let named = |package: &String| {
            let version = self.0.get(package)?;
            Some((format!("alidade.test/{package}"), json!(version)))
        };
        Value::Object(recipe.packages.iter().filter_map(named).collect())
    }

    /// Writes them all to the file `packages` in `folder`.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let path = folder.join("packages");
        fs::write(&path, self.text()).with_context(|| format!("write {}", path.display()))
    }

    fn text(&self) -> String {
        self.0.iter().map(|(package, version)| format!("{package} {version}\n")).collect()
    }
}
