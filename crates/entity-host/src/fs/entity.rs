//! The type `fs` and its entities.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alidade_entity::{
    Basis, Capability, Class, CopyMode, CopyOptions, Cursor, Cx, Delete, Ending, Error, Lease,
    Page, Params, ProtectedEntity, ProtectedEntityType, ReadOptions, Reading, RestorePlan, Result,
    Sink, Source,
};
use alidade_model::{
    Component, Consistency, ContentName, EntityId, EntityInfo, EntityName, ObjectId, RunId, Shape,
    SnapshotId, TypeName,
};
use async_trait::async_trait;

use super::dir::{names_of, open_absolute};
use super::filter::Filter;
use super::metadata::look_at;
use super::sink::{Care, FsSink};
use super::tally::Tally;
use super::target::{Found, create, look_at_target};
use super::walk::{Limits, Walk};
use crate::page::page;
use crate::path::{must_be_shortest, shortest};

/// The type `fs`: a path of this host and everything below it.
///
/// Every absolute path is an entity; [`ProtectedEntityType::list`] names those it was told of.
pub struct FsType {
    name: TypeName,
    roots: Vec<EntityId>,
    limits: Limits,
}

impl FsType {
    /// The type, with the paths it lists; one that is not absolute is no entity, and not listed.
    #[must_use]
    pub fn new(roots: Vec<PathBuf>) -> Self {
        let name: TypeName = "fs".parse().expect("`fs` is in the alphabet of type names");
        let mut roots: Vec<EntityId> = roots
            .into_iter()
            .filter_map(|path| id_of(&name, path.as_os_str().as_bytes()))
            .collect();
        roots.sort();
        roots.dedup();
        Self { name, roots, limits: Limits::default() }
    }

    /// The same, with other bounds on what a walk uses.
    #[must_use]
    pub fn limited(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The id of a path's entity: the path without `.`, empty components and what `..` undoes.
    /// `None` for a path that is not absolute.
    #[must_use]
    pub fn id(&self, path: &Path) -> Option<EntityId> {
        id_of(&self.name, path.as_os_str().as_bytes())
    }
}

fn id_of(type_name: &TypeName, path: &[u8]) -> Option<EntityId> {
    let object = ObjectId::encode(&shortest(path)?).ok()?;
    Some(EntityName { type_name: type_name.clone(), object }.live())
}

#[async_trait]
impl ProtectedEntityType for FsType {
    fn name(&self) -> &TypeName {
        &self.name
    }

    fn capability(&self) -> Capability {
        Capability { create: true, ..Capability::default() }
    }

    async fn list(&self, _cx: &Cx, after: Option<&Cursor>, limit: usize) -> Result<Page<EntityId>> {
        Ok(page(&self.roots, after, limit))
    }

    async fn open(&self, _cx: &Cx, id: &EntityId) -> Result<Arc<dyn ProtectedEntity>> {
        Ok(Arc::new(FsEntity::open(id, self.limits)?))
    }

    async fn freeze(
        &self,
        _cx: &Cx,
        _ids: &[EntityId],
        _run: &RunId,
        _params: &Params,
    ) -> Result<Vec<SnapshotId>> {
        Err(Error::new(
            Class::Unsupported,
            "freeze entities of the type `fs`, which cannot be frozen",
        ))
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
        let unsupported = |why: &str| Error::new(Class::Unsupported, why.to_owned());
        let info = from.info(cx).await?;
        if !info.contents.contains(&(ContentName::data(), Shape::Tree)) {
            let why = format!("restore {} into a file system, as it has no tree", info.id);
            return Err(unsupported(&why));
        }
        if how.mode == CopyMode::Update {
            return Err(unsupported("restore into a directory that holds something"));
        }
        if let Some(name) = how.params.keys().next() {
            return Err(unsupported(&format!("restore with the setting `{name}`")));
        }
        let target = how.target.as_deref().and_then(shortest);
        let target =
            target.ok_or_else(|| unsupported("restore without an absolute target path"))?;
        let text = String::from_utf8_lossy(&target).into_owned();
        let mut steps = Vec::new();
        if let Found::Missing(count) = look_at_target(&target)? {
            let above = if count > 1 { " and the directories above it" } else { "" };
            steps.push(format!("create the directory {text}{above}"));
        }
        steps.push(format!("write everything in {} below {text}", info.id));
        if how.read_back {
            steps.push("read every file back and compare".to_owned());
        }
        Ok(RestorePlan { from: info.id, options: how.clone(), steps })
    }

