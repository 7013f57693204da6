//! Storage of a cluster: our own CSI driver, served by the official sidecars.
//!
//! The driver is controller in the control machine and serves each node in that node's machine; all
//! its processes have one image. The sidecars run beside the controller. Each is a part of the
//! cluster like any other: it can be killed, paused, slowed, started, and its log read.

mod driver;
mod objects;
mod programs;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Subcommand;

use super::lock::Lock;
use super::place::{self, Place};
use super::record::Record;
use super::{advise, kubectl};
use crate::peers;
use driver::Driver;

/// The driver of a cluster that nobody named another for.
const USUAL: &str = "btrfs.alidade.test";

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Which driver; several can serve one cluster
    #[arg(long, global = true, default_value = USUAL, value_parser = name)]
    driver: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start the driver and its sidecars, and make its classes; says their names
    Up {
        /// The zones of the nodes, such as `a,b`; without, all are in one
        #[arg(long, value_delimiter = ',')]
        zones: Vec<String>,
    },
    /// Set the switches for faults, as a JSON text; without one, nothing goes wrong any more
    Fault { text: Option<String> },
    /// Make the volume of a claim larger, as the official resizer would, which is not to be had
    Expand {
        claim: String,
        /// How many bytes it will have at least
        bytes: u64,
        #[arg(long, short, default_value = "default")]
        namespace: String,
    },
}

/// A driver's name, as the specification and file names allow it.
fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let is_name = ends(text.chars().next()) && ends(text.chars().last()) && text.len() <= 40;
    if is_name && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err("up to 40 small letters, digits, `.` and `-`, a letter or digit at both ends".to_owned())
}

pub(super) fn run(root: &Path, place: &Place, arguments: &Arguments) -> Result<()> {
    let record = Record::of(place)?;
    let _lock = Lock::take(place)?;
    let kubernetes = peers::path(root, kubectl::PEER)?;
    let driver =
        Driver { root, place, record: &record, kubernetes: &kubernetes, name: &arguments.driver };
    match &arguments.verb {
        Verb::Up { zones } => driver.up(zones),
        Verb::Fault { text } => fault(&driver, text.as_deref()),
        Verb::Expand { claim, bytes, namespace } => driver.expand(namespace, claim, *bytes),
    }
}

/// Puts the switches where all processes of the driver look at every call.
fn fault(driver: &Driver, text: Option<&str>) -> Result<()> {
    let file = driver.faults();
    if !file.parent().is_some_and(Path::is_dir) {
        let hint = format!("cargo xtask cluster storage up --driver {}", driver.name);
        return Err(advise(&format!("there is no driver {}", driver.name), &hint));
    }
    match text {
        Some(text) => {
            let document: serde_json::Value =
                serde_json::from_str(text).context("read the switches: they are no JSON")?;
            place::keep(&file, &document)
        }
        None => match fs::remove_file(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(|| format!("remove {}", file.display())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_driver_has_a_name_that_can_be_a_file() {
        assert_eq!(name("btrfs.alidade.test").unwrap(), "btrfs.alidade.test");
        for text in ["", "../x", ".x", "x.", "A", "a/b", "a b", &"a".repeat(41)] {
            assert!(name(text).is_err(), "{text}");
        }
    }
}
