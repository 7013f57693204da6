use std::ffi::OsString;

use clap::Args;

/// Lists the entries of a snapshot.
#[derive(Debug, Args)]
pub struct Ls {
    /// The snapshot: ENTITY, ENTITY@TIME, TYPE:OBJECT:SNAPSHOT, the beginning of an id, or `latest`; `:/PATH` after it lists only that path
    pub what: OsString,
    /// Mode, owner, size and time of each entry too
    #[arg(short, long)]
    pub long: bool,
}
