use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alidade_entity::{
    Base, Basis, Capability, Class, CopyOptions, Cursor, Cx, Delete, DiskSink, DiskSource, Ending,
    Error, Extent, Lease, Page, Params, ProtectedEntity, ProtectedEntityType, ReadOptions, Reading,
    RestorePlan, Result, Sink, SinkEnding, Source,
};
use alidade_model::{
    Component, Consistency, ContentName, EntityId, EntityInfo, ObjectId, RunId, Shape, SnapshotId,
    TypeName,
};
use async_trait::async_trait;

use super::shelf::{Shelf, absent, object, snapshot, unsupported};

/// Bytes of a cell, the unit in which changes are tracked.
const CELL: usize = 4_096;
/// Extents per call: few, so that callers meet the second call.
const BATCH: usize = 3;
/// The parameter in which a plan carries the size of the disk to be made.
const SIZE: &str = "size";

/// Disks in memory that know which cells changed since when, and freeze in groups.
///
/// Stricter than a disk: writing to one that a run holds frozen panics, as does writing beyond the end of
/// a new one or after its `finish`. A disk that was created is there from `finish` on.
#[derive(Clone, Debug)]
pub struct ChangedBlockDisk {
    type_name: TypeName,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    shelf: Shelf<Disk>,
    runs: BTreeMap<RunId, Vec<(ObjectId, SnapshotId)>>,
    /// Counts disks, so that the bases of one are not taken for those of another of the same name.
    made: u64,
}

#[derive(Clone, Debug)]
struct Disk {
    number: u64,
    now: Cells,
    snapshots: Vec<(SnapshotId, Cells)>,
    held_by: BTreeSet<RunId>,
}

/// The cells of a disk at one time. Cheap to clone where it counts: cells are shared.
#[derive(Clone, Debug)]
struct Cells {
    size: u64,
    generation: u64,
    cells: Vec<Cell>,
}

#[derive(Clone, Debug, Default)]
struct Cell {
    /// The generation in which it was written last.
    written: u64,
    bytes: Option<Arc<[u8]>>,
}

impl Default for ChangedBlockDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl ChangedBlockDisk {
    /// The type `cbd`, without disks.
    #[must_use]
    pub fn new() -> Self {
        let shelf = Shelf::new("cbd");
        let type_name = shelf.type_name.clone();
        let state = State { shelf, runs: BTreeMap::new(), made: 0 };
        Self { type_name, state: Arc::new(Mutex::new(state)) }
    }

    /// Adds an empty disk of so many bytes, and says its id.
    pub fn add(&self, object: &ObjectId, size: u64) -> EntityId {
        self.lock().add(object, Cells::empty(size))
    }

    /// Writes to a disk, as its user does.
    ///
    /// # Panics
    /// When there is no such disk, the range goes beyond its end, or a run holds it frozen.
    pub fn write(&self, id: &EntityId, at: u64, data: &[u8]) {
        let mut state = self.lock();
        let disk = state.shelf.get_mut(id).expect("the disk that is written exists");
        assert!(disk.held_by.is_empty(), "{id} is written while {:?} hold it", disk.held_by);
        disk.now.generation += 1;
        disk.now.write(at, data);
    }

    /// Gives a range back: it reads as zeros, and cells that lie in it whole have no storage.
    ///
    /// # Panics
    /// As [`ChangedBlockDisk::write`].
    pub fn discard(&self, id: &EntityId, range: Range<u64>) {
        let mut state = self.lock();
        let disk = state.shelf.get_mut(id).expect("the disk that is written exists");
        assert!(disk.held_by.is_empty(), "{id} is written while {:?} hold it", disk.held_by);
        disk.now.generation += 1;
        disk.now.zero(range.start, range.end - range.start);
    }

