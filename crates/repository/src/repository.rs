//! The repository as a whole: made, opened, and asked what it holds.

mod keys;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use alidade_entity::Cx;

use crate::config::Config;
use crate::crypto::{self, MasterKey};
use crate::files::{self, Files};
use crate::local_snapshots::LocalSnapshots;
use crate::polynomial::Polynomial;
use crate::snapshot::Snapshot;
use crate::{
    Body, Error, FileId, FileKind, Lock, LockEntry, LockMode, LockOptions, Password, Result, Store,
    config, envelope, lock, snapshot,
};

/// How many snapshot files are read at a time: over a network the way there and back is what it takes.
const READERS: usize = 8;

pub use keys::{KeyEntry, KeyOptions};

/// An opened repository: its files, and the key to them.
pub struct Repository {
    files: Arc<Files>,
    config: Config,
    key_id: FileId,
}

impl Repository {
    /// Makes a new repository of version 2 and opens it.
    ///
    /// The config is written last and is the commit: killed before it, there is no repository and
    /// the next attempt succeeds, clearing away what the earlier one left. Of two at the same time
    /// one wins and the other fails with [`Error::Exists`].
    ///
    /// # Errors
    /// [`Error::Exists`]; [`Error::Damaged`] when there are packs, indexes or snapshots without a
    /// config; [`Error::Usage`] for an empty password; [`Error::Store`].
    pub fn init(
        cx: &Cx,
        store: Arc<dyn Store>,
        password: &Password,
        options: &KeyOptions,
    ) -> Result<Arc<Self>> {
        keys::refuse_empty(password)?;
        match store.len(FileKind::Config, CONFIG) {
            Ok(_) => return Err(Error::Exists { location: store.location() }),
            Err(Error::NotFound { .. }) => refuse_headless(&*store)?,
            Err(error) => return Err(error),
        }
        let config = Config::generate(cx)?;
        let master = MasterKey::generate(cx)?;
        store.create()?;
        let left = files::list(&*store, FileKind::Key)?;
        let key_id = keys::write(cx, &*store, &master, password, options)?;
        let sealed = envelope::encode_config(&master, cx, &config.encode())?;
        if let Err(error) = store.put(FileKind::Config, CONFIG, Body::Bytes(&sealed)) {
            // Unless it was stored all the same, our key opens nothing.
            if read_config(&*store).is_ok_and(|there| there != sealed) {
                store.remove(FileKind::Key, &key_id.to_string())?;
            }
            return Err(error);
        }
        store.flush(FileKind::Config)?;
        if read_config(&*store)? != sealed {
            return Err(Error::damaged("config", "what is read is not what was written"));
        }
        // Only now, when this attempt has won, and only those that were there before it: the key of
        // another attempt under way is removed by that one, which has lost.
        for (id, _) in left {
            store.remove(FileKind::Key, &id.to_string())?;
        }
        let files = Arc::new(Files::new(store, master, config.version > 1));
        Ok(Arc::new(Self { files, config, key_id }))
    }

    /// Opens a repository of version 1 or 2. Takes the time and memory the key files ask for, within
    /// the bounds of [`crate::key::Kdf::check`]. A damaged key file does not stand in the way of a
    /// good one.
    ///
    /// # Errors
    /// [`Error::NoRepository`], [`Error::WrongPassword`], [`Error::UnknownVersion`]; and
    /// [`Error::Damaged`] when a config, or the only keys that could have opened it, are damaged.
    pub fn open(cx: &Cx, store: Arc<dyn Store>, password: &Password) -> Result<Arc<Self>> {
        let sealed = match read_config(&*store) {
            Ok(sealed) => sealed,
            Err(Error::NotFound { .. }) => {
                refuse_headless(&*store)?;
                return Err(Error::NoRepository { location: store.location() });
            }
            Err(error) => return Err(error),
        };
        let found = match keys::search(cx, &*store, password, &sealed) {
            Ok(found) => found,
            Err(error) => match read_config(&*store)? {
                // One of the two was damaged on the way.
                other if other != sealed => keys::search(cx, &*store, password, &other)?,
                _ => return Err(error),
            },
        };
        let (key_id, master, json) = found;
        let config = Config::decode_at(&json, &store.location())?;
        let files = Arc::new(Files::new(store, master, config.version > 1));
        Ok(Arc::new(Self { files, config, key_id }))
    }

