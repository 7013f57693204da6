//! Stores that are reached over a network: S3 and what speaks its language, Azure, Google.
//!
//! It knows how they are named, how to authenticate, how to count and limit what goes over the wire; it
//! knows files of a repository only as [`alidade_repository::Store`] does. It reads no environment: what
//! stands there is given to it as [`Settings`].
//!
//! Start at [`Location`], then [`open`].

mod bucket;
mod limit;
mod location;
mod open;
mod pending;
mod profile;
mod remote;
mod settings;
mod traffic;
mod variables;
mod wire;

pub use location::{Location, NoLocation};
pub use open::{OpenError, open};
pub use settings::Settings;
pub use variables::VARIABLES;
