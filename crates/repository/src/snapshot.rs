//! Snapshot files: what was stored when, from where, and the tree it is in.

use alidade_model::Time;
use serde::Deserialize;

use crate::decode::{DecodeError, Decoded};
use crate::gojson::Object;
use crate::{BlobId, FileId, time};

/// Longest snapshot JSON that is read: a hundred thousand paths of some length fit.
pub const MAX_LEN: usize = 64 << 20;

/// What was stored when, from where, and the tree it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When it was begun.
    pub time: Time,
    /// The snapshot it was compared with.
    pub parent: Option<FileId>,
    /// The root tree.
    pub tree: BlobId,
    /// What was stored; bytes that are no UTF-8 cannot be said here.
    pub paths: Vec<String>,
    /// Where it lived.
    pub hostname: String,
    /// Who stored it.
    pub username: String,
    /// The number of that user, 0 when unknown.
    pub uid: u32,
    /// The number of that user's group, 0 when unknown.
    pub gid: u32,
    /// Patterns of what was left out.
    pub excludes: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// The snapshot that this one is a changed copy of.
    pub original: Option<FileId>,
    /// Name and version of the program that stored it.
    pub program_version: String,
    /// What the run counted.
    pub summary: Option<Summary>,
}

/// What a run counted, in restic's words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// When the run began.
    pub backup_start: Time,
    /// When it ended.
    pub backup_end: Time,
    /// Files that were not in the parent.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files that are as in the parent.
    pub files_unmodified: u64,
    /// Directories that were not in the parent.
    pub dirs_new: u64,
    /// Directories that differ from the parent's.
    pub dirs_changed: u64,
    /// Directories that are as in the parent.
    pub dirs_unmodified: u64,
    /// New data blobs.
    pub data_blobs: u64,
    /// New tree blobs.
    pub tree_blobs: u64,
    /// Bytes of new blobs before compression.
    pub data_added: u64,
    /// Bytes that new blobs took in the repository.
    pub data_added_packed: u64,
    /// Files in all.
    pub total_files_processed: u64,
    /// Bytes of content in all.
    pub total_bytes_processed: u64,
}

impl Summary {
    /// The counts by their names, in restic's order.
    fn counts(&self) -> [(&'static str, u64); 12] {
        [
            ("files_new", self.files_new),
            ("files_changed", self.files_changed),
            ("files_unmodified", self.files_unmodified),
            ("dirs_new", self.dirs_new),
            ("dirs_changed", self.dirs_changed),
            ("dirs_unmodified", self.dirs_unmodified),
            ("data_blobs", self.data_blobs),
            ("tree_blobs", self.tree_blobs),
            ("data_added", self.data_added),
            ("data_added_packed", self.data_added_packed),
            ("total_files_processed", self.total_files_processed),
            ("total_bytes_processed", self.total_bytes_processed),
        ]
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.text("backup_start", time::to_text(self.backup_start));
        object.text("backup_end", time::to_text(self.backup_end));
        for (name, count) in self.counts() {
            object.number(name, count);
        }
        object.end();
    }
}

impl Snapshot {
    /// A snapshot of that tree with everything else empty.
    #[must_use]
    pub fn new(time: Time, tree: BlobId) -> Self {
        Self {
            time,
            parent: None,
            tree,
            paths: Vec::new(),
            hostname: String::new(),
            username: String::new(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags: Vec::new(),
            original: None,
            program_version: String::new(),
            summary: None,
        }
    }

    /// The JSON as it is sealed: fields and order are restic's.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.text("time", time::to_text(self.time));
        if let Some(parent) = self.parent {
            object.text("parent", parent.to_string());
        }
        object.text("tree", self.tree.to_string());
        object.texts("paths", &self.paths);
        object.text_if_any("hostname", &self.hostname);
        object.text_if_any("username", &self.username);
        object.number_if_any("uid", self.uid);
        object.number_if_any("gid", self.gid);
        for (name, list) in [("excludes", &self.excludes), ("tags", &self.tags)] {
            if !list.is_empty() {
                object.texts(name, list);
            }
        }
        if let Some(original) = self.original {
            object.text("original", original.to_string());
        }
        object.text_if_any("program_version", &self.program_version);
        if let Some(summary) = &self.summary {
            summary.encode(object.field("summary"));
        }
        object.end();
        out
    }

