use std::ffi::OsString;

use clap::Args;

/// Lists the snapshots that the repository holds.
#[derive(Debug, Args)]
pub struct Snapshots {
    /// Only snapshots of this entity: a path, or TYPE:OBJECT
    pub entity: Option<OsString>,
    /// Only snapshots with this tag; given more than once, with all of them
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Also those that hold evidence instead of content
    #[arg(long)]
    pub evidence: bool,
}
