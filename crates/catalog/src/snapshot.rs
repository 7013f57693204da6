//! Snapshots and the entities they are of.

use alidade_model::{EntityName, Host, Origin, RunId, SnapshotId, Time, TypeName};
use rusqlite::{Connection, Row, Transaction, params};

use crate::{Catalog, Result, sql};

/// One snapshot file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    /// The repository's id.
    pub repository: String,
    /// The snapshot file's id, 64 hex digits.
    pub file_id: String,
    /// Where the entity came from.
    pub host: Host,
    /// The entity.
    pub entity: EntityName,
    /// The entity's name as people write it: the path, for `fs`.
    pub name: String,
    /// The snapshot's id within the entity, where it has one.
    pub snapshot_id: Option<SnapshotId>,
    /// When the entity was frozen.
    pub time: Time,
    /// The file id of the snapshot it was compared with.
    pub parent: Option<String>,
    /// The root tree's blob id.
    pub tree: String,
    /// All tags, in the order of the file.
    pub tags: Vec<String>,
    /// Who wrote it.
    pub origin: Origin,
    /// The run that wrote it, where it is known.
    pub run: Option<RunId>,
    /// The content digest, in the text form of the caller.
    pub digest: Option<String>,
    /// The status of the run that wrote it, as a word.
    pub status: Option<String>,
    /// Counts and bytes: a JSON text that belongs to the caller.
    pub summary: Option<String>,
}

/// An entity that has snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityRow {
    /// The repository's id.
    pub repository: String,
    /// Where it came from.
    pub host: Host,
    /// The entity.
    pub entity: EntityName,
    /// Its name as people write it.
    pub name: String,
    /// How many snapshots of content it has; evidence is not counted.
    pub snapshots: u64,
    /// The newest snapshot of content: its time and file id.
    pub latest: Option<(Time, String)>,
}

/// Which entities; an empty field means all.
#[derive(Clone, Debug, Default)]
pub struct EntityFilter {
    /// Only in this repository.
    pub repository: Option<String>,
    /// Only from this host.
    pub host: Option<Host>,
    /// Only of this type.
    pub type_name: Option<TypeName>,
}

/// Which snapshots; an empty field means all.
#[derive(Clone, Debug, Default)]
pub struct SnapshotFilter {
    /// Only in this repository.
    pub repository: Option<String>,
    /// Only from this host.
    pub host: Option<Host>,
    /// Only of this entity.
    pub entity: Option<EntityName>,
    /// Only this origin.
    pub origin: Option<Origin>,
    /// Only file ids that begin with this.
    pub file_prefix: Option<String>,
}

impl Catalog {
    /// Records a snapshot and its entity; the same file id again replaces the row.
    ///
    /// # Errors
    /// [`crate::Error::Refused`] when the repository was never put or an id is not 64 hex digits.
    pub fn put_snapshot(&self, snapshot: &SnapshotRow) -> Result<()> {
        self.put_snapshots(std::slice::from_ref(snapshot))
    }

    /// Records many snapshots in one transaction.
    ///
    /// # Errors
    /// As [`Catalog::put_snapshot`]; then none of them is recorded.
    pub fn put_snapshots(&self, snapshots: &[SnapshotRow]) -> Result<()> {
        self.write("record snapshots", |transaction| {
            for snapshot in snapshots {
                put(transaction, snapshot)?;
            }
            remove_bare_entities(transaction)
        })
    }

    /// Forgets every snapshot of `repository` whose file id is not among `file_ids`, and the
    /// entities that are left without any. Returns how many snapshots were forgotten.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn remove_snapshots_not_in(&self, repository: &str, file_ids: &[String]) -> Result<u64> {
        self.write("forget snapshots", |transaction| {
            transaction.execute_batch(
                "CREATE TEMP TABLE IF NOT EXISTS kept (file_id TEXT PRIMARY KEY) WITHOUT ROWID;
                 DELETE FROM kept",
            )?;
            {
                let mut keep =
                    transaction.prepare_cached("INSERT OR IGNORE INTO kept VALUES (?1)")?;
                for file_id in file_ids {
                    keep.execute([file_id])?;
                }
            }
            let forgotten = transaction.execute(
                "DELETE FROM snapshots
                 WHERE repository = ?1 AND file_id NOT IN (SELECT file_id FROM kept)",
                [repository],
            )?;
            transaction.execute_batch("DELETE FROM kept")?;
            remove_bare_entities(transaction)?;
            Ok(forgotten as u64)
        })
    }

    /// The entities that match, by repository, host, type and object.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn entities(&self, filter: &EntityFilter) -> Result<Vec<EntityRow>> {
        self.read("list entities", |connection| entities(connection, filter))
    }

    /// The snapshots that match, the oldest first; equal times by file id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn snapshots(&self, filter: &SnapshotFilter) -> Result<Vec<SnapshotRow>> {
        self.read("list snapshots", |connection| {
            connection
                .prepare_cached(
                    "SELECT snapshots.*, entities.name FROM snapshots
                     JOIN entities USING (repository, host, type, object)
                     WHERE (?1 IS NULL OR repository = ?1)
                       AND (?2 IS NULL OR host = ?2)
                       AND (?3 IS NULL OR type = ?3)
                       AND (?4 IS NULL OR object = ?4)
                       AND (?5 IS NULL OR origin = ?5)
                       AND (?6 IS NULL OR substr(file_id, 1, length(?6)) = ?6)
                     ORDER BY time_s, time_n, file_id, repository",
                )?
                .query_map(
                    params![
                        filter.repository,
                        filter.host.as_ref().map(Host::as_str),
                        filter.entity.as_ref().map(|entity| entity.type_name.as_str()),
                        filter.entity.as_ref().map(|entity| entity.object.as_str()),
                        filter.origin.map(Origin::word),
                        filter.file_prefix,
                    ],
                    read,
                )?
                .collect()
        })
    }
}

