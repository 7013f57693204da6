//! Restore: copy a stored entity to a live one.

use std::ops::Range;
use std::sync::Arc;

use alidade_entity::{
    Class, CopyMode, CopyOptions, DiskSink, DiskSource, Lease, Params, ProtectedEntity,
    ReadOptions, Reading, RestorePlan, Sink, Source, StreamSink, StreamSource, TreeSink,
    TreeSource, Visit,
};
use alidade_model::{
    Bytes, Checks, ContentName, Counts, Digest, Exclusions, Kind, Omissions, Origin, Outcome, Rule,
    RunId, Selection, Status, Verb,
};

use alidade_repository::{Indexed, Lock};

use crate::copy::{Hands, copy_tree};
use crate::copy_disk::{compare_disk, copy_disk};
use crate::copy_stream::copy_stream;
use crate::filter::Filter;
use crate::identity::StoredSnapshot;
use crate::lost::lacks;
use crate::protect::tree;
use crate::stored_entity::StoredEntity;
use crate::{Engine, Error, Result, name};

/// How to restore.
#[derive(Clone, Debug, Default)]
pub struct RestoreOptions {
    /// Where, in the words of the entity's type; for `fs` an absolute path that is new or empty.
    pub target: Option<Vec<u8>>,
    /// Further settings, in the words of the entity's type.
    pub params: Params,
    /// Only these paths of the snapshot and what is below them; everything when empty.
    pub only: Vec<Vec<u8>>,
    /// Only what fits one of these patterns, and what is below it.
    pub include: Vec<String>,
    /// Not what fits one of these patterns, nor what is below it.
    pub exclude: Vec<String>,
    /// Wait for the disk after each file, not only once at the end.
    pub fsync: bool,
    /// Read every restored file again and compare.
    pub read_back: bool,
    /// Make holes of zeros even where the snapshot does not say that there were holes.
    pub sparse_zeros: bool,
    /// Write into what is there, what differs alone: of a disk.
    pub in_place: bool,
    /// Only these bytes, to where they were: of a disk.
    pub range: Option<Range<u64>>,
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planning {
    /// To be looked at: nothing is held, and what was planned may be gone later.
    ToShow,
    /// To be done: the lock is held from now on, so that the plan stays true.
    ToRun,
}

/// What a restore will do.
#[derive(Debug)]
pub struct RestorePlanned {
    /// From which snapshot.
    pub from: StoredSnapshot,
    /// How.
    pub options: RestoreOptions,
    /// The run, named before it begins.
    pub run: RunId,
    /// What the entity's type will do, one line each.
    pub steps: Vec<String>,
    /// The entries that are chosen.
    pub counts: Counts,
    /// Their bytes.
    pub bytes: u64,
    plan: RestorePlan,
    held: Option<Held>,
}

/// The index, and what keeps others from removing what it names.
#[derive(Debug)]
struct Held {
    lock: Option<Lock>,
    indexed: Arc<Indexed>,
}

/// What was restored.
struct Restored {
    counts: Counts,
    bytes: Bytes,
    digest: Option<Digest>,
    omissions: Omissions,
    excluded: Exclusions,
    checks: Checks,
    notes: Vec<String>,
    damaged: u64,
}

impl Engine {
    /// Plans a restore. The figures of a whole snapshot are those that its backup wrote down; where there
    /// are none, or only a part is chosen, the snapshot is walked and what is chosen is counted.
    ///
    /// # Errors
    /// [`Class::Conflict`] when the target is in the way, [`Error::NotFound`] when nothing is chosen.
    pub async fn plan_restore(
        &self,
        from: &StoredSnapshot,
        how: &RestoreOptions,
        planning: Planning,
    ) -> Result<RestorePlanned> {
        let range = how.range.as_ref().map(|range| format!("{} {}", range.start, range.end));
        let mut params = how.params.clone();
        params.extend(range.map(|range| ("range".to_owned(), range)));
        let options = CopyOptions {
            mode: if how.in_place { CopyMode::Update } else { CopyMode::CreateNew },
            target: how.target.clone(),
            fsync: how.fsync,
            read_back: how.read_back,
            params,
        };
        let kind = self.parts.registry.get(&from.entity.type_name)?;
        Filter::of(&selection(how))?;
        let held = match planning {
            Planning::ToShow => Held { lock: None, indexed: self.index()? },
            Planning::ToRun => self.hold()?,
        };
        let stored = StoredEntity::new(from.clone(), Arc::clone(&held.indexed));
        let plan = kind.plan(self.cx(), &stored, &options).await?;
        let (counts, bytes) = self.chosen(&stored, how)?;
        Ok(RestorePlanned {
            from: from.clone(),
            options: how.clone(),
            run: name::run(self.cx())?,
            steps: plan.steps.clone(),
            counts,
            bytes,
            plan,
            held: (planning == Planning::ToRun).then_some(held),
        })
    }

