//! A tree that is not a file system's, placed under `/<type>/<object>`.

use alidade_entity::{Cx, Result, TreeSource, Visit};
use alidade_model::{EntityName, Entry, Kind, Metadata, Version};

use crate::identity::{components, stored_path};

/// A source whose walk lies below directories of our making.
pub(crate) struct Placed {
    inner: Box<dyn TreeSource>,
    trail: Vec<Entry>,
}

/// The source as it is stored: a file system's tree brings its own path, any other is placed.
pub(crate) fn placed(entity: &EntityName, inner: Box<dyn TreeSource>) -> Box<dyn TreeSource> {
    if entity.type_name.as_str() == "fs" {
        return inner;
    }
    let path = stored_path(entity);
    let above = components(&path).into_iter().map(|name| Entry {
        name: name.to_vec(),
        metadata: Metadata::of(Kind::Directory, 0o700),
        version: Version::Unknown,
    });
    let trail = above.chain(inner.trail().iter().cloned()).collect();
    Box::new(Placed { inner, trail })
}

impl TreeSource for Placed {
    fn trail(&self) -> &[Entry] {
        &self.trail
    }

    fn next(&mut self, cx: &Cx, out: &mut Vec<Visit>) -> Result<bool> {
        self.inner.next(cx, out)
    }
}
