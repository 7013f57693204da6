//! Repositories that are made once and that many runs start from.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::contest::Arena;
use super::place::{self, Medium};
use super::row::Shape;
use super::served::Served;
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
    pub(super) shape: Shape,
    pub(super) medium: Medium,
}

/// What a base was made of.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    version: String,
    digest: String,
    generation: u64,
}

impl Stamp {
    /// Whether a base with this stamp is what is wanted, of any generation when none is said.
    fn fits(&self, version: &str, digest: &str, generation: Option<u64>) -> bool {
        self.version == version
            && self.digest == digest
            && generation.is_none_or(|wanted| wanted == self.generation)
    }
}

impl Bases<'_> {
    /// The tool's repository of the source with the time stamps that it has now.
    pub(super) fn current(&self, tool: Tool) -> Result<Base> {
        self.made(tool, Some(self.set.generation()?), Key::Bench)
    }

    /// The tool's repository of the source, whatever its time stamps were.
    pub(super) fn any(&self, tool: Tool) -> Result<Base> {
        self.made(tool, None, Key::Bench)
    }

    /// A repository with the tool's own key and nothing worth mentioning in it.
    pub(super) fn default_key(&self, tool: Tool) -> Result<Base> {
        self.made(tool, None, Key::Default)
    }

    fn made(&self, tool: Tool, generation: Option<u64>, key: Key) -> Result<Base> {
        let what = match key {
            Key::Bench => "backup",
            Key::Default => "key",
        };
        let set = self.set.kind.name();
        let source = self.shape.source(tool, self.set);
        let disk = if source == self.set.source() { "" } else { "-disk" };
        // A cache belongs to the place that it is one of.
        let is_served = self.medium == Medium::S3 && generation.is_some();
        let bucket = if is_served { "-s3" } else { "" };
        let folder = self.arena.place.base(&format!("{set}-{}-{what}{disk}{bucket}", tool.name()));
        let base = Base { repository: folder.join("repository"), home: folder.join("home") };
        let version = self.arena.tools.version(tool)?;
        let file = folder.join("stamp.json");
        if read(&file)?.is_some_and(|stamp| stamp.fits(&version, &self.facts.digest, generation)) {
            return Ok(base);
        }
        eprintln!("making a {what} repository of {set} with {}", tool.name());
        place::remove(&folder)?;
        let mut stage = self.arena.place.stage(&base.repository, &base.home)?;
        self.arena.tools.create(tool, &stage, Class::Default, key)?;
        let small = folder.join("small");
        let source = if key == Key::Default {
            place::make(&small)?;
            fs::write(small.join("file"), "small").context("write a small file")?;
            small
        } else {
            source
        };
        let served = if is_served {
            Some(Served::start(&self.arena.tools.versitygw, &base.repository)?)
        } else {
            None
        };
        stage.served = served.as_ref().map(Served::address);
        let backup = Action::Backup(Class::Default);
        self.arena
            .tools
            .line(tool, backup, &stage, &source)?
            .with_context(|| format!("{} makes no backups", tool.name()))?
            .output()?;
        let generation = self.set.generation()?;
        let stamp = Stamp { version, digest: self.facts.digest.clone(), generation };
        fs::write(&file, serde_json::to_string(&stamp)?)
            .with_context(|| format!("write {}", file.display()))?;
        Ok(base)
    }
}

/// The stamp of a base that is whole; another program's, or a torn one, is as good as none.
fn read(file: &Path) -> Result<Option<Stamp>> {
    match fs::read(file) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(stamp) => Ok(Some(stamp)),
            Err(error) => {
                eprintln!("{} is not understood: {error}", file.display());
                Ok(None)
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_fits_the_program_the_data_and_where_it_matters_the_generation() {
        let stamp = Stamp { version: "v1".into(), digest: "d1".into(), generation: 3 };
        assert!(stamp.fits("v1", "d1", Some(3)) && stamp.fits("v1", "d1", None));
        assert!(!stamp.fits("v2", "d1", None) && !stamp.fits("v1", "d2", None));
        assert!(!stamp.fits("v1", "d1", Some(4)));
    }
}
