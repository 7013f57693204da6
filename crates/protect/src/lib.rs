//! The engine of protection: plan, copy, prove, record.
//!
//! It knows the sockets, the repository and the catalog; it knows no plug, no command line and no
//! environment, and prints nothing. A stored snapshot is a Protected Entity too, so backup and restore are the
//! same copy in two directions.
//!
//! Start at [`Engine`]; the data path is `copy`, its ends are `stored_sink` and `stored_source`.

mod announced;
mod base;
mod base_cells;
mod bases;
mod browse;
mod carry;
mod convert;
mod copy;
mod copy_disk;
mod copy_stream;
mod diff;
mod disk_layout;
mod disk_tree;
mod engine;
mod error;
mod evidence;
mod filter;
mod holes;
mod identity;
mod listing;
mod lost;
mod name;
mod partial;
mod placed;
mod protect;
mod read_data;
mod rebuild;
mod record;
mod repair;
mod restore;
mod stored_carrier;
mod stored_disk;
mod stored_entity;
mod stored_file;
mod stored_form;
mod stored_sink;
mod stored_source;
mod stored_stream;
mod stored_top;
mod stored_tree;
mod storing;
mod stream_tree;
mod transfer;
mod verify;

pub use browse::ShowEntry;
pub use diff::{Change, ChangeKind, DiffSummary};
pub use engine::{Alive, Engine, EngineParts, Locking};
pub use error::{Error, Result};
pub use identity::{Identity, StoredSnapshot, components, is_within, stored_path};
pub use listing::{Listing, Wanted, Which, short};
pub use protect::{Parent, ProtectOptions, ProtectPlan, Survey};
pub use read_data::{Part, ReadData};
pub use record::{
    ComponentDoc, ContentDoc, CountsDoc, EntityDoc, OmissionDoc, OmissionsDoc, OutcomeDoc,
    TrafficDoc,
};
pub use restore::{Planning, RestoreOptions, RestorePlanned};
pub use stored_entity::StoredEntity;
pub use transfer::{Moved, TransferOptions};
pub use verify::CheckOutcome;
