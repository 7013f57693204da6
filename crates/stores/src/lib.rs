//! Stores that are reached over a network: S3 and what speaks its language, Azure, Google, servers of
//! restic's REST protocol, directories that `ssh` reaches.
//!
//! It knows how they are named, how to authenticate, how to count and limit what goes over the wire; it
//! knows files of a repository only as [`alidade_repository::Store`] does. It reads no environment: what
//! stands there is given to it as [`Settings`].
//!
//! Start at [`Location`], then [`open`].

#[cfg(any(feature = "rest", feature = "sftp"))]
mod answer;
mod azure;
mod bucket;
mod container;
mod credentials;
mod google;
mod kept;
mod limit;
mod location;
mod login;
mod nearby;
mod open;
mod pauses;
mod pending;
mod process;
mod profile;
mod refusal;
mod remote;
#[cfg(feature = "rest")]
mod rest;
mod settings;
#[cfg(feature = "sftp")]
mod sftp;
mod told;
mod traffic;
mod variables;
mod wire;

pub use credentials::{Giver, giver};
pub use location::{Location, NoLocation, SftpServer};
pub use login::{Login, masked};
pub use open::{OpenError, open};
pub use settings::Settings;
pub use variables::VARIABLES;
