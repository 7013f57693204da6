//! The JSON documents that verbs print; their schemas are in `docs/schema`.
//!
//! Times are RFC 3339 in UTC, sizes are bytes. A `path` is exact, in the alphabet of Protected
//! Entity ids (a byte outside it is `_XX`); `text` beside it is for reading, with U+FFFD for what
//! is not UTF-8.

use alidade_model::{Counts, Entry, Omissions, encode_object};
use alidade_protect::{CountsDoc, OmissionDoc, OmissionsDoc, OutcomeDoc, StoredSnapshot};
use serde::Serialize;

use crate::when::rfc3339;

/// One snapshot.
#[derive(Serialize)]
pub(crate) struct SnapshotDoc {
    id: String,
    snapshot: String,
    entity: String,
    host: String,
    time: String,
    origin: &'static str,
    run: Option<String>,
    parent: Option<String>,
    tree: String,
    paths: Vec<String>,
    tags: Vec<String>,
    username: String,
    program_version: String,
    bytes: Option<u64>,
    files: Option<u64>,
}

impl From<&StoredSnapshot> for SnapshotDoc {
    fn from(stored: &StoredSnapshot) -> Self {
        let file = &stored.snapshot;
        let summary = file.summary.as_ref();
        Self {
            id: stored.entity_id().to_string(),
            snapshot: stored.file.to_string(),
            entity: stored.entity.to_string(),
            host: stored.host.to_string(),
            time: rfc3339(stored.time),
            origin: stored.origin.word(),
            run: stored.run.as_ref().map(ToString::to_string),
            parent: file.parent.map(|id| id.to_string()),
            tree: file.tree.to_string(),
            paths: file.paths.clone(),
            tags: file.tags.clone(),
            username: file.username.clone(),
            program_version: file.program_version.clone(),
            bytes: summary.map(|summary| summary.total_bytes_processed),
            files: summary.map(|summary| summary.total_files_processed),
        }
    }
}

/// A file that should be a snapshot and does not read.
#[derive(Serialize)]
pub(crate) struct DamagedDoc {
    pub(crate) snapshot: String,
    pub(crate) why: String,
}

/// One entry of a snapshot.
#[derive(Serialize)]
pub(crate) struct EntryDoc {
    path: String,
    text: String,
    kind: &'static str,
    mode: u32,
    uid: u32,
    gid: u32,
    user: String,
    group: String,
    size: u64,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_target: Option<String>,
}

impl EntryDoc {
    /// The entry at that absolute path.
    pub(crate) fn new(path: &[u8], entry: &Entry) -> Self {
        let metadata = &entry.metadata;
        let target = &metadata.link_target;
        Self {
            path: encode_object(path),
            text: String::from_utf8_lossy(path).into_owned(),
            kind: metadata.kind.word(),
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            user: metadata.user.clone(),
            group: metadata.group.clone(),
            size: metadata.size,
            mtime: rfc3339(metadata.mtime),
            link_target: (!target.is_empty()).then(|| encode_object(target)),
        }
    }
}

/// An outcome, the exit code it means and the command that restores it.
#[derive(Serialize)]
pub(crate) struct EndedDoc {
    #[serde(flatten)]
    pub(crate) outcome: OutcomeDoc,
    pub(crate) exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restore: Option<String>,
}

/// What was counted before a copy.
#[derive(Serialize)]
pub(crate) struct SurveyDoc {
    pub(crate) counts: CountsDoc,
    pub(crate) bytes: u64,
    pub(crate) to_read: u64,
    pub(crate) excluded: alidade_model::Exclusions,
    pub(crate) omissions: OmissionsDoc,
}

/// Counts in their JSON form.
pub(crate) fn counts(counts: &Counts) -> CountsDoc {
    CountsDoc::from(counts)
}

/// Omissions in their JSON form.
pub(crate) fn omissions(omissions: &Omissions) -> OmissionsDoc {
    OmissionsDoc {
        total: omissions.total(),
        by_kind: omissions.counts().map(|(kind, n)| (kind.word().to_owned(), n)).collect(),
        named: omissions.named().iter().map(OmissionDoc::from).collect(),
    }
}