    /// Reads the JSON. Unknown fields are ignored.
    ///
    /// # Errors
    /// When it is malformed or names no tree.
    pub fn decode(json: &[u8]) -> Decoded<Self> {
        if json.len() > MAX_LEN {
            return Err(DecodeError::malformed("it is too long for a snapshot"));
        }
        let wire: Wire = serde_json::from_slice(json)?;
        Ok(Self {
            time: read_time(&wire.time)?,
            parent: wire.parent.map(|id| read_id(&id).map(FileId)).transpose()?,
            tree: BlobId(read_id(&wire.tree)?),
            paths: wire.paths.unwrap_or_default(),
            hostname: wire.hostname,
            username: wire.username,
            uid: wire.uid,
            gid: wire.gid,
            excludes: wire.excludes.unwrap_or_default(),
            tags: wire.tags.unwrap_or_default(),
            original: wire.original.map(|id| read_id(&id).map(FileId)).transpose()?,
            program_version: wire.program_version,
            summary: wire.summary.map(SummaryWire::read).transpose()?,
        })
    }
}

/// Lists that are empty may be missing or `null`: Go writes them so.
#[derive(Deserialize)]
struct Wire {
    time: String,
    parent: Option<String>,
    tree: String,
    paths: Option<Vec<String>>,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    excludes: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    original: Option<String>,
    #[serde(default)]
    program_version: String,
    summary: Option<SummaryWire>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SummaryWire {
    backup_start: Option<String>,
    backup_end: Option<String>,
    files_new: u64,
    files_changed: u64,
    files_unmodified: u64,
    dirs_new: u64,
    dirs_changed: u64,
    dirs_unmodified: u64,
    data_blobs: u64,
    tree_blobs: u64,
    data_added: u64,
    data_added_packed: u64,
    total_files_processed: u64,
    total_bytes_processed: u64,
}

impl SummaryWire {
    fn read(self) -> Decoded<Summary> {
        let time = |text: Option<String>| match text {
            Some(text) => read_time(&text),
            None => Ok(time::GO_ZERO),
        };
        Ok(Summary {
            backup_start: time(self.backup_start)?,
            backup_end: time(self.backup_end)?,
            files_new: self.files_new,
            files_changed: self.files_changed,
            files_unmodified: self.files_unmodified,
            dirs_new: self.dirs_new,
            dirs_changed: self.dirs_changed,
            dirs_unmodified: self.dirs_unmodified,
            data_blobs: self.data_blobs,
            tree_blobs: self.tree_blobs,
            data_added: self.data_added,
            data_added_packed: self.data_added_packed,
            total_files_processed: self.total_files_processed,
            total_bytes_processed: self.total_bytes_processed,
        })
    }
}

fn read_time(text: &str) -> Decoded<Time> {
    time::parse(text).ok_or_else(|| DecodeError::malformed("it has a time that is none"))
}

fn read_id(text: &str) -> Decoded<[u8; 32]> {
    crate::id::parse(text.as_bytes())
        .ok_or_else(|| DecodeError::malformed("it has an id that is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by stock restic, with every field that it can write.
    const STOCK: &str = r#"{"time":"2026-11-21T12:36:27.79993894Z","parent":"9201c111b52072ee33cc3fc28c7999e3ed6e89176fbcec9c9aecf00eecb31e67","tree":"667008f20f18edae199ce52342c539e060f076c97e238fc4f66ce1ad4903abec","paths":["/tmp/cx/s","/a\u003cb"],"hostname":"vm","username":"user","uid":1000,"gid":1000,"excludes":["*.o"],"tags":["x","y"],"original":"9201c111b52072ee33cc3fc28c7999e3ed6e89176fbcec9c9aecf00eecb31e67","program_version":"restic 0.18.1","summary":{"backup_start":"2026-11-21T12:36:27.79993894Z","backup_end":"2026-11-21T12:36:28.499705363Z","files_new":3,"files_changed":0,"files_unmodified":0,"dirs_new":2,"dirs_changed":0,"dirs_unmodified":0,"data_blobs":2,"tree_blobs":3,"data_added":2265,"data_added_packed":1257,"total_files_processed":3,"total_bytes_processed":4}}"#;

    #[test]
    fn a_stock_snapshot_reads_and_is_written_the_same() {
        let snapshot = Snapshot::decode(STOCK.as_bytes()).unwrap();
        assert_eq!(snapshot.paths, ["/tmp/cx/s", "/a<b"]);
        assert_eq!(snapshot.summary.as_ref().unwrap().data_added, 2265);
        assert_eq!(String::from_utf8(snapshot.encode()).unwrap(), STOCK);
    }

    #[test]
    fn what_is_empty_is_left_out_save_the_paths() {
        let snapshot = Snapshot::new(Time::new(0, 0), BlobId([0; 32]));
        let json = String::from_utf8(snapshot.encode()).unwrap();
        let tree = "0".repeat(64);
        assert_eq!(
            json,
            format!(r#"{{"time":"1970-01-01T00:00:00Z","tree":"{tree}","paths":[]}}"#)
        );
        assert_eq!(Snapshot::decode(json.as_bytes()).unwrap(), snapshot);
        let nulls = json.replace("[]", r#"null,"tags":null,"parent":null,"summary":null,"new":{}"#);
        assert_eq!(Snapshot::decode(nulls.as_bytes()).unwrap(), snapshot);
    }

    #[test]
    fn damaged_snapshots_are_refused() {
        let bads = [
            String::new(),
            "[]".to_owned(),
            STOCK[..STOCK.len() - 1].to_owned(),
            STOCK.replace(r#""tree":"667008f2"#, r#""tree":"67008f2"#),
            STOCK.replace(r#""tree""#, r#""trees""#),
            STOCK.replace(r#""parent":"9201"#, r#""parent":"92O1"#),
            STOCK.replace("2026-11-21T", "2026-11-31T"),
            STOCK.replace(r#""uid":1000"#, r#""uid":-1"#),
            STOCK.replace(r#""files_new":3"#, r#""files_new":"3""#),
            STOCK.replace(r#"["*.o"]"#, "[1]"),
            " ".repeat(MAX_LEN + 1),
        ];
        for bad in bads {
            assert!(Snapshot::decode(bad.as_bytes()).is_err(), "{bad:.300}");
        }
    }
}
