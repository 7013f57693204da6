//! Protected Entities and their types.

use std::collections::BTreeMap;
use std::sync::Arc;

use alidade_model::{
    Component, Consistency, ContentName, Digest, EntityId, EntityInfo, Exclusions, Omissions,
    RunId, Selection, SnapshotId, TypeName,
};
use async_trait::async_trait;

use crate::{Cx, Result, Sink, Source};

/// What a type can do; callers ask before they act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capability {
    /// Freezes entities into native snapshots.
    pub snapshot: bool,
    /// Freezes several at one instant.
    pub group: bool,
    /// Says what changed since a base.
    pub changed_blocks: bool,
    /// Writes into an entity that exists.
    pub in_place: bool,
    /// Deletes entities or their native snapshots.
    pub delete: bool,
    /// Creates entities: has a sink.
    pub create: bool,
}

/// Where a listing goes on; opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub String);

/// A part of a listing.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// What it holds.
    pub items: Vec<T>,
    /// Where it goes on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Free settings of an operation, by name; a type documents those it knows and refuses others.
pub type Params = BTreeMap<String, String>;

/// What to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delete {
    /// A native snapshot.
    Snapshot(SnapshotId),
    /// The entity itself.
    Entity,
}

/// A point the source can tell changes since: a change id, a log position; opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base(pub Vec<u8>);

/// What a reading covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Everything, and why not only the changes.
    Full {
        /// The reason, in words.
        why: String,
    },
    /// What changed since that base.
    Since(Base),
}

/// How to read a content.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Read only what changed since, if the source can.
    pub base: Option<Base>,
    /// What of a tree is meant.
    pub selection: Selection,
    /// Further settings of the type.
    pub params: Params,
}

/// What holds a source still while it is read.
///
/// Dropping it releases the source, too; [`Lease::finish`] is how to learn what came of the reading.
pub trait Lease: Send {
    /// Ends the reading.
    ///
    /// # Errors
    /// When the source cannot be released.
    fn finish(self: Box<Self>) -> Result<Ending>;
}

/// What a source can say when it was read.
#[derive(Clone, Debug)]
pub struct Ending {
    /// How consistent what was read is, if nothing changed under the reader.
    pub consistency: Consistency,
    /// What could not be given and was not in a [`crate::Visit::Omit`].
    pub omissions: Omissions,
    /// What the selection left out, by rule.
    pub excluded: Exclusions,
    /// The digest of what was read, where the source computes it.
    pub digest: Option<Digest>,
    /// The base for the next reading.
    pub next: Option<Base>,
    /// Blobs whose hash was compared.
    pub verified: u64,
    /// Things that could not be given because what was stored is damaged; also omissions.
    pub damaged: u64,
}

impl Ending {
    /// An ending of that consistency and nothing else to say.
    #[must_use]
    pub fn of(consistency: Consistency) -> Self {
        Self {
            consistency,
            omissions: Omissions::default(),
            excluded: Exclusions::new(),
            digest: None,
            next: None,
            verified: 0,
            damaged: 0,
        }
    }
}

/// A content, open for reading.
pub struct Reading {
    /// Its bytes.
    pub source: Source,
    /// What it covers.
    pub basis: Basis,
    /// What holds it still.
    pub lease: Box<dyn Lease>,
}

/// Astrolabe's three ways to copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMode {
    /// Under the same id; it must not exist.
    Create,
    /// Under a new id or at another place.
    CreateNew,
    /// Into the one that exists.
    Update,
}

/// How an entity is to be created from another.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// Which of the three ways.
    pub mode: CopyMode,
    /// Where, in the words of the type; for `fs` an absolute path.
    pub target: Option<Vec<u8>>,
    /// Wait until each file is on disk, not only the whole.
    pub fsync: bool,
    /// Read every file back and compare.
    pub read_back: bool,
    /// Further settings of the type.
    pub params: Params,
}

/// What creating an entity will do, before it is done.
#[derive(Clone, Debug)]
pub struct RestorePlan {
    /// The entity it is created from.
    pub from: EntityId,
    /// How.
    pub options: CopyOptions,
    /// What will happen, one line each.
    pub steps: Vec<String>,
}

/// A kind of Protected Entities.
///
/// Behavior: opening or listing what does not exist is [`crate::Class::NotFound`] or empty, never a panic;
/// `release` of an unknown run is `Ok`; `freeze` repeated with the same run returns the same snapshots.
#[async_trait]
pub trait ProtectedEntityType: Send + Sync {
    /// Its name, the first part of its entities' ids.
    fn name(&self) -> &TypeName;

    /// What it can do.
    fn capability(&self) -> Capability;

    /// The entities it knows of, ascending by id, at most `limit` after `after`.
    async fn list(&self, cx: &Cx, after: Option<&Cursor>, limit: usize) -> Result<Page<EntityId>>;

    /// The entity with that id.
    async fn open(&self, cx: &Cx, id: &EntityId) -> Result<Arc<dyn ProtectedEntity>>;

    /// Freezes entities together into native snapshots, in the order given. Idempotent by run.
    async fn freeze(
        &self,
        cx: &Cx,
        ids: &[EntityId],
        run: &RunId,
        params: &Params,
    ) -> Result<Vec<SnapshotId>>;

    /// Undoes whatever `freeze` left disturbed for that run. Absent = `Ok`; run again after a crash.
    async fn release(&self, cx: &Cx, run: &RunId) -> Result<()>;

    /// What creating an entity from `from` would do; [`crate::Class::Conflict`] when the target is in the way.
    async fn plan(
        &self,
        cx: &Cx,
        from: &dyn ProtectedEntity,
        how: &CopyOptions,
    ) -> Result<RestorePlan>;

    /// Opens the target of a plan for writing.
    async fn sink(&self, cx: &Cx, plan: &RestorePlan) -> Result<Sink>;
}

/// Anything that can be frozen, read and created again.
///
/// Behavior: `delete` of what is absent is `Ok`; reading a content that the info does not name is
/// [`crate::Class::NotFound`].
#[async_trait]
pub trait ProtectedEntity: Send + Sync {
    /// Its id.
    fn id(&self) -> &EntityId;

    /// What it says about itself.
    async fn info(&self, cx: &Cx) -> Result<EntityInfo>;

    /// Its parts, discovered anew.
    async fn components(&self, cx: &Cx) -> Result<Vec<Component>>;

    /// Its native snapshots, oldest first.
    async fn snapshots(&self, cx: &Cx) -> Result<Vec<SnapshotId>>;

    /// Deletes a native snapshot, or the entity.
    async fn delete(&self, cx: &Cx, what: Delete) -> Result<()>;

    /// Opens one of its contents.
    async fn read(&self, cx: &Cx, what: &ContentName, how: &ReadOptions) -> Result<Reading>;
}
