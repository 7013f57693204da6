use std::ffi::OsString;

use clap::Args;

/// Finds entries in snapshots by name.
#[derive(Debug, Args)]
pub struct Find {
    /// A pattern for the name, or, with a slash in it, for the whole path; `*`, `?`, `[…]`, `**`
    #[arg(required = true, value_name = "PATTERN")]
    pub pattern: Vec<OsString>,
    /// Look in this snapshot; without it, in the newest of each entity
    #[arg(long = "in", value_name = "SNAPSHOT")]
    pub within: Vec<OsString>,
    /// Look in every snapshot
    #[arg(long, conflicts_with = "within")]
    pub all: bool,
    /// Upper and lower case are the same
    #[arg(short, long)]
    pub ignore_case: bool,
}
