//! Snapshots into another repository: stored → stored.

use std::collections::HashMap;
use std::sync::Arc;

use alidade_repository::{
    Compression, FileId, Snapshot, Transfer, Transferred, Writer, WriterOptions,
};

use crate::{Engine, Error, Result, StoredSnapshot};

/// How to write into the other repository.
#[derive(Clone, Copy, Debug)]
pub struct TransferOptions {
    /// How hard to compress.
    pub compression: Compression,
    /// Bytes at which a pack is closed.
    pub pack_size: u64,
    /// Open, decompress and hash every sealed blob before it is stored.
    pub self_check: bool,
}

/// What became of a snapshot.
#[derive(Debug)]
pub enum Moved {
    /// It is in the other repository now, as that file.
    Copied {
        /// The file there.
        file: FileId,
        /// What that took.
        took: Transferred,
    },
    /// It was there before, as that file.
    Present {
        /// The file there.
        file: FileId,
    },
    /// Not all of it reads: it is not in the other repository.
    Failed {
        /// Why.
        error: Error,
    },
}

impl Engine {
    /// Copies snapshots into the repository of another engine, the oldest first, and tells `each` what became
    /// of every one. Nothing is cut again, and only what is missing there is brought over; a copy that was
    /// interrupted is taken up where it was. Keys and stores may differ.
    ///
    /// A snapshot keeps its time, host, paths and tags, and so its id; that of its file changes. It counts as
    /// there when a snapshot file of the other repository says that it came of the same one.
    ///
    /// # Errors
    /// When either repository cannot be read or written at all; when the run was told to stop. That a
    /// snapshot is damaged is told to `each`, and the others are copied.
    pub fn transfer(
        &self,
        to: &Self,
        snapshots: &[StoredSnapshot],
        how: &TransferOptions,
        each: &mut dyn FnMut(&StoredSnapshot, &Moved),
    ) -> Result<()> {
        let cx = self.cx();
        if self.repository_id() == to.repository_id() {
            return Err(Error::Conflict { what: "copy a repository into itself".to_owned() });
        }
        let reading = self.lock_early()?;
        let Some(writing) = to.lock_early()? else {
            return Err(Error::Usage("copy needs a lock on the other repository".to_owned()));
        };
        let (from, known) = (self.index()?, to.index()?);
        let there = to.origins()?;
        let writer = Writer::new(Arc::clone(&known), &writing, to.transfer_options(how))?;
        let mut transfer = Transfer::new(&from, &writer, self.parts.workers);
        let done = snapshots.iter().try_for_each(|stored| {
            let moved = match there.get(&origin(stored.file, &stored.snapshot)) {
                Some(file) => Moved::Present { file: *file },
                None => self.bring(&mut transfer, &writer, stored)?,
            };
            each(stored, &moved);
            Ok(())
        });
        // What was brought over of a snapshot that is not whole is used by the next run.
        let kept = if writer.has_failed() { Ok(()) } else { writer.abandon(cx) };
        let mut ended = kept;
        for lock in [Some(writing), reading].into_iter().flatten() {
            ended = ended.and(lock.release());
        }
        match (done, ended) {
            (Ok(()), last) => Ok(last?),
            (Err(first), Ok(())) => Err(first),
            (Err(first), Err(second)) => Err(first.then(second.into())),
        }
    }

    /// Tells `each` what [`Engine::transfer`] would do: what is not there yet is nothing, yet.
    ///
    /// # Errors
    /// When either repository cannot be read.
    pub fn transfer_plan(
        &self,
        to: &Self,
        snapshots: &[StoredSnapshot],
        each: &mut dyn FnMut(&StoredSnapshot, Option<&Moved>),
    ) -> Result<()> {
        let there = to.origins()?;
        for stored in snapshots {
            let file = there.get(&origin(stored.file, &stored.snapshot));
            each(stored, file.map(|file| Moved::Present { file: *file }).as_ref());
        }
        Ok(())
    }

    /// Brings over one snapshot, everything it needs before it.
    fn bring(
        &self,
        transfer: &mut Transfer<'_>,
        writer: &Writer,
        stored: &StoredSnapshot,
    ) -> Result<Moved> {
        use alidade_repository::Error as R;
        let cx = self.cx();
        let took = match transfer.tree(cx, stored.snapshot.tree) {
            Ok(took) => took,
            Err(error @ (R::Damaged { .. } | R::NotFound { .. })) if !writer.has_failed() => {
                return Ok(Moved::Failed { error: error.into() });
            }
            Err(error) => return Err(error.into()),
        };
        let snapshot = Snapshot {
            // It has no meaning there.
            parent: None,
            original: Some(origin(stored.file, &stored.snapshot)),
            ..stored.snapshot.clone()
        };
        let file = writer.commit(cx, &snapshot)?;
        Ok(Moved::Copied { file, took })
    }

    /// The files of this repository's snapshots, by the file that each was first.
    fn origins(&self) -> Result<HashMap<FileId, FileId>> {
        let listed = self.snapshots()?.snapshots;
        Ok(listed
            .iter()
            .map(|stored| (origin(stored.file, &stored.snapshot), stored.file))
            .collect())
    }

    fn transfer_options(&self, how: &TransferOptions) -> WriterOptions {
        WriterOptions {
            compression: how.compression,
            pack_size: how.pack_size,
            self_check: how.self_check,
            ..WriterOptions::new(self.parts.scratch.clone())
        }
    }
}

/// The file that a snapshot was first.
fn origin(file: FileId, snapshot: &Snapshot) -> FileId {
    snapshot.original.unwrap_or(file)
}
