//! The catalog: what exists where. Repositories, entities, snapshots, runs, evidence, tasks.
//!
//! It knows SQL, and it is the only engine that does. It refuses to know what a repository looks
//! like, what time it is and where its file should live: it takes plain values and a path.
//!
//! **It is derived.** Whatever it says of a repository can be read from that repository again;
//! [`Catalog::replace_derived`] puts the rebuilt rows in place of the old ones. Only tasks, the
//! record of our own locks, when packs were last read, and runs that left nothing in any repository are known here
//! alone.
//!
//! # Guarantees
//! - Every method is one transaction: all of it is there, or nothing, also after a power cut
//!   (write-ahead log, every commit is synced).
//! - Several processes may use one file. A writer waits for another up to [`BUSY_TIMEOUT`].
//! - A file that a newer version wrote is refused, never changed. A damaged file is
//!   [`Error::Corrupt`], and [`Catalog::recreate`] begins anew without deleting it.
//!
//! Start at [`Catalog`].

mod catalog;
mod error;
mod evidence;
mod lock;
mod migration;
mod pack_read;
mod rebuild;
mod recreate;
mod repository;
mod run;
mod snapshot;
mod sql;
mod task;

pub use catalog::{BUSY_TIMEOUT, Catalog};
pub use error::{Error, Result};
pub use evidence::EvidenceRow;
pub use lock::LockRow;
pub use migration::SCHEMA_VERSION;
pub use pack_read::PackName;
pub use rebuild::{Derived, RebuildReport};
pub use recreate::Recreated;
pub use repository::RepositoryRow;
pub use run::{RunFilter, RunRow};
pub use snapshot::{EntityFilter, EntityRow, SnapshotFilter, SnapshotRow};
pub use task::TaskRow;
