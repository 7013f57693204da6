use alidade_model::{EntityName, Host, RunId, Time};
use rusqlite::{Row, Transaction, params};

use crate::{Catalog, Result, sql};

/// The numbers that prove something about a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceRow {
    /// The repository's id.
    pub repository: String,
    /// Its own id, unique in the repository.
    pub id: String,
    /// The run that found it, where it is known.
    pub run: Option<RunId>,
    /// Where the entity came from.
    pub host: Host,
    /// The entity.
    pub entity: EntityName,
    /// The file id of the snapshot it speaks of.
    pub snapshot_file: String,
    /// What was done to find it: `self-check`, `verify`, `prove`.
    pub kind: String,
    /// When.
    pub time: Time,
    /// What was found: a JSON text that belongs to the caller.
    pub detail: String,
}

impl Catalog {
    /// Records evidence; the same id again replaces the row. The snapshot need not be recorded.
    ///
    /// # Errors
    /// [`crate::Error::Refused`] when the repository was never put.
    pub fn put_evidence(&self, evidence: &EvidenceRow) -> Result<()> {
        self.write("record evidence", |transaction| put(transaction, evidence))
    }

    /// All evidence about one snapshot file, the oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn evidence_for(&self, repository: &str, snapshot_file: &str) -> Result<Vec<EvidenceRow>> {
        self.read("list evidence", |connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM evidence WHERE repository = ?1 AND snapshot_file = ?2
                     ORDER BY time_s, time_n, id",
                )?
                .query_map([repository, snapshot_file], read)?
                .collect()
        })
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<EvidenceRow> {
    Ok(EvidenceRow {
        repository: row.get("repository")?,
        id: row.get("id")?,
        run: sql::parsed_option(row, "run")?,
        host: sql::parsed(row, "host")?,
        entity: sql::entity(row)?,
        snapshot_file: row.get("snapshot_file")?,
        kind: row.get("kind")?,
        time: sql::time(row, "time_s", "time_n")?,
        detail: row.get("detail")?,
    })
}

pub(crate) fn put(transaction: &Transaction<'_>, row: &EvidenceRow) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO evidence
                 (repository, id, run, host, type, object, snapshot_file, kind, time_s, time_n, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            row.repository,
            row.id,
            row.run.as_ref().map(RunId::as_str),
            row.host.as_str(),
            row.entity.type_name.as_str(),
            row.entity.object.as_str(),
            row.snapshot_file,
            row.kind,
            row.time.seconds,
            row.time.nanos,
            row.detail,
        ])?;
    Ok(())
}
