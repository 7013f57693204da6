//! The type `fs`: file systems of this host, from a path down.
//!
//! Start at [`FsType`]; the walk is in `walk`, reading in `file`, writing in `sink`.

mod attributes;
mod dir;
mod entity;
mod file;
mod filter;
mod glob;
mod inode;
mod level;
mod listing;
mod marker;
mod metadata;
mod owners;
mod pattern;
mod tally;
mod walk;

pub use entity::{FsEntity, FsType};
pub use pattern::{PatternError, check_patterns};
pub use walk::Limits;
