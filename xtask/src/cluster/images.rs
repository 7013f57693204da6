//! Images in the nodes: given to them from archives, never pulled.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::lock::Lock;
use super::machine::Machine;
use super::node::CONTAINERD;
use super::place::Place;
use super::record::Record;
use crate::image;

/// What every node has from the start.
const FIRST: [&str; 2] = ["pause", "busybox"];

/// What a pod calls an image.
pub(super) fn reference(name: &str) -> String {
    image::reference(name)
}

/// The archives of what every node has from the start, built now if they are not there.
pub(super) fn first(root: &Path) -> Result<Vec<PathBuf>> {
    FIRST.iter().map(|name| image::archive(root, name)).collect()
}

/// Gives images to every node of a cluster that is up.
pub(super) fn run(root: &Path, place: &Place, names: &[String], alias: Option<&str>) -> Result<()> {
    let record = Record::of(place)?;
    if alias.is_some() && names.len() > 1 {
        bail!("one image has an alias, not {}", names.len());
    }
    let _lock = Lock::take(place)?;
    for name in names {
        let archive = image::archive(root, name)?;
        for node in record.node_names() {
            let machine = Machine::named(place, &node)?;
            import(&machine, &archive)?;
            if let Some(alias) = alias {
                ctr(&machine, &["images", "tag", "--force", &reference(name), alias])?;
            }
        }
        println!("{}", alias.map_or_else(|| reference(name), str::to_owned));
    }
    Ok(())
}

/// Gives one archive to one node.
pub(super) fn import(node: &Machine, archive: &Path) -> Result<()> {
    let path = archive.to_str().context("name an archive")?;
    ctr(node, &["images", "import", path])
}

fn ctr(node: &Machine, words: &[&str]) -> Result<()> {
    let output = node
        .command(Path::new("/usr/bin/ctr"))?
        .args(["--address", CONTAINERD, "--namespace", "k8s.io"])
        .args(words)
        .output()
        .context("run ctr")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("ctr {}: {said}", words.join(" "));
    }
    Ok(())
}
