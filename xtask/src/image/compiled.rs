//! A program of one C file, without libraries.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::recipe::Recipe;
use crate::packages;

/// The C file of an image, and what compiles it.
pub(super) struct Program {
    name: String,
    file: PathBuf,
    compiler: String,
}

impl Program {
    /// Finds the file `NAME.c` of the image NAME, and the compiler.
    pub(super) fn of(recipe: &Recipe) -> Result<Self> {
        let name = recipe.name();
        packages::ensure(&[("gcc", "cc"), ("libc6-dev", "/usr/include/stdio.h")])?;
        let asked = Command::new("cc").arg("--version").output().context("run cc --version")?;
        let compiler = String::from_utf8_lossy(&asked.stdout).into_owned();
        Ok(Self { file: recipe.file(&format!("{name}.c")), name, compiler })
    }

    /// What the compiler says it is: another one makes other bytes.
    pub(super) fn compiler(&self) -> &str {
        &self.compiler
    }

    /// Compiles it into the root.
    pub(super) fn build(&self, root: &Path) -> Result<()> {
        let program = root.join(&self.name);
        let out = Command::new("cc")
            .args(["-std=gnu11", "-Os", "-Wall", "-Wextra", "-Werror", "-static", "-s"])
            // It has no debugging data, and must not tell where it was built.
            .args(["-Wl,--build-id=none", "-ffile-prefix-map=/=", "-o"])
            .arg(&program)
            .arg(&self.file)
            .stdin(Stdio::null())
            .output()
            .context("run cc")?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            bail!("cc {} ended with {}: {}", self.file.display(), out.status, said.trim());
        }
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("make {} run", program.display()))
    }
}
