//! Evidence: what was proven about a snapshot, kept in the repository beside it.
//!
//! A proof is a small snapshot of its own, tagged `alidade:evidence`, that holds one file
//! `/.alidade/evidence.json`: the outcome of the run that proved. Its time is one millisecond before that of the
//! snapshot it speaks of, so that a stock `restic restore latest` keeps finding the copy and not the proof.

use std::sync::Arc;

use alidade_catalog::{EvidenceRow, RunRow, SnapshotRow};
use alidade_model::{EntityName, Origin, Outcome, Status, Time, Verb};
use alidade_repository::{
    BlobId, Content, FileId, Indexed, Lock, Node, NodeKind, Snapshot, Writer, WriterOptions,
};

use crate::identity::{OWN_DIR, StoredSnapshot, evidence_tags, stored_path};
use crate::record::OutcomeDoc;
use crate::stored_top::record_node;
use crate::{Engine, Error, ProtectPlan, Result};

/// The name of the file in a proof.
pub(crate) const EVIDENCE_FILE: &str = "evidence.json";
/// The path that proofs say they hold.
const EVIDENCE_PATH: &str = "/.alidade/evidence";
/// How long before its subject a proof says it was made.
const BEFORE: i128 = 1_000_000;

impl Engine {
    /// Keeps what a run proved: in the catalog, and in the repository when the run holds a lock there.
    ///
    /// That it could not be stored in the repository is a note; the proof itself holds.
    pub(crate) fn prove(
        &self,
        lock: Option<&Lock>,
        subject: Option<&StoredSnapshot>,
        outcome: &mut Outcome,
    ) -> Result<()> {
        match (lock, subject) {
            (Some(lock), Some(subject)) => {
                if let Err(error) = self.store_evidence(lock, subject, outcome) {
                    outcome.notes.push(format!("this proof is in the local catalog only: {error}"));
                }
            }
            (None, _) => outcome
                .notes
                .push("this proof is in the local catalog only: the run took no lock".to_owned()),
            (Some(_), None) => {}
        }
        self.record_run(outcome)?;
        if let Some(subject) = subject {
            self.parts.catalog.put_evidence(&self.evidence_row(subject, outcome)?)?;
        }
        Ok(())
    }

    /// The newest snapshot: what the check of a whole repository speaks of.
    pub(crate) fn last_snapshot(&self) -> Result<Option<StoredSnapshot>> {
        let mut snapshots = self.snapshots()?.snapshots;
        snapshots.retain(|stored| stored.origin.is_state());
        Ok(snapshots.pop())
    }

    fn store_evidence(
        &self,
        lock: &Lock,
        subject: &StoredSnapshot,
        outcome: &Outcome,
    ) -> Result<FileId> {
        let cx = self.cx();
        // No other proof is like this one, so there is nothing in the index to find.
        let cache = self.parts.cache.as_deref();
        let indexed = Indexed::unread(Arc::clone(&self.parts.repository), cache);
        let writer = Writer::new(indexed, lock, WriterOptions::new(&self.parts.scratch))?;
        let text = encode(outcome)?;
        let mut content = Content::new();
        content.push(writer.save_data(cx, &text)?.id);
        let time = Time::from_nanos(subject.time.as_nanos() - BEFORE);
        let mut own = writer.begin_tree();
        own.add(cx, &record_node(EVIDENCE_FILE, content, text.len() as u64, outcome.ended))?;
        let mut directory = Node::new(OWN_DIR, NodeKind::Dir);
        directory.mode = 1 << 31 | 0o700;
        (directory.mtime, directory.atime, directory.ctime) = (time, time, time);
        directory.subtree = Some(own.finish(cx)?.id);
        let mut root = writer.begin_tree();
        root.add(cx, &directory)?;
        let tree: BlobId = root.finish(cx)?.id;
        let identity = &self.parts.identity;
        Ok(writer.commit(
            cx,
            &Snapshot {
                time,
                parent: None,
                tree,
                paths: vec![EVIDENCE_PATH.to_owned()],
                hostname: subject.host.to_string(),
                username: identity.username.clone(),
                uid: identity.uid,
                gid: identity.gid,
                excludes: Vec::new(),
                tags: evidence_tags(&subject.entity, &outcome.run),
                original: None,
                program_version: identity.program_version.clone(),
                summary: None,
            },
        )?)
    }

