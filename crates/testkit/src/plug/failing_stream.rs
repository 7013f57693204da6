use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alidade_entity::{
    Basis, Capability, Class, CopyOptions, Cursor, Cx, Delete, Ending, Error, Lease, Page, Params,
    ProtectedEntity, ProtectedEntityType, ReadOptions, Reading, RestorePlan, Result, Sink,
    SinkEnding, Source, StreamSink, StreamSource,
};
use alidade_model::{
    Component, Consistency, ContentName, EntityId, EntityInfo, ObjectId, RunId, Shape, SnapshotId,
    TypeName,
};
use async_trait::async_trait;

use super::shelf::{Shelf, absent, live_only, object, unsupported};

/// How a producer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Producer {
    /// It gives everything and vouches for it.
    Succeeds,
    /// It gives everything and says nothing.
    SaysNothing,
    /// Its stream breaks after so many bytes.
    BreaksAfter(usize),
    /// It gives so many bytes, ends as if that were all, and fails.
    ExitsBadlyAfter(usize),
}

/// A stream's bytes and how its producer ends.
type Stream = (Arc<[u8]>, Producer);

/// Streams in memory, whose producers end as they are told to.
///
/// Stricter than a process: a stream that was not read to its end fails, and reading on after a
/// failure panics. A stream that was created is there from `finish` on, and nobody vouches for it.
#[derive(Clone, Debug)]
pub struct FailingStream {
    type_name: TypeName,
    shelf: Arc<Mutex<Shelf<Stream>>>,
}

impl Default for FailingStream {
    fn default() -> Self {
        Self::new()
    }
}

impl FailingStream {
    /// The type `pipe`, without entities.
    #[must_use]
    pub fn new() -> Self {
        let shelf = Shelf::new("pipe");
        Self { type_name: shelf.type_name.clone(), shelf: Arc::new(Mutex::new(shelf)) }
    }

    /// Adds a stream, and says its id.
    pub fn add(&self, object: &ObjectId, bytes: &[u8], producer: Producer) -> EntityId {
        let mut shelf = self.lock();
        shelf.things.insert(object.clone(), (bytes.into(), producer));
        shelf.name(object).live()
    }

    fn lock(&self) -> MutexGuard<'_, Shelf<Stream>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ProtectedEntityType for FailingStream {
    fn name(&self) -> &TypeName {
        &self.type_name
    }

    fn capability(&self) -> Capability {
        Capability { delete: true, create: true, ..Capability::default() }
    }

    async fn list(&self, cx: &Cx, after: Option<&Cursor>, limit: usize) -> Result<Page<EntityId>> {
        self.lock().list(cx, after, limit)
    }

    async fn open(&self, cx: &Cx, id: &EntityId) -> Result<Arc<dyn ProtectedEntity>> {
        cx.check()?;
        live_only(id)?;
        self.lock().get(id)?;
        Ok(Arc::new(Pipe { id: id.clone(), kind: self.clone() }))
    }

    async fn freeze(
        &self,
        _cx: &Cx,
        _ids: &[EntityId],
        _run: &RunId,
        _params: &Params,
    ) -> Result<Vec<SnapshotId>> {
        Err(unsupported("freeze a stream"))
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
        if self.lock().things.contains_key(&target) {
            return Err(Error::new(Class::Conflict, format!("create the stream {target}")));
        }
        let steps = vec![format!("create the stream {target}")];
        Ok(RestorePlan { from: from.id().clone(), options: how.clone(), steps })
    }

    async fn sink(&self, _cx: &Cx, plan: &RestorePlan) -> Result<Sink> {
        let target = object(plan.options.target.as_deref().unwrap_or_default())?;
        Ok(Sink::Stream(Box::new(Intake { kind: self.clone(), target, bytes: Vec::new() })))
    }
}

struct Pipe {
    id: EntityId,
    kind: FailingStream,
}

#[async_trait]
impl ProtectedEntity for Pipe {
    fn id(&self) -> &EntityId {
        &self.id
    }

    async fn info(&self, _cx: &Cx) -> Result<EntityInfo> {
        let name = self.id.name.object.as_str().to_owned();
        let contents = vec![(ContentName::data(), Shape::Stream)];
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
                self.kind.lock().things.remove(&self.id.name.object);
            }
        }
        Ok(())
    }

    async fn read(&self, cx: &Cx, what: &ContentName, how: &ReadOptions) -> Result<Reading> {
        cx.check()?;
        if *what != ContentName::data() {
            return Err(Error::new(Class::NotFound, format!("find the content `{what}`")));
        }
        let (bytes, producer) =
            self.kind.lock().get(&self.id).map_err(|_gone| absent(&self.id))?.clone();
        let why = match how.base {
            None => "no base was given",
            Some(_) => "a stream has no base",
        };
        Ok(Reading {
            source: Source::Stream(Box::new(Output { bytes, producer, at: 0, ended: End::NotYet })),
            basis: Basis::Full { why: why.to_owned() },
            lease: Box::new(Open),
        })
    }
}

struct Open;

impl Lease for Open {
    fn finish(self: Box<Self>) -> Result<Ending> {
        Ok(Ending::of(Consistency::Crash))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    Reached,
    Broken,
}

struct Output {
    bytes: Arc<[u8]>,
    producer: Producer,
    at: usize,
    ended: End,
}

impl StreamSource for Output {
    fn read(&mut self, cx: &Cx, buf: &mut [u8]) -> Result<usize> {
        cx.check()?;
        assert!(self.ended != End::Broken, "a broken stream is read on");
        assert!(!buf.is_empty(), "a stream is read into nothing, which looks like its end");
        let (end, breaks) = match self.producer {
            Producer::Succeeds | Producer::SaysNothing => (self.bytes.len(), false),
            Producer::BreaksAfter(end) => (end.min(self.bytes.len()), true),
            Producer::ExitsBadlyAfter(end) => (end.min(self.bytes.len()), false),
        };
        if self.at == end && breaks {
            self.ended = End::Broken;
            return Err(Error::new(Class::Failed, format!("read the stream beyond byte {end}")));
        }
        if self.at == end {
            self.ended = End::Reached;
            return Ok(0);
        }
        let len = buf.len().min(end - self.at);
        buf[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }

    fn finish(self: Box<Self>, cx: &Cx) -> Result<bool> {
        cx.check()?;
        match (self.ended, self.producer) {
            (End::Reached, Producer::Succeeds) => Ok(true),
            (End::Reached, Producer::SaysNothing) => Ok(false),
            (End::Reached, Producer::BreaksAfter(_) | Producer::ExitsBadlyAfter(_)) => {
                Err(Error::new(Class::Failed, "end the producer: it exited with 1"))
            }
            (End::NotYet | End::Broken, _) => {
                Err(Error::new(Class::Failed, "end the producer: its output was not read"))
            }
        }
    }
}

struct Intake {
    kind: FailingStream,
    target: ObjectId,
    bytes: Vec<u8>,
}

impl StreamSink for Intake {
    fn write(&mut self, cx: &Cx, data: &[u8]) -> Result<()> {
        cx.check()?;
        self.bytes.extend_from_slice(data);
        Ok(())
    }

    fn finish(self: Box<Self>, cx: &Cx) -> Result<SinkEnding> {
        cx.check()?;
        self.kind.add(&self.target, &self.bytes, Producer::SaysNothing);
        Ok(SinkEnding::default())
    }
}
