//! The scratch directory and the binaries that rows are run with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::Row;
use crate::peers;

/// Binaries, fixtures and a scratch directory; collects rows.
pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    root: PathBuf,
    alidade: PathBuf,
    restic: PathBuf,
    restic_debian: PathBuf,
    only: Option<String>,
    variables: Variables,
    rows: Vec<Row>,
}

/// What is set in the environment of commands.
pub(crate) type Variables = BTreeMap<String, String>;

/// Which program a row runs.
#[derive(Clone, Copy)]
pub(crate) enum Reader {
    Alidade,
    Restic,
    ResticDebian,
    Shell,
}

impl Reader {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Alidade => "alidade",
            Self::Restic => "restic 0.18.1",
            Self::ResticDebian => "restic 0.14",
            Self::Shell => "shell",
        }
    }
}

/// One row to be run: a command, the exit code it must have, and what must hold of what came out.
pub(crate) struct Promise<'a> {
    pub(crate) reader: Reader,
    pub(crate) verb: &'a str,
    pub(crate) data: &'static str,
    pub(crate) arguments: Vec<String>,
    pub(crate) exit: i32,
}

impl Bench {
    pub(crate) fn new(root: &Path, only: Option<String>) -> Result<Self> {
        if !is_root()? {
            bail!(
                "the promises include device nodes and foreign owners: run `cargo xtask accept` as root"
            );
        }
        eprintln!("building alidade");
        let alidade = built(root, "alidade", "alidade")?;
        let mut peers = peers::paths(root, &["restic".to_owned(), "restic-debian".to_owned()])?;
        let restic_debian = peers.pop().context("find restic 0.14")?;
        let restic = peers.pop().context("find restic 0.18.1")?;
        let bench = Self {
            dir: tempfile::Builder::new().prefix("alidade-accept").tempdir_in("/var/tmp")?,
            root: root.to_owned(),
            alidade,
            restic,
            restic_debian,
            only,
            variables: Variables::new(),
            rows: Vec::new(),
        };
        fs::write(bench.path("password"), "secret\n").context("write the password file")?;
        for fixture in ["everyday", "odd", "sparse", "deep"] {
            bench.script(&format!("{fixture}.sh"), &[&bench.source(fixture)])?;
        }
        Ok(bench)
    }

    /// The program under test.
    pub(crate) fn alidade(&self) -> &Path {
        &self.alidade
    }

    /// Another program of the workspace, built now.
    pub(crate) fn built(&self, package: &str, program: &str) -> Result<PathBuf> {
        built(&self.root, package, program)
    }

    /// Another program that is pinned.
    pub(crate) fn peer(&self, name: &str) -> Result<PathBuf> {
        let mut paths = peers::paths(&self.root, &[name.to_owned()])?;
        paths.pop().with_context(|| format!("find {name}"))
    }

    /// Sets these variables for every command from now on, and no others.
    pub(crate) fn set(&mut self, variables: Variables) {
        self.variables = variables;
    }

    /// A path in the scratch directory.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    /// Where a fixture lies.
    pub(crate) fn source(&self, fixture: &str) -> String {
        self.path(&format!("source/{fixture}"))
    }

    /// Runs a script of `testbench/fixtures` and gives what it printed.
    pub(crate) fn script(&self, name: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        let script = self.root.join("testbench/fixtures").join(name);
        let output = Command::new("sh").arg(&script).args(arguments).output()?;
        if !output.status.success() {
            bail!("{} failed: {}", script.display(), String::from_utf8_lossy(&output.stderr));
        }
        Ok(output.stdout)
    }

    /// True unless the rows were narrowed down to others.
    pub(crate) fn wants(&self, promise: &Promise<'_>) -> bool {
        self.only.as_deref().is_none_or(|text| {
            [promise.reader.name(), promise.verb, promise.data]
                .iter()
                .any(|word| word.contains(text))
        })
    }

    /// Runs a command as a new user would: with a home of its own and nothing else.
    pub(crate) fn output(&self, reader: Reader, arguments: &[String]) -> Result<Output> {
        let program = match reader {
            Reader::Alidade => &self.alidade,
            Reader::Restic => &self.restic,
            Reader::ResticDebian => &self.restic_debian,
            Reader::Shell => Path::new("sh"),
        };
        let mut command = Command::new("timeout");
        command.arg(super::PATIENCE.as_secs().to_string()).arg(program).args(arguments);
        command.env_clear().env("HOME", self.path("home")).env("ALIDADE_HOST", "accept");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(&self.variables);
        command.output().with_context(|| format!("start {}", program.display()))
    }

    /// Runs a promise; `holds` looks at what came out and says what it saw, or what is wrong.
    pub(crate) fn row(
        &mut self,
        promise: &Promise<'_>,
        holds: impl FnOnce(&Self, &Output) -> Result<(String, Vec<u8>)>,
    ) -> Result<()> {
        // Rows before the wanted one are run as well: later ones stand on what they leave behind.
        let output = self.output(promise.reader, &promise.arguments)?;
        let exit = output.status.code();
        let seen = if exit == Some(promise.exit) {
            holds(self, &output)
        } else {
            Err(anyhow::anyhow!("{}", first_line(&output.stderr)))
        };
        let (ok, came_out, compared) = match seen {
            Ok((text, compared)) => (true, text, compared),
            Err(error) => (false, format!("{error:#}"), Vec::new()),
        };
        let row = Row {
            reader: promise.reader.name(),
            verb: promise.verb.to_owned(),
            data: promise.data,
            command: format!(
                "{} {}",
                promise.reader.name().split(' ').next().unwrap_or(""),
                promise.arguments.join(" ")
            ),
            exit,
            expected: promise.exit,
            digest: hex(&compared),
            ok,
            came_out,
        };
        if self.wants(promise) || !row.ok {
            eprintln!(
                "{:4} {} · {} · {}",
                if row.ok { "ok" } else { "FAIL" },
                row.reader,
                row.verb,
                row.data
            );
            self.rows.push(row);
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Vec<Row> {
        self.rows
    }
}

fn built(root: &Path, package: &str, program: &str) -> Result<PathBuf> {
    let build = Command::new("cargo")
        .args(["build", "--locked", "--quiet", "--package", package, "--bin", program])
        .current_dir(root)
        .status()
        .context("start cargo")?;
    if !build.success() {
        bail!("{program} does not build");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("debug").join(program))
}

fn is_root() -> Result<bool> {
    let id = Command::new("id").arg("-u").output().context("start id")?;
    Ok(id.stdout.trim_ascii() == b"0")
}

pub(crate) fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or("nothing was said").to_owned()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