    pub(crate) fn evidence_row(
        &self,
        about: &StoredSnapshot,
        outcome: &Outcome,
    ) -> Result<EvidenceRow> {
        Ok(EvidenceRow {
            repository: self.repository_id(),
            id: format!("evidence-{}", outcome.run),
            run: Some(outcome.run.clone()),
            host: about.host.clone(),
            entity: about.entity.clone(),
            snapshot_file: about.file.to_string(),
            kind: kind(outcome).to_owned(),
            time: outcome.ended,
            detail: String::from_utf8_lossy(&encode(outcome)?).into_owned(),
        })
    }

    /// Records a finished backup in the catalog: its snapshot and its run.
    pub(crate) fn record_protect(&self, outcome: &Outcome, plan: &ProtectPlan) -> Result<()> {
        if let Some(file) = outcome.snapshot_file.as_ref().and_then(|file| file.parse().ok()) {
            let repository = &self.parts.repository;
            let snapshot = match &self.parts.cache {
                Some(cache) => repository.snapshot_cached(&file, cache),
                None => repository.snapshot(&file),
            }?;
            let stored = StoredSnapshot::read(file, snapshot)?;
            let skipped = outcome.entity.snapshot.as_ref() != Some(&plan.snapshot);
            if !skipped {
                self.parts.catalog.put_snapshot(&self.snapshot_row(&stored, Some(outcome))?)?;
            }
        }
        self.record_run(outcome)
    }

    pub(crate) fn record_run(&self, outcome: &Outcome) -> Result<()> {
        Ok(self.parts.catalog.put_run(&self.run_row(outcome)?)?)
    }

    pub(crate) fn run_row(&self, outcome: &Outcome) -> Result<RunRow> {
        Ok(RunRow {
            id: outcome.run.clone(),
            repository: Some(self.repository_id()),
            verb: outcome.verb.word().to_owned(),
            entity: Some(outcome.entity.name.clone()),
            host: outcome.host.clone(),
            snapshot_file: outcome.snapshot_file.clone(),
            started: outcome.started,
            ended: Some(outcome.ended),
            status: outcome.status.word().to_owned(),
            exit_code: None,
            outcome: Some(String::from_utf8_lossy(&encode(outcome)?).into_owned()),
        })
    }

    pub(crate) fn snapshot_row(
        &self,
        stored: &StoredSnapshot,
        outcome: Option<&Outcome>,
    ) -> Result<SnapshotRow> {
        Ok(SnapshotRow {
            repository: self.repository_id(),
            file_id: stored.file.to_string(),
            host: stored.host.clone(),
            entity: stored.entity.clone(),
            name: display_name(&stored.entity),
            snapshot_id: (stored.origin == Origin::Ours).then(|| stored.id.clone()),
            time: stored.time,
            parent: stored.snapshot.parent.map(|parent| parent.to_string()),
            tree: stored.snapshot.tree.to_string(),
            tags: stored.snapshot.tags.clone(),
            origin: stored.origin,
            run: stored.run.clone(),
            digest: outcome.and_then(|o| o.digest).map(|digest| digest.to_string()),
            status: outcome.map(|o| o.status.word().to_owned()),
            summary: outcome
                .map(encode)
                .transpose()?
                .map(|t| String::from_utf8_lossy(&t).into_owned()),
        })
    }
}

/// An entity's name as people write it.
fn display_name(entity: &EntityName) -> String {
    if entity.type_name.as_str() == "fs" {
        String::from_utf8_lossy(&stored_path(entity)).into_owned()
    } else {
        entity.to_string()
    }
}

/// What a run proved.
fn kind(outcome: &Outcome) -> &'static str {
    match (outcome.verb, outcome.status, outcome.checks.read_back) {
        (_, Status::Failed | Status::Damaged, _) => "failed",
        (Verb::Protect, _, _) => "self-check",
        (Verb::Check, _, _) => "verify",
        (Verb::Restore, _, 0) => "restore",
        (Verb::Restore, _, _) => "prove",
    }
}

fn encode(outcome: &Outcome) -> Result<Vec<u8>> {
    serde_json::to_vec(&OutcomeDoc::from(outcome))
        .map_err(|source| Error::Record { what: format!("of run {}", outcome.run), source })
}
