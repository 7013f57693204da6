//! Making a damaged repository whole again, as far as what is there allows.

use alidade_repository::{
    CheckOptions, Dress, FileId, Finding, FindingClass, IndexRepair, Lock, LockMode, PackRepair,
    RepairedSnapshot, SnapshotRepair, WriterOptions,
};

use crate::lost::Marks;
use crate::{Engine, Error, Locking, Result};

impl Engine {
    /// Makes the index again of the index files that are whole and of the packs themselves, or, with `all`, of
    /// the packs alone; with `only_plan` says what that would be.
    ///
    /// # Errors
    /// When somebody else works on the repository; when the store fails.
    pub fn repair_index(&self, all: bool, only_plan: bool) -> Result<IndexRepair> {
        let (cx, repository) = (self.cx(), self.repository());
        self.alone(only_plan, |lock| {
            let plan = repository.plan_index_repair(cx, all)?;
            if let Some(lock) = lock.filter(|_| !plan.is_empty()) {
                repository.repair_index(cx, lock, &plan)?;
            }
            Ok(plan)
        })
    }

    /// Stores what is whole of damaged packs again, and removes these; with `only_plan` says what that would
    /// be. Without names the packs are those that a check of all data finds.
    ///
    /// # Errors
    /// As [`Engine::repair_index`]; when no index names a pack.
    pub fn repair_packs(&self, packs: &[FileId], only_plan: bool) -> Result<PackRepair> {
        let (cx, repository) = (self.cx(), self.repository());
        let found = if packs.is_empty() { self.damaged_packs()? } else { packs.to_vec() };
        self.alone(only_plan, |lock| {
            let plan = repository.plan_pack_repair(cx, &found)?;
            if let Some(lock) = lock.filter(|_| !plan.is_empty()) {
                repository.repair_packs(cx, lock, &plan, self.plain_options())?;
            }
            Ok(plan)
        })
    }

    /// Writes snapshots that need what is lost again without it; with `only_plan` says which. With `forget`
    /// the old ones are removed.
    ///
    /// # Errors
    /// As [`Engine::repair_index`]; when an index file is damaged.
    pub fn repair_snapshots(
        &self,
        forget: bool,
        only_plan: bool,
    ) -> Result<(SnapshotRepair, Vec<RepairedSnapshot>)> {
        let (cx, repository) = (self.cx(), self.repository());
        self.alone(only_plan, |lock| {
            let plan = repository.plan_snapshot_repair(cx)?;
            let Some(lock) = lock.filter(|_| !plan.is_empty()) else {
                return Ok((plan, Vec::new()));
            };
            let mut marks = Marks { cx };
            let how = (forget, &mut marks as &mut dyn Dress);
            let done = repository.repair_snapshots(cx, lock, &plan, self.plain_options(), how)?;
            Ok((plan, done))
        })
    }

    /// Packs in which a check of all data finds damage.
    fn damaged_packs(&self) -> Result<Vec<FileId>> {
        let lock = self.lock_early()?;
        let options = CheckOptions { read_data: true, parallel: self.parts.workers };
        let mut packs = Vec::new();
        self.parts.repository.check(
            self.cx(),
            lock.as_ref(),
            options,
            &mut |finding: Finding| {
                let is_it =
                    matches!(finding.class, FindingClass::PackContent | FindingClass::PackSize);
                packs.extend(finding.pack.filter(|_| is_it));
            },
        )?;
        if let Some(lock) = lock {
            lock.release()?;
        }
        packs.sort_unstable();
        packs.dedup();
        Ok(packs)
    }

    /// Works with the repository to ourselves, or, for a plan, beside others.
    fn alone<T>(
        &self,
        only_plan: bool,
        work: impl FnOnce(Option<&Lock>) -> Result<T>,
    ) -> Result<T> {
        let Locking::Take { retry_for } = self.parts.locking else {
            return if only_plan {
                work(None)
            } else {
                Err(Error::Usage("repair needs a lock".to_owned()))
            };
        };
        let options = self.lock_options(retry_for);
        let mode = if only_plan { LockMode::Shared } else { LockMode::Exclusive };
        let lock = self.parts.repository.lock(self.cx(), mode, &options)?;
        let done = work(Some(&lock).filter(|_| !only_plan));
        match (done, lock.release()) {
            (done, Ok(())) => done,
            (Ok(_), Err(error)) => Err(error.into()),
            (Err(first), Err(second)) => Err(first.then(second.into())),
        }
    }

    fn plain_options(&self) -> WriterOptions {
        WriterOptions::new(self.parts.scratch.clone())
    }
}
