use std::collections::BTreeMap;
use std::sync::Arc;

use alidade_model::{EntityId, TypeName};

use crate::{Class, Cx, Error, ProtectedEntity, ProtectedEntityType, Result};

/// The types this program was built with. Filled by the roof, once.
#[derive(Clone, Default)]
pub struct Registry {
    types: BTreeMap<TypeName, Arc<dyn ProtectedEntityType>>,
}

impl Registry {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a type; the last one of a name counts.
    pub fn add(&mut self, kind: Arc<dyn ProtectedEntityType>) {
        self.types.insert(kind.name().clone(), kind);
    }

    /// All types, ascending by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn ProtectedEntityType>> {
        self.types.values()
    }

    /// The type of that name.
    ///
    /// # Errors
    /// [`Class::NotFound`] when there is none.
    pub fn get(&self, name: &TypeName) -> Result<&Arc<dyn ProtectedEntityType>> {
        self.types
            .get(name)
            .ok_or_else(|| Error::new(Class::NotFound, format!("find the entity type `{name}`")))
    }

    /// Opens an entity by its id.
    ///
    /// # Errors
    /// When its type is not known or does not find it.
    pub async fn open(&self, cx: &Cx, id: &EntityId) -> Result<Arc<dyn ProtectedEntity>> {
        self.get(&id.name.type_name)?.open(cx, id).await
    }
}
