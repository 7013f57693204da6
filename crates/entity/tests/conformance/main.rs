//! The conformance suite on four plugs that keep every promise, and on plugs that break one each.

#![allow(
    clippy::unwrap_used,
    reason = "the whole target is a test; helpers of tests may unwrap too"
)]

mod broken;
mod plugs;
