//! A whole engine on a store of choice, in this process: for tests that break the store below it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alidade_catalog::Catalog;
use alidade_entity::{Cx, Registry};
use alidade_entity_host::FsType;
use alidade_model::{EntityName, Host, ObjectId, Outcome, Status};
use alidade_protect::{
    Engine, EngineParts, Identity, Locking, Planning, ProtectOptions, ReadData, RestoreOptions,
    Result, StoredSnapshot, Wanted, Which,
};
use alidade_repository::{Kdf, KeyOptions, LocalStore, Password, Repository, Store};
use std::time::Duration;

/// The password of every lab.
const PASSWORD: &str = "lab";

/// A scratch directory with a source, a repository, a catalog and an engine.
pub struct Lab {
    dir: tempfile::TempDir,
    store: Arc<dyn Store>,
    cx: Cx,
}

impl Lab {
    /// A lab on a directory, with an empty source.
    ///
    /// # Panics
    /// When the directory cannot be made.
    #[must_use]
    pub fn new(cx: &Cx) -> Self {
        let dir = tempfile::tempdir().expect("make a scratch directory");
        let store = Arc::new(LocalStore::new(dir.path().join("repository")));
        Self::in_dir(cx, dir, store)
    }

    /// A lab on that store, with an empty source.
    ///
    /// # Panics
    /// When the source cannot be made.
    #[must_use]
    pub fn on(cx: &Cx, store: Arc<dyn Store>) -> Self {
        Self::in_dir(cx, tempfile::tempdir().expect("make a scratch directory"), store)
    }

    fn in_dir(cx: &Cx, dir: tempfile::TempDir, store: Arc<dyn Store>) -> Self {
        std::fs::create_dir(dir.path().join("source")).expect("make the source");
        std::fs::create_dir(dir.path().join("scratch")).expect("make the scratch space");
        Self { dir, store, cx: cx.clone() }
    }

    /// The same source, catalog and scratch space, seen through another store.
    #[must_use]
    pub fn through(self, store: Arc<dyn Store>) -> Self {
        Self { store, ..self }
    }

    /// From here on the same, seen through another store.
    pub fn look_through(&mut self, store: Arc<dyn Store>) {
        self.store = store;
    }

    /// The directory that is protected.
    #[must_use]
    pub fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    /// A path in the lab.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the repository.
    ///
    /// # Errors
    /// As [`Repository::init`].
    pub fn init(&self) -> alidade_repository::Result<Arc<Repository>> {
        let options =
            KeyOptions { kdf: Kdf::LIGHT, host: "lab".to_owned(), username: String::new() };
        Repository::init(&self.cx, Arc::clone(&self.store), &Password::new(PASSWORD), &options)
    }

    /// Opens the repository.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub fn open(&self) -> alidade_repository::Result<Arc<Repository>> {
        Repository::open(&self.cx, Arc::clone(&self.store), &Password::new(PASSWORD))
    }

    /// An engine on the repository; the file system is its only plug unless `more` adds some.
    ///
    /// # Errors
    /// When the repository does not open.
    ///
    /// # Panics
    /// When the catalog cannot be made.
    pub fn engine_with(&self, more: impl FnOnce(&mut Registry)) -> Result<Engine> {
        let mut registry = Registry::new();
        registry.add(Arc::new(FsType::new(vec![self.source()])));
        more(&mut registry);
        let catalog = Catalog::open(&self.path("catalog.sqlite")).expect("open the lab's catalog");
        Engine::new(EngineParts {
            cx: self.cx.clone(),
            registry,
            repository: self.open()?,
            catalog: Arc::new(catalog),
            identity: Identity {
                host: host(),
                username: "lab".to_owned(),
                uid: 0,
                gid: 0,
                program_version: "alidade lab".to_owned(),
                pid: std::process::id(),
                started_ticks: 1,
            },
            locking: Locking::Take { retry_for: Duration::ZERO },
            scratch: self.path("scratch"),
            cache: Some(self.path("cache")),
            own: Vec::new(),
            alive: Arc::new(|_, _| false),
            boot: "lab".to_owned(),
            lock_expiry: None,
            workers: 2,
        })
    }

    /// An engine on the repository.
    ///
    /// # Errors
    /// When the repository does not open.
    pub fn engine(&self) -> Result<Engine> {
        self.engine_with(|_| {})
    }

    /// The source as an entity.
    ///
    /// # Panics
    /// Never: a path is an object.
    #[must_use]
    pub fn entity(&self) -> EntityName {
        fs_entity(&self.source())
    }

    /// Protects the source.
    ///
    /// # Errors
    /// As the engine.
    pub fn protect(&self) -> Result<Outcome> {
        self.protect_entity(&self.engine()?, &self.entity(), &ProtectOptions::standard())
    }

    /// Protects an entity.
    ///
    /// # Errors
    /// As the engine.
    pub fn protect_entity(
        &self,
        engine: &Engine,
        entity: &EntityName,
        how: &ProtectOptions,
    ) -> Result<Outcome> {
        run(async {
            let plan = engine.plan_protect(entity, how, false).await?;
            engine.protect(&plan).await
        })
    }

    /// Restores a snapshot below a new directory of the lab.
    ///
    /// # Errors
    /// As the engine.
    pub fn restore(&self, stored: &StoredSnapshot, target: &Path) -> Result<Outcome> {
        use std::os::unix::ffi::OsStrExt;
        let engine = self.engine()?;
        let how = RestoreOptions {
            target: Some(target.as_os_str().as_bytes().to_vec()),
            ..RestoreOptions::default()
        };
        run(async {
            let planned = engine.plan_restore(stored, &how, Planning::ToRun).await?;
            engine.restore(planned).await
        })
    }

    /// The newest snapshot of the source.
    ///
    /// # Errors
    /// When there is none.
    pub fn latest(&self) -> Result<StoredSnapshot> {
        let entity = Some(self.entity());
        self.engine()?.resolve(&Wanted { entity, which: Which::Latest, host: Some(host()) })
    }

    /// Checks the repository and says what was found; empty when it is whole.
    ///
    /// # Errors
    /// When it cannot be checked.
    pub fn check(&self, read_data: bool) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let checked = self.engine()?.check(ReadData::all(read_data), &mut |finding| {
            if finding.class.is_damage() {
                found.push(finding.to_string());
            }
        })?;
        assert_eq!(checked.outcome.status == Status::Damaged, !found.is_empty());
        Ok(found)
    }
}

/// A path of this host as an entity.
///
/// # Panics
/// Never: a path is not empty.
#[must_use]
pub fn fs_entity(path: &Path) -> EntityName {
    use std::os::unix::ffi::OsStrExt;
    let object = ObjectId::encode(path.as_os_str().as_bytes()).expect("a path is not empty");
    EntityName { type_name: "fs".parse().expect("fs is a type name"), object }
}

fn host() -> Host {
    "lab".parse().expect("lab is a host name")
}

/// Runs an engine's verb to its end.
///
/// # Panics
/// When there is no runtime to be had.
pub fn run<T>(verb: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime of one thread").block_on(verb)
}
