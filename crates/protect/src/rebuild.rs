//! Bring the catalog back from the repository alone.

use std::io::Read;
use std::sync::Arc;

use alidade_catalog::{Derived, RebuildReport};
use alidade_model::{Origin, Outcome};
use alidade_repository::Indexed;

use crate::evidence::EVIDENCE_FILE;
use crate::identity::StoredSnapshot;
use crate::record::OutcomeDoc;
use crate::stored_entity::{Blobs, StoredEntity, own_file};
use crate::{Engine, Error, Result};

impl Engine {
    /// Reads every snapshot and puts entities, snapshots, runs and evidence of this repository into the catalog.
    ///
    /// Requests: three small reads a snapshot of ours. A snapshot whose record does not read is kept, without its
    /// run; the report's second part names it.
    ///
    /// # Errors
    /// When the repository cannot be listed or the catalog not be written.
    pub fn rebuild_catalog(&self) -> Result<(RebuildReport, Vec<(String, String)>)> {
        let lock = self.lock()?;
        let rebuilt = self.rebuild();
        if let Some(lock) = lock {
            lock.release()?;
        }
        rebuilt
    }

    fn rebuild(&self) -> Result<(RebuildReport, Vec<(String, String)>)> {
        let listing = self.snapshots()?;
        let indexed = self.index()?;
        let mut rows = Derived::default();
        let mut broken = listing.damaged;
        for stored in &listing.snapshots {
            self.cx().check()?;
            if stored.origin == Origin::Partial {
                // It is gone with the next whole one.
                continue;
            }
            let outcome = match self.outcome_of(&indexed, stored) {
                Ok(outcome) => outcome,
                Err(Error::Repository(alidade_repository::Error::Cancelled)) => {
                    return Err(alidade_repository::Error::Cancelled.into());
                }
                Err(error) => {
                    broken.push((stored.file.to_string(), error.to_string()));
                    None
                }
            };
            rows.snapshots.push(self.snapshot_row(stored, outcome.as_ref())?);
            let Some(outcome) = outcome else { continue };
            if stored.origin == Origin::Evidence {
                let about = listing.snapshots.iter().find(|subject| {
                    Some(subject.file.to_string()) == outcome.snapshot_file
                        || (outcome.snapshot_file.is_none() && subject.origin.is_state())
                });
                if let Some(about) = about {
                    rows.evidence.push(self.evidence_row(about, &outcome)?);
                }
            }
            rows.runs.push(self.run_row(&outcome)?);
        }
        let report = self.parts.catalog.replace_derived(&self.repository_id(), &rows)?;
        Ok((report, broken))
    }

    /// The outcome of the run that wrote a snapshot, as the snapshot tells it; `None` for a foreign one.
    ///
    /// # Errors
    /// When it does not read.
    pub fn outcome_of(
        &self,
        indexed: &Arc<Indexed>,
        stored: &StoredSnapshot,
    ) -> Result<Option<Outcome>> {
        let cx = self.cx();
        let mut doc = match stored.origin {
            Origin::Foreign | Origin::Partial => return Ok(None),
            Origin::Ours => {
                let entity = StoredEntity::new(stored.clone(), Arc::clone(indexed));
                match entity.record(cx)? {
                    None => return Ok(None),
                    Some(record) => record.outcome,
                }
            }
            Origin::Evidence => {
                let Some(content) = own_file(cx, indexed, stored.snapshot.tree, EVIDENCE_FILE)?
                else {
                    return Ok(None);
                };
                let mut blobs = Blobs::new(cx.clone(), Arc::clone(indexed), content);
                let mut text = Vec::new();
                blobs
                    .by_ref()
                    .take(64 << 20)
                    .read_to_end(&mut text)
                    .map_err(|error| blobs.explain(&error))?;
                serde_json::from_slice::<OutcomeDoc>(&text).map_err(|source| Error::Record {
                    what: format!("{EVIDENCE_FILE} of snapshot {}", stored.file),
                    source,
                })?
            }
        };
        if stored.origin == Origin::Ours {
            // The record was written before the snapshot file had a name.
            doc.snapshot = Some(stored.file.to_string());
        }
        doc.outcome().map(Some)
    }
}
