use clap::Args;

/// Prints the version.
#[derive(Debug, Args)]
pub struct Version {}
