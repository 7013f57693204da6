use std::ffi::OsString;

use clap::Args;

/// Compares two snapshots.
#[derive(Debug, Args)]
pub struct Diff {
    /// The older snapshot: ENTITY, ENTITY@TIME, TYPE:OBJECT:SNAPSHOT, the beginning of an id, or `latest`
    pub before: OsString,
    /// The newer one
    pub after: OsString,
}
