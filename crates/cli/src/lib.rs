//! The command line: verbs, printing, hints, exit codes.
//!
//! It knows what people type, what they are told, and which environment variables mean what. It
//! names no plug, and it decides nothing about data: every verb is a few calls to an engine and
//! the printing of what came of it.
//!
//! Start at [`args::CommandLine`], then any file under `verb/`.

pub mod args;
pub mod environment;
pub mod exit;
mod failure;
mod key_file;
mod password;
mod paths;
mod size;
mod text;
pub mod verb;
mod what;
mod when;

pub use exit::Code;
pub use failure::{Failure, Result};
