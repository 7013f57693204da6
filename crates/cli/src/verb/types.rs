use clap::Args;

/// Lists the types of entities this program knows.
#[derive(Debug, Args)]
pub struct Types {}
