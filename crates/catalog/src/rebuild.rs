use std::collections::BTreeSet;

use rusqlite::{Transaction, params};

use crate::{Catalog, EvidenceRow, Result, RunRow, SnapshotRow, evidence, run, snapshot};

/// Everything that a repository itself says: the rows to put in place of what the catalog held.
#[derive(Clone, Debug, Default)]
pub struct Derived {
    /// Its snapshots; the entities follow from them.
    pub snapshots: Vec<SnapshotRow>,
    /// The runs that wrote them.
    pub runs: Vec<RunRow>,
    /// The evidence stored beside them.
    pub evidence: Vec<EvidenceRow>,
}

/// What a rebuild brought back, and what no repository could bring back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuildReport {
    /// Entities now recorded for the repository.
    pub entities: u64,
    /// Snapshots now recorded.
    pub snapshots: u64,
    /// Runs brought back.
    pub runs: u64,
    /// Evidence brought back.
    pub evidence: u64,
    /// Runs known to this catalog only, which were kept.
    pub local_runs_kept: u64,
    /// Runs that an earlier catalog held and that are gone; `None` when that catalog can no longer
    /// be read, so that nobody knows how many.
    pub local_runs_lost: Option<u64>,
    /// Tasks that an earlier catalog held and that are gone; `None` as above.
    pub tasks_lost: Option<u64>,
}

impl Catalog {
    /// Puts `rows` in place of all entities, snapshots and evidence of `repository`, in one
    /// transaction. Rebuilt runs replace the recorded ones of the same id; runs that only this
    /// catalog knows stay, and so do tasks and locks.
    ///
    /// What an earlier catalog lost is reported once, by the first rebuild after it.
    ///
    /// # Errors
    /// [`crate::Error::Refused`] when the repository was never put, or a row names another one;
    /// then everything is as it was.
    pub fn replace_derived(&self, repository: &str, rows: &Derived) -> Result<RebuildReport> {
        self.write("rebuild the catalog", |transaction| {
            if let Some(stranger) = names(rows).find(|&name| name != Some(repository)) {
                return Err(of_another_repository(stranger));
            }
            let lost = report_lost(transaction, repository, rows)?;
            clear(transaction, repository)?;
            for row in &rows.snapshots {
                snapshot::put(transaction, row)?;
            }
            // A file id that comes twice with different entities would leave the first one bare.
            snapshot::remove_bare_entities(transaction)?;
            for row in &rows.runs {
                run::put(transaction, row)?;
            }
            for row in &rows.evidence {
                evidence::put(transaction, row)?;
            }
            count(transaction, repository, rows, lost)
        })
    }
}

/// The repository that each row names.
fn names(rows: &Derived) -> impl Iterator<Item = Option<&str>> {
    let snapshots = rows.snapshots.iter().map(|row| Some(row.repository.as_str()));
    let runs = rows.runs.iter().map(|row| row.repository.as_deref());
    let evidence = rows.evidence.iter().map(|row| Some(row.repository.as_str()));
    snapshots.chain(runs).chain(evidence)
}

fn of_another_repository(stranger: Option<&str>) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CONSTRAINT),
        Some(format!("a rebuilt row is of repository {}", stranger.unwrap_or("(none)"))),
    )
}

fn clear(transaction: &Transaction<'_>, repository: &str) -> rusqlite::Result<()> {
    // Snapshots go with their entities.
    for table in ["entities", "evidence"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE repository = ?1"), [repository])?;
    }
    transaction.execute("UPDATE repositories SET rebuilt = 1 WHERE id = ?1", [repository])?;
    Ok(())
}

/// Runs and tasks that are gone, each `None` when nobody knows.
type Lost = (Option<u64>, Option<u64>);

/// Says what is gone, and forgets what was said.
fn report_lost(
    transaction: &Transaction<'_>,
    repository: &str,
    rows: &Derived,
) -> rusqlite::Result<Lost> {
    let count = |sql: &str, of: &str| -> rusqlite::Result<u64> {
        transaction.query_row(sql, params![of], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
    };
    let unknown =
        count("SELECT count(*) FROM lost WHERE kind = 'unknown' AND ?1 <> ''", repository)? > 0;
    if unknown || misses_history(transaction, repository, rows)? {
        transaction.execute("DELETE FROM lost", [])?;
        return Ok((None, None));
    }
    for row in &rows.runs {
        transaction
            .execute("DELETE FROM lost WHERE kind = 'run' AND id = ?1", [row.id.as_str()])?;
    }
    let of_repository = "kind = 'run' AND (repository = ?1 OR repository IS NULL)";
    let runs = count(&format!("SELECT count(*) FROM lost WHERE {of_repository}"), repository)?;
    let tasks = count("SELECT count(*) FROM lost WHERE kind = 'task' AND ?1 <> ''", repository)?;
    transaction.execute(
        &format!("DELETE FROM lost WHERE {of_repository} OR kind = 'task'"),
        [repository],
    )?;
    Ok((Some(runs), Some(tasks)))
}

/// True when the repository tells, at the first rebuild, of runs that this catalog never saw:
/// there was another catalog, and what it alone knew is gone.
fn misses_history(
    transaction: &Transaction<'_>,
    repository: &str,
    rows: &Derived,
) -> rusqlite::Result<bool> {
    let rebuilt: bool = transaction.query_row(
        "SELECT rebuilt FROM repositories WHERE id = ?1",
        [repository],
        |row| row.get(0),
    )?;
    if rebuilt {
        return Ok(false);
    }
    let mut known = transaction.prepare_cached(
        "SELECT 1 FROM runs WHERE id = ?1 UNION ALL SELECT 1 FROM lost WHERE kind = 'run' AND id = ?1",
    )?;
    for row in &rows.runs {
        if !known.exists([row.id.as_str()])? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn count(
    transaction: &Transaction<'_>,
    repository: &str,
    rows: &Derived,
    (local_runs_lost, tasks_lost): Lost,
) -> rusqlite::Result<RebuildReport> {
    let of = |table: &str| -> rusqlite::Result<u64> {
        let sql = format!("SELECT count(*) FROM {table} WHERE repository = ?1");
        transaction.query_row(&sql, [repository], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
    };
    let brought: BTreeSet<&str> = rows.runs.iter().map(|row| row.id.as_str()).collect();
    let runs = brought.len() as u64;
    Ok(RebuildReport {
        entities: of("entities")?,
        snapshots: of("snapshots")?,
        runs,
        evidence: of("evidence")?,
        local_runs_kept: of("runs")?.saturating_sub(runs),
        local_runs_lost,
        tasks_lost,
    })
}
