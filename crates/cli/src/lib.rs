//! The command line: verbs, printing, hints, exit codes.
//!
//! It knows what people type, what they are told, and which environment variables mean what. It
//! names no plug, and it decides nothing about data: every verb is a few calls to an engine and
//! the printing of what came of it.
//!
//! Start at [`main_with`], then [`args::CommandLine`], then any file under `verb/`.

mod app;
pub mod args;
mod document;
pub mod environment;
pub mod exit;
mod explain;
mod failure;
mod key_file;
mod machine;
mod open;
mod outcome;
mod password;
mod paths;
mod place;
mod printer;
mod progress;
mod run;
mod run_directory;
mod size;
mod terminal;
mod text;
pub mod verb;
mod what;
mod when;

pub use app::Parts;
pub use exit::Code;
pub use failure::{Failure, Result};
pub use run::main_with;
