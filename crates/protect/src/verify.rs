//! Check a repository, and keep the verdict as evidence.

use alidade_model::{Checks, Counts, Outcome, Status, Verb};
use alidade_repository::{CheckOptions, CheckSummary, Finding};

use crate::read_data::Watch;
use crate::{Engine, Part, ReadData, Result, name};

/// Findings that the record of a check names; all are told while it runs, and all are counted.
pub(crate) const NAMED: usize = 100;

/// What came of a check.
#[derive(Debug)]
pub struct CheckOutcome {
    /// The run, as every run is recorded.
    pub outcome: Outcome,
    /// What was looked at.
    pub summary: CheckSummary,
}

impl Engine {
    /// Checks structure and references of the repository, and reads and hashes the data that is asked for. Which packs
    /// were read and found right is recorded in the catalog while it runs, so that a check that was interrupted can
    /// be taken up, and parts that are read day by day become everything.
    ///
    /// `each` is told every finding when it is found. The outcome is [`Status::Damaged`] when one of them means
    /// that something stored cannot be restored.
    ///
    /// # Errors
    /// When the repository could not be checked.
    pub fn check(&self, read: ReadData, each: &mut dyn FnMut(&Finding)) -> Result<CheckOutcome> {
        let cx = self.cx();
        let started = cx.now();
        let lock = self.lock_early()?;
        let read_data = read.part != Part::Nothing;
        let options = CheckOptions { read_data, parallel: self.parts.workers };
        let mut watch = Watch::new(self, read, each);
        let checked = self.parts.repository.check(cx, lock.as_ref(), options, &mut watch);
        let (recorded, mut notes) = (watch.end(), std::mem::take(&mut watch.named));
        let summary = checked?;
        if let Err(error) = recorded {
            notes.push(format!("which packs were read is not recorded: {error}"));
        }
        if read_data && !read.is_everything() {
            let (read, of) = (summary.packs_read, summary.packs);
            notes.push(format!("a part of the data was read: {read} of {of} packs"));
        }
        let damaged = summary.damage > 0;
        let mut outcome = Outcome {
            run: name::run(cx)?,
            verb: Verb::Check,
            entity: format!("repository:{}", self.repository_id()).parse()?,
            host: self.parts.identity.host.clone(),
            snapshot_file: None,
            parent: None,
            status: if damaged { Status::Damaged } else { Status::Done },
            counts: Counts::default(),
            bytes: alidade_model::Bytes { read: summary.bytes_read, ..Default::default() },
            digest: None,
            omissions: alidade_model::Omissions::default(),
            excluded: alidade_model::Exclusions::new(),
            consistency: None,
            checks: Checks { verified: summary.blobs_read, ..Checks::default() },
            traffic: None,
            notes,
            started,
            ended: cx.now(),
        };
        if read_data {
            // A look at the structure proves nothing about the content, and is recorded locally alone.
            self.prove(lock.as_ref(), self.last_snapshot()?.as_ref(), &mut outcome)?;
        } else {
            self.record_run(&outcome)?;
        }
        Ok(CheckOutcome { outcome: self.ended(lock, outcome), summary })
    }
}
