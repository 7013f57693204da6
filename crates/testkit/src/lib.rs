//! Fakes stricter than reality, and damage on purpose. For tests only.

pub mod store;
