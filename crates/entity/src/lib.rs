//! The sockets: what a plug must offer so that the engines can list, freeze, read and create its
//! Protected Entities.
//!
//! Control is async and object-safe; the data plane is synchronous and runs on the engine's threads.
//! This crate knows ids, entries and shapes; it knows no store, no repository and no plug.
//!
//! Start at [`ProtectedEntityType`]. A plug is one when [`conformance`] says so.

mod cx;
mod error;
mod protected;
mod registry;
mod sink;
mod source;

pub mod conformance;

pub use cx::{Cancel, Chance, Clock, Cx, NoProgress, Progress, Step, SystemChance, SystemClock};
pub use error::{Class, Error, Result};
pub use protected::{
    Base, Basis, Capability, CopyMode, CopyOptions, Cursor, Delete, Ending, Lease, Page, Params,
    ProtectedEntity, ProtectedEntityType, ReadOptions, Reading, RestorePlan,
};
pub use registry::Registry;
pub use sink::{
    Carrier, DiskSink, EntryEnd, EntryNo, Place, Sink, SinkEnding, StreamSink, TreeSink, Want,
};
pub use source::{
    DiskSource, Extent, Lent, OpenFile, Piece, ReadFile, Shelf, Source, Span, StreamSource,
    TreeSource, Verdict, Visit,
};
