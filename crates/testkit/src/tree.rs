//! File trees for tests: what lies on a disk, told without the product's own code, and trees to order.
//!
//! [`Listing::of`] looks at a tree by plain system calls; [`Listing::differences`] compares two.
//! [`Plan`] says what a tree shall be, [`Plan::build`] makes it, [`plans`] invents them.
//! Names are raw bytes throughout, and paths may be longer than the system takes in one call.

mod content;
mod difference;
mod listing;
mod plan;
mod strategy;

pub use content::{Content, Fill};
pub use listing::{Found, Kind, Listing};
pub use plan::{Acl, Dress, Make, Plan, Thing};
pub use strategy::{Limits, ODD_NAMES, plans};
