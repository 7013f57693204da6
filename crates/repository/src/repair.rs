//! Making a damaged repository whole again, as far as what is there allows. Every repair is planned first; nothing
//! that is not named in its plan is lost by it.

mod index;
mod packs;
mod snapshots;

pub use index::IndexRepair;
pub use packs::{PackRepair, Salvage};
pub use snapshots::{Dress, Dressing, RepairedSnapshot, SnapshotRepair};