    /// The runs that hold a disk frozen.
    #[must_use]
    pub fn held_by(&self, id: &EntityId) -> BTreeSet<RunId> {
        self.lock().shelf.get(id).map(|disk| disk.held_by.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, object: &ObjectId, cells: Cells) -> EntityId {
        self.made += 1;
        let disk =
            Disk { number: self.made, now: cells, snapshots: Vec::new(), held_by: BTreeSet::new() };
        self.shelf.things.insert(object.clone(), disk);
        self.shelf.name(object).live()
    }

    /// The disk's number and its cells, now or frozen.
    fn cells(&self, id: &EntityId) -> Result<(u64, Cells)> {
        let disk = self.shelf.get(id)?;
        let cells = match &id.snapshot {
            None => &disk.now,
            Some(wanted) => {
                let found = disk.snapshots.iter().find(|(name, _)| name == wanted);
                &found.ok_or_else(|| absent(id))?.1
            }
        };
        Ok((disk.number, cells.clone()))
    }

    fn freeze(&mut self, ids: &[EntityId], run: &RunId) -> Result<Vec<SnapshotId>> {
        if let Some(frozen) = self.runs.get(run) {
            let same =
                frozen.iter().map(|(object, _)| object).eq(ids.iter().map(|id| &id.name.object));
            if !same {
                let attempt = format!("freeze other disks under the run {run}");
                return Err(Error::new(Class::Conflict, attempt));
            }
            return Ok(frozen.iter().map(|(_, name)| name.clone()).collect());
        }
        // All or nothing: a group of which a part is missing leaves no trace.
        for id in ids {
            self.cells(id)?;
        }
        let mut frozen = Vec::new();
        for id in ids {
            let disk = self.shelf.get_mut(id)?;
            let name = snapshot(&format!("{run}.{}", disk.now.generation));
            disk.held_by.insert(run.clone());
            disk.snapshots.push((name.clone(), disk.now.clone()));
            frozen.push((id.name.object.clone(), name));
        }
        let names = frozen.iter().map(|(_, name)| name.clone()).collect();
        self.runs.insert(run.clone(), frozen);
        Ok(names)
    }
}

impl Cells {
    fn empty(size: u64) -> Self {
        let count = usize::try_from(size).expect("a disk in memory is smaller than memory");
        Self { size, generation: 1, cells: vec![Cell::default(); count.div_ceil(CELL)] }
    }

    fn range(&self, at: u64, len: usize) -> Option<Range<usize>> {
        let end = at.checked_add(len as u64).filter(|end| *end <= self.size)?;
        Some(usize::try_from(at).ok()?..usize::try_from(end).ok()?)
    }

    fn write(&mut self, at: u64, data: &[u8]) {
        let range = self.range(at, data.len()).expect("a write stays within the disk");
        let mut at = range.start;
        let mut rest = data;
        while !rest.is_empty() {
            let (inside, here) = (at % CELL, rest.len().min(CELL - at % CELL));
            let cell = &mut self.cells[at / CELL];
            cell.written = self.generation;
            let mut bytes = cell.bytes.as_deref().map_or_else(|| vec![0; CELL], <[u8]>::to_vec);
            bytes[inside..inside + here].copy_from_slice(&rest[..here]);
            cell.bytes = Some(bytes.into());
            at += here;
            rest = &rest[here..];
        }
    }

    fn zero(&mut self, at: u64, len: u64) {
        let len = usize::try_from(len).expect("a range of a disk in memory fits memory");
        let range = self.range(at, len).expect("a discard stays within the disk");
        let mut at = range.start;
        while at < range.end {
            let here = (range.end - at).min(CELL - at % CELL);
            if here == CELL
                || at + here == range.end
                    && range.end as u64 == self.size
                    && at.is_multiple_of(CELL)
            {
                self.cells[at / CELL] = Cell { written: self.generation, bytes: None };
            } else {
                self.write(at as u64, &vec![0; here]);
            }
            at += here;
        }
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> Result<()> {
        let range = self.range(at, buf.len()).ok_or_else(|| {
            Error::new(Class::Failed, format!("read {} bytes at {at} of {}", buf.len(), self.size))
        })?;
        for (offset, byte) in range.zip(buf) {
            *byte = self.cells[offset / CELL].bytes.as_ref().map_or(0, |cell| cell[offset % CELL]);
        }
        Ok(())
    }
}

#[async_trait]
impl ProtectedEntityType for ChangedBlockDisk {
    fn name(&self) -> &TypeName {
        &self.type_name
    }