fn entities(connection: &Connection, filter: &EntityFilter) -> rusqlite::Result<Vec<EntityRow>> {
    // The newest snapshot comes from a window, not from a bare column beside max(): times are two
    // columns, and equal times must be decided by the file id.
    connection
        .prepare_cached(
            "WITH content AS (
                 SELECT repository, host, type, object, file_id, time_s, time_n,
                        count(*) OVER entity AS snapshots,
                        row_number() OVER (
                            PARTITION BY repository, host, type, object
                            ORDER BY time_s DESC, time_n DESC, file_id DESC) AS place
                 FROM snapshots WHERE origin <> 'evidence'
                 WINDOW entity AS (PARTITION BY repository, host, type, object))
             SELECT entities.*, coalesce(content.snapshots, 0) AS snapshots,
                    content.file_id, content.time_s, content.time_n
             FROM entities
             LEFT JOIN content ON content.repository = entities.repository
                  AND content.host = entities.host AND content.type = entities.type
                  AND content.object = entities.object AND content.place = 1
             WHERE (?1 IS NULL OR entities.repository = ?1)
               AND (?2 IS NULL OR entities.host = ?2)
               AND (?3 IS NULL OR entities.type = ?3)
             ORDER BY entities.repository, entities.host, entities.type, entities.object",
        )?
        .query_map(
            params![
                filter.repository,
                filter.host.as_ref().map(Host::as_str),
                filter.type_name.as_ref().map(TypeName::as_str),
            ],
            read_entity,
        )?
        .collect()
}

fn read_entity(row: &Row<'_>) -> rusqlite::Result<EntityRow> {
    let file_id: Option<String> = row.get("file_id")?;
    let latest = match file_id {
        None => None,
        Some(file_id) => Some((sql::time(row, "time_s", "time_n")?, file_id)),
    };
    Ok(EntityRow {
        repository: row.get("repository")?,
        host: sql::parsed(row, "host")?,
        entity: sql::entity(row)?,
        name: row.get("name")?,
        snapshots: u64::try_from(row.get::<_, i64>("snapshots")?)
            .map_err(|source| sql::damaged(row, "snapshots", source))?,
        latest,
    })
}

fn read(row: &Row<'_>) -> rusqlite::Result<SnapshotRow> {
    let (tags, origin): (String, String) = (row.get("tags")?, row.get("origin")?);
    let origin = Origin::from_word(&origin)
        .ok_or_else(|| sql::damaged(row, "origin", format!("`{origin}` is no origin")))?;
    Ok(SnapshotRow {
        repository: row.get("repository")?,
        file_id: row.get("file_id")?,
        host: sql::parsed(row, "host")?,
        entity: sql::entity(row)?,
        name: row.get("name")?,
        snapshot_id: sql::parsed_option(row, "snapshot_id")?,
        time: sql::time(row, "time_s", "time_n")?,
        parent: row.get("parent")?,
        tree: row.get("tree")?,
        tags: serde_json::from_str(&tags).map_err(|source| sql::damaged(row, "tags", source))?,
        origin,
        run: sql::parsed_option(row, "run")?,
        digest: row.get("digest")?,
        status: row.get("status")?,
        summary: row.get("summary")?,
    })
}

pub(crate) fn put(transaction: &Transaction<'_>, row: &SnapshotRow) -> rusqlite::Result<()> {
    let tags = serde_json::to_string(&row.tags)
        .map_err(|source| rusqlite::Error::ToSqlConversionFailure(source.into()))?;
    let (host, type_name, object) =
        (row.host.as_str(), row.entity.type_name.as_str(), row.entity.object.as_str());
    transaction
        .prepare_cached(
            "INSERT INTO entities (repository, host, type, object, name) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET name = excluded.name",
        )?
        .execute(params![row.repository, host, type_name, object, row.name])?;
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO snapshots
                 (repository, file_id, host, type, object, snapshot_id, time_s, time_n, parent,
                  tree, tags, origin, run, digest, status, summary)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )?
        .execute(params![
            row.repository,
            row.file_id,
            host,
            type_name,
            object,
            row.snapshot_id.as_ref().map(SnapshotId::as_str),
            row.time.seconds,
            row.time.nanos,
            row.parent,
            row.tree,
            tags,
            row.origin.word(),
            row.run.as_ref().map(RunId::as_str),
            row.digest,
            row.status,
            row.summary,
        ])?;
    Ok(())
}

pub(crate) fn remove_bare_entities(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM entities WHERE NOT EXISTS (
             SELECT 1 FROM snapshots
             WHERE snapshots.repository = entities.repository AND snapshots.host = entities.host
               AND snapshots.type = entities.type AND snapshots.object = entities.object)",
        [],
    )?;
    Ok(())
}
