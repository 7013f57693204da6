use clap::Args;

/// Makes a new repository.
///
/// Without `--repository` it is the embedded default, with a generated key.
#[derive(Debug, Args)]
pub struct Init {
    /// Say what would be made, and make nothing
    #[arg(long)]
    pub plan: bool,
}
