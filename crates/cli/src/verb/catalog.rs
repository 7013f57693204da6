use clap::{Args, Subcommand};

/// Looks after the catalog.
#[derive(Debug, Args)]
pub struct CatalogVerb {
    /// What to do with it.
    #[command(subcommand)]
    pub verb: CatalogAction,
}

/// What to do with the catalog.
#[derive(Debug, Subcommand)]
pub enum CatalogAction {
    /// Bring back entities, snapshots, runs and evidence from the repository alone
    Rebuild,
}
