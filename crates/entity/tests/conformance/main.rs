//! The conformance suite on four plugs that keep every promise, and on plugs that break one each.
#![allow(
    clippy::unwrap_used,
    clippy::map_err_ignore,
    clippy::needless_pass_by_value,
    reason = "the whole target is a test, and breaks things on purpose"
)]

mod broken;
mod plugs;
