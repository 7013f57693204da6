use std::ffi::OsString;

use clap::Args;

/// Shows what is known of one snapshot.
#[derive(Debug, Args)]
pub struct Show {
    /// The snapshot: ENTITY, ENTITY@TIME, TYPE:OBJECT:SNAPSHOT, the beginning of an id, or `latest`
    pub what: OsString,
}
