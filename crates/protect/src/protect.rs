//! Protect: copy a live entity into the repository.

use std::sync::Arc;

use alidade_entity::{
    Class, Cx, Ending, EntryNo, Params, Place, ProtectedEntity, ReadOptions, Reading, Source,
    TreeSource, Visit,
};
use alidade_model::{
    Bytes, Checks, Consistency, ContentName, Counts, EntityName, Entry, Exclusions, Host, Kind,
    Omissions, Origin, Outcome, Rule, RunId, Selection, SnapshotId, Status, Time, Verb,
};
use alidade_repository::{
    BlobId, Compression, Indexed, Lock, Node, Snapshot, Summary, Writer, WriterOptions,
};

use crate::base::{Base, BaseHoles, Found};
use crate::copy::{Copied, copy_tree};
use crate::identity::{StoredSnapshot, is_within, stored_path, tags};
use crate::listing::{Wanted, Which};
use crate::record::{ContentDoc, EntityDoc, OutcomeDoc};
use crate::stored_entity::StoredEntity;
use crate::stored_form::{StoredForm, to_read};
use crate::stored_sink::StoredSink;
use crate::stored_top::Stored;
use crate::{Engine, Error, Result, name};

/// Which snapshot to compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The newest of the same entity and host.
    Auto,
    /// None: everything is read.
    None,
    /// This one, by id.
    Id(String),
}

/// How to protect.
#[derive(Clone, Debug)]
pub struct ProtectOptions {
    /// What of the entity is meant.
    pub selection: Selection,
    /// How to read it, in the words of its type.
    pub params: Params,
    /// Tags for the snapshot, beside our own.
    pub tags: Vec<String>,
    /// The host to store it under; this machine's when not given.
    pub host: Option<Host>,
    /// What to compare with.
    pub parent: Parent,
    /// How hard to compress.
    pub compression: Compression,
    /// Bytes at which a pack is closed.
    pub pack_size: u64,
    /// Open, decompress and hash every sealed blob before it is stored.
    pub self_check: bool,
    /// Write no snapshot when nothing differs from the parent.
    pub skip_if_unchanged: bool,
}

impl ProtectOptions {
    /// Everything, compared with the newest, as the format's users expect it.
    #[must_use]
    pub fn standard() -> Self {
        Self {
            selection: Selection::default(),
            params: Params::new(),
            tags: Vec::new(),
            host: None,
            parent: Parent::Auto,
            compression: Compression::Default,
            pack_size: 16 << 20,
            self_check: true,
            skip_if_unchanged: false,
        }
    }
}

/// What a survey of the source counted.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Entries, and files by whether they would be read.
    pub counts: Counts,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of the files that are new or changed.
    pub to_read: u64,
    /// What rules leave out.
    pub excluded: Exclusions,
    /// What could not be looked at.
    pub omissions: Omissions,
}

/// What protecting an entity will do.
#[derive(Clone, Debug)]
pub struct ProtectPlan {
    /// The entity.
    pub entity: EntityName,
    /// The host it is stored under.
    pub host: Host,
    /// The run, named before it begins.
    pub run: RunId,
    /// The snapshot, named before it is written.
    pub snapshot: SnapshotId,
    /// What it is compared with.
    pub parent: Option<StoredSnapshot>,
    /// How; the rules that keep our own files out are among its rules.
    pub options: ProtectOptions,
    /// What a walk through the source counted, where one was asked for.
    pub survey: Option<Survey>,
    /// When the plan was made.
    pub made: Time,
}

