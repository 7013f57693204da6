use std::io;
use std::sync::Arc;

use crate::FileKind;

/// The result of anything the repository does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the repository could not do it. Messages say what was attempted or found and never repeat
/// their source; no message holds a secret.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no repository at that place.
    #[error("no repository at {location}")]
    NoRepository {
        /// Where it was looked for.
        location: String,
    },
    /// There is one already.
    #[error("a repository exists already at {location}")]
    Exists {
        /// Where.
        location: String,
    },
    /// No key file opens with this password.
    #[error("wrong password: it opens none of the {keys} keys of the repository at {location}")]
    WrongPassword {
        /// Where.
        location: String,
        /// How many key files were tried.
        keys: usize,
    },
    /// The configuration names a format version this program does not know.
    #[error("the repository at {location} has format version {version}; known are 1 and 2")]
    UnknownVersion {
        /// Where.
        location: String,
        /// The version found.
        version: u64,
    },
    /// Another process holds a lock that forbids this one.
    #[error("the repository is locked: {holder}")]
    Locked {
        /// Who holds it, since when, and whether it looks dead.
        holder: String,
        /// The id of the lock file.
        lock: String,
        /// True when it is older than a living holder would let it get, or its process is gone.
        stale: bool,
    },
    /// Our own lock was removed by another; what was written since may be gone.
    #[error("this run's lock was removed by another process")]
    LockLost,
    /// What is stored is not what was written: wrong hash, wrong MAC, wrong structure, missing.
    #[error("damaged {what}: {why}")]
    Damaged {
        /// What is damaged, with its id: `pack 1234…`.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file or blob that was asked for by id is not there.
    #[error("{what} is not in the repository")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// An id prefix fits more than one file.
    #[error("`{prefix}` fits more than one {kind}")]
    Ambiguous {
        /// The prefix.
        prefix: String,
        /// What it was meant to name.
        kind: &'static str,
    },
    /// Something to be stored is beyond what the format can hold.
    #[error("{what} does not fit the repository format: {why}")]
    Unrepresentable {
        /// What it is.
        what: String,
        /// Which bound it passes.
        why: String,
    },
    /// The blob just sealed does not open to what went in: a fault of this machine. Nothing was stored.
    #[error("self-check failed for blob {blob}: {why}")]
    SelfCheck {
        /// The blob.
        blob: String,
        /// What differed.
        why: String,
    },
    /// The request itself makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The store failed.
    #[error("{attempt}")]
    Store {
        /// What was attempted.
        attempt: String,
        /// What the system answered.
        #[source]
        source: Arc<io::Error>,
    },
    /// The machine failed in another way: no randomness.
    #[error("{attempt}")]
    System {
        /// What was attempted.
        attempt: String,
    },
    /// The run was told to stop.
    #[error("the run was interrupted")]
    Cancelled,
}

impl Error {
    /// A failed operation of the store.
    #[must_use]
    pub fn store(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Store { attempt: attempt.into(), source: Arc::new(source.into()) }
    }

    /// Something stored that is not what was written.
    #[must_use]
    pub fn damaged(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), why: why.into() }
    }

    /// A damaged file, named by kind and name.
    #[must_use]
    pub fn damaged_file(kind: FileKind, name: &str, why: impl Into<String>) -> Self {
        Self::damaged(format!("{} {name}", kind.word()), why)
    }
}

impl From<alidade_entity::Error> for Error {
    /// What the context answers: told to stop, or no randomness.
    fn from(error: alidade_entity::Error) -> Self {
        match error.class() {
            alidade_entity::Class::Cancelled => Self::Cancelled,
            _ => Self::System { attempt: error.chain() },
        }
    }
}
