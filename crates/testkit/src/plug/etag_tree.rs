// long: one plug with its source, its files and its sink, which share what the tree may hold
use std::collections::{BTreeMap, btree_map};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alidade_entity::{
    Basis, Capability, Carrier, Class, CopyOptions, Cursor, Cx, Delete, Ending, EntryEnd, EntryNo,
    Error, Lease, OpenFile, Page, Params, Piece, Place, ProtectedEntity, ProtectedEntityType,
    ReadFile, ReadOptions, Reading, RestorePlan, Result, Sink, SinkEnding, Source, Span, TreeSink,
    TreeSource, Verdict, Visit, Want,
};
use alidade_model::{
    Component, Consistency, ContentName, EntityId, EntityInfo, Entry, Exclusions, Hole, Kind,
    Metadata, ObjectId, Omission, Rule, RunId, Selection, Shape, SnapshotId, Time, TypeName,
    Version,
};
use async_trait::async_trait;

use super::shelf::{Shelf, absent, live_only, object, unsupported};
use super::strict::StrictTreeSink;

/// Visits per step: few, so that callers meet the second step.
const BATCH: usize = 3;
/// Bytes per piece: few and odd, so that callers meet the second piece.
const PIECE: usize = 10_007;

/// A part of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes.
    Data(Vec<u8>),
    /// So many bytes without storage.
    Hole(u64),
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Self::Data(bytes) => bytes.len() as u64,
            Self::Hole(len) => *len,
        }
    }
}

/// Something in a tree, as it is put there.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, any bytes but `/` and NUL.
    pub name: Vec<u8>,
    /// Its metadata; the size is that of its parts.
    pub metadata: Metadata,
    /// The parts of a file, else empty.
    pub parts: Vec<Part>,
    /// What is in a directory, in any order, else empty.
    pub nodes: Vec<Node>,
}

impl Node {
    /// A directory.
    #[must_use]
    pub fn directory(name: &[u8], nodes: Vec<Self>) -> Self {
        Self { nodes, ..Self::of(name, Kind::Directory, 0o755) }
    }

    /// A file.
    #[must_use]
    pub fn file(name: &[u8], parts: Vec<Part>) -> Self {
        Self { parts, ..Self::of(name, Kind::File, 0o644) }
    }

    /// A symlink.
    #[must_use]
    pub fn symlink(name: &[u8], target: &[u8]) -> Self {
        let mut node = Self::of(name, Kind::Symlink, 0o777);
        node.metadata.link_target = target.to_vec();
        node
    }

    fn of(name: &[u8], kind: Kind, mode: u32) -> Self {
        let mut metadata = Metadata::of(kind, mode);
        metadata.mtime = Time::new(1_700_000_000, 1);
        metadata.ctime = metadata.mtime;
        Self { name: name.to_vec(), metadata, parts: Vec::new(), nodes: Vec::new() }
    }
}

/// What happens to a file the next time it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Surprise {
    Vanishes,
    Changes,
    Grows,
}

/// Trees in memory whose files carry an etag, a new one whenever they are written, as objects in a
/// bucket do. Files can be told to vanish, change or grow between the walk and the end of reading.
///
/// Stricter than a bucket: its sink panics when it is called against its order, and a tree that was
/// created is there from `finish` on and not before.
#[derive(Clone, Debug)]
pub struct EtagTree {
    type_name: TypeName,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    shelf: Shelf<Level>,
    /// Counts writes.
    etags: u64,
}

type Level = BTreeMap<Vec<u8>, Stored>;

#[derive(Clone, Debug)]
struct Stored {
    metadata: Metadata,
    etag: u64,
    parts: Arc<[Part]>,
    level: Level,
    surprises: Vec<Surprise>,
}

impl Default for EtagTree {
    fn default() -> Self {
        Self::new()
    }
}

impl EtagTree {
    /// The type `etag`, without trees.
    #[must_use]
    pub fn new() -> Self {
        let shelf = Shelf::new("etag");
        let type_name = shelf.type_name.clone();
        Self { type_name, state: Arc::new(Mutex::new(State { shelf, etags: 0 })) }
    }

    /// Adds a tree, and says its id.
    ///
    /// # Panics
    /// When a name is no path component or appears twice in its directory.
    pub fn add(&self, object: &ObjectId, nodes: Vec<Node>) -> EntityId {
        self.lock().add(object, nodes)
    }

    /// Lets the file at `path` be gone when it is opened.
    ///
    /// # Panics
    /// When it is not there.
    pub fn vanishes(&self, id: &EntityId, path: &[&[u8]]) {
        self.surprise(id, path, Surprise::Vanishes);
    }

