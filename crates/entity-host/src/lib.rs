//! The types of this host: what can be protected on the machine the program runs on.
//!
//! It knows file systems, disks and streams: how to walk, read and write them faithfully, and what they
//! refuse.
//! It knows no repository, no command line and no other type's entities.
//!
//! Start at [`FsType`], [`DiskType`] or [`StreamType`].

mod disk;
mod fs;
mod open_files;
mod page;
mod path;
mod stream;

pub use disk::DiskType;
pub use fs::{FsEntity, FsType, Limits};
pub use open_files::raise_open_files;
pub use stream::StreamType;
