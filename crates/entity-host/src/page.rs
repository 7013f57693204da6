//! A part of a listing.

use alidade_entity::{Cursor, Page};
use alidade_model::EntityId;

/// At most `limit` of the ids, which ascend by their text, after the cursor.
pub(crate) fn page(ids: &[EntityId], after: Option<&Cursor>, limit: usize) -> Page<EntityId> {
    let rest = ids.iter().filter(|id| after.is_none_or(|after| id.to_string() > after.0));
    let mut items: Vec<EntityId> = rest.take(limit.saturating_add(1)).cloned().collect();
    let has_more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| has_more).map(|id| Cursor(id.to_string()));
    Page { items, next }
}
