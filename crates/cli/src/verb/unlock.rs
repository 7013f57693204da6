use clap::Args;

/// Removes stale locks: those that nobody has refreshed for too long.
#[derive(Debug, Args)]
pub struct Unlock {
    /// Remove living locks too: only when nothing else uses the repository
    #[arg(long)]
    pub all: bool,
    /// List the locks, and remove nothing
    #[arg(long)]
    pub plan: bool,
}
