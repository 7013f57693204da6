//! Stores for tests: what every store must do, and stores that fail in ways real ones do.

mod conformance;

pub use conformance::{conforms, name};
