//! Who a stored snapshot belongs to, and how the repository's own words say it.

use alidade_model::{
    EntityId, EntityName, Host, ObjectId, Origin, RunId, Sabotage, SnapshotId, Time,
};
use alidade_repository::{FileId, Snapshot};

use crate::{Error, Result};

/// The directory in every snapshot of ours where our own records lie.
pub(crate) const OWN_DIR: &str = ".alidade";
const TAG_ENTITY: &str = "alidade:entity=";
const TAG_SNAPSHOT: &str = "alidade:snapshot=";
const TAG_RUN: &str = "alidade:run=";
const TAG_EVIDENCE: &str = "alidade:evidence";
const TAG_REPAIRED: &str = "repaired";
const TAG_PARTIAL: &str = "alidade:partial";

/// Who runs: what locks and snapshot files say about their writer.
#[derive(Clone, Debug)]
pub struct Identity {
    /// This machine's name.
    pub host: Host,
    /// The user's name; empty when unknown.
    pub username: String,
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The program and its version.
    pub program_version: String,
    /// This process.
    pub pid: u32,
    /// When this process started, in the system's own ticks; tells it from a later process of that number.
    pub started_ticks: u64,
}

/// A snapshot file of the repository, read as a stored entity.
#[derive(Clone, Debug)]
pub struct StoredSnapshot {
    /// The snapshot file.
    pub file: FileId,
    /// What it says.
    pub snapshot: Snapshot,
    /// The entity it is a state of. A foreign snapshot is named by its first path.
    pub entity: EntityName,
    /// Where that entity lives.
    pub host: Host,
    /// The id of this state; for a foreign snapshot the file's.
    pub id: SnapshotId,
    /// The run that made it.
    pub run: Option<RunId>,
    /// Who wrote it.
    pub origin: Origin,
    /// When it was made.
    pub time: Time,
}

impl StoredSnapshot {
    /// Reads the identity of a snapshot file.
    ///
    /// # Errors
    /// When it names no entity at all: no tags of ours and no path.
    pub fn read(file: FileId, snapshot: Snapshot) -> Result<Self> {
        let tag = |prefix: &str| {
            snapshot.tags.iter().find_map(|tag| tag.strip_prefix(prefix).map(str::to_owned))
        };
        let evidence = snapshot.tags.iter().any(|tag| tag == TAG_EVIDENCE);
        let named = tag(TAG_ENTITY).and_then(|text| text.parse::<EntityName>().ok());
        let id = tag(TAG_SNAPSHOT).and_then(|text| text.parse::<SnapshotId>().ok());
        let partial = snapshot.tags.iter().any(|tag| tag == TAG_PARTIAL);
        let origin = match (&named, evidence, partial) {
            (_, true, _) => Origin::Evidence,
            (Some(_), false, true) if !Sabotage::TakePartialForWhole.is_on() => Origin::Partial,
            (Some(_), false, _) => Origin::Ours,
            (None, false, _) => Origin::Foreign,
        };
        let entity = match named {
            Some(entity) => entity,
            None => foreign_entity(&snapshot)?,
        };
        Ok(Self {
            file,
            host: host_of(&snapshot.hostname)?,
            id: match id {
                Some(id) => id,
                None => file.to_string().parse()?,
            },
            run: tag(TAG_RUN).and_then(|text| text.parse().ok()),
            time: snapshot.time,
            entity,
            origin,
            snapshot,
        })
    }

    /// `ENTITY:SNAPSHOT`.
    #[must_use]
    pub fn entity_id(&self) -> EntityId {
        self.entity.at(self.id.clone())
    }
}

/// The tags that make a snapshot file the state of an entity.
pub(crate) fn tags(entity: &EntityName, id: &SnapshotId, run: &RunId) -> Vec<String> {
    vec![format!("{TAG_ENTITY}{entity}"), format!("{TAG_SNAPSHOT}{id}"), format!("{TAG_RUN}{run}")]
}

/// The tag of what a run has stored that has not ended.
pub(crate) fn partial_tag() -> String {
    TAG_PARTIAL.to_owned()
}

/// The tags of a proof about an entity, or about the whole repository.
pub(crate) fn evidence_tags(about: &EntityName, run: &RunId) -> Vec<String> {
    vec![TAG_EVIDENCE.to_owned(), format!("{TAG_ENTITY}{about}"), format!("{TAG_RUN}{run}")]
}

/// Makes a snapshot that was made of another one a state of its own, and says what it is.
pub(crate) fn renamed(snapshot: &mut Snapshot, id: &SnapshotId) {
    for tag in &mut snapshot.tags {
        if tag.starts_with(TAG_SNAPSHOT) {
            *tag = format!("{TAG_SNAPSHOT}{id}");
        }
    }
    if !is_repaired(snapshot) {
        snapshot.tags.push(TAG_REPAIRED.to_owned());
    }
}

/// True of a snapshot that was written again without what was lost. restic marks its own so, too.
pub(crate) fn is_repaired(snapshot: &Snapshot) -> bool {
    snapshot.tags.iter().any(|tag| tag == TAG_REPAIRED)
}

fn foreign_entity(snapshot: &Snapshot) -> Result<EntityName> {
    let path = snapshot.paths.first().map_or("/", String::as_str);
    Ok(EntityName { type_name: "fs".parse()?, object: ObjectId::encode(path.as_bytes())? })
}

/// The host of that name; a byte that host names do not have becomes `_XX` as in object ids, and
/// no name at all becomes `unknown`.
pub(crate) fn host_of(name: &str) -> Result<Host> {
    match name.parse::<Host>() {
        Ok(host) => Ok(host),
        Err(_) if name.is_empty() => Ok("unknown".parse()?),
        Err(_) => Ok(alidade_model::encode_object(name.as_bytes()).parse()?),
    }
}

/// The path under which an entity's content lies in a snapshot, as bytes, absolute.
///
/// For `fs` it is the path itself; every other type lies below `/<type>/<object>`, an object that is a path
/// without its first slash.
#[must_use]
pub fn stored_path(entity: &EntityName) -> Vec<u8> {
    if entity.type_name.as_str() == "fs" {
        entity.object.decode()
    } else {
        let object = entity.object.as_str().trim_start_matches('/');
        format!("/{}/{object}", entity.type_name).into_bytes()
    }
}

/// Splits an absolute path into its components.
#[must_use]
pub fn components(path: &[u8]) -> Vec<&[u8]> {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()).collect()
}

/// True when `path` is `above` or lies below it; both absolute.
#[must_use]
pub fn is_within(path: &[u8], above: &[u8]) -> bool {
    let (path, above) = (components(path), components(above));
    path.len() >= above.len() && path[..above.len()] == above[..]
}

impl Error {
    /// Something that was named does not exist.
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }
}
