//! Building a peer from its pinned Go module.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What a peer's `go.mod` says about building it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Module {
    /// The import path of the one tool; where the folder has a program of its own, that.
    tool: String,
    /// The oldest Go that builds it: major and minor.
    go: (u32, u32),
}

/// Builds the tool of the module in `folder` into the file `binary`.
pub(super) fn build(folder: &Path, binary: &Path, cache: &Path) -> Result<()> {
    let module = Module::read(folder)?;
    let ldflags = ldflags(folder)?;
    check_go(module.go)?;
    let mut go = Command::new("go");
    go.current_dir(folder)
        .args([
            "build",
            "-mod=readonly",
            "-buildvcs=false",
            "-trimpath",
            "-ldflags",
            &ldflags,
            "-o",
        ])
        .arg(binary)
        .arg(&module.tool)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .stdout(io::stderr());
    // Without a home Go does not know where to keep what it loads and compiles. What it keeps in
    // our folder must be possible to delete.
    if env::var_os("HOME").is_none_or(|home| home.is_empty()) {
        go.env("GOFLAGS", "-modcacherw");
        for (key, below) in [("GOPATH", "go"), ("GOCACHE", "go-build")] {
            if env::var_os(key).is_none_or(|value| value.is_empty()) {
                go.env(key, cache.join(below));
            }
        }
    }
    let ended = go.status().context("run go build")?;
    if !ended.success() {
        bail!("go build {} in {} ended with {ended}", module.tool, folder.display());
    }
    Ok(())
}

/// What the linker is told: no symbols, and the settings of the folder's file `ldflags`, if it has
/// one: a line `-X PACKAGE.VARIABLE=VALUE` each.
fn ldflags(folder: &Path) -> Result<String> {
    let path = folder.join("ldflags");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("read {}", path.display()))?,
    };
    let mut flags = "-s -w".to_owned();
    for line in text.lines() {
        let setting = line.strip_prefix("-X ").filter(|setting| !setting.contains(' '));
        let is_setting = setting
            .and_then(|setting| setting.split_once('='))
            .is_some_and(|(name, value)| name.contains('.') && !value.is_empty());
        if !is_setting {
            bail!("{}: `{line}` is not `-X PACKAGE.VARIABLE=VALUE`", path.display());
        }
        flags.push(' ');
        flags.push_str(line);
    }
    Ok(flags)
}

fn check_go(needed: (u32, u32)) -> Result<()> {
    let wanted = format!("Go {}.{} or newer is needed to build peers", needed.0, needed.1);
    // Asked outside any module, so that no `go.mod` changes the answer.
    let asked = Command::new("go")
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .current_dir("/")
        .output();
    let asked = match asked {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("{wanted}, and there is no `go` on the PATH; see https://go.dev/dl/")
        }
        asked => asked.context("run go env GOVERSION")?,
    };
    let said = String::from_utf8_lossy(&asked.stdout);
    match said.trim().strip_prefix("go").and_then(version) {
        Some(found) if found >= needed => Ok(()),
        _ => bail!("{wanted}, this is `{}`; see https://go.dev/dl/", said.trim()),
    }
}

/// Major and minor of `1.25`, `1.25.3`, `1.25rc1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?;
    let digits = minor.len() - minor.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    Some((major, minor[..digits].parse().ok()?))
}

impl Module {
    /// Reads the `go.mod` of a peer.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("go.mod");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let has_main = folder.join("main.go").is_file();
        Self::parse(&text, has_main).with_context(|| format!("read {}", path.display()))
    }

    fn parse(text: &str, has_main: bool) -> Result<Self> {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let lines: Vec<Vec<String>> =
            text.lines().map(|line| words(line.split("//").next().unwrap_or(line))).collect();
        let value = |key: &str| -> Vec<&str> {
            lines
                .iter()
                .filter(|words| words.len() == 2 && words[0] == key)
                .map(|words| words[1].as_str())
                .collect()
        };
        let tool = match (&value("tool")[..], has_main) {
            (&[tool], false) => tool,
            (&[], true) => ".",
            (_, true) => bail!("there is a main.go and a line `tool` too"),
            (_, false) => bail!("there is no main.go and not exactly one line `tool IMPORT-PATH`"),
        };
        let Some(go) = value("go").first().copied().and_then(version) else {
            bail!("there is no line `go VERSION`");
        };
        if lines.iter().any(|words| words.iter().any(|word| word == "latest")) {
            bail!("`latest` is no version");
        }
        Ok(Self { tool: tool.to_owned(), go })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_with_one_tool_and_a_go_version_is_read() {
        let text = "module x\n\ngo 1.25 // oldest\n\ntool example.org/a/cmd/a\n\nrequire example.org/a v1.2.3\n";
        let module = Module { tool: "example.org/a/cmd/a".into(), go: (1, 25) };
        assert_eq!(Module::parse(text, false).unwrap(), module);
    }

    #[test]
    fn a_folder_with_a_program_of_its_own_needs_no_tool() {
        let module = Module { tool: ".".into(), go: (1, 26) };
        assert_eq!(Module::parse("module x\n\ngo 1.26.0\n", true).unwrap(), module);
        let error = Module::parse("module x\ngo 1.26.0\ntool a\n", true).unwrap_err();
        assert_eq!(error.to_string(), "there is a main.go and a line `tool` too");
    }

    #[test]
    fn a_folder_sets_variables_by_the_linker_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(ldflags(folder.path()).unwrap(), "-s -w");
        let with = |text: &str| {
            fs::write(folder.path().join("ldflags"), text).unwrap();
            ldflags(folder.path())
        };
        let both = with("-X main.version=v1.2.3\n-X a.b/c.d=2\n").unwrap();
        assert_eq!(both, "-s -w -X main.version=v1.2.3 -X a.b/c.d=2");
        for bad in ["-extldflags=-static", "-X main.version", "-X main.version=", "-X a.b=c -H x"] {
            let error = with(bad).unwrap_err().to_string();
            assert!(error.ends_with("is not `-X PACKAGE.VARIABLE=VALUE`"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_module_that_does_not_say_what_to_build_is_refused() {
        for text in [
            "module x\ngo 1.25\n",
            "go 1.25\ntool a\ntool b\n",
            "tool a\n",
            "go 1.25\n// tool a\n",
            "go 1.25\ntool a\nrequire b latest\n",
        ] {
            assert!(Module::parse(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn versions_of_go_are_compared_as_numbers() {
        assert_eq!(version("1.26.8"), Some((1, 26)));
        assert_eq!(version("1.25rc1"), Some((1, 25)));
        assert!(version("1.9") < version("1.25"));
        assert_eq!(version("devel"), None);
    }

    #[test]
    fn too_old_a_go_is_named() {
        let error = check_go((99, 0)).unwrap_err().to_string();
        assert!(error.starts_with("Go 99.0 or newer is needed"), "{error}");
    }
}
