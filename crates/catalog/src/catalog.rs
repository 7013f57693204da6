use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Error, Result};
use crate::migration::{Found, SCHEMA_VERSION, migrate};

/// How long a writer waits for a writer of another process.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the switch to the write-ahead log is tried, and how long between two tries: SQLite
/// does not wait there by itself while another process opens the same new file.
const WAL_TRIES: u32 = 600;
const WAL_PAUSE: Duration = Duration::from_millis(50);

/// The catalog in one SQLite file. Shared by reference between threads; calls wait for each other.
#[derive(Debug)]
pub struct Catalog {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Catalog {
    /// Opens the catalog at `path`, and creates it where there is none: the directory with mode
    /// 0700, the file with mode 0600. An older schema is brought up to date.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged file or another program's database, [`Error::Newer`] for
    /// the file of a newer version; neither is changed.
    pub fn open(path: &Path) -> Result<Self> {
        prepare(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .map_err(|source| classify(path, "open the catalog", source))?;
        Self::begin(connection, path)
    }

    /// A catalog that ends with the process: for tests and for runs without a data directory.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn in_memory() -> Result<Self> {
        let path = Path::new(":memory:");
        let connection = Connection::open_in_memory()
            .map_err(|source| classify(path, "open a catalog in memory", source))?;
        Self::begin(connection, path)
    }

    /// The file this catalog lives in, `:memory:` for none.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole database and looks whether its pages, indexes and references hold together.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with the first thing that does not.
    pub fn check(&self) -> Result<()> {
        let found: Option<String> = self.read("check the catalog", |connection| {
            let integrity: String =
                connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
            if integrity != "ok" {
                return Ok(Some(integrity));
            }
            let mut loose = connection.prepare("PRAGMA foreign_key_check")?;
            let mut rows = loose.query([])?;
            let table: Option<String> = rows.next()?.map(|row| row.get(0)).transpose()?;
            Ok(table.map(|table| format!("a row of {table} refers to nothing")))
        })?;
        match found {
            None => Ok(()),
            Some(what) => Err(Error::Corrupt { path: self.path.clone(), what }),
        }
    }

    fn begin(mut connection: Connection, path: &Path) -> Result<Self> {
        let attempt = "open the catalog";
        let state = configure(&connection)
            .and_then(|()| migrate(&mut connection))
            .map_err(|source| classify(path, attempt, source))?;
        match state {
            Found::Ready => {}
            Found::Alien => {
                let what = "it is a database of another program".to_owned();
                return Err(Error::Corrupt { path: path.to_owned(), what });
            }
            Found::Newer(found) => {
                return Err(Error::Newer { path: path.to_owned(), found, known: SCHEMA_VERSION });
            }
        }
        use_write_ahead_log(&connection).map_err(|source| classify(path, attempt, source))?;
        Ok(Self { connection: Mutex::new(connection), path: path.to_owned() })
    }

    /// Runs `work` on the connection, outside a transaction of its own.
    pub(crate) fn read<T>(
        &self,
        attempt: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        work(&self.lock()).map_err(|source| classify(&self.path, attempt, source))
    }

    /// Runs `work` in one transaction that waits for other writers first; an error undoes it.
    pub(crate) fn write<T>(
        &self,
        attempt: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut connection = self.lock();
        transact(&mut connection, work).map_err(|source| classify(&self.path, attempt, source))
    }

    /// A panic of another thread has rolled its transaction back: the connection is sound.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn transact<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    // Immediate: a transaction that reads first and writes later fails instead of waiting when
    // another process writes in between.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let value = work(&transaction)?;
    transaction.commit()?;
    Ok(value)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", false)
}

fn use_write_ahead_log(connection: &Connection) -> rusqlite::Result<()> {
    let mut tries = WAL_TRIES;
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())) {
            Err(error) if tries > 0 && is_busy(&error) => {
                tries -= 1;
                std::thread::sleep(WAL_PAUSE);
            }
            ended => return ended,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Makes the directory and an empty file with the modes they must have; SQLite gives its log
/// files the mode of the database.
fn prepare(path: &Path) -> Result<()> {
    let refused = |attempt, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| Error::File { attempt, path, source }
    };
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(refused("create directory", directory))?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(refused("open file", path))?;
    let mode = file.metadata().map_err(refused("read the mode of", path))?.permissions().mode();
    if mode & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))
            .map_err(refused("set mode 0600 of", path))?;
    }
    Ok(())
}

/// Sorts what SQLite reports into what the caller can act on.
pub(crate) fn classify(path: &Path, attempt: &'static str, source: rusqlite::Error) -> Error {
    let damage = matches!(
        source.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    ) || matches!(
        source,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
    ) || is_missing_table(&source);
    if damage {
        return Error::Corrupt { path: path.to_owned(), what: source.to_string() };
    }
    match source.sqlite_error_code() {
        _ if is_busy(&source) => Error::Busy { attempt },
        Some(ErrorCode::ConstraintViolation) => Error::Refused { attempt, source },
        _ => Error::Database { attempt, source },
    }
}

/// A statement of ours that does not fit the schema: somebody changed the tables.
fn is_missing_table(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqlInputError { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_commit_is_synced_into_a_write_ahead_log_and_references_are_checked() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&directory.path().join("catalog.sqlite")).unwrap();
        let value = |name: &str| -> String {
            let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
            catalog
                .read("look", |connection| connection.query_row(&sql, [], |row| row.get(0)))
                .unwrap()
        };
        assert_eq!(value("journal_mode"), "wal");
        assert_eq!(value("synchronous"), "2", "2 is FULL");
        assert_eq!(value("foreign_keys"), "1");
    }
}