    async fn sink(&self, _cx: &Cx, plan: &RestorePlan) -> Result<Sink> {
        let target = plan.options.target.as_deref().and_then(shortest).ok_or_else(|| {
            Error::new(Class::Unsupported, "restore without an absolute target path")
        })?;
        let care = Care { fsync: plan.options.fsync, read_back: plan.options.read_back };
        Ok(Sink::Tree(Box::new(FsSink::new(create(&target)?, care))))
    }
}

/// A path of this host.
pub struct FsEntity {
    id: EntityId,
    path: Vec<u8>,
    limits: Limits,
}

impl FsEntity {
    fn open(id: &EntityId, limits: Limits) -> Result<Self> {
        let path = id.name.object.decode();
        let text = String::from_utf8_lossy(&path).into_owned();
        if id.snapshot.is_some() {
            let attempt = format!("find {id}: a path of this host has no native snapshots");
            return Err(Error::new(Class::NotFound, attempt));
        }
        must_be_shortest(&path)?;
        look_at_path(&path).map_err(|error| Error::io(format!("open {text}"), error))?;
        Ok(Self { id: id.clone(), path, limits })
    }
}

/// Looks at a path as `lstat` does, however long it is.
fn look_at_path(path: &[u8]) -> rustix::io::Result<()> {
    let names: Vec<&[u8]> = names_of(path).collect();
    match names.split_last() {
        None => Ok(()),
        Some((last, above)) => look_at(open_absolute(&above.join(&b'/'))?, last).map(drop),
    }
}

#[async_trait]
impl ProtectedEntity for FsEntity {
    fn id(&self) -> &EntityId {
        &self.id
    }

    async fn info(&self, _cx: &Cx) -> Result<EntityInfo> {
        Ok(EntityInfo {
            id: self.id.clone(),
            name: OsStr::from_bytes(&self.path).to_string_lossy().into_owned(),
            size: None,
            contents: vec![(ContentName::data(), Shape::Tree)],
        })
    }

    async fn components(&self, _cx: &Cx) -> Result<Vec<Component>> {
        Ok(Vec::new())
    }

    async fn snapshots(&self, _cx: &Cx) -> Result<Vec<SnapshotId>> {
        Ok(Vec::new())
    }

    async fn delete(&self, _cx: &Cx, _what: Delete) -> Result<()> {
        Err(Error::new(
            Class::Unsupported,
            format!("delete {}, which is not ours to delete", self.id),
        ))
    }

    async fn read(&self, _cx: &Cx, what: &ContentName, how: &ReadOptions) -> Result<Reading> {
        if *what != ContentName::data() {
            let attempt =
                format!("read the content `{what}` of {}, which has only `data`", self.id);
            return Err(Error::new(Class::NotFound, attempt));
        }
        if let Some(name) = how.params.keys().next() {
            let attempt = format!("read {} with the setting `{name}`", self.id);
            return Err(Error::new(Class::Unsupported, attempt));
        }
        let tally = Arc::new(Tally::default());
        let filter = Filter::new(&how.selection)?;
        let walk = Walk::new(&self.path, filter, self.limits, Arc::clone(&tally))?;
        Ok(Reading {
            source: Source::Tree(Box::new(walk)),
            basis: Basis::Full { why: "a file system does not say what changed in it".to_owned() },
            lease: Box::new(FsLease { tally }),
        })
    }
}

/// Nothing holds a path still; this only knows what the walk counted.
struct FsLease {
    tally: Arc<Tally>,
}

impl Lease for FsLease {
    fn finish(self: Box<Self>) -> Result<Ending> {
        let (excluded, omissions) = self.tally.counted();
        Ok(Ending { excluded, omissions, ..Ending::of(Consistency::PerFile) })
    }
}
