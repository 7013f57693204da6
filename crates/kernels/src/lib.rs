//! The inner loops: hashing, chunking and sealing at the speed of the processor.
//!
//! Each kernel has a portable twin made of well-known crates, and gives the same result as its twin
//! at every [`Level`]. Which one runs is decided at run time; the first call of [`Level::detect`]
//! tests each kernel with known answers and falls back when one fails.
//!
//! This crate knows bytes and processors. It knows no file, no format, no key but the one it is
//! given, and no other room. It is the only one with unsafe code: the instructions of a
//! processor cannot be reached without. Everything it offers is safe.
//!
//! Start at [`Level`], then [`sha256_many`].

pub mod envelope;
pub mod gear;
mod level;
pub mod measure;
mod self_test;
mod sha256;
mod zero;

pub use level::Level;
pub use self_test::{Broken, self_test};
pub use sha256::{Sha256, hash_together, sha256, sha256_many, sha256_many_at};
pub use zero::is_zero;
