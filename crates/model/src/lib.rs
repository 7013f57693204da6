//! The words of the house: ids, entries, selections, plans, outcomes.
//!
//! Everything here is a value. This crate knows what a Protected Entity is called and what can be
//! said about a copy of it; it knows no time, no input or output, no async, no store and no wire
//! format but the text form of ids.
//!
//! Start at [`EntityId`], then [`Entry`], then [`Outcome`].

mod digest;
mod entry;
mod glob;
mod id;
mod info;
mod omission;
mod origin;
mod outcome;
mod pattern;
mod sabotage;
mod selection;
mod time;

pub use digest::{ContentDigest, Digest};
pub use entry::{Entry, Hole, Kind, Metadata, Version, Xattr};
pub use id::{
    EntityId, EntityName, Host, IdError, ObjectId, RunId, SnapshotId, TypeName, decode_object,
    encode_object,
};
pub use info::{Component, ContentName, EntityInfo, Shape};
pub use omission::{Omission, OmissionKind, Omissions};
pub use origin::Origin;
pub use outcome::{Bytes, Checks, Consistency, Counts, Exclusions, Outcome, Status, Traffic, Verb};
pub use pattern::{Pattern, PatternError, Patterns};
pub use sabotage::Sabotage;
pub use selection::{Rule, Selection};
pub use time::Time;
