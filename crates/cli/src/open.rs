//! Opens the repository, and makes the embedded default where there is none.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alidade_catalog::Catalog;
use alidade_entity::Cx;
use alidade_model::Rule;
use alidade_protect::{Engine, EngineParts, Locking};
use alidade_repository::{
    Error as RepositoryError, FileKind, Kdf, KeyOptions, LocalStore, Password, Repository, Store,
};
use alidade_stores::Settings;

use crate::app::App;
use crate::args::{BucketStyle, ProgressForm};
use crate::environment::Variable;
use crate::exit::Code;
use crate::explain::explain_store;
use crate::failure::{Failure, Result};
use crate::key_file::KeyFile;
use crate::machine;
use crate::password::{Secret, Source};
use crate::paths::absolute;
use crate::place::Place;
use crate::progress::{Show, Ticker};
use crate::run_directory::RunDirectory;
use crate::terminal;
use crate::text::shell_word;

/// The name of the one configuration file of a repository.
const CONFIG: &str = "config";

/// An engine on the repository that was asked for.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) ticker: Ticker,
    pub(crate) place: Place,
}

/// What a verb needs of the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// It reads; the catalog may be missing.
    Read,
    /// It writes; with `create`, the embedded default is made where there is none.
    Write {
        /// Whether to make the default.
        create: bool,
    },
}

impl App {
    /// The place that was asked for.
    pub(crate) fn place(&self) -> Result<Place> {
        Place::choose(
            self.global.repository.as_ref(),
            &self.parts.environment,
            self.global.restic_env,
            &self.parts.directory,
            &self.paths,
        )
    }

    /// Opens everything a verb needs.
    pub(crate) fn open(&self, need: Need) -> Result<Opened> {
        let place = self.place()?;
        let repository = self.repository(&place, need)?;
        let catalog = self.catalog(need)?;
        self.engine(place, repository, catalog)
    }

    /// True when the first backup would make the embedded default.
    pub(crate) fn would_make_default(&self) -> Result<bool> {
        let place = self.place()?;
        Ok(place.is_default && !self.exists(&*self.store(&place)?)?)
    }

    /// The store at a place.
    pub(crate) fn store(&self, place: &Place) -> Result<Arc<dyn Store>> {
        let (global, usual) = (&self.global, Settings::new(self.cx().cancel().clone()));
        let settings = Settings {
            environment: self.parts.environment.stores().clone(),
            home: self.parts.environment.get(Variable::Home).map(PathBuf::from),
            ca_certificates: global.cacert.clone(),
            path_style: global.s3_style.map(|style| style == BucketStyle::Path),
            sftp_command: global.sftp_command.clone(),
            upload_limit: global.limit_upload,
            download_limit: global.limit_download,
            patience: global.retry_store.unwrap_or(usual.patience),
            uploads: self.parts.workers.max(usual.uploads),
            ..usual
        };
        alidade_stores::open(&place.location, &settings).map_err(|error| explain_store(&error))
    }

    /// Lets `work` plan against an empty repository that is gone afterwards: a plan makes nothing,
    /// not even the repository it is for.
    pub(crate) async fn rehearse<T>(
        &self,
        work: impl AsyncFnOnce(Opened) -> Result<T>,
    ) -> Result<T> {
        let directory = self.scratch()?.join(format!("plan-{}", std::process::id()));
        let key = KeyFile::at(directory.join("key")).create(self.cx())?;
        let store: Arc<dyn Store> = Arc::new(LocalStore::new(directory.join("repository")));
        let made = self.key_options(Kdf::LIGHT).and_then(|options| {
            Repository::init(self.cx(), store, &password(&key), &options)
                .map_err(|error| self.explain_repository(&error))
        });
        let catalog = Catalog::in_memory().map_err(|error| self.explain_catalog(&error))?;
        let worked = match made {
            Ok(repository) => match self.engine(self.place()?, repository, Arc::new(catalog)) {
                Ok(opened) => work(opened).await,
                Err(failure) => Err(failure),
            },
            Err(failure) => Err(failure),
        };
        let removed = std::fs::remove_dir_all(&directory);
        let worked = worked?;
        removed.map_err(|error| Failure::io(format!("remove {}", directory.display()), &error))?;
        Ok(worked)
    }

