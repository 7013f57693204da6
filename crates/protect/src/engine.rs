//! The engine: a repository, a catalog and the plugs, and who uses them.

use std::path::PathBuf;
use std::sync::Arc;

use alidade_catalog::{Catalog, LockRow};
use alidade_entity::{Cx, Registry};
use alidade_model::Rule;
use alidade_repository::{FileId, Indexed, Lock, LockMode, LockOptions, LockRecord, Repository};

use crate::{Identity, Result};
use std::time::Duration;

/// Whether a verb takes a lock in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// It does, and waits this long for others to let go.
    Take {
        /// How long.
        retry_for: Duration,
    },
    /// It does not: for reading from a repository that cannot be written.
    None,
}

/// What an engine is made of.
pub struct EngineParts {
    /// Clock, randomness, cancellation, progress.
    pub cx: Cx,
    /// The types it knows.
    pub registry: Registry,
    /// Where copies go.
    pub repository: Arc<Repository>,
    /// Where it keeps what it can find again.
    pub catalog: Arc<Catalog>,
    /// Who runs it.
    pub identity: Identity,
    /// Whether it takes locks.
    pub locking: Locking,
    /// A private directory for temporary files; only sealed bytes lie there.
    pub scratch: PathBuf,
    /// The directory where what can be found again is kept from run to run, if anything is: the local
    /// form of the index, and snapshot files of stores that are far. Only sealed bytes lie there, and it may be emptied at any time.
    pub cache: Option<PathBuf>,
    /// What of this program's own lies on this machine: left out of every copy.
    pub own: Vec<Rule>,
    /// Whether the process with that number and start time (in the system's ticks) is alive.
    pub alive: Alive,
    /// The name of this boot of the machine; a process of another boot is gone.
    pub boot: String,
    /// The age at which a lock looks dead; restic's when not given. For tests that cannot wait.
    pub lock_expiry: Option<Duration>,
    /// Threads that carry content.
    pub workers: usize,
}

/// Tells whether a process of this boot is alive.
pub type Alive = Arc<dyn Fn(u32, u64) -> bool + Send + Sync>;

/// Protects, restores, proves and records.
pub struct Engine {
    pub(crate) parts: EngineParts,
    notes: Vec<String>,
}

impl Engine {
    /// An engine of these parts. Removes locks that dead processes of our own left behind: those the
    /// catalog has on record, of this machine and boot or an earlier boot, and no other.
    ///
    /// # Errors
    /// When the catalog cannot be read or written, or a dead lock cannot be removed.
    pub fn new(parts: EngineParts) -> Result<Self> {
        let id = parts.repository.id().to_string();
        parts.catalog.put_repository(&id, &parts.repository.location(), parts.cx.now())?;
        let mut engine = Self { parts, notes: Vec::new() };
        if engine.parts.locking != Locking::None {
            engine.remove_dead_locks()?;
        }
        Ok(engine)
    }

    /// What it did on its own when it was made, one sentence each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The types it knows.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.parts.registry
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Arc<Repository> {
        &self.parts.repository
    }

    /// The catalog.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.parts.catalog
    }

    pub(crate) fn cx(&self) -> &Cx {
        &self.parts.cx
    }

    pub(crate) fn repository_id(&self) -> String {
        self.parts.repository.id().to_string()
    }

    /// The repository with its index in memory, as it is now.
    ///
    /// # Errors
    /// As [`Indexed::load`].
    pub fn index(&self) -> Result<Arc<Indexed>> {
        let repository = Arc::clone(&self.parts.repository);
        Ok(match &self.parts.cache {
            Some(cache) => Indexed::load_cached(repository, self.cx(), cache),
            None => Indexed::load(repository, self.cx()),
        }?)
    }

    /// Takes a shared lock, unless this engine takes none. It is recorded before it is written.
    pub(crate) fn lock(&self) -> Result<Option<Lock>> {
        let Locking::Take { retry_for } = self.parts.locking else { return Ok(None) };
        let options = self.lock_options(retry_for);
        Ok(Some(self.parts.repository.lock(self.cx(), LockMode::Shared, &options)?))
    }

    /// As [`Engine::lock`], with the wait for others put off to the first `check` of the lock.
    pub(crate) fn lock_early(&self) -> Result<Option<Lock>> {
        let Locking::Take { retry_for } = self.parts.locking else { return Ok(None) };
        let options = self.lock_options(retry_for);
        Ok(Some(self.parts.repository.lock_early(self.cx(), LockMode::Shared, &options)?))
    }

    /// How locks are taken and judged here; what is written is recorded in the catalog first.
    #[must_use]
    pub fn lock_options(&self, retry_for: Duration) -> LockOptions {
        let identity = &self.parts.identity;
        let mut options = LockOptions::new(identity.host.as_str(), identity.username.as_str());
        options.retry_for = retry_for;
        if let Some(expiry) = self.parts.lock_expiry {
            options.refresh = expiry.mul_f64(2.0 / 15.0);
            options.expiry = expiry;
        }
        options.record = Arc::new(Recorder {
            catalog: Arc::clone(&self.parts.catalog),
            repository: self.repository_id(),
            identity: identity.clone(),
            boot: self.parts.boot.clone(),
            cx: self.parts.cx.clone(),
        });
        options
    }

    fn remove_dead_locks(&mut self) -> Result<()> {
        let repository = self.repository_id();
        let options = self.lock_options(Duration::ZERO);
        for row in self.parts.catalog.recorded_locks(&repository)? {
            let same_boot = row.boot_id == self.parts.boot;
            if same_boot && (self.parts.alive)(row.pid, row.start_ticks) {
                continue;
            }
            if let Ok(id) = row.file_id.parse::<FileId>() {
                self.parts.repository.remove_lock(&id, &options)?;
                self.notes.push(format!(
                    "removed the lock {} that this machine's process {} left behind",
                    &row.file_id[..8],
                    row.pid
                ));
            }
            self.parts.catalog.forget_lock(&repository, &row.file_id)?;
        }
        Ok(())
    }
}

/// Writes locks down before they are written into the repository, so that a dead one is known as ours.
struct Recorder {
    catalog: Arc<Catalog>,
    repository: String,
    identity: Identity,
    boot: String,
    cx: Cx,
}

impl LockRecord for Recorder {
    fn will_write(&self, id: &FileId) -> alidade_repository::Result<()> {
        let row = LockRow {
            repository: self.repository.clone(),
            file_id: id.to_string(),
            pid: self.identity.pid,
            boot_id: self.boot.clone(),
            start_ticks: self.identity.started_ticks,
            created: self.cx.now(),
        };
        self.catalog.record_lock(&row).map_err(|error| record_error(&error))
    }

    fn removed(&self, id: &FileId) -> alidade_repository::Result<()> {
        self.catalog
            .forget_lock(&self.repository, &id.to_string())
            .map_err(|error| record_error(&error))
    }
}

fn record_error(error: &alidade_catalog::Error) -> alidade_repository::Error {
    alidade_repository::Error::System { attempt: format!("record a lock in the catalog: {error}") }
}
