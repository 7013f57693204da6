use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// Creates an entity again from a snapshot, at a new or empty place.
#[derive(Debug, Args)]
pub struct Restore {
    /// What to restore: ENTITY, ENTITY@TIME, TYPE:OBJECT:SNAPSHOT, the beginning of an id, or `latest`; `:/PATH` after it restores only that path
    pub what: OsString,
    /// The directory to restore into, new or empty; absolute paths are created below it
    #[arg(short, long, value_name = "DIR")]
    pub target: PathBuf,
    /// Only what matches this pattern, a directory with its contents; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// All but what matches this pattern; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Show what would be done, and write nothing
    #[arg(long)]
    pub plan: bool,
    /// Wait for each file to be on disk, not only for all of them at the end
    #[arg(long)]
    pub fsync: bool,
    /// Read each restored file again and compare
    #[arg(long)]
    pub read_back: bool,
    /// Make holes of all runs of zeros, not only of those that were holes
    #[arg(long)]
    pub sparse: bool,
}
