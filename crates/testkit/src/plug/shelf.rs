//! What the types in memory have in common: named things, listed in pages.

use std::collections::BTreeMap;

use alidade_entity::{Class, Cursor, Cx, Error, Page, Result};
use alidade_model::{EntityId, EntityName, ObjectId, SnapshotId, TypeName};

/// Named things of one type.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    pub(super) type_name: TypeName,
    pub(super) things: BTreeMap<ObjectId, T>,
}

impl<T> Shelf<T> {
    pub(super) fn new(type_name: &str) -> Self {
        let type_name = type_name.parse().expect("the type's name is a constant");
        Self { type_name, things: BTreeMap::new() }
    }

    pub(super) fn name(&self, object: &ObjectId) -> EntityName {
        EntityName { type_name: self.type_name.clone(), object: object.clone() }
    }

    pub(super) fn get(&self, id: &EntityId) -> Result<&T> {
        self.owns(id).then(|| self.things.get(&id.name.object)).flatten().ok_or_else(|| absent(id))
    }

    pub(super) fn get_mut(&mut self, id: &EntityId) -> Result<&mut T> {
        let owns = self.owns(id);
        let thing = self.things.get_mut(&id.name.object);
        thing.filter(|_| owns).ok_or_else(|| absent(id))
    }

    fn owns(&self, id: &EntityId) -> bool {
        id.name.type_name == self.type_name
    }

    pub(super) fn list(
        &self,
        cx: &Cx,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<EntityId>> {
        cx.check()?;
        assert!(limit > 0, "a page of no ids was asked for");
        let mut rest = self
            .things
            .keys()
            .filter(|object| after.is_none_or(|after| object.as_str() > after.0.as_str()));
        let items: Vec<_> =
            rest.by_ref().take(limit).map(|object| self.name(object).live()).collect();
        let next =
            rest.next().and(items.last()).map(|last| Cursor(last.name.object.as_str().to_owned()));
        Ok(Page { items, next })
    }
}

pub(super) fn absent(id: &EntityId) -> Error {
    Error::new(Class::NotFound, format!("find {id}"))
}

pub(super) fn unsupported(attempt: &str) -> Error {
    Error::new(Class::Unsupported, attempt)
}

/// Refuses ids of frozen states, for types that freeze nothing.
pub(super) fn live_only(id: &EntityId) -> Result<()> {
    match &id.snapshot {
        None => Ok(()),
        Some(_) => Err(absent(id)),
    }
}

/// The id that `text` stands for.
pub(super) fn object(text: &[u8]) -> Result<ObjectId> {
    ObjectId::encode(text)
        .map_err(|error| Error::with_source(Class::Failed, "name a new entity", error))
}

/// The snapshot that `text` stands for.
pub(super) fn snapshot(text: &str) -> SnapshotId {
    text.parse().expect("letters, digits, dots and dashes are a snapshot id")
}
