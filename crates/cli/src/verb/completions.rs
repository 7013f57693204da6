//! `alidade completions`: its options, and what it prints.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::app::App;
use crate::args::CommandLine;
use crate::exit::Code;
use crate::failure::{Failure, Result};

/// Prints a completion script for a shell.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        if app.out.is_json() {
            return Err(Failure::usage("`completions` prints a script, not JSON"));
        }
        app.out.bytes(&self.script())?;
        Ok(Code::Done)
    }

    /// The script.
    fn script(&self) -> Vec<u8> {
        let mut script = Vec::new();
        let mut command = CommandLine::command();
        clap_complete::generate(self.shell, &mut command, "alidade", &mut script);
        script
    }
}
