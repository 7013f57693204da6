//! A repository in a directory of this machine, laid out as restic's local backend does.

mod leftover;
mod settling;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::fs::{CWD, OFlags, RenameFlags};
use rustix::io::Errno;

use super::{Body, FileKind, Store};
use crate::{Error, Result, id};
use settling::{Settling, Unflushed, Written};

/// Open pack files kept for reading. Neighbouring blobs are read one after the other, so a few suffice.
const OPEN_PACKS: usize = 32;
/// How much of a [`Body::Reader`] is held at a time.
const COPY: usize = 256 * 1024;

/// File systems that one kernel looks after alone, by their magic numbers (statfs(2)): btrfs, ext2 to
/// ext4, F2FS, tmpfs, XFS, ZFS.
const OWN: [u32; 6] = [0x9123_683e, 0xef53, 0xf2f5_2010, 0x0102_1994, 0x5846_5342, 0x2fc1_2fc1];

/// A repository in a directory.
///
/// Guarantees, beyond those of [`Store`]:
/// - A file is written under a temporary name beside its final one, made durable, and renamed
///   without replacing anything. A killed writer leaves at most `ID-tmp-PID-N` files, which no
///   reader sees, stock restic neither.
/// - Packs become durable while who put them goes on, some at a time. Every call that asks for
///   packs waits for them first. When one could not be made durable, [`Store::flush`] of packs
///   fails, and every later one of this store, as every later [`Store::put`] of a pack.
/// - The first [`Store::put`] of a store, save of a lock, removes those that killed writers left:
///   files of that very name form, not written for 30 minutes by the clock of their file system,
///   on which nobody holds the `flock` that every writer keeps until its file has its final name.
///   Where the file system has no such locks, or another user owns the file, it stays.
/// - Directories are 0700 and files 0400, as restic makes them; where the group may read `config`,
///   it gets the same rights to all that is added.
/// - [`Store::flush`] makes removals durable too.
pub struct LocalStore {
    root: PathBuf,
    unflushed: Unflushed,
    flushing: Mutex<()>,
    packs: Mutex<VecDeque<(String, Arc<File>)>>,
    temporaries: AtomicU64,
    /// Leftovers were looked for, or cannot be told from what is being written.
    swept: AtomicBool,
    settling: Settling,
}

