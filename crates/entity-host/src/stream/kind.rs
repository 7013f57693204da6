//! The type `stream` and its entities.

use std::sync::Arc;

use alidade_entity::{
    Basis, Capability, Class, CopyMode, CopyOptions, Cursor, Cx, Delete, Ending, Error, Lease,
    Page, Params, ProtectedEntity, ProtectedEntityType, ReadOptions, Reading, RestorePlan, Result,
    Sink, Source,
};
use alidade_model::{
    Component, Consistency, ContentName, EntityId, EntityInfo, RunId, Selection, Shape, SnapshotId,
    TypeName,
};
use async_trait::async_trait;

use super::command::{COMMAND, TIMEOUT, Words};
use super::consumer::{Consumer, Output};
use super::producer::{Input, Producer};

/// The setting by which standard input or standard output is the other end.
const STANDARD: &str = "standard";

/// The type `stream`: what a command prints, or what comes on standard input, under a name of the
/// caller's choice.
///
/// Nothing is there to be listed, and every name can be opened; something must produce the stream when it
/// is read. Reading and restoring know these settings:
/// - `command`: the command that prints the stream, or takes it: its words in the alphabet of object ids,
///   apart by blanks.
/// - `timeout`: seconds after which the command is stopped.
/// - `standard`: `true` for standard input, or standard output.
#[derive(Debug)]
pub struct StreamType {
    name: TypeName,
}

impl Default for StreamType {
    fn default() -> Self {
        Self::new()
    }
}

impl StreamType {
    /// The type.
    #[must_use]
    pub fn new() -> Self {
        Self { name: "stream".parse().expect("`stream` is in the alphabet of type names") }
    }
}

/// The other end of a stream.
enum End {
    Command(Words),
    Standard,
}

impl End {
    fn of(params: &Params) -> Result<Option<Self>> {
        let known = [COMMAND, TIMEOUT, STANDARD];
        if let Some(name) = params.keys().find(|name| !known.contains(&name.as_str())) {
            let attempt = format!("read or write a stream with the setting `{name}`");
            return Err(Error::new(Class::Unsupported, attempt));
        }
        match Words::read(params)? {
            Some(words) => Ok(Some(Self::Command(words))),
            None => Ok(params.contains_key(STANDARD).then_some(Self::Standard)),
        }
    }
}

#[async_trait]
impl ProtectedEntityType for StreamType {
    fn name(&self) -> &TypeName {
        &self.name
    }

    fn capability(&self) -> Capability {
        Capability { create: true, ..Capability::default() }
    }

    async fn list(
        &self,
        cx: &Cx,
        _after: Option<&Cursor>,
        _limit: usize,
    ) -> Result<Page<EntityId>> {
        cx.check()?;
        Ok(Page { items: Vec::new(), next: None })
    }

    async fn open(&self, _cx: &Cx, id: &EntityId) -> Result<Arc<dyn ProtectedEntity>> {
        if id.snapshot.is_some() {
            let attempt = format!("find {id}: a stream has no native snapshots");
            return Err(Error::new(Class::NotFound, attempt));
        }
        let mut parts = id.name.object.as_str().split('/');
        if parts.any(|part| part == "." || part == "..") {
            let attempt = format!("open {id}: a part of a stream's name is `.` or `..`");
            return Err(Error::new(Class::NotFound, attempt));
        }
        Ok(Arc::new(StreamEntity { id: id.clone() }))
    }

    async fn freeze(
        &self,
        _cx: &Cx,
        _ids: &[EntityId],
        _run: &RunId,
        _params: &Params,
    ) -> Result<Vec<SnapshotId>> {
        let attempt = "freeze entities of the type `stream`, which cannot be frozen";
        Err(Error::new(Class::Unsupported, attempt))
    }

    async fn release(&self, _cx: &Cx, _run: &RunId) -> Result<()> {
        Ok(())
    }

    async fn plan(
        &self,
        cx: &Cx,
        from: &dyn ProtectedEntity,
        how: &CopyOptions,
    ) -> Result<RestorePlan> {
        let unsupported = |why: String| Error::new(Class::Unsupported, why);
        let info = from.info(cx).await?;
        if !info.contents.contains(&(ContentName::data(), Shape::Stream)) {
            return Err(unsupported(format!("restore {} as a stream, as it is none", info.id)));
        }
        if how.mode == CopyMode::Update || how.read_back {
            return Err(unsupported(format!("restore the stream {} in place", info.id)));
        }
        let step = match End::of(&how.params)? {
            Some(End::Command(words)) => {
                format!("run `{}` and write the stream to it", words.shown())
            }
            Some(End::Standard) => "write the stream to standard output".to_owned(),
            None => {
                let why = format!("restore the stream {} to a place: it has none", info.id);
                return Err(unsupported(why));
            }
        };
        Ok(RestorePlan { from: info.id, options: how.clone(), steps: vec![step] })
    }

    async fn sink(&self, cx: &Cx, plan: &RestorePlan) -> Result<Sink> {
        Ok(Sink::Stream(match End::of(&plan.options.params)? {
            Some(End::Command(words)) => Box::new(Consumer::start(cx, &words)?),
            Some(End::Standard) => Box::new(Output::open()?),
            None => {
                let attempt = "restore a stream by a plan that is none of this type's";
                return Err(Error::new(Class::Unsupported, attempt));
            }
        }))
    }
}

/// A stream by its name.
struct StreamEntity {
    id: EntityId,
}

#[async_trait]
impl ProtectedEntity for StreamEntity {
    fn id(&self) -> &EntityId {
        &self.id
    }

    async fn info(&self, _cx: &Cx) -> Result<EntityInfo> {
        Ok(EntityInfo {
            id: self.id.clone(),
            name: String::from_utf8_lossy(&self.id.name.object.decode()).into_owned(),
            size: None,
            contents: vec![(ContentName::data(), Shape::Stream)],
        })
    }

    async fn components(&self, _cx: &Cx) -> Result<Vec<Component>> {
        Ok(Vec::new())
    }

    async fn snapshots(&self, _cx: &Cx) -> Result<Vec<SnapshotId>> {
        Ok(Vec::new())
    }

    async fn delete(&self, _cx: &Cx, _what: Delete) -> Result<()> {
        let attempt = format!("delete {}, which is not ours to delete", self.id);
        Err(Error::new(Class::Unsupported, attempt))
    }

    async fn read(&self, cx: &Cx, what: &ContentName, how: &ReadOptions) -> Result<Reading> {
        if *what != ContentName::data() {
            let attempt =
                format!("read the content `{what}` of {}, which has only `data`", self.id);
            return Err(Error::new(Class::NotFound, attempt));
        }
        if how.selection != Selection::default() {
            let attempt = format!("read a part of {}: a stream has no paths", self.id);
            return Err(Error::new(Class::Unsupported, attempt));
        }
        let source = match End::of(&how.params)? {
            Some(End::Command(words)) => Source::Stream(Box::new(Producer::start(cx, &words)?)),
            Some(End::Standard) => Source::Stream(Box::new(Input::open()?)),
            None => {
                let attempt = format!("read {}: nothing produces it", self.id);
                return Err(Error::new(Class::Conflict, attempt));
            }
        };
        let basis = Basis::Full { why: "a stream is whole".to_owned() };
        Ok(Reading { source, basis, lease: Box::new(StreamLease) })
    }
}

/// Nothing holds a stream still.
struct StreamLease;

impl Lease for StreamLease {
    fn finish(self: Box<Self>) -> Result<Ending> {
        Ok(Ending::of(Consistency::Crash))
    }
}