    /// Locks, then reads the index. The wait for others goes on meanwhile; the lock's next check ends it.
    fn hold(&self) -> Result<Held> {
        let lock = self.lock_early()?;
        Ok(Held { lock, indexed: self.index()? })
    }

    /// Restores as planned. Every blob's hash is compared before its bytes are written.
    ///
    /// A file whose content is damaged in the repository is left out, named among the omissions, and makes
    /// the outcome [`Status::Damaged`]; everything else is restored.
    ///
    /// # Errors
    /// When the target cannot be written, or nothing was chosen.
    pub async fn restore(&self, mut planned: RestorePlanned) -> Result<Outcome> {
        let cx = self.cx();
        let started = cx.now();
        let Held { lock, indexed } = match planned.held.take() {
            Some(held) => held,
            None => self.hold()?,
        };
        let kind = self.parts.registry.get(&planned.from.entity.type_name)?;
        let (lacking, unsaid) = lacks(cx, &indexed, &planned.from, &selection(&planned.options))?;
        let is_far = indexed.repository().store().is_far();
        let workers = self.parts.workers;
        let hands = if is_far { Hands::far(workers) } else { Hands::near(workers) };
        let stored = StoredEntity::new(planned.from.clone(), indexed)
            .with_sparse_zeros(planned.options.sparse_zeros);
        lock.as_ref().map_or(Ok(()), |lock| lock.check(cx))?;
        let sink = kind.sink(cx, &planned.plan).await?;
        let options = &planned.options;
        let how = ReadOptions { selection: selection(options), ..ReadOptions::default() };
        let Reading { source, lease, .. } = stored.read(cx, &ContentName::data(), &how).await?;
        let restored = match (source, sink) {
            (Source::Tree(source), Sink::Tree(sink)) => {
                self.restore_tree((source, lease), &*sink, hands)?
            }
            (Source::Disk(source), Sink::Disk(sink)) => {
                self.restore_disk(&stored, (&*source, lease), &*sink, options)?
            }
            (Source::Stream(_), Sink::Stream(_)) if !lacking.is_empty() => {
                let attempt =
                    "restore a stream of which a part was lost: what is left is not what was made";
                return Err(alidade_entity::Error::new(Class::Damaged, attempt).into());
            }
            (Source::Stream(source), Sink::Stream(sink)) => {
                self.restore_stream(&stored, (source, lease), sink)?
            }
            _ => {
                let attempt = "restore into a target of another shape";
                return Err(alidade_entity::Error::new(Class::Unsupported, attempt).into());
            }
        };
        if restored.counts.entries() == 0 && restored.omissions.is_empty() {
            return Err(nothing_chosen(&planned));
        }
        let mut outcome = Outcome {
            run: planned.run.clone(),
            verb: Verb::Restore,
            entity: planned.from.entity_id(),
            host: planned.from.host.clone(),
            snapshot_file: Some(planned.from.file.to_string()),
            parent: None,
            status: Status::Done,
            counts: restored.counts,
            bytes: restored.bytes,
            digest: restored.digest,
            omissions: restored.omissions,
            excluded: restored.excluded,
            consistency: None,
            checks: restored.checks,
            traffic: None,
            notes: restored.notes,
            started,
            ended: cx.now(),
        };
        outcome.omissions.append(lacking);
        outcome.notes.extend(unsaid);
        outcome.status = outcome.verdict();
        if restored.damaged > 0 {
            outcome.status = Status::Damaged;
        }
        if !outcome.omissions.is_empty() {
            // The digest is that of everything chosen; not everything is there.
            outcome.digest = None;
        }
        self.compare_digest(&stored, &planned, &mut outcome)?;
        self.prove(lock.as_ref(), Some(&planned.from), &mut outcome)?;
        Ok(self.ended(lock, outcome))
    }

