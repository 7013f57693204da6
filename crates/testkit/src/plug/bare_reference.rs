use std::collections::BTreeSet;
use std::sync::Arc;

use alidade_entity::{
    Capability, CopyOptions, Cursor, Cx, Delete, Page, Params, ProtectedEntity,
    ProtectedEntityType, ReadOptions, Reading, RestorePlan, Result, Sink,
};
use alidade_model::{
    Component, ContentName, EntityId, EntityInfo, ObjectId, RunId, SnapshotId, TypeName,
};
use async_trait::async_trait;

use super::shelf::{Shelf, absent, live_only, unsupported};

/// Entities without content: services that are only referenced, with components elsewhere.
///
/// They can be listed and opened, and nothing else.
#[derive(Debug)]
pub struct BareReference {
    shelf: Shelf<BTreeSet<EntityId>>,
}

impl Default for BareReference {
    fn default() -> Self {
        Self::new()
    }
}

impl BareReference {
    /// The type `reference`, without entities.
    #[must_use]
    pub fn new() -> Self {
        Self { shelf: Shelf::new("reference") }
    }

    /// Adds an entity with its components, and says its id.
    pub fn add(&mut self, object: &ObjectId, components: &[EntityId]) -> EntityId {
        let components = components.iter().cloned().collect();
        self.shelf.things.insert(object.clone(), components);
        self.shelf.name(object).live()
    }
}

#[async_trait]
impl ProtectedEntityType for BareReference {
    fn name(&self) -> &TypeName {
        &self.shelf.type_name
    }

    fn capability(&self) -> Capability {
        Capability::default()
    }

    async fn list(&self, cx: &Cx, after: Option<&Cursor>, limit: usize) -> Result<Page<EntityId>> {
        self.shelf.list(cx, after, limit)
    }

    async fn open(&self, cx: &Cx, id: &EntityId) -> Result<Arc<dyn ProtectedEntity>> {
        cx.check()?;
        live_only(id)?;
        let components = self.shelf.get(id)?.clone();
        Ok(Arc::new(Reference { id: id.clone(), components }))
    }

    async fn freeze(
        &self,
        _cx: &Cx,
        _ids: &[EntityId],
        _run: &RunId,
        _params: &Params,
    ) -> Result<Vec<SnapshotId>> {
        Err(unsupported("freeze a reference"))
    }

    async fn release(&self, _cx: &Cx, _run: &RunId) -> Result<()> {
        Ok(())
    }

    async fn plan(
        &self,
        _cx: &Cx,
        _from: &dyn ProtectedEntity,
        _how: &CopyOptions,
    ) -> Result<RestorePlan> {
        Err(unsupported("create a reference"))
    }

    async fn sink(&self, _cx: &Cx, _plan: &RestorePlan) -> Result<Sink> {
        Err(unsupported("write a reference"))
    }
}

struct Reference {
    id: EntityId,
    components: BTreeSet<EntityId>,
}

#[async_trait]
impl ProtectedEntity for Reference {
    fn id(&self) -> &EntityId {
        &self.id
    }

    async fn info(&self, _cx: &Cx) -> Result<EntityInfo> {
        let name = self.id.name.object.as_str().to_owned();
        Ok(EntityInfo { id: self.id.clone(), name, size: None, contents: Vec::new() })
    }

    async fn components(&self, _cx: &Cx) -> Result<Vec<Component>> {
        Ok(self.components.iter().map(|id| Component { id: id.clone() }).collect())
    }

    async fn snapshots(&self, _cx: &Cx) -> Result<Vec<SnapshotId>> {
        Ok(Vec::new())
    }

    async fn delete(&self, _cx: &Cx, _what: Delete) -> Result<()> {
        Err(unsupported("delete a reference"))
    }

    async fn read(&self, _cx: &Cx, what: &ContentName, _how: &ReadOptions) -> Result<Reading> {
        let mut id = absent(&self.id).chain();
        id.push_str(&format!(", content {what}"));
        Err(alidade_entity::Error::new(alidade_entity::Class::NotFound, id))
    }
}
