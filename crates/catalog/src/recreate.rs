use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, params};

use crate::{Catalog, Error, Result};

/// A catalog that began anew.
#[derive(Debug)]
pub struct Recreated {
    /// The empty catalog.
    pub catalog: Catalog,
    /// Where the old file is now; `None` when there was none.
    pub moved_to: Option<PathBuf>,
}

/// What could still be read of a broken catalog.
type Salvage = rusqlite::Result<(Vec<(String, Option<String>)>, Vec<String>)>;

impl Catalog {
    /// Begins anew at `path`. A file that is there is moved aside as `NAME.broken-N`, never
    /// deleted, together with its log; the ids of its runs and tasks are noted as far as they can
    /// be read, so that the next [`Catalog::replace_derived`] reports what is lost.
    ///
    /// Another process that has the old file open goes on writing into the moved file.
    ///
    /// # Errors
    /// When the old file cannot be moved or the new one not be made.
    pub fn recreate(path: &Path) -> Result<Recreated> {
        let moved_to = move_aside(path)?;
        let catalog = Self::open(path)?;
        match &moved_to {
            None => catalog.note_lost(Ok((Vec::new(), Vec::new())), true)?,
            Some(old) => catalog.note_lost(salvage(old), false)?,
        }
        Ok(Recreated { catalog, moved_to })
    }

    fn note_lost(&self, found: Salvage, gone: bool) -> Result<()> {
        self.write("note what the broken catalog held", |transaction| {
            let (runs, tasks) = match found {
                Ok(found) if !gone => found,
                // Unreadable or not there: nobody knows what it held.
                _ => {
                    transaction
                        .execute("INSERT OR IGNORE INTO lost VALUES ('unknown', '', NULL)", [])?;
                    return Ok(());
                }
            };
            let mut note = transaction.prepare("INSERT OR IGNORE INTO lost VALUES (?1, ?2, ?3)")?;
            for (id, repository) in &runs {
                note.execute(params!["run", id, repository])?;
            }
            for id in &tasks {
                note.execute(params!["task", id, None::<String>])?;
            }
            Ok(())
        })
    }
}

fn salvage(old: &Path) -> Salvage {
    // Read only: the old files stay as they were found, the log too.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(old, flags)?;
    let intact: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if intact != "ok" {
        return Err(rusqlite::Error::InvalidQuery);
    }
    let runs = connection
        .prepare("SELECT id, repository FROM runs")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let tasks = connection
        .prepare("SELECT id FROM tasks")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    Ok((runs, tasks))
}

/// Moves the file and its logs to the first free `NAME.broken-N`. The logs go first: a log that
/// stayed behind would be played into the new file.
fn move_aside(path: &Path) -> Result<Option<PathBuf>> {
    let there = |path: &Path| path.try_exists().map_err(|source| refused("look for", path, source));
    if !there(path)? && !there(&with(path, "-wal"))? {
        return Ok(None);
    }
    let mut number = 1_u32;
    let aside = loop {
        let aside = with(path, &format!(".broken-{number}"));
        if !there(&aside)? && !there(&with(&aside, "-wal"))? {
            break aside;
        }
        number += 1;
    };
    for suffix in ["-wal", "-shm", ""] {
        let from = with(path, suffix);
        match fs::rename(&from, with(&aside, suffix)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(refused("move aside", &from, source));
            }
            _ => {}
        }
    }
    Ok(Some(aside))
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn refused(attempt: &'static str, path: &Path, source: io::Error) -> Error {
    Error::File { attempt, path: path.to_owned(), source }
}