impl LocalStore {
    /// The repository in the directory `root`. Touches nothing yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            unflushed: Unflushed::default(),
            flushing: Mutex::default(),
            packs: Mutex::default(),
            temporaries: AtomicU64::new(0),
            swept: AtomicBool::new(false),
            settling: Settling::default(),
        }
    }

    /// Waits for packs that were put; whether all could be is asked by `flush`.
    fn settled(&self, kind: FileKind) {
        if kind == FileKind::Pack {
            drop(self.settling.wait());
        }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn dir(&self, kind: FileKind) -> PathBuf {
        match kind {
            FileKind::Config => self.root.clone(),
            FileKind::Key => self.root.join("keys"),
            FileKind::Pack => self.root.join("data"),
            FileKind::Index => self.root.join("index"),
            FileKind::Snapshot => self.root.join("snapshots"),
            FileKind::Lock => self.root.join("locks"),
        }
    }

    /// Where a file lies: its directory and its path. No path is built from a name of another form.
    fn place(&self, kind: FileKind, name: &str) -> Result<(PathBuf, PathBuf)> {
        let mut dir = self.dir(kind);
        if kind == FileKind::Config {
            let path = dir.join("config");
            return Ok((dir, path));
        }
        if id::parse(name.as_bytes()).is_none() {
            return Err(Error::NotFound { what: format!("{kind} `{}`", name.escape_debug()) });
        }
        if kind == FileKind::Pack {
            dir.push(&name[..2]);
        }
        let path = dir.join(name);
        Ok((dir, path))
    }

    /// The modes of new directories and files. When `config` cannot be asked, nobody else gets in.
    fn modes(&self) -> (u32, u32) {
        match fs::metadata(self.root.join("config")) {
            Ok(config) if config.mode() & 0o040 != 0 => (0o770, 0o440),
            _ => (0o700, 0o400),
        }
    }

    fn make_dirs(&self, dir: &Path) -> Result<()> {
        let (mode, _) = self.modes();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(dir)
            .map_err(|error| Error::store(format!("create directory {}", dir.display()), error))
    }

    /// A new file beside `path` that no reader takes for one of the repository.
    fn temporary(&self, kind: FileKind, dir: &Path, path: &Path) -> Result<(PathBuf, File)> {
        let mut made_dir = false;
        loop {
            let mut name = path.as_os_str().to_owned();
            let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
            name.push(format!("-tmp-{}-{number}", std::process::id()));
            let temporary = PathBuf::from(name);
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary) {
                Ok(file) => {
                    if !leftover::mark(&file) {
                        self.swept.store(true, Ordering::Relaxed);
                    }
                    return Ok((temporary, file));
                }
                // Another machine on the same share may have our process id, or a dead process had it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !made_dir => {
                    self.make_dirs(dir)?;
                    made_dir = true;
                    self.mark(kind, self.dir(kind));
                    self.mark(kind, self.root.clone());
                }
                Err(error) => {
                    return Err(Error::store(format!("create {}", temporary.display()), error));
                }
            }
        }
    }

    /// Removes what killed writers left, once; `now` is the time that the file system gives.
    fn sweep(&self, now: SystemTime) -> Result<()> {
        if self.swept.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let data = self.dir(FileKind::Pack);
        for kind in
            [FileKind::Config, FileKind::Key, FileKind::Index, FileKind::Snapshot, FileKind::Lock]
        {
            leftover::sweep(&self.dir(kind), now)?;
        }
        (0..=0xff_u8).try_for_each(|first| leftover::sweep(&data.join(format!("{first:02x}")), now))
    }

    fn mark(&self, kind: FileKind, dir: PathBuf) {
        lock(&self.unflushed).insert((kind, dir));
    }

    fn open(&self, kind: FileKind, name: &str) -> Result<Arc<File>> {
        if kind == FileKind::Pack {
            let mut packs = lock(&self.packs);
            if let Some(at) = packs.iter().position(|(pack, _)| pack == name)
                && let Some(entry) = packs.remove(at)
            {
                let file = Arc::clone(&entry.1);
                packs.push_back(entry);
                return Ok(file);
            }
        }
        self.settled(kind);
        let (_, path) = self.place(kind, name)?;
        // Without NONBLOCK a planted FIFO would hold us for ever.
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).unwrap_or(0);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&path)
            .map_err(|error| absent(kind, name, "open", &path, error))?;
        regular(kind, name, &path, file.metadata())?;
        let file = Arc::new(file);
        if kind == FileKind::Pack {
            let mut packs = lock(&self.packs);
            if packs.len() >= OPEN_PACKS {
                packs.pop_front();
            }
            packs.push_back((name.to_owned(), Arc::clone(&file)));
        }
        Ok(file)
    }

    fn list_dir(
        &self,
        dir: &Path,
        prefix: &str,
        each: &mut dyn FnMut(&str, u64) -> Result<()>,
    ) -> Result<()> {
        let failed = |error| Error::store(format!("list {}", dir.display()), error);
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if nowhere(&error) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if id::parse(name.as_bytes()).is_none() || !name.starts_with(prefix) {
                continue;
            }
            match fs::metadata(entry.path()) {
                Ok(meta) if meta.is_file() => each(name, meta.len())?,
                Ok(_) => {}
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Error::store(format!("stat {}", entry.path().display()), error));
                }
            }
        }
        Ok(())
    }
}

