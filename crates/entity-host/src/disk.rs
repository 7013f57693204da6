//! The type `disk`: image files and block devices of this host.
//!
//! Start at [`DiskType`]. Opening is in `image`, who else uses a device in `users`, which ranges have data
//! in `extents`, what may be taken from a base in `changes` and `clone`, writing in `sink`.

mod changes;
mod clone;
mod entity;
mod extents;
mod image;
mod kind;
mod lease;
mod sink;
mod target;
mod users;

pub use kind::DiskType;
