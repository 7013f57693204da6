//! Protect: copy a live entity into the repository.

use std::sync::Arc;
use std::time::Duration;

use alidade_entity::{
    Class, Cx, EntryNo, Params, Place, ProtectedEntity, ReadOptions, Reading, Source, TreeSource,
    Visit,
};
use alidade_model::{
    ContentName, Counts, EntityName, Entry, Exclusions, Host, Kind, Omissions, Origin, Outcome,
    Rule, RunId, Selection, SnapshotId, Time,
};
use alidade_repository::{Compression, Cuts, Indexed, Lock, Writer, WriterOptions};

use crate::base::{Base, BaseHoles, Found};
use crate::bases::Bases;
use crate::identity::{StoredSnapshot, is_within, stored_path};
use crate::listing::{Wanted, Which};
use crate::partial::Unfinished;
use crate::stored_entity::StoredEntity;
use crate::stored_form::{StoredForm, to_read};
use crate::storing::Storing;
use crate::{Engine, Error, Result, name};

/// Partial snapshots that a run compares with, beside its parent.
const GOES_ON_FROM: usize = 3;

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
    /// Where the contents of files are cut.
    pub cuts: Cuts,
    /// How hard to compress.
    pub compression: Compression,
    /// Bytes at which a pack is closed.
    pub pack_size: u64,
    /// Open, decompress and hash every sealed blob before it is stored.
    pub self_check: bool,
    /// Write no snapshot when nothing differs from the parent.
    pub skip_if_unchanged: bool,
    /// How often what is stored so far becomes a partial snapshot, from which an interrupted run goes on; zero
    /// for never. When not given once a minute, and so that it takes a twentieth of the time at most.
    pub checkpoint: Option<Duration>,
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
            cuts: Cuts::Ours,
            compression: Compression::Default,
            pack_size: 16 << 20,
            self_check: true,
            skip_if_unchanged: false,
            checkpoint: None,
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
    /// What interrupted runs have stored of this entity, the newest first.
    pub partial: Vec<StoredSnapshot>,
    /// How; the rules that keep our own files out are among its rules.
    pub options: ProtectOptions,
    /// What a walk through the source counted, where one was asked for.
    pub survey: Option<Survey>,
    /// When the plan was made.
    pub made: Time,
}

impl ProtectPlan {
    /// The partial snapshots that it goes on from: those newer than its parent, the newest first, three at most.
    /// One run leaves one; each has what the others may not have come to.
    pub fn goes_on_from(&self) -> impl Iterator<Item = &StoredSnapshot> {
        let newer = |partial: &&StoredSnapshot| {
            self.parent.as_ref().is_none_or(|parent| partial.time > parent.time)
        };
        self.partial.iter().filter(newer).take(GOES_ON_FROM)
    }
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
        let (parent, partial) = self.parents(entity, &host, &how.parent)?;
        let mut plan = ProtectPlan {
            entity: entity.clone(),
            parent,
            partial,
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
    /// The outcome says what came of it; a snapshot exists when it names one. On an interruption or an error there is
    /// none, but for a partial one, perhaps, and what was stored until then is used by the next run.
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

    /// The snapshot to compare with, and the partial ones of the entity, the newest first.
    fn parents(
        &self,
        entity: &EntityName,
        host: &Host,
        parent: &Parent,
    ) -> Result<(Option<StoredSnapshot>, Vec<StoredSnapshot>)> {
        match parent {
            Parent::None => Ok((None, Vec::new())),
            Parent::Id(id) => {
                let which = Which::Id(id.clone());
                let parent = self.resolve(&Wanted { entity: None, which, host: None })?;
                Ok((Some(parent), Vec::new()))
            }
            Parent::Auto => {
                let mut of_it = self.snapshots()?.snapshots;
                of_it.retain(|stored| stored.entity == *entity && stored.host == *host);
                let is_partial = |stored: &StoredSnapshot| stored.origin == Origin::Partial;
                let partial = of_it.iter().rev().filter(|stored| is_partial(stored)).cloned();
                let partial = partial.collect();
                Ok((of_it.into_iter().rfind(|stored| stored.origin.is_state()), partial))
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
            cuts: how.cuts,
            compression: how.compression,
            pack_size: how.pack_size,
            self_check: how.self_check,
            scratch: self.parts.scratch.clone(),
        }
    }

    /// What a copy is compared with.
    pub(crate) fn bases(&self, indexed: &Arc<Indexed>, plan: &ProtectPlan) -> Result<Bases> {
        let parent = self.base(indexed, plan.parent.as_ref())?;
        let mut bases: Vec<Base> = plan
            .goes_on_from()
            .map(|partial| self.base(indexed, Some(partial)))
            .collect::<Result<_>>()?;
        bases.push(parent);
        Ok(Bases::new(bases.remove(0), bases))
    }

    /// What the newest partial snapshot has of a large file. One that does not read costs time alone.
    pub(crate) fn unfinished(
        &self,
        indexed: &Arc<Indexed>,
        plan: &ProtectPlan,
    ) -> Result<Option<Unfinished>> {
        use alidade_repository::Error as Failed;
        let Some(partial) = plan.goes_on_from().next() else { return Ok(None) };
        match Unfinished::read(self.cx(), indexed, partial.snapshot.tree) {
            Err(Error::Repository(Failed::Damaged { .. } | Failed::NotFound { .. })) => Ok(None),
            read => read,
        }
    }

    /// Where the holes of a base are told.
    fn base(&self, indexed: &Arc<Indexed>, parent: Option<&StoredSnapshot>) -> Result<Base> {
        let cx = self.cx();
        let Some(parent) = parent else {
            return Ok(Base::new(cx, Arc::clone(indexed), None, BaseHoles::None));
        };
        let holes = match parent.origin {
            Origin::Ours | Origin::Partial => {
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
        let base = self.bases(indexed, plan)?;
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

/// Counts what a walk meets.
struct Surveyor<'a> {
    cx: &'a Cx,
    base: Bases,
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

/// True when a rule about our own files has something to leave out of this entity.
fn concerns(rule: &Rule, entity: &EntityName) -> bool {
    match rule {
        Rule::Own { path, .. } => {
            entity.type_name.as_str() == "fs" && is_within(path, &stored_path(entity))
        }
        _ => true,
    }
}
