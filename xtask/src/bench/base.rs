//! Repositories that are made once and that many runs start from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::contest::Arena;
use super::place;
use super::set::{Facts, Set};
use super::tool::{Action, Class, Key, Tool};

/// A repository with one snapshot, and the home of the tool that made it.
pub(super) struct Base {
    pub(super) repository: PathBuf,
    pub(super) home: PathBuf,
}

/// Where the bases of one data set come from.
pub(super) struct Bases<'a> {
    pub(super) arena: &'a Arena<'a>,
    pub(super) set: &'a Set,
    pub(super) facts: &'a Facts,
}

/// What a base was made of.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    version: String,
    digest: String,
    generation: Option<u64>,
}

impl Bases<'_> {
    /// The tool's repository of the source with the time stamps that it has now.
    pub(super) fn current(&self, tool: Tool) -> Result<Base> {
        self.made(tool, "backup", Some(self.set.generation()?), Key::Bench)
    }

    /// The tool's repository of the source, whatever its time stamps were.
    pub(super) fn any(&self, tool: Tool) -> Result<Base> {
        self.made(tool, "content", None, Key::Bench)
    }

    /// A repository with the tool's own key and nothing worth mentioning in it.
    pub(super) fn default_key(&self, tool: Tool) -> Result<Base> {
        self.made(tool, "key", None, Key::Default)
    }

    fn made(&self, tool: Tool, what: &str, generation: Option<u64>, key: Key) -> Result<Base> {
        let folder =
            self.arena.place.base(&format!("{}-{}-{what}", self.set.kind.name(), tool.name()));
        let base = Base { repository: folder.join("repository"), home: folder.join("home") };
        let stamp = Stamp {
            version: self.arena.tools.version(tool)?,
            digest: self.facts.digest.clone(),
            generation,
        };
        let file = folder.join("stamp.json");
        let wanted = serde_json::to_string(&stamp)?;
        if read(&file)?.as_ref() == Some(&wanted) {
            return Ok(base);
        }
        eprintln!("making a {what} repository of {} with {}", self.set.kind.name(), tool.name());
        place::remove(&folder)?;
        let stage = self.arena.place.stage(&base.repository, &base.home)?;
        self.arena.tools.create(tool, &stage, Class::Default, key)?;
        let small = folder.join("small");
        let source = if key == Key::Default {
            place::make(&small)?;
            fs::write(small.join("file"), "small").context("write a small file")?;
            small.as_path()
        } else {
            self.set.source()
        };
        let backup = Action::Backup(Class::Default);
        self.arena
            .tools
            .line(tool, backup, &stage, source)?
            .with_context(|| format!("{} makes no backups", tool.name()))?
            .output()?;
        fs::write(&file, wanted).with_context(|| format!("write {}", file.display()))?;
        Ok(base)
    }
}

fn read(file: &Path) -> Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}
