//! The type `fs`: file systems of this host, from a path down.
//!
//! Start at [`FsType`]; the walk is in `walk`, reading in `file`, writing in `sink`.

mod attributes;
mod content;
mod dir;
mod dress;
mod entity;
mod file;
mod filter;
mod inode;
mod level;
mod links;
mod listing;
mod marker;
mod metadata;
mod owners;
mod part;
mod sink;
mod slots;
mod tally;
mod target;
mod walk;
mod workdir;

pub use entity::{FsEntity, FsType};
pub use walk::Limits;
