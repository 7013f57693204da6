use std::ffi::OsString;

use clap::Args;

/// Lists the runs that this machine knows of, the newest first. No password is needed.
#[derive(Debug, Args)]
pub struct Runs {
    /// Show this run alone: its id, or the beginning of it
    #[arg(conflicts_with_all = ["entity", "verb", "last"])]
    pub run: Option<String>,
    /// Only runs on this entity: a path, or TYPE:OBJECT
    #[arg(long, value_name = "ENTITY")]
    pub entity: Option<OsString>,
    /// Only runs of this verb: protect, restore or check
    #[arg(long, value_name = "VERB")]
    pub verb: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, default_value_t = 50, value_name = "NUMBER")]
    pub last: usize,
}
