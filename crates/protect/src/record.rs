//! What this engine writes down about a run: the JSON form of an outcome, and `entity.json`.

use alidade_model::{
    Bytes, Checks, Consistency, Counts, Digest, Exclusions, Omission, OmissionKind, Omissions,
    Outcome, Status, Time, Traffic, Verb, decode_object, encode_object,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The JSON form of an outcome: the same on the command line, in the catalog and in the repository.
/// Its schema is `docs/schema/outcome.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeDoc {
    /// The run's id.
    pub run: String,
    /// `protect`, `restore` or `check`.
    pub verb: String,
    /// `TYPE:OBJECT` or `TYPE:OBJECT:SNAPSHOT`.
    pub entity: String,
    /// Where the entity lives.
    pub host: String,
    /// The snapshot file's id, 64 hex digits, or null.
    pub snapshot: Option<String>,
    /// The snapshot file the run compared with, or null.
    pub parent: Option<String>,
    /// `done`, `omissions`, `damaged` or `failed`.
    pub status: String,
    /// Entries.
    pub counts: CountsDoc,
    /// Bytes.
    #[serde(with = "BytesFields")]
    pub bytes: Bytes,
    /// The content digest, 64 hex digits, or null.
    pub digest: Option<String>,
    /// What is missing.
    pub omissions: OmissionsDoc,
    /// What was left out on purpose: rule and number of entries.
    pub excluded: Exclusions,
    /// `torn`, `per-file`, `crash`, or null.
    pub consistency: Option<String>,
    /// What was checked.
    #[serde(with = "ChecksFields")]
    pub checks: Checks,
    /// What went to the store and back, where that is a wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficDoc>,
    /// Sentences that take nothing away from the copy.
    pub notes: Vec<String>,
    /// RFC 3339, UTC.
    pub started: Timestamp,
    /// RFC 3339, UTC.
    pub ended: Timestamp,
}

/// Entries by kind and by what became of them, and how many there are in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountsDoc {
    /// All entries.
    pub entries: u64,
    /// The parts.
    #[serde(flatten, with = "CountsFields")]
    pub by: Counts,
}

/// The names under which the fields of [`Counts`] are written and read.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Counts")]
struct CountsFields {
    files: u64,
    directories: u64,
    symlinks: u64,
    specials: u64,
    hard_links: u64,
    sparse: u64,
    new: u64,
    changed: u64,
    unchanged: u64,
    grew: u64,
    inconsistent: u64,
}

/// The names under which the fields of [`Bytes`] are written and read.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Bytes")]
struct BytesFields {
    total: u64,
    read: u64,
    written: u64,
    added: u64,
    stored: u64,
    deduplicated: u64,
}

/// The names under which the fields of [`Checks`] are written and read.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Checks")]
struct ChecksFields {
    self_checked: u64,
    new_blobs: u64,
    verified: u64,
    read_back: u64,
}

/// What went over a wire to a store and back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficDoc(#[serde(with = "TrafficFields")] pub Traffic);

/// The names under which the fields of [`Traffic`] are written and read.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Traffic")]
struct TrafficFields {
    requests: std::collections::BTreeMap<String, u64>,
    sent: u64,
    received: u64,
}

/// Omissions: all counted, the first thousand named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OmissionsDoc {
    /// How many in all.
    pub total: u64,
    /// How many of each kind.
    pub by_kind: std::collections::BTreeMap<String, u64>,
    /// The first ones, by name.
    pub named: Vec<OmissionDoc>,
}

/// One omission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OmissionDoc {
    /// The path in the alphabet of object ids: a byte outside it is `_XX`.
    pub path: String,
    /// The kind's word.
    pub kind: String,
    /// Why, in words.
    pub reason: String,
}

impl From<&Omission> for OmissionDoc {
    fn from(omission: &Omission) -> Self {
        Self {
            path: encode_object(&omission.path),
            kind: omission.kind.word().to_owned(),
            reason: omission.reason.clone(),
        }
    }
}

/// One line of the record of all omissions.
pub(crate) fn omission_line(omission: &Omission) -> Vec<u8> {
    let mut line = serde_json::to_vec(&OmissionDoc::from(omission))
        .expect("three texts have a JSON form, and memory takes it");
    line.push(b'\n');
    line
}

