use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::CommandLine;

/// Prints a completion script for a shell.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

impl Completions {
    /// The script.
    #[must_use]
    pub fn script(&self) -> Vec<u8> {
        let mut script = Vec::new();
        let mut command = CommandLine::command();
        clap_complete::generate(self.shell, &mut command, "alidade", &mut script);
        script
    }
}
