//! From one repository into another: what was stored stays as it was cut, under the ids it has.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alidade_entity::{Cx, Step};
use crossbeam_channel::{Receiver, bounded};

use crate::{Batch, BlobId, BlobKind, Blobs, Content, Error, Indexed, Result, Writer};

/// Ids that are put in the order of the store together.
const WINDOW: usize = 64 << 10;
/// Content that a thread takes at a time.
const TAKEN: u64 = 24 << 20;

/// A way from one repository into another, for one snapshot after the other.
///
/// Memory: 32 bytes for each tree that was met, 3 MiB for the blobs that are asked for next, and for each
/// thread what [`Blobs`] and a [`Batch`] take.
pub struct Transfer<'a> {
    from: &'a Arc<Indexed>,
    to: &'a Writer,
    parallel: usize,
    /// Trees that are there with all that they need.
    met: HashSet<BlobId>,
}

impl std::fmt::Debug for Transfer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transfer").field("met", &self.met.len()).finish_non_exhaustive()
    }
}

/// What was brought over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Trees that were looked into.
    pub trees: u64,
    /// Pieces of files that were missing and are stored now.
    pub blobs: u64,
    /// Their bytes before compression.
    pub bytes: u64,
}

#[derive(Default)]
struct Counts {
    blobs: AtomicU64,
    bytes: AtomicU64,
}

impl<'a> Transfer<'a> {
    /// A way from what `from` knows to where `to` writes, with so many threads.
    #[must_use]
    pub fn new(from: &'a Arc<Indexed>, to: &'a Writer, parallel: usize) -> Self {
        Self { from, to, parallel: parallel.max(1), met: HashSet::new() }
    }

    /// Brings over a tree and everything it needs that is not there yet. Each blob's hash is compared when it
    /// is read, and again, with the self-check on, after it was sealed.
    ///
    /// The other repository's index must know what is there. What was brought over stays when this fails.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::NotFound`] when something that the tree needs is not whole; when a
    /// store fails; when the run was told to stop.
    pub fn tree(&mut self, cx: &Cx, root: BlobId) -> Result<Transferred> {
        let (sender, receiver) = bounded::<Vec<BlobId>>(self.parallel);
        let (counts, failed) = (Counts::default(), AtomicBool::new(false));
        let (from, to) = (self.from, self.to);
        let done = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.parallel)
                .map(|_| {
                    let (receiver, counts, failed) = (receiver.clone(), &counts, &failed);
                    scope.spawn(move || {
                        let done = carry_all(cx, from, to, &receiver, counts);
                        failed.fetch_or(done.is_err(), Ordering::Relaxed);
                        done
                    })
                })
                .collect();
            drop(receiver);
            let walked = self.walk(cx, root, &mut |ids| {
                // Why nobody takes them any more is told by who failed.
                !failed.load(Ordering::Relaxed) && sender.send(ids).is_ok()
            });
            drop(sender);
            let carried = threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            carried.and(walked)
        });
        if done.is_err() {
            // Not all that they need is there.
            self.met.clear();
        }
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(Transferred { trees: done?, blobs: of(&counts.blobs), bytes: of(&counts.bytes) })
    }

    /// Brings over the trees, and gives the blobs that are missing to `send` until it takes no more. Returns
    /// how many trees were met for the first time.
    fn walk(
        &mut self,
        cx: &Cx,
        root: BlobId,
        send: &mut dyn FnMut(Vec<BlobId>) -> bool,
    ) -> Result<u64> {
        let (mut open, mut trees) = (vec![root], 0);
        let mut missing = HashSet::new();
        while let Some(id) = open.pop() {
            cx.check()?;
            if !self.met.insert(id) {
                continue;
            }
            trees += 1;
            for node in self.from.tree(cx, id)? {
                let node = node?;
                open.extend(node.subtree);
                let ids = node.content.iter().flat_map(Content::runs);
                let known = self.to.indexed();
                let new = ids.map(|(id, _)| *id).filter(|id| !known.contains(BlobKind::Data, id));
                missing.extend(new);
            }
            if !self.to.indexed().contains(BlobKind::Tree, &id) {
                let (mut json, _) = self.from.tree_json(cx, id)?;
                self.to.save_tree_json(cx, id, &mut *json)?;
            }
            if missing.len() >= WINDOW && !self.hand_over(&mut missing, send)? {
                return Ok(trees);
            }
        }
        self.hand_over(&mut missing, send)?;
        Ok(trees)
    }

    /// Gives the ids away in the order of the store, some at a time.
    fn hand_over(
        &self,
        missing: &mut HashSet<BlobId>,
        send: &mut dyn FnMut(Vec<BlobId>) -> bool,
    ) -> Result<bool> {
        let mut placed = Vec::with_capacity(missing.len());
        for id in missing.drain() {
            let place = self.from.place(BlobKind::Data, &id);
            let len = self.from.plain_len(BlobKind::Data, &id);
            let (Some(place), Some(len)) = (place, len) else {
                return Err(Error::NotFound { what: format!("blob {id}") });
            };
            placed.push((place, u64::from(len), id));
        }
        placed.sort_unstable_by_key(|(place, ..)| *place);
        let (mut ids, mut bytes) = (Vec::new(), 0);
        for (_, len, id) in placed {
            if bytes + len > TAKEN && !ids.is_empty() {
                bytes = 0;
                if !send(std::mem::take(&mut ids)) {
                    return Ok(false);
                }
            }
            bytes += len;
            ids.push(id);
        }
        Ok(ids.is_empty() || send(ids))
    }
}

/// One thread: brings over what it is given until there is no more.
fn carry_all(
    cx: &Cx,
    from: &Indexed,
    to: &Writer,
    receiver: &Receiver<Vec<BlobId>>,
    counts: &Counts,
) -> Result<()> {
    let (mut batch, mut blobs, mut own) = (to.batch()?, Blobs::default(), Vec::new());
    for ids in receiver {
        from.read_blobs(cx, &ids, &mut blobs)?;
        for id in &ids {
            let bytes = match blobs.find(id) {
                Some(range) => blobs.bytes(range),
                // Not whole where it lies first: now every copy is tried, and it is said why none is.
                None => {
                    from.read_blob(cx, BlobKind::Data, id, &mut own)?;
                    &own
                }
            };
            batch.cell(cx, bytes)?;
        }
        batch.flush(cx)?;
        take_down(&ids, &mut batch, counts, cx)?;
    }
    Ok(())
}

/// Counts what the batch has stored, which must be what was asked for.
fn take_down(ids: &[BlobId], batch: &mut Batch<'_>, counts: &Counts, cx: &Cx) -> Result<()> {
    for id in ids {
        let chunk = batch.next_done().filter(|chunk| chunk.id == *id);
        let chunk = chunk.ok_or_else(|| Error::SelfCheck {
            blob: id.to_string(),
            why: "what was read as it has another hash".to_owned(),
        })?;
        counts.blobs.fetch_add(u64::from(chunk.new), Ordering::Relaxed);
        let bytes = if chunk.new { u64::from(chunk.len) } else { 0 };
        counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        cx.report(Step::Bytes(u64::from(chunk.len)));
    }
    Ok(())
}
