//! Fakes stricter than reality, and damage on purpose. For tests only.
//!
//! It knows the sockets and the seam to the store, and panics when they are used against their order.
//! Start at [`TestCx`] for time and chance, at [`plug`] for Protected Entities, at [`store`] for
//! stores that fail.

mod cx;
mod peer;

pub mod plug;
pub mod store;

pub use cx::{TestChance, TestClock, TestCx};
pub use peer::peer;
