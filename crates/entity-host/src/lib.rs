//! The types of this host: what can be protected on the machine the program runs on.
//!
//! It knows file systems: how to walk, read and write them faithfully, and what they refuse. It
//! knows no repository, no command line and no other type's entities. `disk` and `stream` follow.
//!
//! Start at [`FsType`].

mod fs;
mod open_files;

pub use fs::{FsEntity, FsType, Limits};
pub use open_files::raise_open_files;
