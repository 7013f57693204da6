//! Which crates are compiled in at all: the lock file also lists some that no feature asks for.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The names of all crates that any target and feature of the workspace needs.
pub(super) fn crates(root: &Path) -> Result<BTreeSet<String>> {
    let words = ["tree", "--locked", "--workspace", "--all-features", "--target", "all"];
    let form = ["--prefix", "none", "--format", "{p}"];
    let mut cargo = Command::new("cargo");
    let said = cargo.args(words).args(form).current_dir(root).output().context("start cargo")?;
    ensure!(said.status.success(), "cargo tree: {}", String::from_utf8_lossy(&said.stderr).trim());
    Ok(names(&String::from_utf8_lossy(&said.stdout)))
}

/// The first word of each line.
fn names(said: &str) -> BTreeSet<String> {
    said.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_first_words() {
        let said = "serde v1.0.1 (*)\nalidade v0.1.0 (/x)\nserde v1.0.1\n";
        assert_eq!(names(said), ["alidade".to_owned(), "serde".to_owned()].into());
    }
}