    fn capability(&self) -> Capability {
        Capability {
            snapshot: true,
            group: true,
            changed_blocks: true,
            in_place: false,
            delete: true,
            create: true,
        }
    }

    async fn list(&self, cx: &Cx, after: Option<&Cursor>, limit: usize) -> Result<Page<EntityId>> {
        self.lock().shelf.list(cx, after, limit)
    }

    async fn open(&self, cx: &Cx, id: &EntityId) -> Result<Arc<dyn ProtectedEntity>> {
        cx.check()?;
        self.lock().cells(id)?;
        Ok(Arc::new(OneDisk { id: id.clone(), kind: self.clone() }))
    }

    async fn freeze(
        &self,
        cx: &Cx,
        ids: &[EntityId],
        run: &RunId,
        params: &Params,
    ) -> Result<Vec<SnapshotId>> {
        cx.check()?;
        if let Some(name) = params.keys().next() {
            return Err(unsupported(&format!("freeze with the parameter `{name}`")));
        }
        self.lock().freeze(ids, run)
    }

    async fn release(&self, _cx: &Cx, run: &RunId) -> Result<()> {
        for disk in self.lock().shelf.things.values_mut() {
            disk.held_by.remove(run);
        }
        Ok(())
    }

    async fn plan(
        &self,
        cx: &Cx,
        from: &dyn ProtectedEntity,
        how: &CopyOptions,
    ) -> Result<RestorePlan> {
        let target = object(how.target.as_deref().unwrap_or_default())?;
        if self.lock().shelf.things.contains_key(&target) {
            return Err(Error::new(Class::Conflict, format!("create the disk {target}")));
        }
        let size =
            from.info(cx).await?.size.ok_or_else(|| unsupported("create a disk of no size"))?;
        let mut options = how.clone();
        options.params.insert(SIZE.to_owned(), size.to_string());
        let steps = vec![format!("create the disk {target} of {size} bytes")];
        Ok(RestorePlan { from: from.id().clone(), options, steps })
    }

    async fn sink(&self, _cx: &Cx, plan: &RestorePlan) -> Result<Sink> {
        let target = object(plan.options.target.as_deref().unwrap_or_default())?;
        let size = plan.options.params.get(SIZE).and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| unsupported("create a disk of no size"))?;
        let cells = Mutex::new(Some(Cells::empty(size)));
        Ok(Sink::Disk(Box::new(NewDisk { kind: self.clone(), target, cells })))
    }
}

struct OneDisk {
    id: EntityId,
    kind: ChangedBlockDisk,
}

#[async_trait]
impl ProtectedEntity for OneDisk {
    fn id(&self) -> &EntityId {
        &self.id
    }

    async fn info(&self, _cx: &Cx) -> Result<EntityInfo> {
        let (_, cells) = self.kind.lock().cells(&self.id)?;
        let name = self.id.name.object.as_str().to_owned();
        let contents = vec![(ContentName::data(), Shape::Disk)];
        Ok(EntityInfo { id: self.id.clone(), name, size: Some(cells.size), contents })
    }

    async fn components(&self, _cx: &Cx) -> Result<Vec<Component>> {
        Ok(Vec::new())
    }

    async fn snapshots(&self, _cx: &Cx) -> Result<Vec<SnapshotId>> {
        let state = self.kind.lock();
        let disk = state.shelf.get(&self.id)?;
        Ok(disk.snapshots.iter().map(|(name, _)| name.clone()).collect())
    }

    async fn delete(&self, _cx: &Cx, what: Delete) -> Result<()> {
        let mut state = self.kind.lock();
        match what {
            Delete::Entity => {
                state.shelf.things.remove(&self.id.name.object);
            }
            Delete::Snapshot(wanted) => {
                if let Some(disk) = state.shelf.things.get_mut(&self.id.name.object) {
                    disk.snapshots.retain(|(name, _)| *name != wanted);
                }
            }
        }
        Ok(())
    }

