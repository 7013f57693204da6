use alidade_model::Time;
use rusqlite::{Row, params};

use crate::{Catalog, Result, sql};

/// A repository this machine has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryRow {
    /// The id in its config file, 64 hex digits.
    pub id: String,
    /// Where it was found last.
    pub location: String,
    /// When it was seen first.
    pub first_seen: Time,
    /// When it was seen last.
    pub last_seen: Time,
}

impl Catalog {
    /// Notes that the repository `id` was seen at `location` at the time `now`. A repository must
    /// be put before rows that name it.
    ///
    /// # Errors
    /// [`crate::Error::Refused`] when `id` is not 64 lower case hex digits.
    pub fn put_repository(&self, id: &str, location: &str, now: Time) -> Result<()> {
        self.write("record a repository", |transaction| {
            transaction.execute(
                "INSERT INTO repositories
                     (id, location, first_seen_s, first_seen_n, last_seen_s, last_seen_n)
                 VALUES (?1, ?2, ?3, ?4, ?3, ?4)
                 ON CONFLICT (id) DO UPDATE SET location = ?2, last_seen_s = ?3, last_seen_n = ?4",
                params![id, location, now.seconds, now.nanos],
            )?;
            Ok(())
        })
    }

    /// All repositories, the one seen first in front.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn repositories(&self) -> Result<Vec<RepositoryRow>> {
        self.read("list repositories", |connection| {
            connection
                .prepare_cached(
                    "SELECT * FROM repositories ORDER BY first_seen_s, first_seen_n, id",
                )?
                .query_map([], read)?
                .collect()
        })
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<RepositoryRow> {
    Ok(RepositoryRow {
        id: row.get("id")?,
        location: row.get("location")?,
        first_seen: sql::time(row, "first_seen_s", "first_seen_n")?,
        last_seen: sql::time(row, "last_seen_s", "last_seen_n")?,
    })
}
