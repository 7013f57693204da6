//! Whether the repository holds what it says: structure and references, and on demand every byte.

mod forest;
mod lanes;
mod lost;
mod packs;
mod watch;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alidade_entity::{Cx, Step};

use crate::index::Table;
use crate::pack_header::trailer_len;
use crate::touched::Search;
use crate::{
    BlobId, BlobKind, Error, FileId, FileKind, Indexed, Lock, Repository, Result, Snapshot,
    snapshot,
};
use forest::Forest;
use lost::{Blob, Lost};
use packs::Packs;
pub use watch::CheckWatch;

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckOptions {
    /// Reads and hashes packs and every blob in them, too: those that [`CheckWatch::choose`] says.
    pub read_data: bool,
    /// How many threads read packs; each takes 16 MiB for packs, 24 MiB for what is in them, up to 8 MiB
    /// more of each for the last blobs, and 16 MiB for content that waits.
    pub parallel: usize,
}

impl CheckOptions {
    /// Structure and references, and with `read_data` every byte, by two threads.
    #[must_use]
    pub fn new(read_data: bool) -> Self {
        Self { read_data, parallel: 2 }
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FindingClass {
    /// An index file cannot be read; what it named is missing from what was checked.
    Index,
    /// A snapshot cannot be read.
    Snapshot,
    /// A tree cannot be read, or has a node that cannot be.
    Tree,
    /// A file or directory needs a blob that no index names.
    Reference,
    /// A pack that an index names is not there.
    MissingPack,
    /// A pack has another length than the index says.
    PackSize,
    /// A pack, or a blob in it, is not what was written.
    PackContent,
    /// Not damage: a pack was not what was written when it was read first, and was when it was read again. The
    /// way to the store, or the memory of this machine, is not sound.
    Unsteady,
    /// Of damage that was told before: a file or directory of a snapshot that needs what is lost, and
    /// behind them how many there are.
    Touched,
    /// Not damage: no index names this pack. An interrupted run leaves such.
    UnusedPack,
    /// Not damage: several index files name this pack.
    PackNamedTwice,
    /// Not damage: a pack holds data and trees.
    MixedPack,
}

impl FindingClass {
    /// False for what is only untidy.
    #[must_use]
    pub fn is_damage(self) -> bool {
        !matches!(self, Self::Unsteady | Self::UnusedPack | Self::PackNamedTwice | Self::MixedPack)
    }

    /// A word for it in machine-readable output.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Snapshot => "snapshot",
            Self::Tree => "tree",
            Self::Reference => "reference",
            Self::MissingPack => "missing-pack",
            Self::PackSize => "pack-size",
            Self::PackContent => "pack-content",
            Self::Unsteady => "unsteady",
            Self::Touched => "touched",
            Self::UnusedPack => "unused-pack",
            Self::PackNamedTwice => "pack-named-twice",
            Self::MixedPack => "mixed-pack",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub class: FindingClass,
    /// What is concerned, with its id: `pack 1234…`.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
    /// The pack, where one is concerned.
    pub pack: Option<FileId>,
}

impl Finding {
    /// A finding about anything but a pack.
    fn new(class: FindingClass, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { class, what: what.into(), why: why.into(), pack: None }
    }

    /// A finding about a pack.
    fn of_pack(class: FindingClass, pack: FileId, why: impl Into<String>) -> Self {
        Self { pack: Some(pack), ..Self::new(class, format!("pack {pack}"), why) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// What was looked at and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckSummary {
    /// Index files.
    pub index_files: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Packs that are there.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Blobs that the index names, each copy counted.
    pub blobs: u64,
    /// Of these, further copies of a blob.
    pub copies: u64,
    /// Trees that snapshots need, each once.
    pub trees: u64,
    /// Nodes in these trees.
    pub nodes: u64,
    /// Packs that were chosen to be read.
    pub packs_chosen: u64,
    /// Packs that were read whole.
    pub packs_read: u64,
    /// Blobs that were opened and hashed in them.
    pub blobs_read: u64,
    /// Bytes of packs that were read.
    pub bytes_read: u64,
    /// Findings that are damage.
    pub damage: u64,
    /// Findings that are only untidy.
    pub hints: u64,
}

impl Repository {
    /// Looks at everything, as stock restic's check does, and goes on behind what is damaged:
    /// index files against packs with their exact lengths; all snapshots; every tree they need, once;
    /// every blob these need against the index. With [`CheckOptions::read_data`] every pack is read, or those
    /// that `watch` chooses: its hash, its header, and the MAC, compression and hash of every blob.
    ///
    /// A `lock` whose wait for others is not over is checked while the reading goes on; nothing that was
    /// found in trees and packs is told before.
    ///
    /// Memory: 60 bytes for each blob and 100 for each pack, and what [`CheckOptions::parallel`] says.
    ///
    /// # Errors
    /// Only when it cannot go on: the store cannot be listed, the lock does not hold, or the run was told
    /// to stop. Damage is no error but a finding.
    pub fn check(
        self: &Arc<Self>,
        cx: &Cx,
        lock: Option<&Lock>,
        options: CheckOptions,
        watch: &mut dyn CheckWatch,
    ) -> Result<CheckSummary> {
        let (summary, lost) = (CheckSummary::default(), Lost::default());
        let mut check = Check { cx, watch, summary, lost };
        // Snapshots before indexes: what a run that is under way adds is not missed.
        let roots = check.snapshots(self)?;
        let indexed = check.index(self)?;
        let listed = check.packs(&indexed, options.read_data)?;
        let forest = Forest::of(cx, &indexed, &roots);
        let packs = Packs::of(cx, &indexed, &listed);
        check.read(lock, &forest, &packs, options.parallel)?;
        check.touched(&indexed, &roots)?;
        Ok(check.summary)
    }
}

struct Check<'a> {
    cx: &'a Cx,
    watch: &'a mut dyn CheckWatch,
    summary: CheckSummary,
    lost: Lost,
}

/// What a thread has to say.
#[derive(Debug, Default)]
struct Told {
    findings: Vec<Finding>,
    lost: Vec<Blob>,
    /// A pack in which nothing is wrong.
    sound: Option<FileId>,
    trees: u64,
    nodes: u64,
    packs: u64,
    blobs: u64,
    bytes: u64,
}

/// What the index says about a pack, and what the store does.
#[derive(Clone, Copy, Default)]
struct PackFacts {
    /// Bytes it must have; 0 when the index does not name it.
    expected: u64,
    /// Bytes it has; `None` when it is not there.
    actual: Option<u64>,
    /// It is to be read.
    chosen: bool,
    data: bool,
    trees: bool,
}

impl Check<'_> {
    fn tell(&mut self, finding: Finding) {
        match finding.class {
            // What it comes of was counted.
            FindingClass::Touched => {}
            class if class.is_damage() => self.summary.damage += 1,
            _ => self.summary.hints += 1,
        }
        self.watch.found(finding);
    }

    /// The trees of all snapshots.
    fn snapshots(&mut self, repository: &Repository) -> Result<Vec<(FileId, BlobId)>> {
        self.cx.report(Step::Phase("snapshots"));
        let mut trees = Vec::new();
        for (id, _) in repository.files().list(FileKind::Snapshot)? {
            self.cx.check()?;
            match snapshot(repository, &id) {
                Ok(snapshot) => trees.push((id, snapshot.tree)),
                // Somebody forgot it meanwhile.
                Err(Error::NotFound { .. }) => continue,
                Err(error) => {
                    self.tell(finding(FindingClass::Snapshot, &format!("snapshot {id}"), error)?);
                }
            }
            self.summary.snapshots += 1;
        }
        Ok(trees)
    }

    fn index(&mut self, repository: &Arc<Repository>) -> Result<Indexed> {
        self.cx.report(Step::Phase("index"));
        let (mut files, mut last) = (0, None);
        let mut named = HashSet::new();
        let mut notes = Vec::new();
        let cx = self.cx;
        let indexed = Indexed::load_each(Arc::clone(repository), cx, &mut |file, loaded| {
            if last != Some(file) {
                last = Some(file);
                files += 1;
            }
            match loaded {
                Ok(pack) if !named.insert(pack.id) => {
                    let why = format!("index {file} names it, and another one before");
                    notes.push(Finding::of_pack(FindingClass::PackNamedTwice, pack.id, why));
                }
                Ok(_) => {}
                Err(Error::Damaged { what, why }) => {
                    notes.push(Finding::new(FindingClass::Index, what, why));
                }
                Err(error) => {
                    let what = format!("index {file}");
                    notes.push(Finding::new(FindingClass::Index, what, chain(&error)));
                }
            }
            Ok(())
        })?;
        self.summary.index_files = files;
        notes.into_iter().for_each(|finding| self.tell(finding));
        let table = indexed.index().read();
        (self.summary.blobs, self.summary.copies) = (table.len() as u64, table.copies());
        drop(table);
        Ok(indexed)
    }

    /// Compares the packs that are there with those the index names; by number.
    fn packs(&mut self, indexed: &Indexed, read_data: bool) -> Result<Vec<PackFacts>> {
        self.cx.report(Step::Phase("packs"));
        let table = indexed.index().read();
        let mut facts = facts(&table);
        let (packs, bytes) = (&mut self.summary.packs, &mut self.summary.pack_bytes);
        let mut unused = Vec::new();
        indexed.repository().store().list(FileKind::Pack, &mut |name, len| {
            self.cx.check()?;
            *packs += 1;
            *bytes += len;
            let id = name.parse().ok();
            match id.and_then(|id| table.pack_number(&id)) {
                Some(number) => facts[number as usize].actual = Some(len),
                None => unused.push((name.to_owned(), id)),
            }
            Ok(())
        })?;
        if read_data {
            self.choose(&table, &mut facts);
        }
        for (name, pack) in unused {
            let what = format!("pack {name}");
            let finding = Finding::new(FindingClass::UnusedPack, what, "no index names it");
            self.tell(Finding { pack, ..finding });
        }
        for (id, fact) in table.packs().iter().zip(&facts) {
            let mut find = |class, why: String| self.tell(Finding::of_pack(class, *id, why));
            match fact.actual {
                None => find(FindingClass::MissingPack, "it is not there".to_owned()),
                Some(actual) if actual != fact.expected => {
                    let why = format!("it has {actual} bytes, not {}", fact.expected);
                    find(FindingClass::PackSize, why);
                }
                Some(_) => {}
            }
            if fact.data && fact.trees {
                find(FindingClass::MixedPack, "it holds data and trees".to_owned());
            }
        }
        for ordinal in 0..u32::try_from(table.len()).unwrap_or(u32::MAX) {
            let blob = table.found(ordinal).blob;
            let fact = &facts[table.pack_of(ordinal) as usize];
            let end = u64::from(blob.offset) + u64::from(blob.len);
            // What is read whole is judged then.
            let is_gone = fact.actual.is_none_or(|actual| end > actual && !fact.chosen);
            if is_gone {
                self.lost.add((blob.kind, blob.id));
            }
        }
        Ok(facts)
    }

    /// Asks which of the packs that are there are read.
    fn choose(&mut self, table: &Table, facts: &mut [PackFacts]) {
        let packs = table.packs().iter().zip(&*facts);
        let there: Vec<_> = packs.filter_map(|(id, fact)| Some((*id, fact.actual?))).collect();
        let chosen = self.watch.choose(&there);
        for (id, fact) in table.packs().iter().zip(facts) {
            let is_meant = chosen.as_ref().is_none_or(|chosen| chosen.contains(id));
            fact.chosen = fact.actual.is_some() && is_meant;
            self.summary.packs_chosen += u64::from(fact.chosen);
        }
    }

    /// Names what needs something that is lost.
    fn touched(&mut self, indexed: &Indexed, roots: &[(FileId, BlobId)]) -> Result<()> {
        let lost = self.lost.blobs(&indexed.index().read());
        if lost.is_empty() {
            return Ok(());
        }
        self.cx.report(Step::Phase("touched"));
        let is_lost = |kind: BlobKind, id: &BlobId| lost.contains(&(kind, *id));
        let mut search = Search::new(self.cx, indexed, &is_lost);
        for (snapshot, tree) in roots {
            let touched = search.tree(*tree)?;
            let what = format!("snapshot {snapshot}");
            for path in touched.named {
                let why = format!("{} cannot be restored whole", path.escape_ascii());
                self.tell(Finding::new(FindingClass::Touched, &what, why));
            }
            if touched.count > 0 {
                let count = touched.count;
                let why = format!("{count} of its files and directories cannot be restored whole");
                self.tell(Finding::new(FindingClass::Touched, what, why));
            }
        }
        Ok(())
    }

    /// Reads trees, then packs, in several threads.
    fn read(
        &mut self,
        lock: Option<&Lock>,
        forest: &Forest<'_>,
        packs: &Packs<'_>,
        parallel: usize,
    ) -> Result<()> {
        let cx = self.cx;
        cx.report(Step::Phase(if packs.bytes > 0 { "data" } else { "trees" }));
        cx.report(Step::Expect { entries: 0, bytes: packs.bytes });
        let stop = AtomicBool::new(false);
        let (sender, receiver) = crossbeam_channel::unbounded();
        std::thread::scope(|scope| {
            for _ in 0..parallel.max(1) {
                let (sender, stop) = (sender.clone(), &stop);
                scope.spawn(move || {
                    // The other end is gone only when the check has ended.
                    let mut tell =
                        |told: Told| sender.send(Ok(told)).is_ok() && !stop.load(Ordering::Relaxed);
                    let done = forest.read(&mut tell).and_then(|()| packs.read(&mut tell));
                    if let Err(error) = done {
                        drop(sender.send(Err(error)));
                    }
                });
            }
            drop(sender);
            let mut done = lock.map_or(Ok(()), |lock| lock.check(cx));
            stop.store(done.is_err(), Ordering::Relaxed);
            for told in &receiver {
                match told {
                    Ok(told) if done.is_ok() => self.told(told),
                    Ok(_) => {}
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        done = done.and(Err(error));
                    }
                }
            }
            done
        })
    }

    fn told(&mut self, told: Told) {
        let summary = &mut self.summary;
        summary.trees += told.trees;
        summary.nodes += told.nodes;
        summary.packs_read += told.packs;
        summary.blobs_read += told.blobs;
        summary.bytes_read += told.bytes;
        if told.bytes > 0 {
            self.cx.report(Step::Bytes(told.bytes));
        }
        told.sound.into_iter().for_each(|pack| self.watch.is_whole(pack));
        told.lost.into_iter().for_each(|blob| self.lost.add(blob));
        told.findings.into_iter().for_each(|finding| self.tell(finding));
    }
}

/// What failed, as a finding, unless the run is to stop.
fn finding(class: FindingClass, what: &str, error: Error) -> Result<Finding> {
    match error {
        Error::Cancelled => Err(Error::Cancelled),
        Error::Damaged { what, why } => Ok(Finding::new(class, what, why)),
        other => Ok(Finding::new(class, what, chain(&other))),
    }
}

fn snapshot(repository: &Repository, id: &FileId) -> Result<Snapshot> {
    let json = repository.files().read(FileKind::Snapshot, id, snapshot::MAX_LEN)?;
    Snapshot::decode(&json).map_err(|error| error.of(format!("snapshot {id}")))
}

/// What the index says about every pack, by number.
fn facts(table: &Table) -> Vec<PackFacts> {
    let empty = PackFacts { expected: trailer_len([]), ..PackFacts::default() };
    let mut facts = vec![empty; table.packs().len()];
    for ordinal in 0..u32::try_from(table.len()).unwrap_or(u32::MAX) {
        let blob = table.found(ordinal).blob;
        let fact = &mut facts[table.pack_of(ordinal) as usize];
        fact.expected += u64::from(blob.len) + blob.encoded_len() as u64;
        match blob.kind {
            BlobKind::Data => fact.data = true,
            BlobKind::Tree => fact.trees = true,
        }
    }
    facts
}

/// The message of an error and those of its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