    fn engine(
        &self,
        place: Place,
        repository: Arc<Repository>,
        catalog: Arc<Catalog>,
    ) -> Result<Opened> {
        let show = self.show()?;
        let ticker = Ticker::start(show, Arc::clone(self.cx().clock()));
        let cx = self.cx().watched_by(ticker.counters());
        let parts = self.engine_parts(&place, repository, catalog, cx)?;
        let engine = Engine::new(parts).map_err(|error| self.explain(&error))?;
        for note in engine.notes() {
            self.out.note(note)?;
        }
        Ok(Opened { engine, ticker, place })
    }

    fn engine_parts(
        &self,
        place: &Place,
        repository: Arc<Repository>,
        catalog: Arc<Catalog>,
        cx: Cx,
    ) -> Result<EngineParts> {
        let scratch = self.scratch()?;
        Ok(EngineParts {
            cx,
            registry: self.parts.registry.clone(),
            repository,
            catalog,
            identity: machine::identity()?,
            locking: self.locking(),
            own: self.own(place, &scratch),
            cache: (!self.global.no_cache).then(|| scratch.clone()),
            scratch,
            alive: Arc::new(machine::is_alive),
            boot: machine::boot(),
            workers: self.parts.workers,
            lock_expiry: self.parts.lock_expiry,
        })
    }

    /// The place that a verb writes into beside the one that it reads.
    pub(crate) fn other_place(&self, option: Option<&OsString>) -> Result<Place> {
        let environment = &self.parts.environment;
        let variable = environment.get(Variable::ToRepository);
        let named = option.map(OsString::as_os_str).or(variable).ok_or_else(|| {
            Failure::usage("the other repository is not named").hint("name it: `--to PLACE`")
        })?;
        Place::named(named, &self.parts.directory, &self.paths)
    }

    /// Where that one's password comes from, if anybody said.
    pub(crate) fn other_source(
        &self,
        command: Option<&str>,
        file: Option<&Path>,
    ) -> Result<Option<Source>> {
        Source::choose_other((command, file), &self.parts.environment)
    }

    /// An engine on that one. It must be there.
    pub(crate) fn open_other(&self, place: &Place, source: Option<Source>) -> Result<Engine> {
        let hint = |failure: Failure| match failure.code {
            Code::WrongPassword => {
                failure.hint("name the right one with `--to-password-file FILE`")
            }
            Code::NoRepository => {
                let init = format!("alidade -r {} init", shell_word(place.to_string().as_bytes()));
                failure.hint(format!("make it first: `{init}`"))
            }
            _ => failure,
        };
        let repository = self.repository_by(place, Need::Write { create: false }, source);
        let repository = repository.map_err(hint)?;
        let catalog = self.catalog(Need::Write { create: false })?;
        let parts = self.engine_parts(place, repository, catalog, self.cx().clone())?;
        Engine::new(parts).map_err(|error| self.explain(&error))
    }

    /// Opens the repository alone.
    pub(crate) fn repository(&self, place: &Place, need: Need) -> Result<Arc<Repository>> {
        self.repository_by(place, need, self.source()?)
    }

    /// The same with a password from there.
    fn repository_by(
        &self,
        place: &Place,
        need: Need,
        source: Option<Source>,
    ) -> Result<Arc<Repository>> {
        let store = self.store(place)?;
        let create = need == Need::Write { create: true } && place.is_default;
        if create && !self.exists(&*store)? {
            let made = match &source {
                Some(source) => {
                    self.make(store, &self.secret(source, "password for the new repository", true)?)
                }
                None => self.make_default(place, store),
            }?;
            return Ok(made);
        }
        let secret = match source {
            Some(source) => self.secret(&source, "password", false)?,
            None if place.is_default => self.key(&*store)?,
            None => {
                if !self.exists(&*store)? {
                    let location = store.location();
                    let error = RepositoryError::NoRepository { location };
                    return Err(self.explain_repository(&error));
                }
                let what = format!("password of {place}");
                self.secret(&Source::Prompt, &what, false)?
            }
        };
        self.arm()?;
        Repository::open(self.cx(), store, &password(&secret))
            .map_err(|error| self.explain_repository(&error))
    }

