//! Fakes stricter than reality, and damage on purpose. For tests only.
//!
//! It knows the sockets and the seam to the store, and panics when they are used against their order.
//! Start at [`TestCx`] for time and chance, at [`plug`] for Protected Entities, at [`store`] for
//! stores that fail, at [`Lab`] for a whole engine on one of them, at [`tree`] for file trees, at
//! [`peer`] for other programs, at [`server`] and [`emulator`] for stores over a network, at [`proxy`] for
//! networks that fail, at [`key_giver`] for who gives keys for a while. The program `servers` starts one of the stores
//! for programs that are no tests.

mod cx;
mod peer;

pub mod emulator;
pub mod key_giver;
pub mod lab;
pub mod plug;
pub mod proxy;
pub mod server;
pub mod store;
pub mod tree;

pub use cx::{TestChance, TestClock, TestCx};
pub use lab::Lab;
pub use peer::peer;
