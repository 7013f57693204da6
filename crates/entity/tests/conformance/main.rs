//! The conformance suite on four plugs that keep every promise, and on plugs that break one each.

mod broken;
mod plugs;
