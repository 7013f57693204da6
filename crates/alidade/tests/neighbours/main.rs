//! The proof of interoperability: the real binary and stock restic, the current one and Debian's
//! oldest, on the same repositories, in both directions.
//!
//! Trees are compared by [`alidade_testkit::tree::Listing`], which knows nothing of the product.
//! What stock restic itself cannot keep is left out of a comparison by name, at the place where it
//! matters: sockets (never written) and paths past `PATH_MAX`, holes without `--sparse`, times after
//! the year 2262 (an overflow on restore), hard links of what is no regular file, and in 0.14 link
//! targets that are not UTF-8 and extended attributes of symlinks.

#![allow(clippy::unwrap_used, reason = "a failing step fails the test")]

mod alternate;
mod bench;
mod cuts;
mod locks;
mod options;
mod ours;
mod rustic;
mod sample;
mod theirs;
mod trees;
