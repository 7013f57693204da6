use alidade_model::{EntityName, Host, RunId, Time, TypeName};
use rusqlite::{Row, Transaction, params};

use crate::{Catalog, Error, Result, sql};

/// One run of a verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// Its id.
    pub id: RunId,
    /// The repository's id, where the run got that far.
    pub repository: Option<String>,
    /// The verb, as a word.
    pub verb: String,
    /// The entity, where it has one.
    pub entity: Option<EntityName>,
    /// Where it ran.
    pub host: Host,
    /// The snapshot file it wrote or used.
    pub snapshot_file: Option<String>,
    /// When it began.
    pub started: Time,
    /// When it ended; none while it runs, or when it never came to its end.
    pub ended: Option<Time>,
    /// How it ended, as a word.
    pub status: String,
    /// The exit code of the process.
    pub exit_code: Option<i32>,
    /// The outcome: a JSON text that belongs to the caller.
    pub outcome: Option<String>,
}

/// Which runs; an empty field means all.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Only on this repository.
    pub repository: Option<String>,
    /// Only on this host.
    pub host: Option<Host>,
    /// Only of this entity.
    pub entity: Option<EntityName>,
    /// Only of this verb.
    pub verb: Option<String>,
    /// Only with this status.
    pub status: Option<String>,
}

impl Catalog {
    /// Records a run; the same id again replaces the row, so that a run may be put when it begins
    /// and when it ends.
    ///
    /// # Errors
    /// [`Error::Refused`] when it names a repository that was never put.
    pub fn put_run(&self, run: &RunRow) -> Result<()> {
        self.write("record a run", |transaction| put(transaction, run))
    }

    /// The newest `limit` runs that match, the newest first; equal times by id.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn runs(&self, filter: &RunFilter, limit: usize) -> Result<Vec<RunRow>> {
        self.read("list runs", |connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM runs
                     WHERE (?1 IS NULL OR repository = ?1)
                       AND (?2 IS NULL OR host = ?2)
                       AND (?3 IS NULL OR type = ?3)
                       AND (?4 IS NULL OR object = ?4)
                       AND (?5 IS NULL OR verb = ?5)
                       AND (?6 IS NULL OR status = ?6)
                     ORDER BY started_s DESC, started_n DESC, id DESC LIMIT ?7",
                )?
                .query_map(
                    params![
                        filter.repository,
                        filter.host.as_ref().map(Host::as_str),
                        filter.entity.as_ref().map(|entity| entity.type_name.as_str()),
                        filter.entity.as_ref().map(|entity| entity.object.as_str()),
                        filter.verb,
                        filter.status,
                        i64::try_from(limit).unwrap_or(i64::MAX),
                    ],
                    read,
                )?
                .collect()
        })
    }

    /// The run with this id, or the only one whose id begins with it.
    ///
    /// # Errors
    /// [`Error::AmbiguousRun`] when several begin with it and none is it.
    pub fn run(&self, prefix: &str) -> Result<Option<RunRow>> {
        let mut found: Vec<RunRow> = self.read("find a run", |connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM runs WHERE substr(id, 1, length(?1)) = ?1
                     ORDER BY id <> ?1, id LIMIT 2",
                )?
                .query_map([prefix], read)?
                .collect()
        })?;
        if found.len() > 1 && found[0].id.as_str() != prefix {
            return Err(Error::AmbiguousRun { prefix: prefix.to_owned() });
        }
        found.truncate(1);
        Ok(found.pop())
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    let type_name: Option<TypeName> = sql::parsed_option(row, "type")?;
    let object = sql::parsed_option(row, "object")?;
    let ended_seconds: Option<i64> = row.get("ended_s")?;
    let ended_nanos: Option<u32> = row.get("ended_n")?;
    Ok(RunRow {
        id: sql::parsed(row, "id")?,
        repository: row.get("repository")?,
        verb: row.get("verb")?,
        entity: type_name.zip(object).map(|(type_name, object)| EntityName { type_name, object }),
        host: sql::parsed(row, "host")?,
        snapshot_file: row.get("snapshot_file")?,
        started: sql::time(row, "started_s", "started_n")?,
        ended: ended_seconds.zip(ended_nanos).map(|(seconds, nanos)| Time::new(seconds, nanos)),
        status: row.get("status")?,
        exit_code: row.get("exit_code")?,
        outcome: row.get("outcome")?,
    })
}

pub(crate) fn put(transaction: &Transaction<'_>, run: &RunRow) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO runs
                 (id, repository, verb, type, object, host, snapshot_file, started_s, started_n,
                  ended_s, ended_n, status, exit_code, outcome)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            run.id.as_str(),
            run.repository,
            run.verb,
            run.entity.as_ref().map(|entity| entity.type_name.as_str()),
            run.entity.as_ref().map(|entity| entity.object.as_str()),
            run.host.as_str(),
            run.snapshot_file,
            run.started.seconds,
            run.started.nanos,
            run.ended.map(|time| time.seconds),
            run.ended.map(|time| time.nanos),
            run.status,
            run.exit_code,
            run.outcome,
        ])?;
    Ok(())
}