impl Store for LocalStore {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn create(&self) -> Result<()> {
        let config = self.root.join("config");
        match fs::symlink_metadata(&config) {
            Ok(_) => return Err(Error::Exists { location: self.location() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::store(format!("stat {}", config.display()), error)),
        }
        for kind in [FileKind::Key, FileKind::Index, FileKind::Snapshot, FileKind::Lock] {
            self.make_dirs(&self.dir(kind))?;
        }
        let data = self.dir(FileKind::Pack);
        for first in 0..=0xff_u8 {
            self.make_dirs(&data.join(format!("{first:02x}")))?;
        }
        sync_dir(&data)?;
        sync_dir(&self.root)?;
        match self.root.parent() {
            Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
            Some(parent) => sync_dir(parent),
            None => Ok(()),
        }
    }

    fn put(&self, kind: FileKind, name: &str, body: Body<'_>) -> Result<()> {
        let (dir, path) = self.place(kind, name)?;
        let (temporary, file) = self.temporary(kind, &dir, &path)?;
        let (_, mode) = self.modes();
        let written = write(&file, body, mode)
            .map_err(|error| Error::store(format!("write {}", path.display()), error));
        let swept =
            written.and_then(|()| match (kind, file.metadata().and_then(|m| m.modified())) {
                (FileKind::Lock, _) => Ok(()),
                (_, Ok(now)) => self.sweep(now),
                (_, Err(error)) => {
                    Err(Error::store(format!("stat {}", temporary.display()), error))
                }
            });
        if let Err(error) = swept {
            return Err(discard(&temporary, error));
        }
        let flush = (kind != FileKind::Lock).then(|| (Arc::clone(&self.unflushed), (kind, dir)));
        let written = Written { file, temporary, path, flush };
        if kind == FileKind::Pack {
            return self.settling.take(written);
        }
        match (written.settle()?, kind) {
            (false, FileKind::Config) => Err(Error::Exists { location: self.location() }),
            _ => Ok(()),
        }
    }

    fn flush(&self, kind: FileKind) -> Result<()> {
        if kind == FileKind::Pack {
            self.settling.wait()?;
        }
        // One at a time: a second caller must not return before the first made durable what both put.
        let _one = lock(&self.flushing);
        let dirs: Vec<_> =
            lock(&self.unflushed).iter().filter(|(k, _)| *k == kind).cloned().collect();
        for entry in dirs {
            lock(&self.unflushed).remove(&entry);
            if let Err(error) = sync_dir(&entry.1) {
                lock(&self.unflushed).insert(entry);
                return Err(error);
            }
        }
        Ok(())
    }

    fn read_at(&self, kind: FileKind, name: &str, at: u64, buf: &mut [u8]) -> Result<()> {
        let file = self.open(kind, name)?;
        let end = at.saturating_add(buf.len() as u64);
        let short = || Error::damaged_file(kind, name, format!("it ends before byte {end}"));
        if i64::try_from(end).is_err() {
            return Err(short());
        }
        file.read_exact_at(buf, at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => short(),
            _ => Error::store(format!("read {kind} {name} at {at}"), error),
        })
    }

    fn best_read(&self) -> u32 {
        // The system reads ahead by itself, and so much is still in the processor's cache when it is
        // opened.
        1 << 20
    }

    /// Where the locks lie on a file system that one kernel looks after alone. One of a network may show
    /// a directory as it was some seconds ago.
    fn lists_at_once(&self) -> bool {
        let found =
            rustix::fs::statfs(self.dir(FileKind::Lock)).map(|found| found.f_type & 0xffff_ffff);
        found.is_ok_and(|magic| OWN.contains(&u32::try_from(magic).unwrap_or(0)))
    }

    fn len(&self, kind: FileKind, name: &str) -> Result<u64> {
        self.settled(kind);
        let (_, path) = self.place(kind, name)?;
        Ok(regular(kind, name, &path, fs::metadata(&path))?.len())
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(&str, u64) -> Result<()>) -> Result<()> {
        self.settled(kind);
        match kind {
            FileKind::Config => match self.len(kind, "config") {
                Ok(len) => each("config", len),
                Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            },
            FileKind::Pack => {
                let data = self.dir(kind);
                for first in 0..=0xff_u8 {
                    let first = format!("{first:02x}");
                    self.list_dir(&data.join(&first), &first, each)?;
                }
                Ok(())
            }
            _ => self.list_dir(&self.dir(kind), "", each),
        }
    }

