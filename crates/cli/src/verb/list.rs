use clap::Args;

/// Lists the entities that the repository holds.
#[derive(Debug, Args)]
pub struct List {
    /// Only entities of this type
    #[arg(value_name = "TYPE")]
    pub type_name: Option<String>,
}