    /// Lets the file at `path` change while it is read the next time; call it twice for two times.
    ///
    /// # Panics
    /// When it is not there.
    pub fn changes_while_read(&self, id: &EntityId, path: &[&[u8]]) {
        self.surprise(id, path, Surprise::Changes);
    }

    /// Lets the file at `path` grow while it is read the next time.
    ///
    /// # Panics
    /// When it is not there.
    pub fn grows_while_read(&self, id: &EntityId, path: &[&[u8]]) {
        self.surprise(id, path, Surprise::Grows);
    }

    fn surprise(&self, id: &EntityId, path: &[&[u8]], surprise: Surprise) {
        let path: Vec<_> = path.iter().map(|name| name.to_vec()).collect();
        let mut state = self.lock();
        let file = state.find(id, &path).expect("the file that is to surprise exists");
        file.surprises.insert(0, surprise);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, object: &ObjectId, nodes: Vec<Node>) -> EntityId {
        let level = self.level(nodes);
        self.shelf.things.insert(object.clone(), level);
        self.shelf.name(object).live()
    }

    fn level(&mut self, nodes: Vec<Node>) -> Level {
        let mut level = Level::new();
        for node in nodes {
            let Node { name, mut metadata, parts, nodes } = node;
            let component = !name.is_empty() && name.iter().all(|byte| !matches!(byte, b'/' | 0));
            assert!(component, "`{}` is no path component", name.escape_ascii());
            metadata.size = parts.iter().map(Part::len).sum();
            self.etags += 1;
            let etag = self.etags;
            let level_below = self.level(nodes);
            let surprises = Vec::new();
            let stored =
                Stored { metadata, etag, parts: parts.into(), level: level_below, surprises };
            let twice = level.insert(name.clone(), stored).is_some();
            assert!(!twice, "`{}` is there twice", name.escape_ascii());
        }
        level
    }

    fn find(&mut self, id: &EntityId, path: &[Vec<u8>]) -> Option<&mut Stored> {
        let (name, above) = path.split_last()?;
        let mut level = self.shelf.get_mut(id).ok()?;
        for name in above {
            level = &mut level.get_mut(name)?.level;
        }
        level.get_mut(name)
    }

    /// Rewrites a file, as somebody else would.
    fn rewrite(&mut self, id: &EntityId, path: &[Vec<u8>], surprise: Surprise) {
        self.etags += 1;
        let etag = self.etags;
        let Some(file) = self.find(id, path) else { return };
        let mut parts = file.parts.to_vec();
        match surprise {
            Surprise::Vanishes => {}
            Surprise::Grows => parts.push(Part::Data(b"more".to_vec())),
            Surprise::Changes => {
                for part in &mut parts {
                    if let Part::Data(bytes) = part {
                        bytes.iter_mut().for_each(|byte| *byte = !*byte);
                    }
                }
                parts.insert(0, Part::Data(b"changed".to_vec()));
            }
        }
        file.etag = etag;
        file.metadata.size = parts.iter().map(Part::len).sum();
        file.metadata.mtime.nanos += 1;
        file.parts = parts.into();
    }
}

fn entry(name: &[u8], stored: &Stored) -> Entry {
    let version = match stored.metadata.kind {
        Kind::File => Version::Marker(format!("etag-{}", stored.etag).into_bytes()),
        _ => Version::Unknown,
    };
    Entry { name: name.to_vec(), metadata: stored.metadata.clone(), version }
}

#[async_trait]
impl ProtectedEntityType for EtagTree {
    fn name(&self) -> &TypeName {
        &self.type_name
    }

    fn capability(&self) -> Capability {
        Capability { delete: true, create: true, ..Capability::default() }
    }

    async fn list(&self, cx: &Cx, after: Option<&Cursor>, limit: usize) -> Result<Page<EntityId>> {
        self.lock().shelf.list(cx, after, limit)
    }

    async fn open(&self, cx: &Cx, id: &EntityId) -> Result<Arc<dyn ProtectedEntity>> {
        cx.check()?;
        live_only(id)?;
        self.lock().shelf.get(id)?;
        Ok(Arc::new(Bucket { id: id.clone(), kind: self.clone() }))
    }

    async fn freeze(
        &self,
        _cx: &Cx,
        _ids: &[EntityId],
        _run: &RunId,
        _params: &Params,
    ) -> Result<Vec<SnapshotId>> {
        Err(unsupported("freeze a tree"))
    }

    async fn release(&self, _cx: &Cx, _run: &RunId) -> Result<()> {
        Ok(())
    }

