//! A CSI driver for tests: volumes are subvolumes and sparse files of a btrfs on a loop device.
//!
//! It is a test tool with the manners of a real driver: every call of the specification that it
//! claims, snapshots, clones, groups, expansion, topology, changed blocks. It knows nothing of
//! Kubernetes but the socket by which kubelet finds it, and keeps all its state on the file system
//! it serves, so that a restart forgets nothing. What goes wrong in the field can be switched on
//! while it runs.
//!
//! Start at [`serve::serve`]; the state is in `records`, the switches for faults are in `faults`.

mod answer;
mod btrfs;
mod capacity;
mod changes;
mod controller;
mod disk;
mod driver;
mod extents;
mod faults;
mod groups;
mod identity;
mod listing;
mod loops;
mod mounts;
mod node;
mod pool;
mod records;
mod registration;
pub mod serve;
mod snapshots;
mod staging;
mod tool;
mod topology;
mod usage;
mod volumes;
pub mod wire;

/// What it says its version is.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