    fn restore_tree(
        &self,
        (mut source, lease): (Box<dyn TreeSource>, Box<dyn Lease>),
        sink: &dyn TreeSink,
        hands: Hands,
    ) -> Result<Restored> {
        let copied = copy_tree(self.cx(), source.as_mut(), sink, hands)?;
        drop(source);
        let ending = lease.finish()?;
        let mut omissions = copied.omissions;
        omissions.append(copied.sink.omissions);
        omissions.append(ending.omissions);
        Ok(Restored {
            counts: Counts { sparse: copied.sink.counts.sparse, ..copied.counts },
            bytes: Bytes {
                total: copied.bytes.total,
                written: copied.bytes.read,
                ..Bytes::default()
            },
            digest: ending.digest,
            omissions,
            excluded: ending.excluded,
            checks: Checks {
                verified: ending.verified,
                read_back: copied.sink.checks.read_back,
                ..Checks::default()
            },
            notes: copied.sink.notes,
            damaged: copied.damaged + ending.damaged,
        })
    }

    fn restore_disk(
        &self,
        stored: &StoredEntity,
        (source, lease): (&dyn DiskSource, Box<dyn Lease>),
        sink: &dyn DiskSink,
        how: &RestoreOptions,
    ) -> Result<Restored> {
        let (cx, workers) = (self.cx(), self.parts.workers);
        let part = how.range.clone().unwrap_or(0..source.size());
        let copied = copy_disk(cx, source, sink, part.clone(), workers)?;
        let mut checks = Checks::default();
        if how.read_back && copied.omissions.is_empty() {
            compare_disk(cx, source, sink, part, workers)?;
            checks.read_back = 1;
        }
        let ending = lease.finish()?;
        checks.verified = ending.verified;
        let damaged = copied.omissions.total();
        let same = copied.same;
        Ok(Restored {
            counts: Counts { files: 1, ..Counts::default() },
            bytes: Bytes { total: copied.total, written: copied.written, ..Bytes::default() },
            digest: if how.range.is_none() { self.digest(stored)? } else { None },
            omissions: copied.omissions,
            excluded: Exclusions::new(),
            checks,
            notes: (same > 0)
                .then(|| format!("{same} bytes of data were in the target already"))
                .into_iter()
                .collect(),
            damaged,
        })
    }

    fn restore_stream(
        &self,
        stored: &StoredEntity,
        (source, lease): (Box<dyn StreamSource>, Box<dyn Lease>),
        sink: Box<dyn StreamSink>,
    ) -> Result<Restored> {
        // Before anybody sees a byte: what will come is what the backup wrote down.
        let digest = self.digest(stored)?;
        let record = stored.record(self.cx())?.and_then(|record| record.outcome.digest);
        let is_as_made = stored.stored().snapshot.original.is_none();
        if is_as_made && record.is_some() && record != digest.map(|digest| digest.to_string()) {
            let attempt = "find the content digest of a stream that the backup wrote down";
            return Err(alidade_entity::Error::new(Class::Damaged, attempt).into());
        }
        let copied = copy_stream(self.cx(), source, sink)?;
        let ending = lease.finish()?;
        let bytes = copied.bytes;
        Ok(Restored {
            counts: Counts { files: 1, ..Counts::default() },
            bytes: Bytes { total: bytes, written: bytes, ..Bytes::default() },
            digest,
            omissions: copied.sink.omissions,
            excluded: Exclusions::new(),
            checks: Checks { verified: ending.verified, ..Checks::default() },
            notes: copied.sink.notes,
            damaged: 0,
        })
    }