    async fn plan(
        &self,
        _cx: &Cx,
        from: &dyn ProtectedEntity,
        how: &CopyOptions,
    ) -> Result<RestorePlan> {
        let target = object(how.target.as_deref().unwrap_or_default())?;
        if self.lock().shelf.things.contains_key(&target) {
            return Err(Error::new(Class::Conflict, format!("create the tree {target}")));
        }
        let steps = vec![format!("create the tree {target}")];
        Ok(RestorePlan { from: from.id().clone(), options: how.clone(), steps })
    }

    async fn sink(&self, _cx: &Cx, plan: &RestorePlan) -> Result<Sink> {
        let target = object(plan.options.target.as_deref().unwrap_or_default())?;
        let sink = NewTree { kind: self.clone(), target, begun: Mutex::default() };
        Ok(Sink::Tree(Box::new(StrictTreeSink::new(sink))))
    }
}

struct Bucket {
    id: EntityId,
    kind: EtagTree,
}

#[async_trait]
impl ProtectedEntity for Bucket {
    fn id(&self) -> &EntityId {
        &self.id
    }

    async fn info(&self, _cx: &Cx) -> Result<EntityInfo> {
        let name = self.id.name.object.as_str().to_owned();
        let contents = vec![(ContentName::data(), Shape::Tree)];
        Ok(EntityInfo { id: self.id.clone(), name, size: None, contents })
    }

    async fn components(&self, _cx: &Cx) -> Result<Vec<Component>> {
        Ok(Vec::new())
    }

    async fn snapshots(&self, _cx: &Cx) -> Result<Vec<SnapshotId>> {
        Ok(Vec::new())
    }

    async fn delete(&self, _cx: &Cx, what: Delete) -> Result<()> {
        match what {
            // There are none, and deleting what is absent is fine.
            Delete::Snapshot(_) => {}
            Delete::Entity => {
                self.kind.lock().shelf.things.remove(&self.id.name.object);
            }
        }
        Ok(())
    }

    async fn read(&self, cx: &Cx, what: &ContentName, how: &ReadOptions) -> Result<Reading> {
        cx.check()?;
        if *what != ContentName::data() {
            return Err(Error::new(Class::NotFound, format!("find the content `{what}`")));
        }
        let largest = selected(&how.selection)?;
        let level = self.kind.lock().shelf.get(&self.id).map_err(|_gone| absent(&self.id))?.clone();
        let why = match how.base {
            None => "no base was given",
            Some(_) => "a tree of etags is compared by its etags",
        };
        let excluded = Arc::new(Mutex::new(Exclusions::new()));
        let walk = Walk {
            kind: self.kind.clone(),
            id: self.id.clone(),
            path: Vec::new(),
            levels: vec![level.into_iter()],
            largest,
            excluded: excluded.clone(),
        };
        Ok(Reading {
            source: Source::Tree(Box::new(walk)),
            basis: Basis::Full { why: why.to_owned() },
            lease: Box::new(Open { excluded }),
        })
    }
}

/// The size above which files are left out. Rules that are about hosts mean nothing here; those about
/// names are not known, and refused rather than ignored.
fn selected(selection: &Selection) -> Result<Option<u64>> {
    if !selection.only.is_empty() {
        return Err(unsupported("read a part of a tree of etags"));
    }
    let mut largest = None;
    for rule in &selection.rules {
        match rule {
            Rule::LargerThan(size) => largest = Some(*size),
            Rule::OneFileSystem | Rule::Own { .. } => {}
            rule => return Err(unsupported(&format!("exclude by the rule `{}`", rule.name()))),
        }
    }
    Ok(largest)
}

struct Open {
    excluded: Arc<Mutex<Exclusions>>,
}

impl Lease for Open {
    fn finish(self: Box<Self>) -> Result<Ending> {
        let excluded = self.excluded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Ending { excluded, ..Ending::of(Consistency::PerFile) })
    }
}

struct Walk {
    kind: EtagTree,
    id: EntityId,
    path: Vec<Vec<u8>>,
    /// What is left of each level; empty once the top is done.
    levels: Vec<btree_map::IntoIter<Vec<u8>, Stored>>,
    largest: Option<u64>,
    excluded: Arc<Mutex<Exclusions>>,
}