impl Engine {
    /// Plans to protect an entity. With `survey`, walks the source and counts.
    ///
    /// # Errors
    /// When the entity does not exist, a pattern or a named parent is wrong, or the repository cannot be read.
    pub async fn plan_protect(
        &self,
        entity: &EntityName,
        how: &ProtectOptions,
        survey: bool,
    ) -> Result<ProtectPlan> {
        let live = self.parts.registry.open(self.cx(), &entity.live()).await?;
        let host = how.host.clone().unwrap_or_else(|| self.parts.identity.host.clone());
        let mut options = how.clone();
        options
            .selection
            .rules
            .extend(self.parts.own.iter().filter(|rule| concerns(rule, entity)).cloned());
        crate::filter::Filter::of(&options.selection)?;
        let mut plan = ProtectPlan {
            entity: entity.clone(),
            parent: self.parent(entity, &host, &how.parent)?,
            host,
            run: name::run(self.cx())?,
            snapshot: name::snapshot(self.cx())?,
            options,
            survey: None,
            made: self.cx().now(),
        };
        if survey {
            let indexed = self.index()?;
            let reading = self.read(live.as_ref(), &plan, &indexed).await?;
            plan.survey = Some(self.survey(reading, &plan, &indexed)?);
        }
        Ok(plan)
    }

    /// Copies the entity into the repository, as planned.
    ///
    /// The outcome says what came of it; a snapshot exists when it names one. On an interruption or an
    /// error there is none, and what was stored until then is used by the next run.
    ///
    /// # Errors
    /// When the copy could not be made at all.
    pub async fn protect(&self, plan: &ProtectPlan) -> Result<Outcome> {
        let cx = self.cx();
        let started = cx.now();
        let live = self.parts.registry.open(cx, &plan.entity.live()).await?;
        let Some(lock) = self.lock_early()? else {
            return Err(Error::Usage("protect needs a lock".to_owned()));
        };
        let indexed = self.index()?;
        let reading = self.read(live.as_ref(), plan, &indexed).await?;
        let writer = Writer::new(Arc::clone(&indexed), &lock, self.writer_options(&plan.options))?;
        let stored = Storing { engine: self, plan, indexed: &indexed, writer: &writer, started };
        let outcome = match stored.run(reading) {
            Ok(outcome) => outcome,
            Err(first) => {
                // What is in finished packs is kept for the next run, unless the writer is what
                // failed: that it did was told.
                let abandoned = if writer.has_failed() { Ok(()) } else { writer.abandon(cx) };
                let kept = abandoned.and_then(|()| lock.release());
                return Err(match kept {
                    Ok(()) => first,
                    Err(second) => first.then(second.into()),
                });
            }
        };
        let outcome = self.ended(Some(lock), outcome);
        self.record_protect(&outcome, plan)?;
        // With what recording it asked for.
        Ok(Outcome { traffic: self.parts.repository.store().traffic(), ..outcome })
    }

    /// Lets go of a lock after a success; that it could not is worth a note, not a failure.
    pub(crate) fn ended(&self, lock: Option<Lock>, mut outcome: Outcome) -> Outcome {
        if let Some(Err(error)) = lock.map(Lock::release) {
            outcome.notes.push(format!("the lock could not be removed: {error}"));
        }
        outcome.traffic = self.parts.repository.store().traffic();
        outcome
    }

    /// The snapshot to compare with.
    fn parent(
        &self,
        entity: &EntityName,
        host: &Host,
        parent: &Parent,
    ) -> Result<Option<StoredSnapshot>> {
        match parent {
            Parent::None => Ok(None),
            Parent::Id(id) => {
                let which = Which::Id(id.clone());
                self.resolve(&Wanted { entity: None, which, host: None }).map(Some)
            }
            Parent::Auto => {
                let listing = self.snapshots()?;
                Ok(listing.snapshots.into_iter().rfind(|stored| {
                    stored.entity == *entity
                        && stored.host == *host
                        && stored.origin != Origin::Evidence
                }))
            }
        }
    }

