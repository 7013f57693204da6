//! The type `stream`: what a command prints, or what comes on standard input.
//!
//! Start at [`StreamType`]; a command that is read is in `producer`, one that is written to in `consumer`,
//! what both share in `command`.

mod command;
mod consumer;
mod kind;
mod producer;

pub use kind::StreamType;
