//! What the driver knows, one small file each.
//!
//! Nothing is kept in memory: several processes serve one pool, and each may be killed at any
//! moment. A record is replaced whole; who changes one holds the lock of the pool.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How a volume is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A file system: a subvolume.
    Mount,
    /// A raw device: a sparse file.
    Block,
}

/// What a volume was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    Snapshot(String),
    Volume(String),
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) capacity: u64,
    /// Where it can be reached; everywhere, if it says nothing.
    pub(crate) zone: Option<String>,
    pub(crate) source: Option<Source>,
    pub(crate) parameters: BTreeMap<String, String>,
}

/// A frozen volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) id: String,
    /// Empty for a member of a group.
    pub(crate) name: String,
    pub(crate) volume: String,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    /// Nanoseconds since 1970.
    pub(crate) created: i128,
    pub(crate) zone: Option<String>,
    pub(crate) group: Option<String>,
}

/// Snapshots that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Sorted.
    pub(crate) volumes: Vec<String>,
    pub(crate) snapshots: Vec<String>,
    /// Nanoseconds since 1970.
    pub(crate) created: i128,
}

/// A volume as one node has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) volume: String,
    pub(crate) node: String,
    pub(crate) staging: Option<PathBuf>,
    /// The loop device of a raw volume.
    pub(crate) device: Option<PathBuf>,
    pub(crate) targets: Vec<PathBuf>,
}

/// Something that is kept.
pub(crate) trait Record: Serialize + DeserializeOwned {
    const FOLDER: &'static str;
    fn id(&self) -> String;
}

impl Record for Volume {
    const FOLDER: &'static str = "volumes";
    fn id(&self) -> String {
        self.id.clone()
    }
}

impl Record for Snapshot {
    const FOLDER: &'static str = "snapshots";
    fn id(&self) -> String {
        self.id.clone()
    }
}

impl Record for Group {
    const FOLDER: &'static str = "groups";
    fn id(&self) -> String {
        self.id.clone()
    }
}

impl Record for Attachment {
    const FOLDER: &'static str = "attachments";
    fn id(&self) -> String {
        Self::id_of(&self.volume, &self.node)
    }
}

impl Attachment {
    /// The id of a volume's attachment to a node.
    pub(crate) fn id_of(volume: &str, node: &str) -> String {
        format!("{volume}@{node}")
    }
}

/// An id that was never given before.
pub(crate) fn new_id(prefix: &str) -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).context("get random bytes for an id")?;
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    Ok(format!("{prefix}-{}", digits.collect::<String>()))
}

/// Whether it can be an id: what callers send is never put into a path without this.
fn is_id(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '@' | '_');
    !text.is_empty() && text.len() < 200 && !text.starts_with('.') && text.chars().all(fits)
}

/// All records of a pool.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    root: PathBuf,
}

impl Records {
    /// Opens the records below `root`, and makes their folders.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        for folder in [Volume::FOLDER, Snapshot::FOLDER, Group::FOLDER, Attachment::FOLDER] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    fn path<R: Record>(&self, id: &str) -> PathBuf {
        self.root.join(R::FOLDER).join(format!("{id}.json"))
    }

    /// The record with this id.
    pub(crate) fn get<R: Record>(&self, id: &str) -> Result<Option<R>> {
        if !is_id(id) {
            return Ok(None);
        }
        read(&self.path::<R>(id))
    }

    /// All records of a kind, by id.
    pub(crate) fn all<R: Record>(&self) -> Result<Vec<R>> {
        let folder = self.root.join(R::FOLDER);
        let list = || format!("list {}", folder.display());
        let mut paths = Vec::new();
        for entry in fs::read_dir(&folder).with_context(list)? {
            let path = entry.with_context(list)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        // One that is deleted meanwhile is left out.
        paths.iter().filter_map(|path| read(path).transpose()).collect()
    }

    /// Writes a record; it is on the disk when this returns.
    pub(crate) fn put<R: Record>(&self, record: &R) -> Result<()> {
        let path = self.path::<R>(&record.id());
        let new = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec_pretty(record)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(self.root.join(R::FOLDER))?.sync_all()
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    /// Removes a record; it is gone from the disk when this returns.
    pub(crate) fn remove<R: Record>(&self, id: &str) -> Result<()> {
        let path = self.path::<R>(id);
        let remove = || -> io::Result<()> {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
            File::open(self.root.join(R::FOLDER))?.sync_all()
        };
        remove().with_context(|| format!("remove {}", path.display()))
    }

    /// The attachments of a volume.
    pub(crate) fn attachments(&self, volume: &str) -> Result<Vec<Attachment>> {
        let mut all = self.all::<Attachment>()?;
        all.retain(|attachment| attachment.volume == volume);
        Ok(all)
    }
}

fn read<R: Record>(path: &Path) -> Result<Option<R>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("read {}", path.display()))?,
    };
    let record = serde_json::from_slice(&text);
    record.map(Some).with_context(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: &str) -> Group {
        Group { id: id.into(), name: "n".into(), volumes: vec![], snapshots: vec![], created: 7 }
    }

    #[test]
    fn records_are_there_for_the_next_who_opens_them() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        records.put(&group("b")).unwrap();
        records.put(&group("a")).unwrap();
        let again = Records::open(folder.path()).unwrap();
        assert_eq!(again.all::<Group>().unwrap(), [group("a"), group("b")]);
        assert_eq!(again.get::<Group>("a").unwrap(), Some(group("a")));
        again.remove::<Group>("a").unwrap();
        again.remove::<Group>("a").unwrap();
        assert_eq!(records.all::<Group>().unwrap(), [group("b")]);
    }

    #[test]
    fn a_half_written_record_is_none_and_a_broken_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        fs::write(folder.path().join("groups/a.new"), "{").unwrap();
        assert_eq!(records.all::<Group>().unwrap(), []);
        fs::write(folder.path().join("groups/a.json"), "{").unwrap();
        assert!(records.all::<Group>().unwrap_err().to_string().ends_with("groups/a.json"));
    }

    #[test]
    fn an_id_of_a_caller_is_no_path() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        fs::write(folder.path().join("x.json"), "{").unwrap();
        for id in ["../x", "", ".", "a/b", "a\0", &"a".repeat(300)] {
            assert_eq!(records.get::<Group>(id).unwrap(), None, "{id}");
        }
        assert!(is_id(&Attachment::id_of(&new_id("v").unwrap(), "node-1.example")));
        assert_ne!(new_id("v").unwrap(), new_id("v").unwrap());
    }
}
