//! A copy into the repository while it is made, and the snapshot it becomes.

use std::sync::Arc;

use alidade_entity::{Ending, Reading};
use alidade_model::{Bytes, Checks, Consistency, ContentName, Outcome, Rule, Status, Time, Verb};
use alidade_repository::{BlobId, Content, Indexed, Node, Snapshot, Summary, Writer};

use crate::copy::{Copied, Hands, copy_tree};
use crate::identity::{partial_tag, stored_path, tags};
use crate::partial::{self, Checkpoints};
use crate::record::{ContentDoc, EntityDoc, OutcomeDoc};
use crate::stored_form::StoredForm;
use crate::stored_sink::StoredSink;
use crate::stored_top::{Stored, record_node};
use crate::{Engine, Error, ProtectPlan, Result};

/// A copy into the repository, under way.
pub(crate) struct Storing<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) plan: &'a ProtectPlan,
    pub(crate) indexed: &'a Arc<Indexed>,
    pub(crate) writer: &'a Writer,
    pub(crate) started: Time,
}

impl Storing<'_> {
    /// Copies, and writes the snapshot.
    ///
    /// # Errors
    /// When the copy could not be made at all.
    pub(crate) fn run(&self, reading: Reading) -> Result<Outcome> {
        let cx = self.engine.cx();
        let mut form = StoredForm::of(&self.plan.entity, reading.source, &reading.basis);
        let bases = self.engine.bases(self.indexed, self.plan)?;
        let trail = form.source.trail().len();
        let every = self.plan.options.checkpoint;
        let checkpoints = Checkpoints::new(cx, every, |tree| self.partial_snapshot(tree));
        let sink = StoredSink::new((self.indexed, self.writer), bases, trail, form.cut)
            .going_on_with(self.engine.unfinished(self.indexed, self.plan)?)
            .with_checkpoints(checkpoints);
        let hands = Hands::near(self.engine.parts.workers);
        let mut copied = copy_tree(cx, form.source.as_mut(), &sink, hands)?;
        let unreadable = form.conclude(&mut copied)?;
        let mut ending = reading.lease.finish()?;
        ending.omissions.append(unreadable);
        let known = sink.known_bytes();
        let (stored, checkpoints) = sink.into_stored();
        let next = ending.next.take();
        let mut outcome = self.outcome(copied, ending, known);
        let from = self.plan.goes_on_from().map(|partial| crate::short(&partial.file));
        outcome.notes.extend(from.map(|from| format!("an interrupted run had stored {from}")));
        if self.unchanged(&stored, &outcome)? {
            self.writer.abandon(cx)?;
            if let Some(parent) = &self.plan.parent {
                outcome.snapshot_file = Some(parent.file.to_string());
                outcome.entity = parent.entity_id();
            }
            outcome
                .notes
                .push("nothing differs from the parent; no snapshot was written".to_owned());
            self.remove_partial(checkpoints, &mut outcome);
            return Ok(outcome);
        }
        let content = ContentDoc {
            name: ContentName::data().to_string(),
            shape: form.shape.word().to_owned(),
            path: alidade_model::encode_object(&form.path),
            // What is missing now must be read again.
            base: next.filter(|_| outcome.omissions.is_empty()).map(|base| hex(&base.0)),
            unverified: !form.is_vouched(),
        };
        if content.unverified {
            outcome
                .notes
                .push("producer unverified: nobody says that the stream is whole".to_owned());
        }
        let record = self.entity_doc(&outcome, content)?;
        let mut in_it = Content::new();
        in_it.push(self.writer.save_data(cx, &record)?.id);
        let record = record_node("entity.json", in_it, record.len() as u64, self.started);
        let tree = stored.seal(cx, self.writer, vec![record], self.started)?;
        let file = self.writer.commit(cx, &self.snapshot(tree, &outcome))?;
        outcome.snapshot_file = Some(file.to_string());
        self.remove_partial(checkpoints, &mut outcome);
        let stats = self.writer.stats();
        outcome.bytes.added = stats.plain_new;
        outcome.bytes.stored = stats.stored;
        outcome.checks.self_checked = stats.self_checked;
        outcome.checks.new_blobs = stats.data_new + stats.trees_new;
        self.insist_on_self_check(&mut outcome);
        outcome.ended = cx.now();
        Ok(outcome)
    }

    /// Removes what is of no use once a whole state is stored.
    fn remove_partial(&self, checkpoints: Option<Checkpoints<'_>>, outcome: &mut Outcome) {
        let before = self.plan.partial.iter();
        let notes = before.filter_map(|partial| partial::remove(self.writer, partial.file));
        outcome.notes.extend(notes);
        outcome.notes.extend(checkpoints.map(|own| own.end(self.writer)).unwrap_or_default());
    }

    /// A state that is not whole.
    fn partial_snapshot(&self, tree: BlobId) -> Snapshot {
        let plan = self.plan;
        let mut all_tags = tags(&plan.entity, &plan.snapshot, &plan.run);
        all_tags.push(partial_tag());
        all_tags.extend(plan.options.tags.iter().cloned());
        self.described(tree, all_tags, None)
    }

    fn outcome(&self, copied: Copied, ending: Ending, known: u64) -> Outcome {
        let plan = self.plan;
        let stats = self.writer.stats();
        let mut counts = copied.counts;
        let theirs = copied.sink.counts;
        (counts.new, counts.changed, counts.unchanged) =
            (theirs.new, theirs.changed, theirs.unchanged);
        counts.sparse = theirs.sparse;
        let mut omissions = copied.omissions;
        omissions.append(copied.sink.omissions);
        omissions.append(ending.omissions);
        let consistency =
            if counts.inconsistent > 0 { Consistency::Torn } else { ending.consistency };
        let mut outcome = Outcome {
            run: plan.run.clone(),
            verb: Verb::Protect,
            entity: plan.entity.at(plan.snapshot.clone()),
            host: plan.host.clone(),
            snapshot_file: None,
            parent: plan.parent.as_ref().map(|parent| parent.file.to_string()),
            status: Status::Done,
            counts,
            bytes: Bytes {
                total: copied.bytes.total,
                read: copied.bytes.read,
                written: 0,
                added: stats.plain_new,
                stored: stats.stored,
                deduplicated: known,
            },
            digest: copied.sink.digest,
            omissions,
            excluded: ending.excluded,
            consistency: Some(consistency),
            checks: copied.sink.checks,
            traffic: None,
            notes: copied.sink.notes,
            started: self.started,
            ended: self.engine.cx().now(),
        };
        outcome.status = outcome.verdict();
        outcome
    }

    /// A self-check that was asked for and did not happen is no success.
    fn insist_on_self_check(&self, outcome: &mut Outcome) {
        let Checks { self_checked, new_blobs, .. } = outcome.checks;
        if self.plan.options.self_check && self_checked < new_blobs {
            outcome.status = Status::Omissions;
            let note = format!("only {self_checked} of {new_blobs} new blobs were self-checked");
            outcome.notes.push(note);
        }
    }

    fn unchanged(&self, stored: &Stored, outcome: &Outcome) -> Result<bool> {
        let Some(parent) =
            self.plan.parent.as_ref().filter(|_| self.plan.options.skip_if_unchanged)
        else {
            return Ok(false);
        };
        if outcome.status != Status::Done {
            return Ok(false);
        }
        let nodes = self.indexed.tree(self.engine.cx(), parent.snapshot.tree)?;
        let theirs = nodes.collect::<alidade_repository::Result<Vec<Node>>>()?;
        Ok(stored.same_as(&theirs))
    }

    fn entity_doc(&self, outcome: &Outcome, content: ContentDoc) -> Result<Vec<u8>> {
        let path = stored_path(&self.plan.entity);
        let doc = EntityDoc {
            id: outcome.entity.to_string(),
            name: String::from_utf8_lossy(&path).into_owned(),
            size: outcome.bytes.total,
            data_transports: Vec::new(),
            metadata_transports: Vec::new(),
            combined_transports: Vec::new(),
            component_specs: Vec::new(),
            version: 1,
            contents: vec![content],
            outcome: OutcomeDoc::from(outcome),
        };
        let what = || format!("entity.json of run {}", outcome.run);
        serde_json::to_vec_pretty(&doc).map_err(|source| Error::Record { what: what(), source })
    }

    fn snapshot(&self, tree: BlobId, outcome: &Outcome) -> Snapshot {
        let plan = self.plan;
        let mut all_tags = tags(&plan.entity, &plan.snapshot, &plan.run);
        all_tags.extend(plan.options.tags.iter().cloned());
        let stats = self.writer.stats();
        let summary = Summary {
            backup_start: self.started,
            backup_end: self.engine.cx().now(),
            files_new: outcome.counts.new,
            files_changed: outcome.counts.changed,
            files_unmodified: outcome.counts.unchanged,
            data_blobs: stats.data_new,
            tree_blobs: stats.trees_new,
            data_added: stats.plain_new,
            data_added_packed: stats.stored,
            total_files_processed: outcome.counts.files,
            total_bytes_processed: outcome.bytes.total,
            ..Summary::default()
        };
        self.described(tree, all_tags, Some(summary))
    }

    fn described(&self, tree: BlobId, tags: Vec<String>, summary: Option<Summary>) -> Snapshot {
        let identity = &self.engine.parts.identity;
        let plan = self.plan;
        let path = stored_path(&plan.entity);
        Snapshot {
            time: self.started,
            parent: plan.parent.as_ref().map(|parent| parent.file),
            tree,
            paths: vec![String::from_utf8_lossy(&path).into_owned()],
            hostname: plan.host.to_string(),
            username: identity.username.clone(),
            uid: identity.uid,
            gid: identity.gid,
            excludes: plan
                .options
                .selection
                .rules
                .iter()
                .filter_map(|rule| match rule {
                    Rule::Pattern(pattern) => Some(pattern.clone()),
                    _ => None,
                })
                .collect(),
            tags,
            original: None,
            program_version: identity.program_version.clone(),
            summary,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
