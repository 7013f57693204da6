//! What is stored: snapshots as entities, and which one is meant.

use alidade_model::{EntityName, Host, Time};
use alidade_repository::FileId;

use crate::identity::{StoredSnapshot, is_within, stored_path};
use crate::{Engine, Error, Result};

/// Every snapshot of a repository.
#[derive(Debug, Default)]
pub struct Listing {
    /// Those that read, the oldest first.
    pub snapshots: Vec<StoredSnapshot>,
    /// Files that do not: their id, and why.
    pub damaged: Vec<(String, String)>,
}

/// Which snapshot of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Latest,
    /// The newest that is not newer than this.
    At(Time),
    /// The one whose snapshot id is this, or whose file id begins with this.
    Id(String),
}

/// Which snapshot is meant.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Of this entity, or of a stored entity that contains it; any when not given.
    pub entity: Option<EntityName>,
    /// Which one.
    pub which: Which,
    /// From this host; when not given, `Latest` and `At` mean this machine, and an id any.
    pub host: Option<Host>,
}

impl Engine {
    /// Reads every snapshot file. Requests: one listing, and one read a snapshot that is not in the cache; memory:
    /// about 1 KiB each.
    ///
    /// # Errors
    /// When the repository cannot be listed; a file that does not read is listed as damaged instead.
    pub fn snapshots(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        let repository = &self.parts.repository;
        let all = match &self.parts.cache {
            Some(cache) => repository.snapshots_cached(self.cx(), cache),
            None => repository.snapshots(self.cx()),
        };
        for (file, read) in all? {
            let stored = match read {
                Ok(snapshot) => StoredSnapshot::read(file, snapshot).map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match stored {
                Ok(stored) => listing.snapshots.push(stored),
                Err(why) => listing.damaged.push((file.to_string(), why)),
            }
        }
        listing.snapshots.sort_by_key(|stored| (stored.time, stored.file));
        Ok(listing)
    }

    /// The snapshot that is meant. Proofs about snapshots are found by their file id only.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none; [`Error::Usage`] when an id fits several.
    pub fn resolve(&self, wanted: &Wanted) -> Result<StoredSnapshot> {
        let listing = self.snapshots()?;
        match &wanted.which {
            Which::Id(id) => by_id(listing, id, wanted),
            Which::Latest => self.newest(listing, wanted, None),
            Which::At(time) => self.newest(listing, wanted, Some(*time)),
        }
    }

    fn newest(
        &self,
        listing: Listing,
        wanted: &Wanted,
        not_after: Option<Time>,
    ) -> Result<StoredSnapshot> {
        let host = wanted.host.as_ref().unwrap_or(&self.parts.identity.host);
        let fits = |stored: &StoredSnapshot| {
            stored.origin.is_state()
                && stored.host == *host
                && not_after.is_none_or(|time| stored.time <= time)
        };
        let mut found: Vec<StoredSnapshot> =
            listing.snapshots.into_iter().filter(|stored| fits(stored)).collect();
        if let Some(entity) = &wanted.entity {
            // The entity itself before a larger one that contains it, the nearest first.
            let rank =
                |stored: &StoredSnapshot| nearness(&stored.entity, &stored.snapshot.paths, entity);
            let best = found.iter().filter_map(rank).max();
            found.retain(|stored| best.is_some() && rank(stored) == best);
        }
        found.pop().ok_or_else(|| Error::not_found(describe(wanted, host)))
    }
}

fn by_id(listing: Listing, id: &str, wanted: &Wanted) -> Result<StoredSnapshot> {
    let fits = |stored: &StoredSnapshot| {
        (stored.id.as_str() == id || stored.file.to_string().starts_with(id))
            && wanted.host.as_ref().is_none_or(|host| stored.host == *host)
            && wanted.entity.as_ref().is_none_or(|entity| {
                nearness(&stored.entity, &stored.snapshot.paths, entity).is_some()
            })
    };
    let mut found: Vec<StoredSnapshot> =
        listing.snapshots.into_iter().filter(|stored| fits(stored)).collect();
    match found.len() {
        0 => match listing.damaged.iter().find(|(file, _)| file.starts_with(id)) {
            Some((file, why)) => {
                Err(alidade_repository::Error::damaged(format!("snapshot {file}"), why).into())
            }
            None => Err(Error::not_found(format!("snapshot `{id}`"))),
        },
        1 => found.pop().ok_or_else(|| Error::not_found(format!("snapshot `{id}`"))),
        count => Err(Error::Usage(format!("`{id}` names {count} snapshots; give more of it"))),
    }
}

/// How near a stored entity is to the one that is meant: the depth of the path it shares, if it is that
/// entity or contains it.
fn nearness(stored: &EntityName, paths: &[String], meant: &EntityName) -> Option<usize> {
    if stored == meant {
        return Some(usize::MAX);
    }
    if stored.type_name != meant.type_name || meant.type_name.as_str() != "fs" {
        return None;
    }
    let path = stored_path(meant);
    let depth =
        |above: &[u8]| is_within(&path, above).then(|| crate::identity::components(above).len());
    let own = depth(&stored_path(stored));
    paths.iter().filter_map(|above| depth(above.as_bytes())).chain(own).max()
}

fn describe(wanted: &Wanted, host: &Host) -> String {
    let of = wanted.entity.as_ref().map_or_else(String::new, |entity| format!(" of {entity}"));
    let when = match &wanted.which {
        Which::At(time) => format!(" not newer than {}", crate::record::timestamp(*time)),
        Which::Latest | Which::Id(_) => String::new(),
    };
    format!("a snapshot{of} from host {host}{when}")
}

/// The file id of a snapshot as its prefix names it in messages.
#[must_use]
pub fn short(file: &FileId) -> String {
    file.to_string().chars().take(8).collect()
}