    /// The id of the repository.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.config.id
    }

    /// The version of its format: 1 or 2.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.config.version
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn location(&self) -> String {
        self.store().location()
    }

    /// The store below it.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        self.files.store()
    }

    /// The secret from which cut points come.
    pub(crate) fn polynomial(&self) -> Polynomial {
        self.config.polynomial
    }

    /// Its sealed files.
    pub(crate) fn files(&self) -> &Arc<Files> {
        &self.files
    }

    /// Calls `each` for every snapshot file, ascending by id. One that cannot be read does not hide
    /// the others: it comes as the error it is. Some are read ahead, as many at a time as [`READERS`] says.
    ///
    /// # Errors
    /// When the files cannot be listed, `each` fails, or the run is told to stop.
    pub fn each_snapshot(
        &self,
        cx: &Cx,
        each: &mut dyn FnMut(FileId, Result<Snapshot>) -> Result<()>,
    ) -> Result<()> {
        let files = self.files.list(FileKind::Snapshot)?;
        self.each_of(cx, &files, None, each)
    }

    /// As [`Self::each_snapshot`] for those files, with the help of what is kept of them.
    fn each_of(
        &self,
        cx: &Cx,
        files: &[(FileId, u64)],
        kept: Option<&LocalSnapshots>,
        each: &mut dyn FnMut(FileId, Result<Snapshot>) -> Result<()>,
    ) -> Result<()> {
        let readers = READERS.min(files.len());
        std::thread::scope(|scope| {
            let read = |first| {
                let (sender, came) = crossbeam_channel::bounded(1);
                let mut mine = files.iter().skip(first).step_by(readers);
                scope.spawn(move || {
                    mine.all(|(id, _)| sender.send(self.read_snapshot(id, kept)).is_ok())
                });
                came
            };
            let came: Vec<_> = (0..readers).map(read).collect();
            for (number, (id, _)) in files.iter().enumerate() {
                cx.check()?;
                match came[number % readers].recv() {
                    // Removed since it was listed.
                    Ok(Err(Error::NotFound { .. })) => {}
                    Ok(snapshot) => each(*id, snapshot)?,
                    Err(_died) => {
                        return Err(Error::System { attempt: format!("read snapshot {id}") });
                    }
                }
            }
            Ok(())
        })
    }

    /// Every snapshot file, ascending by id, as [`Self::each_snapshot`] gives them.
    ///
    /// # Errors
    /// When the files cannot be listed, or the run is told to stop.
    pub fn snapshots(&self, cx: &Cx) -> Result<Vec<(FileId, Result<Snapshot>)>> {
        let mut all = Vec::new();
        self.each_snapshot(cx, &mut |id, snapshot| {
            all.push((id, snapshot));
            Ok(())
        })?;
        Ok(all)
    }

    /// As [`Self::snapshots`], with the help of the directory `cache` where the store is far: a file that
    /// was read or written with it before is not read again. What is kept of files that are gone is
    /// removed.
    ///
    /// What is kept is as it is stored, and compared with its name; whatever is wrong with it, and when nothing can be
    /// kept, is no error. It may be deleted at any time. A snapshot file that was damaged after it was kept
    /// is not noticed; [`Repository::check`] keeps nothing and reads them all.
    ///
    /// # Errors
    /// As [`Self::snapshots`].
    pub fn snapshots_cached(
        &self,
        cx: &Cx,
        cache: &Path,
    ) -> Result<Vec<(FileId, Result<Snapshot>)>> {
        let Some(kept) = LocalSnapshots::of(cache, self) else { return self.snapshots(cx) };
        let mut gone = kept.names();
        let files = self.files.list(FileKind::Snapshot)?;
        for (id, _) in &files {
            gone.remove(id);
        }
        gone.iter().for_each(|id| kept.remove(id));
        let mut all = Vec::with_capacity(files.len());
        self.each_of(cx, &files, Some(&kept), &mut |id, snapshot| {
            all.push((id, snapshot));
            Ok(())
        })?;
        Ok(all)
    }

    /// One snapshot.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::Store`].
    pub fn snapshot(&self, id: &FileId) -> Result<Snapshot> {
        self.read_snapshot(id, None)
    }

    /// As [`Self::snapshot`], with the help of the directory `cache`, as of [`Self::snapshots_cached`]. Whether
    /// the file is still there is not asked when it is kept.
    ///
    /// # Errors
    /// As [`Self::snapshot`].
    pub fn snapshot_cached(&self, id: &FileId, cache: &Path) -> Result<Snapshot> {
        self.read_snapshot(id, LocalSnapshots::of(cache, self).as_ref())
    }

    fn read_snapshot(&self, id: &FileId, kept: Option<&LocalSnapshots>) -> Result<Snapshot> {
        const MAX: usize = snapshot::MAX_LEN;
        let open = |sealed: &[u8]| {
            let json = self.files.open(FileKind::Snapshot, id, sealed, MAX)?;
            Snapshot::decode(&json).map_err(|error| error.of(format!("snapshot {id}")))
        };
        if let Some(sealed) = kept.and_then(|kept| kept.read(id, files::sealed_len(MAX))) {
            return open(&sealed);
        }
        let sealed = self.files.sealed(FileKind::Snapshot, id, MAX)?;
        let snapshot = open(&sealed)?;
        if let Some(kept) = kept {
            kept.keep(id, &sealed);
        }
        Ok(snapshot)
    }

    /// The one snapshot whose id begins with `prefix`, in lower-case hex.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, [`Error::Ambiguous`] when there are several.
    pub fn find_snapshot(&self, prefix: &str) -> Result<FileId> {
        self.find(FileKind::Snapshot, prefix)
    }

    /// The one key whose id begins with `prefix`, in lower-case hex.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, [`Error::Ambiguous`] when there are several.
    pub fn find_key(&self, prefix: &str) -> Result<FileId> {
        self.find(FileKind::Key, prefix)
    }

    fn find(&self, kind: FileKind, prefix: &str) -> Result<FileId> {
        let mut found = None;
        for (id, _) in self.files.list(kind)? {
            if !prefix.is_empty() && id.to_string().starts_with(prefix) {
                if found.is_some() {
                    return Err(Error::Ambiguous { prefix: prefix.to_owned(), kind: kind.word() });
                }
                found = Some(id);
            }
        }
        found.ok_or_else(|| Error::NotFound { what: format!("{kind} `{prefix}`") })
    }

    /// Takes a lock, which is renewed until it is released.
    ///
    /// # Errors
    /// [`Error::Locked`] when another lock forbids it, dead or not, and stays for
    /// [`LockOptions::retry_for`]; [`Error::Damaged`] when one cannot be read.
    pub fn lock(&self, cx: &Cx, mode: LockMode, options: &LockOptions) -> Result<Lock> {
        Lock::acquire(cx, Arc::clone(&self.files), mode, options)
    }

    /// As [`Repository::lock`], without the wait in which two that came at the same moment find each other:
    /// the first [`Lock::check`] does that, for what is left of it. Until then what is read may vanish, and
    /// no index and no snapshot may be written; a [`crate::Writer`] sees to that.
    ///
    /// # Errors
    /// As [`Repository::lock`].
    pub fn lock_early(&self, cx: &Cx, mode: LockMode, options: &LockOptions) -> Result<Lock> {
        Lock::acquire_early(cx, Arc::clone(&self.files), mode, options)
    }

    /// All locks, ascending by id. `options` say what makes one look dead.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn locks(&self, cx: &Cx, options: &LockOptions) -> Result<Vec<LockEntry>> {
        lock::list(cx, &self.files, options)
    }

    /// Removes the locks that look dead, or with `all` every one, and says which went.
    ///
    /// # Errors
    /// When they cannot be listed or one cannot be removed.
    pub fn unlock(&self, cx: &Cx, options: &LockOptions, all: bool) -> Result<Vec<LockEntry>> {
        lock::unlock(cx, &self.files, options, all)
    }

    /// Removes one lock known to be ours and dead, and tells the record; absent is fine.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_lock(&self, id: &FileId, options: &LockOptions) -> Result<()> {
        lock::remove(&self.files, options, id)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("location", &self.location())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The name of the one config.
const CONFIG: &str = "config";

/// Data without a config is a repository that lost its head: neither absent nor free to be made anew.
fn refuse_headless(store: &dyn Store) -> Result<()> {
    for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
        // The first file is enough, and there may be millions.
        let mut any = false;
        let stopped = store.list(kind, &mut |_, _| {
            any = true;
            Err(Error::Cancelled)
        });
        if any {
            return Err(Error::damaged(
                format!("repository at {}", store.location()),
                format!("it has {kind} files and no config"),
            ));
        }
        stopped?;
    }
    Ok(())
}

/// The config as it is stored.
fn read_config(store: &dyn Store) -> Result<Vec<u8>> {
    files::read_whole(store, FileKind::Config, CONFIG, config::MAX_LEN + crypto::OVERHEAD)
}