impl Walk {
    fn step(&mut self) -> Option<Visit> {
        loop {
            let Some((name, stored)) = self.levels.last_mut()?.next() else {
                self.levels.pop();
                return self.path.pop().map(|_left| Visit::Leave);
            };
            let size = stored.metadata.size;
            if let Some(largest) = self.largest.filter(|largest| size > *largest) {
                let rule = Rule::LargerThan(largest).name();
                let mut excluded = self.excluded.lock().unwrap_or_else(PoisonError::into_inner);
                *excluded.entry(rule).or_insert(0) += 1;
                continue;
            }
            let entry = entry(&name, &stored);
            return Some(match entry.metadata.kind {
                Kind::Directory => {
                    self.path.push(name);
                    self.levels.push(stored.level.into_iter());
                    Visit::Enter(entry)
                }
                Kind::File => {
                    let path = self.path.iter().chain([&name]).cloned().collect();
                    let (kind, id) = (self.kind.clone(), self.id.clone());
                    Visit::File(entry, Box::new(Object { kind, id, path }))
                }
                _ => Visit::Leaf(entry),
            });
        }
    }
}

impl TreeSource for Walk {
    fn trail(&self) -> &[Entry] {
        &[]
    }

    fn next(&mut self, cx: &Cx, out: &mut Vec<Visit>) -> Result<bool> {
        cx.check()?;
        for _ in 0..BATCH {
            match self.step() {
                Some(visit) => out.push(visit),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

struct Object {
    kind: EtagTree,
    id: EntityId,
    path: Vec<Vec<u8>>,
}

impl Object {
    fn absent(&self) -> Error {
        let path = self.path.join(&b'/');
        Error::new(Class::NotFound, format!("open the object {}", path.escape_ascii()))
    }
}

impl OpenFile for Object {
    fn has_spans(&self) -> bool {
        true
    }

    fn open(
        &self,
        cx: &Cx,
        _shelf: &mut alidade_entity::Shelf,
        span: Span,
    ) -> Result<Box<dyn ReadFile>> {
        cx.check()?;
        let mut state = self.kind.lock();
        let file = state.find(&self.id, &self.path).ok_or_else(|| self.absent())?;
        if file.surprises.last() == Some(&Surprise::Vanishes) {
            return Err(self.absent());
        }
        Ok(Box::new(ReadObject {
            kind: self.kind.clone(),
            id: self.id.clone(),
            path: self.path.clone(),
            metadata: file.metadata.clone(),
            etag: file.etag,
            surprise: file.surprises.pop(),
            happened: None,
            parts: clipped(&file.parts, span),
            part: 0,
            inside: 0,
            at: span.from,
        }))
    }

    fn holes(&self, cx: &Cx) -> Result<Vec<Hole>> {
        cx.check()?;
        let mut state = self.kind.lock();
        let file = state.find(&self.id, &self.path).ok_or_else(|| self.absent())?;
        let mut holes = Vec::new();
        let mut at = 0;
        for part in file.parts.iter() {
            if let Part::Hole(len) = part {
                holes.push(Hole { at, len: *len });
            }
            at += part.len();
        }
        Ok(holes)
    }
}

/// What of the parts lies in the span.
fn clipped(parts: &Arc<[Part]>, span: Span) -> Arc<[Part]> {
    if span == Span::WHOLE {
        return Arc::clone(parts);
    }
    let mut at = 0;
    let mut inside = Vec::new();
    for part in parts.iter() {
        let (from, to) = (span.from.max(at), span.to.min(at + part.len()));
        if from < to {
            let index = |place: u64| usize::try_from(place - at).expect("a part is in memory");
            inside.push(match part {
                Part::Hole(_) => Part::Hole(to - from),
                Part::Data(bytes) => Part::Data(bytes[index(from)..index(to)].to_vec()),
            });
        }
        at += part.len();
    }
    inside.into()
}

struct ReadObject {
    kind: EtagTree,
    id: EntityId,
    path: Vec<Vec<u8>>,
    metadata: Metadata,
    etag: u64,
    surprise: Option<Surprise>,
    happened: Option<Surprise>,
    parts: Arc<[Part]>,
    part: usize,
    inside: usize,
    at: u64,
}

impl ReadFile for ReadObject {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn next_piece(&mut self, cx: &Cx, buf: &mut Vec<u8>) -> Result<Option<Piece>> {
        cx.check()?;
        buf.clear();
        if let Some(surprise) = self.surprise.take() {
            self.happened = Some(surprise);
            self.kind.lock().rewrite(&self.id, &self.path, surprise);
        }
        let at = self.at;
        loop {
            let Some(part) = self.parts.get(self.part) else { return Ok(None) };
            match part {
                Part::Data(bytes) if self.inside < bytes.len() => {
                    let rest = &bytes[self.inside..];
                    buf.extend_from_slice(&rest[..rest.len().min(PIECE)]);
                    self.inside += buf.len();
                    self.at += buf.len() as u64;
                    return Ok(Some(Piece::Data { at }));
                }
                Part::Hole(len) if *len > 0 => {
                    self.part += 1;
                    self.at += len;
                    return Ok(Some(Piece::Hole(Hole { at, len: *len })));
                }
                Part::Data(_) | Part::Hole(_) => {
                    self.part += 1;
                    self.inside = 0;
                }
            }
        }
    }

    fn finish(self: Box<Self>) -> Result<Verdict> {
        let mut state = self.kind.lock();
        let etag = state.find(&self.id, &self.path).map(|file| file.etag);
        Ok(match self.happened {
            _ if etag == Some(self.etag) => Verdict::Steady,
            Some(Surprise::Grows) => Verdict::Grew,
            _ => Verdict::Changed,
        })
    }
}

struct NewTree {
    kind: EtagTree,
    target: ObjectId,
    begun: Mutex<BTreeMap<EntryNo, Begun>>,
}

struct Begun {
    parent: Option<EntryNo>,
    name: Vec<u8>,
    metadata: Metadata,
    /// By where they begin.
    parts: BTreeMap<u64, Part>,
    abandoned: bool,
}

impl NewTree {
    fn with<T>(&self, cx: &Cx, no: EntryNo, change: impl FnOnce(&mut Begun) -> T) -> Result<T> {
        cx.check()?;
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(change(begun.get_mut(&no).expect("the order of calls was checked")))
    }
}

/// Takes what is in `parent` out of `begun`.
fn nodes(begun: &mut BTreeMap<EntryNo, Begun>, parent: Option<EntryNo>) -> Vec<Node> {
    let inside: Vec<EntryNo> =
        begun.iter().filter(|(_, entry)| entry.parent == parent).map(|(no, _)| *no).collect();
    let mut out = Vec::new();
    for no in inside {
        let Some(entry) = begun.remove(&no).filter(|entry| !entry.abandoned) else { continue };
        let Begun { name, metadata, parts, .. } = entry;
        let parts = parts.into_values().collect();
        out.push(Node { name, metadata, parts, nodes: nodes(begun, Some(no)) });
    }
    out
}

impl TreeSink for NewTree {
    fn begin(&self, cx: &Cx, place: Place, entry: &Entry) -> Result<Want> {
        cx.check()?;
        let begun = Begun {
            parent: place.parent,
            name: entry.name.clone(),
            metadata: entry.metadata.clone(),
            parts: BTreeMap::new(),
            abandoned: false,
        };
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(place.no, begun);
        let file = entry.metadata.kind == Kind::File;
        Ok(if file { Want::Content } else { Want::Nothing })
    }

    fn carrier(&self) -> Result<Box<dyn Carrier + '_>> {
        Ok(Box::new(self))
    }

    fn takes_spans(&self) -> bool {
        true
    }

    fn settle(&self, cx: &Cx, no: EntryNo) -> Result<()> {
        self.with(cx, no, |_settled| {})
    }

    fn leave(&self, cx: &Cx, no: EntryNo) -> Result<()> {
        self.with(cx, no, |_left| {})
    }

    fn omit(&self, cx: &Cx, _omission: &Omission) -> Result<()> {
        cx.check()
    }

    fn finish(&self, cx: &Cx) -> Result<SinkEnding> {
        cx.check()?;
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let nodes = nodes(&mut begun, None);
        self.kind.add(&self.target, nodes);
        Ok(SinkEnding::default())
    }
}

impl Carrier for &NewTree {
    fn write(&mut self, cx: &Cx, no: EntryNo, piece: Piece, data: &[u8]) -> Result<()> {
        let (at, part) = match piece {
            Piece::Data { at } => (at, Part::Data(data.to_vec())),
            Piece::Hole(hole) => (hole.at, Part::Hole(hole.len)),
            Piece::Kept(kept) => panic!("{kept:?} of {no:?} is kept in a tree that is new"),
        };
        self.with(cx, no, |entry| {
            entry.parts.insert(at, part);
        })
    }

    fn restart(&mut self, cx: &Cx, no: EntryNo) -> Result<()> {
        self.with(cx, no, |entry| entry.parts.clear())
    }

    fn end_span(&mut self, cx: &Cx, no: EntryNo, _from: u64) -> Result<()> {
        self.with(cx, no, |_spanned| {})
    }

    fn complete(&mut self, cx: &Cx, no: EntryNo, end: EntryEnd) -> Result<()> {
        self.with(cx, no, |entry| match end {
            EntryEnd::Whole(metadata, _) => entry.metadata = *metadata,
            EntryEnd::Abandoned => entry.abandoned = true,
        })
    }

    fn flush(&mut self, cx: &Cx) -> Result<()> {
        cx.check()
    }
}
