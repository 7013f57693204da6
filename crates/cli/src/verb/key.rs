use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Lists, adds or removes the repository's passwords.
#[derive(Debug, Args)]
pub struct Key {
    /// What to do with them.
    #[command(subcommand)]
    pub verb: KeyVerb,
}

/// What to do with the repository's passwords.
#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// List the keys
    List,
    /// Add a key with another password
    Add(AddKey),
    /// Remove a key: its password opens the repository no more
    Remove {
        /// The key's id, or the beginning of it
        id: String,
        /// Say which key would be removed, and remove nothing
        #[arg(long)]
        plan: bool,
    },
}

/// Where the new password comes from; without these, somebody at the terminal types it.
#[derive(Debug, Args)]
pub struct AddKey {
    /// Read the new password from this file
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_command")]
    pub new_password_file: Option<PathBuf>,
    /// Read the new password from the output of this command
    #[arg(long, value_name = "COMMAND")]
    pub new_password_command: Option<String>,
    /// Say what would be done, and add nothing
    #[arg(long)]
    pub plan: bool,
}

impl Key {
    /// True when it changes nothing.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        matches!(self.verb, KeyVerb::List)
    }
}