    /// Opens the entity's content, for what changed since the parent where its type can say that.
    async fn read(
        &self,
        live: &dyn ProtectedEntity,
        plan: &ProtectPlan,
        indexed: &Arc<Indexed>,
    ) -> Result<Reading> {
        let base = match &plan.parent {
            Some(parent) => {
                StoredEntity::new(parent.clone(), Arc::clone(indexed)).base(self.cx())?
            }
            None => None,
        };
        let how = ReadOptions {
            base,
            selection: plan.options.selection.clone(),
            params: plan.options.params.clone(),
        };
        Ok(live.read(self.cx(), &ContentName::data(), &how).await?)
    }

    fn writer_options(&self, how: &ProtectOptions) -> WriterOptions {
        WriterOptions {
            compression: how.compression,
            pack_size: how.pack_size,
            self_check: how.self_check,
            scratch: self.parts.scratch.clone(),
        }
    }

    /// Where the holes of a base are told.
    fn base(&self, indexed: &Arc<Indexed>, parent: Option<&StoredSnapshot>) -> Result<Base> {
        let cx = self.cx();
        let Some(parent) = parent else {
            return Ok(Base::new(cx, Arc::clone(indexed), None, BaseHoles::None));
        };
        let holes = match parent.origin {
            Origin::Ours => {
                let entity = StoredEntity::new(parent.clone(), Arc::clone(indexed));
                match entity.hole_map(cx) {
                    Ok(Some(map)) => BaseHoles::Map(map),
                    Ok(None) => BaseHoles::None,
                    // The parent is damaged there; its holes are asked of the source instead.
                    Err(alidade_repository::Error::Damaged { .. }) => BaseHoles::Unknown,
                    Err(error) => return Err(error.into()),
                }
            }
            Origin::Foreign | Origin::Evidence => BaseHoles::Unknown,
        };
        Ok(Base::new(cx, Arc::clone(indexed), Some(parent.snapshot.tree), holes))
    }

    /// Walks a source and counts, comparing with the parent, reading no content.
    fn survey(
        &self,
        reading: Reading,
        plan: &ProtectPlan,
        indexed: &Arc<Indexed>,
    ) -> Result<Survey> {
        let counts = Counts { files: 1, ..Counts::default() };
        match &reading.source {
            Source::Tree(_) => {}
            Source::Disk(disk) => {
                let to_read = to_read(self.cx(), disk.as_ref())?;
                return Ok(Survey { counts, bytes: disk.size(), to_read, ..Survey::default() });
            }
            // Nobody knows before it was read.
            Source::Stream(_) => return Ok(Survey { counts, ..Survey::default() }),
        }
        let base = self.base(indexed, plan.parent.as_ref())?;
        let mut survey =
            Surveyor { cx: self.cx(), base, open: Vec::new(), next: 0, survey: Survey::default() };
        let mut source = StoredForm::of(&plan.entity, reading.source, &reading.basis).source;
        for entry in source.trail().to_vec() {
            survey.enter(&entry);
        }
        let mut batch = Vec::new();
        loop {
            let more = source.next(self.cx(), &mut batch)?;
            batch.drain(..).for_each(|visit| survey.visit(visit));
            if !more {
                break;
            }
        }
        let ending = reading.lease.finish()?;
        survey.survey.excluded = ending.excluded;
        Ok(survey.survey)
    }
}