    /// Makes a repository with a password that somebody chose.
    pub(crate) fn make(&self, store: Arc<dyn Store>, secret: &Secret) -> Result<Arc<Repository>> {
        self.arm()?;
        let options = self.key_options(Kdf::calibrated(&**self.cx().clock()))?;
        Repository::init(self.cx(), store, &password(secret), &options)
            .map_err(|error| self.explain_repository(&error))
    }

    /// Makes the embedded default. The key is on disk before anything is sealed with it; a key that
    /// is there already, from a run that was killed in between, is used.
    pub(crate) fn make_default(
        &self,
        place: &Place,
        store: Arc<dyn Store>,
    ) -> Result<Arc<Repository>> {
        self.arm()?;
        let file = self.key_file()?;
        let key = match file.read()? {
            Some(key) => key,
            None => match file.create(self.cx()) {
                Ok(key) => key,
                // Another first run at the same time was faster: its key is as good.
                Err(failure) => file.read()?.ok_or(failure)?,
            },
        };
        let options = self.key_options(Kdf::LIGHT)?;
        let made = Repository::init(self.cx(), Arc::clone(&store), &password(&key), &options);
        let repository = match made {
            Err(RepositoryError::Exists { .. }) => {
                return Repository::open(self.cx(), store, &password(&key))
                    .map_err(|error| self.explain_repository(&error));
            }
            made => made.map_err(|error| self.explain_repository(&error))?,
        };
        self.out.must_see(&format!(
            "made the repository {place}\nits key is in {}: keep a copy of that file elsewhere; \
             without it nothing can be restored",
            file.path().display()
        ))?;
        Ok(repository)
    }

    /// True when there is a repository at that place, whatever its password.
    pub(crate) fn exists(&self, store: &dyn Store) -> Result<bool> {
        match store.len(FileKind::Config, CONFIG) {
            Ok(_) => Ok(true),
            Err(RepositoryError::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.explain_repository(&error)),
        }
    }

    /// Where the password comes from, if anybody said.
    pub(crate) fn source(&self) -> Result<Option<Source>> {
        Source::choose(
            self.global.password_command.as_deref(),
            self.global.password_file.as_deref(),
            &self.parts.environment,
            self.global.restic_env,
        )
    }

    /// The password itself. Whoever is asked for it can leave with a signal as from any other work.
    pub(crate) fn secret(&self, source: &Source, what: &str, confirm: bool) -> Result<Secret> {
        source.get(what, confirm, &|question| {
            self.arm()?;
            terminal::ask(self.cx(), question)
        })
    }

    /// How to get a password that opens the repository.
    pub(crate) fn password_hint(&self) -> String {
        let is_default = self.place().is_ok_and(|place| place.is_default);
        match (self.source(), self.key_file()) {
            (Ok(None), Ok(file)) if is_default => {
                format!("put the copy you kept of the key back into {}", file.path().display())
            }
            _ => "name the right one with `--password-file FILE` or `--password-command COMMAND`"
                .to_owned(),
        }
    }

    /// How new keys are made.
    pub(crate) fn key_options(&self, kdf: Kdf) -> Result<KeyOptions> {
        let identity = machine::identity()?;
        Ok(KeyOptions { kdf, host: identity.host.to_string(), username: identity.username })
    }

    /// Lets signals cancel the run from here on.
    pub(crate) fn arm(&self) -> Result<()> {
        (self.parts.arm)().map_err(|error| Failure::io("prepare for signals", &error))
    }

    /// Whether and how long to wait for locks.
    pub(crate) fn locking(&self) -> Locking {
        if self.global.no_lock {
            return Locking::None;
        }
        Locking::Take { retry_for: self.global.retry_lock.unwrap_or(Duration::ZERO) }
    }