/// The point in time as a timestamp; what a calendar cannot say is held at its nearest end.
pub(crate) fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_nanosecond(time.as_nanos()).unwrap_or(if time.seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

fn time_of(timestamp: Timestamp) -> Time {
    Time::from_nanos(timestamp.as_nanosecond())
}

impl From<&Outcome> for OutcomeDoc {
    fn from(outcome: &Outcome) -> Self {
        Self {
            run: outcome.run.to_string(),
            verb: outcome.verb.word().to_owned(),
            entity: outcome.entity.to_string(),
            host: outcome.host.to_string(),
            snapshot: outcome.snapshot_file.clone(),
            parent: outcome.parent.clone(),
            status: outcome.status.word().to_owned(),
            counts: CountsDoc::from(&outcome.counts),
            bytes: outcome.bytes,
            digest: outcome.digest.map(|digest| digest.to_string()),
            omissions: OmissionsDoc::from(&outcome.omissions),
            excluded: outcome.excluded.clone(),
            consistency: outcome.consistency.map(|level| level.word().to_owned()),
            checks: outcome.checks,
            traffic: outcome.traffic.clone().map(TrafficDoc),
            notes: outcome.notes.clone(),
            started: timestamp(outcome.started),
            ended: timestamp(outcome.ended),
        }
    }
}

impl From<&Counts> for CountsDoc {
    fn from(counts: &Counts) -> Self {
        Self { entries: counts.entries(), by: *counts }
    }
}

impl OutcomeDoc {
    /// The outcome this says.
    ///
    /// # Errors
    /// When a word or an id in it is none of ours.
    pub fn outcome(&self) -> Result<Outcome> {
        let bad = |what: &str, found: &str| Error::Usage(format!("`{found}` is no {what}"));
        let digest = match &self.digest {
            None => None,
            Some(hex) => Some(Digest::from_hex(hex).ok_or_else(|| bad("digest", hex))?),
        };
        let consistency = match &self.consistency {
            None => None,
            Some(word) => {
                Some(Consistency::from_word(word).ok_or_else(|| bad("consistency", word))?)
            }
        };
        Ok(Outcome {
            run: self.run.parse()?,
            verb: Verb::from_word(&self.verb).ok_or_else(|| bad("verb", &self.verb))?,
            entity: self.entity.parse()?,
            host: self.host.parse()?,
            snapshot_file: self.snapshot.clone(),
            parent: self.parent.clone(),
            status: Status::from_word(&self.status).ok_or_else(|| bad("status", &self.status))?,
            counts: self.counts.by,
            bytes: self.bytes,
            digest,
            omissions: self.omissions.read()?,
            excluded: self.excluded.clone(),
            consistency,
            checks: self.checks,
            traffic: self.traffic.clone().map(|traffic| traffic.0),
            notes: self.notes.clone(),
            started: time_of(self.started),
            ended: time_of(self.ended),
        })
    }
}

impl From<&Omissions> for OmissionsDoc {
    fn from(omissions: &Omissions) -> Self {
        Self {
            total: omissions.total(),
            by_kind: omissions.counts().map(|(k, n)| (k.word().to_owned(), n)).collect(),
            named: omissions.named().iter().map(OmissionDoc::from).collect(),
        }
    }
}

impl OmissionsDoc {
    pub(crate) fn read(&self) -> Result<Omissions> {
        let kind_of = |word: &str| {
            OmissionKind::from_word(word)
                .ok_or_else(|| Error::Usage(format!("`{word}` is no kind of omission")))
        };
        let mut omissions = Omissions::default();
        let mut unnamed = self.by_kind.clone();
        for named in &self.named {
            omissions.add(Omission {
                path: decode_object(&named.path),
                kind: kind_of(&named.kind)?,
                reason: named.reason.clone(),
            });
            if let Some(left) = unnamed.get_mut(&named.kind) {
                *left = left.saturating_sub(1);
            }
        }
        for (word, left) in unnamed {
            omissions.add_unnamed(kind_of(&word)?, left);
        }
        Ok(omissions)
    }
}

/// `/.alidade/entity.json`: what a snapshot says about its entity and about the run that made it.
///
/// The first fields are Astrolabe's `peinfo`, so that its readers find what they know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntityDoc {
    /// `TYPE:OBJECT:SNAPSHOT`.
    pub id: String,
    /// For people.
    pub name: String,
    /// Bytes of content.
    pub size: u64,
    /// Always empty in a repository.
    pub data_transports: Vec<serde_json::Value>,
    /// Always empty in a repository.
    pub metadata_transports: Vec<serde_json::Value>,
    /// Always empty in a repository.
    pub combined_transports: Vec<serde_json::Value>,
    /// The parts of the entity.
    pub component_specs: Vec<ComponentDoc>,
    /// The version of what follows.
    pub version: u32,
    /// The entity's contents: name, shape and absolute path in the snapshot.
    pub contents: Vec<ContentDoc>,
    /// The run as it was when the snapshot was about to be written; the bytes of this record and of the
    /// top directory are not in its numbers.
    pub outcome: OutcomeDoc,
}

/// A part of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentDoc {
    /// Its id.
    pub id: String,
}

/// A content of an entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentDoc {
    /// Its name.
    pub name: String,
    /// `tree`, `disk` or `stream`.
    pub shape: String,
    /// Where it lies in the snapshot, in the alphabet of object ids.
    pub path: String,
    /// What the source can tell changes since, lower-case hex digits; of the source's own making.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// True for a stream whose producer did not say that it is whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unverified: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_its_json_form() {
        let mut omissions = Omissions::default();
        for n in 0..1500 {
            omissions.add(Omission {
                path: format!("/a b/{n}").into_bytes(),
                kind: if n % 3 == 0 { OmissionKind::Vanished } else { OmissionKind::Unreadable },
                reason: "open it: gone".to_owned(),
            });
        }
        let outcome = Outcome {
            run: "r-1".parse().unwrap(),
            verb: Verb::Protect,
            entity: "fs:/a:s-1".parse().unwrap(),
            host: "h".parse().unwrap(),
            snapshot_file: Some("ab".repeat(32)),
            parent: None,
            status: Status::Omissions,
            counts: Counts { files: 3, sparse: 1, ..Counts::default() },
            bytes: Bytes { read: 5, ..Bytes::default() },
            digest: Some(Digest([7; 32])),
            omissions,
            excluded: [("exclude *.o".to_owned(), 4)].into(),
            consistency: Some(Consistency::PerFile),
            checks: Checks { self_checked: 2, new_blobs: 2, ..Checks::default() },
            traffic: Some(Traffic {
                requests: [("put".to_owned(), 3)].into(),
                sent: 9,
                received: 0,
            }),
            notes: vec!["a".to_owned()],
            started: Time::new(1, 2),
            ended: Time::new(3, 4),
        };
        let text = serde_json::to_string(&OutcomeDoc::from(&outcome)).unwrap();
        let back: OutcomeDoc = serde_json::from_str(&text).unwrap();
        assert_eq!(back.outcome().unwrap(), outcome);
    }
}
