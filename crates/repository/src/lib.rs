//! The repository: a deduplicating, encrypted store in restic's format, version 2.
//!
//! It knows blobs, packs, indexes, trees, snapshots, keys and locks, in restic's words exactly. It
//! knows no Protected Entity, no command line and no environment; it prints nothing. Everything
//! written is written once and never changed: packs, then index, then snapshot.
//!
//! Start at [`Repository`], then [`Writer`] for the way in and [`Indexed`] for the way out. The
//! format is described in `docs/repository-format.md`.

mod batch;
mod blobs;
mod bundle;
mod check;
mod chunker;
mod compress;
mod error;
mod files;
mod hash;
mod id;
mod index;
mod indexed;
mod local_index;
mod local_snapshots;
mod lock;
mod node;
mod packer;
mod password;
mod rabin;
mod repair;
mod repository;
mod scratch;
mod sealed;
mod stats;
mod store;
mod touched;
mod transfer;
mod tree_head;
mod tree_text;
mod tree_writer;
mod writer;

pub use batch::{Batch, Chunk};
pub use blobs::Blobs;
pub use check::{CheckOptions, CheckSummary, CheckWatch, Finding, FindingClass};
pub use chunker::{AVG_CHUNK, Chunker, Gear, MAX_CHUNK, MIN_CHUNK};
pub use compress::Compression;
pub use error::{Error, Result};
pub use id::{BlobId, BlobKind, FileId};
pub use indexed::{Indexed, TreeReader};
pub use key::{Kdf, KeyFile};
pub use lock::{Lock, LockEntry, LockFile, LockMode, LockOptions, LockRecord, NoRecord};
pub use node::{Content, Node, NodeKind};
pub use password::Password;
pub use rabin::Cuts;
pub use repair::{
    Dress, Dressing, IndexRepair, PackRepair, RepairedSnapshot, Salvage, SnapshotRepair,
};
pub use repository::{KeyEntry, KeyOptions, Repository};
pub use snapshot::{Snapshot, Summary};
pub use stats::WriterStats;
pub use store::{Body, FileKind, LocalStore, PackPart, Store};
pub use touched::Touched;
pub use transfer::{Transfer, Transferred};
pub use tree_head::NodeHead;
pub use tree_text::{NodeText, SameNode, TreeCursor, TreeText};
pub use tree_writer::TreeWriter;
pub use writer::{Saved, Writer, WriterOptions};

// The encoders and decoders of every kind of file. Reachable for the fuzz targets and for tests
// that look at bytes; not part of the API.
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod crypto;
#[doc(hidden)]
pub mod decode;
#[doc(hidden)]
pub mod envelope;
#[doc(hidden)]
pub mod gojson;
#[doc(hidden)]
pub mod index_file;
#[doc(hidden)]
pub mod json;
#[doc(hidden)]
pub mod key;
#[doc(hidden)]
pub mod pack_header;
#[doc(hidden)]
pub mod polynomial;
mod printable;
#[doc(hidden)]
pub mod quote;
#[doc(hidden)]
pub mod snapshot;
#[doc(hidden)]
pub mod time;
#[doc(hidden)]
pub mod tree_codec;
