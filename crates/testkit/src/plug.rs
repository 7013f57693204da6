//! Four kinds of Protected Entities in memory, one for each thing a plug may be: a tree whose entries
//! carry etags, a disk that knows its changed cells, a stream whose producer may fail, and an
//! entity that is only referenced.
//!
//! They panic when a sink is used against the order its documentation gives.

mod bare_reference;
mod changed_block_disk;
mod etag_tree;
mod failing_stream;
mod shelf;
mod strict;

pub use bare_reference::BareReference;
pub use changed_block_disk::ChangedBlockDisk;
pub use etag_tree::{EtagTree, Node, Part};
pub use failing_stream::{FailingStream, Producer};
pub use strict::StrictTreeSink;