    async fn read(&self, cx: &Cx, what: &ContentName, how: &ReadOptions) -> Result<Reading> {
        cx.check()?;
        if *what != ContentName::data() {
            return Err(Error::new(Class::NotFound, format!("find the content `{what}`")));
        }
        let (number, cells) = self.kind.lock().cells(&self.id)?;
        let since = how.base.as_ref().and_then(|base| generation(base, number));
        let basis = match (&how.base, since) {
            (Some(base), Some(_)) => Basis::Since(base.clone()),
            (Some(_), None) => Basis::Full { why: "the base is not of this disk".to_owned() },
            (None, _) => Basis::Full { why: "no base was given".to_owned() },
        };
        let next = Base(format!("{number} {}", cells.generation).into_bytes());
        Ok(Reading {
            source: Source::Disk(Box::new(Image { cells, since })),
            basis,
            lease: Box::new(Held { next }),
        })
    }
}

/// The generation a base stands for, if it is one of that disk.
fn generation(base: &Base, number: u64) -> Option<u64> {
    let text = std::str::from_utf8(&base.0).ok()?;
    let (disk, generation) = text.split_once(' ')?;
    (disk.parse() == Ok(number)).then(|| generation.parse().ok()).flatten()
}

struct Held {
    next: Base,
}

impl Lease for Held {
    fn finish(self: Box<Self>) -> Result<Ending> {
        Ok(Ending { next: Some(self.next), ..Ending::of(Consistency::Crash) })
    }
}

struct Image {
    cells: Cells,
    since: Option<u64>,
}

impl DiskSource for Image {
    fn size(&self) -> u64 {
        self.cells.size
    }

    fn extents(&self, cx: &Cx, from: u64, out: &mut Vec<Extent>) -> Result<()> {
        cx.check()?;
        let first = usize::try_from(from / CELL as u64).unwrap_or(usize::MAX);
        // What begins behind the end has nothing of the last cell.
        let first = if from < self.cells.size { first } else { usize::MAX };
        let cells = self.cells.cells.iter().enumerate().skip(first);
        let listed = cells.filter(|(_, cell)| self.since.is_none_or(|since| cell.written > since));
        // One extent a cell: callers may join them, and must not need to.
        out.extend(listed.take(BATCH).map(|(number, cell)| {
            let begins = (number * CELL) as u64;
            let (at, end) = (begins.max(from), (begins + CELL as u64).min(self.cells.size));
            Extent { at, len: end - at, allocated: cell.bytes.is_some() }
        }));
        Ok(())
    }

    fn read_at(&self, cx: &Cx, at: u64, buf: &mut [u8]) -> Result<()> {
        cx.check()?;
        self.cells.read(at, buf)
    }
}

struct NewDisk {
    kind: ChangedBlockDisk,
    target: ObjectId,
    /// `None` once it was finished.
    cells: Mutex<Option<Cells>>,
}

impl NewDisk {
    fn change(&self, cx: &Cx, change: impl FnOnce(&mut Cells)) -> Result<()> {
        cx.check()?;
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        change(cells.as_mut().expect("nothing is written to a disk that was finished"));
        Ok(())
    }
}

impl DiskSink for NewDisk {
    fn read_at(&self, cx: &Cx, at: u64, buf: &mut [u8]) -> Result<()> {
        cx.check()?;
        let cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells.as_ref().expect("nothing is read of a disk that was finished").read(at, buf)
    }

    fn write_at(&self, cx: &Cx, at: u64, data: &[u8]) -> Result<()> {
        self.change(cx, |cells| cells.write(at, data))
    }

    fn zero(&self, cx: &Cx, at: u64, len: u64) -> Result<()> {
        self.change(cx, |cells| cells.zero(at, len))
    }

    fn finish(&self, cx: &Cx) -> Result<SinkEnding> {
        cx.check()?;
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let cells = cells.take().expect("a disk is finished once");
        self.kind.lock().add(&self.target, cells);
        Ok(SinkEnding::default())
    }
}