    /// The digest of everything that a stored entity has. Reads its directories.
    fn digest(&self, stored: &StoredEntity) -> Result<Option<Digest>> {
        let Reading { source, lease, .. } =
            stored.walk(self.cx(), Filter::of(&Selection::default())?)?;
        let mut source = tree(source)?;
        let mut visits = Vec::new();
        while source.next(self.cx(), &mut visits)? {
            visits.clear();
        }
        drop(source);
        Ok(lease.finish()?.digest)
    }

    /// A whole restore must have the digest that the backup wrote down.
    fn compare_digest(
        &self,
        stored: &StoredEntity,
        planned: &RestorePlanned,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let (Origin::Ours, Some(found)) = (planned.from.origin, outcome.digest) else {
            return Ok(());
        };
        let Some(record) = stored.record(self.cx())? else { return Ok(()) };
        let Some(written) = record.outcome.digest else { return Ok(()) };
        if written == found.to_string() {
            outcome.notes.push("the content digest is the one the backup wrote down".to_owned());
        } else if let Some(original) = &planned.from.snapshot.original {
            // Such as `restic rewrite --exclude`: it is whole, and is not what the backup made.
            outcome.notes.push(format!(
                "another program made this snapshot of {original}, whose content digest was {written}"
            ));
        } else {
            outcome.status = Status::Damaged;
            outcome.notes.push(format!("the backup wrote down the content digest {written}"));
        }
        Ok(())
    }

    /// Entries and bytes that are chosen.
    fn chosen(&self, stored: &StoredEntity, how: &RestoreOptions) -> Result<(Counts, u64)> {
        // Another program may have left out a part of what the record counts.
        let as_made = stored.stored().snapshot.original.is_none();
        if as_made && selection(how) == Selection::default() {
            // A record that does not read is told by the restore; counting needs none.
            if let Ok(Some(record)) = stored.record(self.cx()) {
                let Counts { files, directories, symlinks, specials, .. } =
                    record.outcome.counts.by;
                let directories = directories + stored.above() as u64;
                let counts = Counts { files, directories, symlinks, specials, ..Counts::default() };
                return Ok((counts, record.outcome.bytes.total));
            }
        }
        self.count(stored, how)
    }

    fn count(&self, stored: &StoredEntity, how: &RestoreOptions) -> Result<(Counts, u64)> {
        let reading = stored.walk(self.cx(), Filter::of(&selection(how))?)?;
        let mut source = tree(reading.source)?;
        let (mut counts, mut bytes) = (Counts::default(), 0);
        let mut batch = Vec::new();
        loop {
            let more = source.next(self.cx(), &mut batch)?;
            for visit in batch.drain(..) {
                match visit {
                    Visit::Enter(_) => counts.directories += 1,
                    Visit::File(entry, _) => {
                        counts.files += 1;
                        bytes += entry.metadata.size;
                    }
                    Visit::Leaf(entry) if entry.metadata.kind == Kind::Symlink => {
                        counts.symlinks += 1;
                    }
                    Visit::Leaf(_) => counts.specials += 1,
                    Visit::Leave | Visit::Omit(_) => {}
                }
            }
            if !more {
                return Ok((counts, bytes));
            }
        }
    }
}

fn selection(how: &RestoreOptions) -> Selection {
    Selection {
        rules: how.exclude.iter().cloned().map(Rule::Pattern).collect(),
        only: how.only.clone(),
        include: how.include.clone(),
    }
}

fn nothing_chosen(planned: &RestorePlanned) -> Error {
    let what: Vec<String> = planned
        .options
        .only
        .iter()
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .chain(planned.options.include.iter().cloned())
        .collect();
    Error::not_found(format!("`{}` in snapshot {}", what.join("`, `"), planned.from.file))
}
