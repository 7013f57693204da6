//! The rules of the house that the compiler does not check.
//!
//! Each rule is a function from what was read to complaints; each has a test with a bad example.

mod built;
mod code;
mod floors;
mod lints;
mod lockfile;
mod manifests;
mod sources;
mod workshop;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};

use workshop::Workshop;

/// One broken rule at one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Complaint {
    place: String,
    what: String,
}

impl Complaint {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Checks the checkout at `root` and prints what is not as it must be.
pub(crate) fn run(root: &Path) -> Result<()> {
    let workshop = Workshop::read(root)?;
    let complaints = complaints(&workshop, &built::crates(root)?);
    for complaint in &complaints {
        println!("{complaint}");
    }
    if !complaints.is_empty() {
        bail!("tidy: {} complaints", complaints.len());
    }
    eprintln!(
        "tidy: {} rooms and {} files are as they must be",
        workshop.rooms.len(),
        workshop.files()
    );
    Ok(())
}

fn complaints(workshop: &Workshop, built: &BTreeSet<String>) -> Vec<Complaint> {
    let mut all = floors::check(&workshop.rooms);
    all.extend(lockfile::check(&workshop.lockfile, built));
    all.extend(lints::check(&workshop.rooms, &workshop.lints));
    for room in &workshop.rooms {
        all.extend(manifests::check(room));
        all.extend(sources::check(room));
    }
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_checkout_is_read_and_its_faults_are_named_with_their_place() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let manifest = |name: &str, floor: &str| {
            format!(
                "[package]\nname = '{name}'\n[package.metadata.alidade]\nfloor = '{floor}'\n\
                 [lints]\nworkspace = true\n[dependencies]\n"
            )
        };
        write("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = 'forbid'\n");
        write("Cargo.lock", "[[package]]\nname = 'ring'\nversion = '1.0.0'\n");
        write(
            "crates/model/Cargo.toml",
            &(manifest("alidade-model", "words") + "clap.workspace = true"),
        );
        write("crates/model/src/lib.rs", "//! Words.\n\nfn later() {\n    todo!()\n}\n");
        write("crates/model/src/deep/util.rs", "");
        write("testbench/csi/Cargo.toml", &manifest("alidade-csi", "garden"));
        write("testbench/csi/src/lib.rs", "//! A driver.\n\nfn later() {\n    todo!()\n}\n");
        write("testbench/restic/go.mod", "module x\n");
        write("xtask/Cargo.toml", &manifest("xtask", "garden"));
        write("xtask/src/main.rs", "//! Tasks.\n");
        let found: Vec<String> =
            complaints(&Workshop::read(root.path()).unwrap(), &["ring".to_owned()].into())
                .iter()
                .map(ToString::to_string)
                .collect();
        let places = [
            "Cargo.lock: ring 1.0.0",
            "crates/model/Cargo.toml: `clap`",
            "crates/model/src/deep/util.rs: `util`",
            "crates/model/src/lib.rs:4: `todo!`",
            "testbench/csi/src/lib.rs:4: `todo!`",
        ];
        assert_eq!(found.len(), places.len(), "{found:#?}");
        for (found, place) in found.iter().zip(places) {
            assert!(found.starts_with(place), "{found} should begin with {place}");
        }
    }
}
