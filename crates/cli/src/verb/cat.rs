use std::ffi::OsString;

use clap::Args;

/// Prints one file of a snapshot. Every byte is verified before it is printed.
#[derive(Debug, Args)]
pub struct Cat {
    /// The file: its path, PATH@TIME, or a snapshot's id and `:/PATH`
    pub what: OsString,
}
