//! Container images, built here and never pulled.
//!
//! An image is a folder `testbench/images/NAME/` with an `image.toml` that says what it is made of,
//! and a folder `root/` of files that are laid over it. It is built once and kept in the cache
//! folder of the peers, under a name that holds the hash of what it is made of; two builds of the
//! same give the same bytes. With a warm cache no network is needed.

mod busybox;
mod compiled;
mod debian;
mod docker;
mod layer;
mod product;
mod recipe;
mod source;
mod store;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use recipe::Recipe;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which images; without a name all of them
    names: Vec<String>,
    #[command(flatten)]
    wishes: Wishes,
}

/// What can be chosen about an image.
#[derive(clap::Args, Clone, Copy, Default)]
pub(crate) struct Wishes {
    /// Ask the Debian archive again, and keep what came when a version changed
    #[arg(long)]
    update: bool,
    /// Take alidade from a release build
    #[arg(long)]
    release: bool,
}

/// Makes the images available and prints one path a line, in the order of the names.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let names = match &arguments.names[..] {
        [] => known(root)?,
        names => names.to_vec(),
    };
    for name in &names {
        println!("{}", made(root, name, arguments.wishes)?.display());
    }
    Ok(())
}

/// The docker archive of an image, from the cache or built now: `ctr images import` takes it.
pub(crate) fn archive(root: &Path, name: &str) -> Result<PathBuf> {
    made(root, name, Wishes::default())
}

/// What a pod calls the image: a name that no registry can have.
pub(crate) fn reference(name: &str) -> String {
    format!("alidade.test/{name}:bench")
}

/// All images by name.
pub(crate) fn known(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("testbench/images");
    let list = || format!("list {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(list)? {
        let entry = entry.with_context(list)?;
        if entry.path().join(recipe::FILE).is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn made(root: &Path, name: &str, wishes: Wishes) -> Result<PathBuf> {
    let known = known(root)?;
    if !known.iter().any(|known| known == name) {
        bail!("there is no image `{name}`; there are: {}", known.join(", "));
    }
    let recipe = Recipe::read(&root.join("testbench/images").join(name))?;
    store::get(root, &recipe, wishes).with_context(|| format!("make the image {name}"))
}

/// An error that tells the person what to do.
fn advise(problem: &str, hint: &str) -> anyhow::Error {
    anyhow!("{problem}\n\nhint: {hint}")
}
