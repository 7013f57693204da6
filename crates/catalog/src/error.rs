use std::io;
use std::path::PathBuf;

/// The result of anything the catalog does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the catalog could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database file is damaged, or is no catalog. Everything in it that a repository knows
    /// can be brought back.
    #[error("the catalog {path} is damaged ({what}); run `alidade catalog rebuild`")]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The database was written by a newer version of this program. It was not changed.
    #[error(
        "the catalog {path} has schema version {found}, this program knows {known}; use the newer program"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The version it has.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// Another process held the database for too long.
    #[error("{attempt}: another process holds the catalog")]
    Busy {
        /// What was attempted.
        attempt: &'static str,
    },
    /// A row names a repository that was never put, or breaks another rule of the schema.
    #[error("{attempt}: the catalog refuses this row")]
    Refused {
        /// What was attempted.
        attempt: &'static str,
        /// The rule that was broken.
        source: rusqlite::Error,
    },
    /// More than one run begins with this text.
    #[error("`{prefix}` is the beginning of several runs")]
    AmbiguousRun {
        /// The text as it was given.
        prefix: String,
    },
    /// The file system refused.
    #[error("{attempt} {path}")]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Anything else SQLite reports.
    #[error("{attempt}")]
    Database {
        /// What was attempted.
        attempt: &'static str,
        /// Why not.
        source: rusqlite::Error,
    },
}