    /// The catalog. A verb that reads goes on without one, and says so: it must not stand in the way
    /// of a restore.
    fn catalog(&self, need: Need) -> Result<Arc<Catalog>> {
        let opened = match &self.paths {
            Ok(paths) => {
                Catalog::open(&paths.catalog()).map_err(|error| self.explain_catalog(&error))
            }
            Err(failure) => Err(failure.clone()),
        };
        match (opened, need) {
            (Ok(catalog), _) => Ok(Arc::new(catalog)),
            (Err(failure), Need::Write { .. }) => Err(failure),
            (Err(failure), Need::Read) => {
                self.out.warn(&format!("going on without the catalog: {}", failure.message))?;
                let catalog = Catalog::in_memory().map_err(|error| self.explain_catalog(&error))?;
                Ok(Arc::new(catalog))
            }
        }
    }

    pub(crate) fn key_file(&self) -> Result<KeyFile> {
        self.paths.clone().map(|paths| KeyFile::at(paths.key()))
    }

    fn key(&self, store: &dyn Store) -> Result<Secret> {
        let file = self.key_file()?;
        match file.read()? {
            Some(key) => Ok(key),
            None if self.exists(store)? => Err(Failure::new(
                Code::WrongPassword,
                format!("the key file {} is missing", file.path().display()),
            )
            .hint(self.password_hint())),
            None => {
                let location = store.location();
                let failure = self.explain_repository(&RepositoryError::NoRepository { location });
                let protect = self.command(&[b"protect", b"."]);
                Err(failure.hint(format!("the first backup makes it: `{protect}`")))
            }
        }
    }

    fn show(&self) -> Result<Show> {
        let named = self.parts.environment.get(Variable::Progress);
        let form = match (self.global.progress, named.and_then(|name| name.to_str())) {
            (Some(form), _) => form,
            (None, None) => ProgressForm::Auto,
            (None, Some(name)) => <ProgressForm as clap::ValueEnum>::from_str(name, false)
                .map_err(|why| Failure::usage(format!("ALIDADE_PROGRESS: {why}")))?,
        };
        Ok(Show::decide(form, self.out.is_json(), self.global.quiet))
    }

    /// The directory for caches and temporary files.
    fn scratch(&self) -> Result<PathBuf> {
        let environment = &self.parts.environment;
        if self.global.no_cache {
            if let Some(made) = self.run_directory.get() {
                return Ok(made.path().to_owned());
            }
            let named = environment.get(Variable::TemporaryDir).map(Path::new);
            let made = RunDirectory::make(&absolute(
                &self.parts.directory,
                named.unwrap_or(Path::new("/tmp")),
            ))?;
            return Ok(self.run_directory.get_or_init(|| made).path().to_owned());
        }
        let named = self.global.cache_dir.as_deref();
        let named = named.or(environment.get(Variable::CacheDir).map(Path::new));
        let directory = match named {
            Some(path) => PathBuf::from(OsString::from_vec(self.absolute(path))),
            None => self.paths.clone()?.cache,
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|error| {
            Failure::io(format!("create the cache directory {}", directory.display()), &error)
                .hint("name another with `--cache-dir DIR`, or do without: `--no-cache`")
        })?;
        Ok(directory)
    }

    /// What of ours lies on this machine: left out of every copy.
    fn own(&self, place: &Place, scratch: &Path) -> Vec<Rule> {
        let mut rules = Vec::new();
        let mut add = |what: &str, path: PathBuf| {
            // Below a symlink the walk meets the real path.
            let real = std::fs::canonicalize(&path).ok().filter(|real| *real != path);
            for path in std::iter::once(path).chain(real) {
                let path = path.into_os_string().into_vec();
                rules.push(Rule::Own { what: what.to_owned(), path });
            }
        };
        if let Some(directory) = place.directory() {
            add("repository", directory.to_owned());
        }
        let what = if self.global.no_cache { "temporary files" } else { "cache" };
        add(what, scratch.to_owned());
        if let Ok(paths) = &self.paths {
            add("key", paths.key());
            for end in ["", "-wal", "-shm"] {
                let mut name = paths.catalog().into_os_string();
                name.push(end);
                add("catalog", PathBuf::from(name));
            }
        }
        rules
    }
}

/// A password as the repository takes it.
pub(crate) fn password(secret: &Secret) -> Password {
    Password::new(secret.as_bytes())
}
