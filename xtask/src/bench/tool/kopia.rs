//! How kopia is asked. Its repository has a format of its own.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{Action, Care, Class, Key, Tool, Tools};
use crate::bench::meter::Line;
use crate::bench::place::Stage;

/// The file in the home that says which repository is connected.
pub(super) const CONFIGURATION: &str = "kopia.config";

/// Makes a repository; without a class nothing is compressed, which is its default.
pub(super) fn create(tools: &Tools, stage: &Stage, class: Option<Class>, key: Key) -> Vec<Line> {
    let path = format!("--path={}", stage.repository.display());
    let cache = format!("--cache-directory={}", stage.home.join("cache").display());
    let mut words = vec!["repository", "create", "filesystem", &path, &cache];
    if key == Key::Bench {
        // The cheapest there is.
        words.push("--format-block-key-derivation-algorithm=pbkdf2-sha256-600000");
    }
    let mut lines = vec![line_of(tools, stage, &words)];
    let policy = class.map(|class| match class {
        Class::Default => "--compression=zstd",
        Class::Fast => "--compression=zstd-fastest",
    });
    if let Some(policy) = policy {
        lines.push(line_of(tools, stage, &["policy", "set", "--global", policy]));
    }
    lines
}

pub(super) fn line(
    tools: &Tools,
    tool: Tool,
    action: Action,
    stage: &Stage,
    source: &Path,
) -> Result<Option<Line>> {
    let source = source.to_string_lossy();
    let target = stage.target.to_string_lossy();
    Ok(Some(match action {
        Action::Backup(_) => line_of(tools, stage, &["snapshot", "create", &source]),
        Action::Restore(Care::Plain) => {
            let roots = roots(tools, tool, stage)?;
            let root = &roots.last().context("kopia has no snapshot")?.root_entry.obj;
            line_of(tools, stage, &["restore", root, &target])
        }
        Action::Restore(Care::ReadBack | Care::Fsync) => return Ok(None),
        Action::Check => {
            line_of(tools, stage, &["snapshot", "verify", "--verify-files-percent=100"])
        }
        Action::Open => line_of(tools, stage, &["snapshot", "list"]),
    }))
}

/// A snapshot, as kopia lists it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Snapshot {
    root_entry: Entry,
}

#[derive(Deserialize)]
struct Entry {
    obj: String,
}

/// All snapshots, the oldest first.
pub(super) fn roots(tools: &Tools, tool: Tool, stage: &Stage) -> Result<Vec<Snapshot>> {
    let line = line_of(tools, stage, &["snapshot", "list", "--all", "--json"]);
    let said = super::with_home(tool, line, stage).output()?;
    serde_json::from_slice(&said).context("read what kopia lists")
}

fn line_of(tools: &Tools, stage: &Stage, words: &[&str]) -> Line {
    let configuration = format!("--config-file={}", stage.home.join(CONFIGURATION).display());
    let mut all = vec![configuration.as_str(), "--no-progress"];
    all.extend(words);
    Line::new(&tools.kopia, all)
}
