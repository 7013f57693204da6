//! What a run has stored before its end: a snapshot of it now and then, from which an interrupted run goes on.
//!
//! Beside the trees lies what is known of the file that was being stored, if it is a large one:
//! `/.alidade/unfinished`, a file node with the content so far, and `/.alidade/unfinished.json`.

use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alidade_entity::{Cx, Error as EntityError};
use alidade_model::{Entry, Hole, decode_object, encode_object};
use alidade_repository::{
    BlobId, BlobKind, Content, FileId, FileKind, Indexed, Node, Snapshot, Writer,
};
use serde::{Deserialize, Serialize};

use crate::carry::SPAN;
use crate::convert::{node_of, version_of};
use crate::error::as_entity;
use crate::stored_entity::{Blobs, own_file, own_node};
use crate::stored_sink::Taken;
use crate::stored_top::Stored;
use crate::{Error, Result};

/// The names of the records.
const NODE: &str = "unfinished";
const RECORD: &str = "unfinished.json";
/// Unless somebody says how often: this often, and such that it takes one part in so many of the time at most.
const EVERY: Duration = Duration::from_secs(60);
const PART: u32 = 20;

/// Makes partial snapshots.
pub(crate) struct Checkpoints<'a> {
    every: Option<Duration>,
    describe: Box<dyn Fn(BlobId) -> Snapshot + Send + Sync + 'a>,
    state: Mutex<State>,
}

struct State {
    /// By the clock that never goes back.
    due: Duration,
    last: Option<FileId>,
    notes: Vec<String>,
}

impl<'a> Checkpoints<'a> {
    /// One each time that `every` has passed, and never when that is no time; when nothing is given, as it is
    /// worth its time. `describe` makes the snapshot of a tree.
    pub(crate) fn new(
        cx: &Cx,
        every: Option<Duration>,
        describe: impl Fn(BlobId) -> Snapshot + Send + Sync + 'a,
    ) -> Self {
        let due = cx.clock().elapsed().saturating_add(every.unwrap_or(EVERY));
        let state = Mutex::new(State { due, last: None, notes: Vec::new() });
        Self { every, describe: Box::new(describe), state }
    }

    pub(crate) fn is_due(&self, cx: &Cx) -> bool {
        self.every != Some(Duration::ZERO) && cx.clock().elapsed() >= self.state().due
    }

    /// Stores what there is, and makes it a snapshot in the place of the one before.
    pub(crate) fn make(
        &self,
        cx: &Cx,
        writer: &Writer,
        stored: Stored,
        unfinished: Option<Unfinished>,
    ) -> std::result::Result<(), EntityError> {
        let failed = |error| as_entity("store a partial snapshot", error);
        let began = cx.clock().elapsed();
        let mut records = Vec::new();
        if let Some(unfinished) = unfinished {
            records = unfinished.records(cx, writer).map_err(failed)?;
        }
        let tree = stored.seal(cx, writer, records, cx.now()).map_err(failed)?;
        let file = writer.commit(cx, &(self.describe)(tree)).map_err(failed)?;
        let ended = cx.clock().elapsed();
        let cost = ended.saturating_sub(began);
        let pause = self.every.unwrap_or_else(|| EVERY.max(cost.saturating_mul(PART)));
        let mut state = self.state();
        state.due = ended.saturating_add(pause);
        if let Some(before) = state.last.replace(file) {
            state.notes.extend(remove(writer, before));
        }
        Ok(())
    }

    /// Removes the one that is there, after the run's own snapshot was written. Returns what is to be said of
    /// those that could not be removed.
    pub(crate) fn end(&self, writer: &Writer) -> Vec<String> {
        let mut state = self.state();
        let last = state.last.take().and_then(|last| remove(writer, last));
        state.notes.extend(last);
        std::mem::take(&mut state.notes)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a partial snapshot, or says why not: the run is as good with it.
pub(crate) fn remove(writer: &Writer, file: FileId) -> Option<String> {
    let store = writer.repository().store();
    let removed = store.remove(FileKind::Snapshot, &file.to_string());
    let why = removed.err()?;
    Some(format!("the partial snapshot {} could not be removed: {why}", crate::short(&file)))
}

/// A large file of which the beginning is stored.
#[derive(Clone, Debug)]
pub(crate) struct Unfinished {
    path: Vec<u8>,
    node: Node,
    taken: Taken,
}

#[derive(Serialize, Deserialize)]
struct UnfinishedDoc {
    /// In the alphabet of object ids.
    path: String,
    /// Bytes of the whole file.
    size: u64,
    /// Of what is stored, where it begins and how long it is.
    holes: Vec<(u64, u64)>,
}

impl Unfinished {
    /// What is known of a file; `None` when what is stored is not its beginning in whole spans.
    pub(crate) fn of(path: Vec<u8>, entry: &Entry, taken: Taken) -> Option<Self> {
        let is_some = taken.bytes > 0 && taken.bytes.is_multiple_of(SPAN);
        let is_part = taken.bytes < entry.metadata.size;
        (is_some && is_part).then(|| Self { path, node: node_of(entry).0, taken })
    }

    /// What is stored of the entry, when this is the same file, unchanged, and everything is still there.
    pub(crate) fn taken_of(&self, indexed: &Indexed, path: &[u8], entry: &Entry) -> Option<Taken> {
        let is_same = self.path == path && entry.version.matches(&version_of(&self.node));
        let there = |(id, _): &(BlobId, u32)| indexed.contains(BlobKind::Data, id);
        (is_same && self.taken.content.runs().iter().all(there)).then(|| self.taken.clone())
    }

    fn records(self, cx: &Cx, writer: &Writer) -> alidade_repository::Result<Vec<Node>> {
        let Self { path, node, taken } = self;
        let doc = UnfinishedDoc {
            path: encode_object(&path),
            size: node.size,
            holes: taken.holes.iter().map(|hole| (hole.at, hole.len)).collect(),
        };
        let json = serde_json::to_vec(&doc).map_err(|error| alidade_repository::Error::System {
            attempt: format!("write {RECORD}: {error}"),
        })?;
        let mut content = Content::new();
        content.push(writer.save_data(cx, &json)?.id);
        let record = crate::stored_top::record_node(RECORD, content, json.len() as u64, node.mtime);
        let node =
            Node { name: NODE.into(), size: taken.bytes, content: Some(taken.content), ..node };
        Ok(vec![node, record])
    }

    /// What a partial snapshot with that tree says.
    ///
    /// # Errors
    /// When it is there and does not read.
    pub(crate) fn read(cx: &Cx, indexed: &Arc<Indexed>, tree: BlobId) -> Result<Option<Self>> {
        let Some(content) = own_file(cx, indexed, tree, RECORD)? else { return Ok(None) };
        let Some(mut node) = own_node(cx, indexed, tree, NODE)? else { return Ok(None) };
        let mut blobs = Blobs::new(cx.clone(), Arc::clone(indexed), content);
        let mut text = Vec::new();
        let read = blobs.by_ref().take(64 << 20).read_to_end(&mut text);
        read.map_err(|error| blobs.explain(&error))?;
        let what = RECORD.to_owned();
        let doc: UnfinishedDoc =
            serde_json::from_slice(&text).map_err(|source| Error::Record { what, source })?;
        let taken = Taken {
            content: node.content.take().unwrap_or_default(),
            bytes: node.size,
            holes: doc.holes.into_iter().map(|(at, len)| Hole { at, len }).collect(),
        };
        node.size = doc.size;
        Ok(Some(Self { path: decode_object(&doc.path), node, taken }))
    }
}
