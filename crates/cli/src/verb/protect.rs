use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::size;

/// Copies an entity into the repository.
#[derive(Debug, Args)]
pub struct Protect {
    /// The entity: a path, or TYPE:OBJECT
    pub entity: OsString,
    /// Show what would be done, walk the source and count, and write nothing
    #[arg(long)]
    pub plan: bool,
    /// What is left out, and what alone is meant.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Tag the snapshot; may be given more than once
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Compare with this snapshot instead of the newest of the same entity and host
    #[arg(long, value_name = "ID", conflicts_with = "force")]
    pub parent: Option<String>,
    /// Compare with no snapshot: read everything again
    #[arg(long)]
    pub force: bool,
    /// How hard to compress
    #[arg(long, value_enum, default_value = "default", value_name = "LEVEL")]
    pub compression: CompressionLevel,
    /// The size of the files that blobs are packed into, in MiB, 4 to 128
    #[arg(long, default_value_t = 16, value_name = "MIB",
          value_parser = clap::value_parser!(u64).range(4..=128))]
    pub pack_size: u64,
    /// Write no snapshot when it would be equal to the one compared with
    #[arg(long)]
    pub skip_if_unchanged: bool,
    /// Do not open each sealed blob again before it is stored
    #[arg(long)]
    pub no_self_check: bool,
}

/// What of the entity is meant.
#[derive(Debug, Args)]
pub struct SelectionArgs {
    /// Leave out what matches this pattern; `!PATTERN` takes it in again
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Read patterns from this file, one per line; lines that begin with `#` are comments
    #[arg(long, value_name = "FILE")]
    pub exclude_file: Vec<PathBuf>,
    /// Leave out the content of directories that hold a file of this name, optionally with this
    /// text at its beginning
    #[arg(long, value_name = "NAME[:HEADER]")]
    pub exclude_if_present: Vec<String>,
    /// Leave out the content of directories marked as caches by a CACHEDIR.TAG file
    #[arg(long)]
    pub exclude_caches: bool,
    /// Leave out files larger than this, such as `100M`
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub exclude_larger_than: Option<u64>,
    /// Stay on the file system of the entity
    #[arg(short = 'x', long)]
    pub one_file_system: bool,
    /// Take only the paths listed in this file, each ended by a NUL byte, and what is below them;
    /// `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub files_from0: Option<PathBuf>,
}

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompressionLevel {
    /// A good ratio at a good speed.
    Default,
    /// The fastest.
    Fast,
    /// The smallest.
    Best,
    /// None.
    Off,
}
