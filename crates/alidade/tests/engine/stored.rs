//! A stored snapshot is a Protected Entity: it keeps the promises of the sockets.

use std::sync::Arc;

use alidade_entity::conformance::{Subject, assert_conforms};
use alidade_entity::{
    Capability, Class, CopyOptions, Cursor, Cx, Error, Page, Params, ProtectedEntity,
    ProtectedEntityType, RestorePlan, Result, Sink,
};
use alidade_model::{EntityId, RunId, SnapshotId, TypeName};
use alidade_protect::{StoredEntity, StoredSnapshot};
use alidade_repository::Indexed;
use alidade_testkit::Lab;
use async_trait::async_trait;

/// The snapshots of a repository as a type: read, never written.
struct Stored {
    name: TypeName,
    snapshots: Vec<StoredSnapshot>,
    indexed: Arc<Indexed>,
}

fn no<T>(what: &str) -> Result<T> {
    Err(Error::new(Class::Unsupported, what))
}

#[async_trait]
impl ProtectedEntityType for Stored {
    fn name(&self) -> &TypeName {
        &self.name
    }

    fn capability(&self) -> Capability {
        Capability::default()
    }

    async fn list(&self, _cx: &Cx, after: Option<&Cursor>, limit: usize) -> Result<Page<EntityId>> {
        let mut ids: Vec<EntityId> = self.snapshots.iter().map(StoredSnapshot::entity_id).collect();
        ids.sort();
        ids.retain(|id| after.is_none_or(|after| id.to_string() > after.0));
        let more = ids.len() > limit;
        ids.truncate(limit);
        let next = ids.last().filter(|_| more).map(|id| Cursor(id.to_string()));
        Ok(Page { items: ids, next })
    }

    async fn open(&self, _cx: &Cx, id: &EntityId) -> Result<Arc<dyn ProtectedEntity>> {
        let found = self.snapshots.iter().find(|stored| stored.entity_id() == *id);
        let stored = found.ok_or_else(|| Error::new(Class::NotFound, format!("find {id}")))?;
        Ok(Arc::new(StoredEntity::new(stored.clone(), Arc::clone(&self.indexed))))
    }

    async fn freeze(
        &self,
        _cx: &Cx,
        _ids: &[EntityId],
        _run: &RunId,
        _params: &Params,
    ) -> Result<Vec<SnapshotId>> {
        no("freeze what is frozen")
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
        no("create a stored entity by a plan")
    }

    async fn sink(&self, _cx: &Cx, _plan: &RestorePlan) -> Result<Sink> {
        no("open a stored entity for writing")
    }
}

#[test]
fn a_stored_snapshot_keeps_the_promises_of_an_entity() {
    let lab = Lab::new(&super::cx());
    lab.init().unwrap();
    super::filled(&lab);
    lab.protect().unwrap();
    lab.protect().unwrap();
    let engine = lab.engine().unwrap();
    let stored = Stored {
        name: "fs".parse().unwrap(),
        snapshots: engine.snapshots().unwrap().snapshots,
        indexed: Indexed::load(Arc::clone(engine.repository()), &super::cx()).unwrap(),
    };
    let present = stored.snapshots[0].entity_id();
    let absent = lab.entity().at("never-taken".parse().unwrap());
    assert_conforms(&super::cx(), &Subject::new(&stored, present, absent));
}