/// The tree of a source.
pub(crate) fn tree(source: Source) -> Result<Box<dyn TreeSource>> {
    match source {
        Source::Tree(tree) => Ok(tree),
        Source::Disk(_) | Source::Stream(_) => {
            let attempt = "walk through a content that is no tree";
            Err(alidade_entity::Error::new(Class::Unsupported, attempt).into())
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Counts what a walk meets.
struct Surveyor<'a> {
    cx: &'a Cx,
    base: Base,
    open: Vec<EntryNo>,
    next: u64,
    survey: Survey,
}

impl Surveyor<'_> {
    fn find(&mut self, entry: &Entry) -> Found {
        self.next += 1;
        let place = Place { no: EntryNo(self.next), parent: self.open.last().copied() };
        self.base.find(self.cx, place, entry)
    }

    fn enter(&mut self, entry: &Entry) {
        self.find(entry);
        self.open.push(EntryNo(self.next));
    }

    fn visit(&mut self, visit: Visit) {
        match visit {
            Visit::Enter(entry) => {
                self.enter(&entry);
                self.survey.counts.directories += 1;
            }
            Visit::Leave => {
                self.open.pop();
            }
            Visit::Leaf(entry) => match entry.metadata.kind {
                Kind::Symlink => self.survey.counts.symlinks += 1,
                _ => self.survey.counts.specials += 1,
            },
            Visit::Omit(omission) => self.survey.omissions.add(omission),
            Visit::File(entry, _) => {
                let size = entry.metadata.size;
                let found = self.find(&entry);
                let counts = &mut self.survey.counts;
                counts.files += 1;
                self.survey.bytes += size;
                let same = found.version(&entry).map(|version| entry.version.matches(&version));
                match same {
                    Some(true) => counts.unchanged += 1,
                    Some(false) => counts.changed += 1,
                    None => counts.new += 1,
                }
                self.survey.to_read += if same == Some(true) { 0 } else { size };
            }
        }
    }
}

/// A copy into the repository, under way.
struct Storing<'a> {
    engine: &'a Engine,
    plan: &'a ProtectPlan,
    indexed: &'a Arc<Indexed>,
    writer: &'a Writer,
    started: Time,
}

impl Storing<'_> {
    fn run(&self, reading: Reading) -> Result<Outcome> {
        let cx = self.engine.cx();
        let mut form = StoredForm::of(&self.plan.entity, reading.source, &reading.basis);
        let base = self.engine.base(self.indexed, self.plan.parent.as_ref())?;
        let trail = form.source.trail().len();
        let sink = StoredSink::new((self.indexed, self.writer), base, trail, form.cut);
        let mut copied = copy_tree(cx, form.source.as_mut(), &sink, self.engine.parts.workers)?;
        let unreadable = form.conclude(&mut copied)?;
        let mut ending = reading.lease.finish()?;
        ending.omissions.append(unreadable);
        let known = sink.known_bytes();
        let stored = sink.into_stored();
        let next = ending.next.take();
        let mut outcome = self.outcome(copied, ending, known);
        if self.unchanged(&stored, &outcome)? {
            self.writer.abandon(cx)?;
            if let Some(parent) = &self.plan.parent {
                outcome.snapshot_file = Some(parent.file.to_string());
                outcome.entity = parent.entity_id();
            }
            outcome
                .notes
                .push("nothing differs from the parent; no snapshot was written".to_owned());
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
        let tree = stored.seal(cx, self.writer, &record, self.started)?;
        let file = self.writer.commit(cx, &self.snapshot(tree, &outcome))?;
        outcome.snapshot_file = Some(file.to_string());
        let stats = self.writer.stats();
        outcome.bytes.added = stats.plain_new;
        outcome.bytes.stored = stats.stored;
        outcome.checks.self_checked = stats.self_checked;
        outcome.checks.new_blobs = stats.data_new + stats.trees_new;
        self.insist_on_self_check(&mut outcome);
        outcome.ended = cx.now();
        Ok(outcome)
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
        let identity = &self.engine.parts.identity;
        let plan = self.plan;
        let mut all_tags = tags(&plan.entity, &plan.snapshot, &plan.run);
        all_tags.extend(plan.options.tags.iter().cloned());
        let path = stored_path(&plan.entity);
        let stats = self.writer.stats();
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
            tags: all_tags,
            original: None,
            program_version: identity.program_version.clone(),
            summary: Some(Summary {
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
            }),
        }
    }
}

/// True when a rule about our own files has something to leave out of this entity.
fn concerns(rule: &Rule, entity: &EntityName) -> bool {
    match rule {
        Rule::Own { path, .. } => {
            entity.type_name.as_str() == "fs" && is_within(path, &stored_path(entity))
        }
        _ => true,
    }
}