    fn remove(&self, kind: FileKind, name: &str) -> Result<()> {
        self.settled(kind);
        let (dir, path) = self.place(kind, name)?;
        lock(&self.packs).retain(|(pack, _)| pack != name);
        match fs::remove_file(&path) {
            Ok(()) => {
                if kind != FileKind::Lock {
                    self.mark(kind, dir);
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::store(format!("remove {}", path.display()), error)),
        }
    }
}

/// Writes what is to be stored.
fn write(mut file: &File, body: Body<'_>, mode: u32) -> io::Result<()> {
    match body {
        Body::Bytes(bytes) => file.write_all(bytes)?,
        Body::Reader { reader, len } => {
            let mut buffer = vec![0; COPY];
            let mut rest = len;
            while rest > 0 {
                let now = usize::try_from(rest).unwrap_or(COPY).min(COPY);
                reader.read_exact(&mut buffer[..now])?;
                file.write_all(&buffer[..now])?;
                rest -= now as u64;
            }
        }
    }
    match file.set_permissions(fs::Permissions::from_mode(mode)) {
        // Some file systems know no modes; the write itself is sound.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied || unsupported(&error) => {
            Ok(())
        }
        done => done,
    }
}

/// Makes what was written survive a power cut.
fn durable(file: &File) -> io::Result<()> {
    match file.sync_all() {
        Err(error) if unsupported(&error) => Ok(()),
        done => done,
    }
}

/// Gives a file its final name; false when that name was taken.
fn name_it(temporary: &Path, path: &Path) -> io::Result<bool> {
    match rustix::fs::renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_it(temporary, path),
        Err(error) => Err(error.into()),
    }
}

/// The same for file systems that cannot rename without replacing, such as some network shares.
fn link_it(temporary: &Path, path: &Path) -> io::Result<bool> {
    match fs::hard_link(temporary, path) {
        Ok(()) => fs::remove_file(temporary).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied || unsupported(&error) => {
            // No links either. What could be replaced between these two calls has the same content.
            if path.try_exists()? { Ok(false) } else { fs::rename(temporary, path).map(|()| true) }
        }
        Err(error) => Err(error),
    }
}

/// Removes what a failed write left; the error that comes back says so when it cannot.
fn discard(temporary: &Path, error: Error) -> Error {
    match (fs::remove_file(temporary), error) {
        (Err(left), Error::Store { attempt, source }) if left.kind() != io::ErrorKind::NotFound => {
            let attempt = format!("{attempt} (and {} is left behind)", temporary.display());
            Error::Store { attempt, source }
        }
        (_, error) => error,
    }
}

fn sync_dir(dir: &Path) -> Result<()> {
    let failed = |error| Error::store(format!("make names durable in {}", dir.display()), error);
    let handle = File::open(dir).map_err(failed)?;
    match handle.sync_all() {
        Ok(()) => Ok(()),
        // What a file system without such a call answers.
        Err(error) if unsupported(&error) || error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error())
}

fn absent(kind: FileKind, name: &str, verb: &str, path: &Path, error: io::Error) -> Error {
    if nowhere(&error) {
        Error::NotFound { what: format!("{kind} {name}") }
    } else {
        Error::store(format!("{verb} {}", path.display()), error)
    }
}

/// True when a path leads nowhere, or through something that is no directory.
fn nowhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn regular(
    kind: FileKind,
    name: &str,
    path: &Path,
    meta: io::Result<fs::Metadata>,
) -> Result<fs::Metadata> {
    let meta = meta.map_err(|error| absent(kind, name, "stat", path, error))?;
    if meta.is_file() { Ok(meta) } else { Err(Error::damaged_file(kind, name, "it is no file")) }
}

/// A panicking thread leaves these sets in order, so its poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
