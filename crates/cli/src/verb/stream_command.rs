//! The command that a stream comes from or goes to.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use alidade_entity::Params;
use alidade_model::encode_object;
use clap::Args;

use crate::args::duration;
use crate::failure::{Failure, Result};

/// The command of a stream, behind `--`.
#[derive(Debug, Args)]
pub struct StreamCommand {
    /// Stop the command when it takes longer, such as `90s` or `2h`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub command_timeout: Option<Duration>,
    /// The command and its arguments, behind `--`
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl StreamCommand {
    /// The settings of the type `stream` that say it; `wanted` by that option, or by none.
    pub(crate) fn params(&self, wanted: Option<&str>) -> Result<Params> {
        match (wanted, self.command.is_empty()) {
            (None, true) if self.command_timeout.is_none() => Ok(Params::new()),
            (None, _) => Err(Failure::usage("a command is for a stream")
                .hint("name the stream: `--stdin-from-command NAME`, or `--to-command`")),
            (Some(option), true) => {
                let why = format!("`{option}` needs a command");
                Err(Failure::usage(why).hint("put it behind `--`, at the end"))
            }
            (Some(_), false) => Ok(self.settings()),
        }
    }

    fn settings(&self) -> Params {
        let words = self.command.iter().map(|word| encode_object(word.as_bytes()));
        let words: Vec<String> = words.collect();
        let mut params = Params::from([("command".to_owned(), words.join(" "))]);
        let limit = self.command_timeout.map(|limit| limit.as_secs().max(1).to_string());
        params.extend(limit.map(|seconds| ("timeout".to_owned(), seconds)));
        params
    }
}
