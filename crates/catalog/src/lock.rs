use alidade_model::Time;
use rusqlite::{Row, params};

use crate::{Catalog, Result, sql};

/// A lock file that a process of this machine wrote into a repository.
///
/// Process id, boot and start together name one process for ever: ids are used again, and so are
/// process ids after a restart. A recorded lock whose process is gone is ours to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRow {
    /// The repository's id.
    pub repository: String,
    /// The lock file's id.
    pub file_id: String,
    /// The process that holds it.
    pub pid: u32,
    /// The boot of the machine it runs in.
    pub boot_id: String,
    /// When that process started, in clock ticks since the boot.
    pub start_ticks: u64,
    /// When the lock was written.
    pub created: Time,
}

impl Catalog {
    /// Records a lock. Record it before the lock file is written: then no crash leaves a lock
    /// that nobody remembers.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn record_lock(&self, lock: &LockRow) -> Result<()> {
        self.write("record a lock", |transaction| {
            let ticks = i64::try_from(lock.start_ticks)
                .map_err(|source| rusqlite::Error::ToSqlConversionFailure(source.into()))?;
            transaction.execute(
                "INSERT OR REPLACE INTO locks
                     (repository, file_id, pid, boot_id, start_ticks, created_s, created_n)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    lock.repository,
                    lock.file_id,
                    lock.pid,
                    lock.boot_id,
                    ticks,
                    lock.created.seconds,
                    lock.created.nanos,
                ],
            )?;
            Ok(())
        })
    }

    /// Forgets a lock, after its file was removed. A lock that is not recorded is no error.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn forget_lock(&self, repository: &str, file_id: &str) -> Result<()> {
        self.write("forget a lock", |transaction| {
            transaction.execute(
                "DELETE FROM locks WHERE repository = ?1 AND file_id = ?2",
                [repository, file_id],
            )?;
            Ok(())
        })
    }

    /// The locks this machine recorded for a repository, the oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn recorded_locks(&self, repository: &str) -> Result<Vec<LockRow>> {
        self.read("list locks", |connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM locks WHERE repository = ?1
                     ORDER BY created_s, created_n, file_id",
                )?
                .query_map([repository], read)?
                .collect()
        })
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<LockRow> {
    Ok(LockRow {
        repository: row.get("repository")?,
        file_id: row.get("file_id")?,
        pid: row.get("pid")?,
        boot_id: row.get("boot_id")?,
        start_ticks: u64::try_from(row.get::<_, i64>("start_ticks")?)
            .map_err(|source| sql::damaged(row, "start_ticks", source))?,
        created: sql::time(row, "created_s", "created_n")?,
    })
}
