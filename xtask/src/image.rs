//! Stands in for the images until they are built here.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// The docker archive of an image.
pub(crate) fn archive(root: &Path, name: &str) -> Result<PathBuf> {
    let cache = crate::peers::cache(root, |key| env::var_os(key));
    let path = cache.join(format!("images-by-hand/{name}.tar"));
    ensure!(path.is_file(), "{} is missing", path.display());
    Ok(path)
}

/// What a pod calls the image.
pub(crate) fn reference(name: &str) -> String {
    format!("alidade.test/{name}:bench")
}
