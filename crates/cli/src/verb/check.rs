use clap::Args;

/// Looks for damage in the repository: its structure, its references, and, where asked, all data.
#[derive(Debug, Args)]
pub struct Check {
    /// Read and verify every byte of every pack
    #[arg(long)]
    pub read_data: bool,
}
