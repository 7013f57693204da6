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
//! Start at [`Level`], then [`sha256_many`], [`envelope::Key`] and [`gear::Gear`].
//!
//! # How it is tested
//!
//! Every kernel is compared with well-known crates at every level of the processor that runs the
//! tests. A processor without AVX-512 tests less, so say which one you used when you change a kernel.
//! Beside the tests of the workspace:
//!
//! - under Miri, which knows no vector instructions, the portable twins and the code around the
//!   kernels: `cargo +nightly miri test -p alidade-kernels portable`
//! - with the address sanitizer, everything:
//!   `RUSTFLAGS=-Zsanitizer=address cargo +nightly test --target x86_64-unknown-linux-gnu -p alidade-kernels`

pub mod envelope;
pub mod gear;
mod level;
pub mod measure;
mod self_test;
mod sha256;
mod zero;

pub use level::Level;
pub use self_test::{Broken, self_test};
pub use sha256::{Queue, Sha256, hash_together, sha256, sha256_many, sha256_many_at};
pub use zero::is_zero;
