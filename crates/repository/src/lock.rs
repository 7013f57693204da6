//! Locks, in restic's protocol: a file that says who works on the repository, renewed while they do.

mod held;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alidade_entity::Cx;
use alidade_model::Time;
use serde::Deserialize;

use crate::decode::{DecodeError, Decoded};
use crate::files::Files;
use crate::gojson::Object;
use crate::{Error, FileId, FileKind, Result, time};

pub use held::Lock;
pub(crate) use held::LockWatch;

/// Longest lock file that is read, and longest content; stock ones have about 200 bytes.
const MAX_LEN: usize = 64 << 10;
/// How often a lock that cannot be read is tried again: it may be half written on a slow store.
const READ_AGAIN: u32 = 3;

/// Who else may work meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Others with shared locks: for reading and adding.
    Shared,
    /// Nobody: for removing.
    Exclusive,
}

/// Is told which lock files are ours, so that what a killed process left can be removed by its
/// successor.
pub trait LockRecord: Send + Sync {
    /// A lock file of this id is about to be written. When this fails, it is not.
    ///
    /// # Errors
    /// When it cannot be recorded.
    fn will_write(&self, id: &FileId) -> Result<()>;

    /// The lock file is gone. Also called when it never came to be.
    ///
    /// # Errors
    /// When that cannot be recorded.
    fn removed(&self, id: &FileId) -> Result<()>;
}

/// Keeps no record.
#[derive(Clone, Copy, Debug)]
pub struct NoRecord;

impl LockRecord for NoRecord {
    fn will_write(&self, _id: &FileId) -> Result<()> {
        Ok(())
    }

    fn removed(&self, _id: &FileId) -> Result<()> {
        Ok(())
    }
}

/// How a lock is taken and kept, and what makes a foreign one look dead.
#[derive(Clone)]
pub struct LockOptions {
    /// For how long a lock held by others is waited for. Default: not at all.
    pub retry_for: Duration,
    /// Between writing our lock and looking again whether others came at the same time. It must
    /// pass before a file put by another is listed, unless the store lists at once
    /// ([`crate::Store::lists_at_once`]). Default: 200 ms, as in restic.
    pub wait: Duration,
    /// How often our lock is renewed. Default: 4 minutes.
    pub refresh: Duration,
    /// The age at which a lock looks dead. Default: 30 minutes, as in restic.
    pub expiry: Duration,
    /// The name of this machine, the same for all that share its process ids.
    pub host: String,
    /// The name of the user.
    pub username: String,
    /// Is told which lock files are ours.
    pub record: Arc<dyn LockRecord>,
}

impl LockOptions {
    /// The defaults, for this machine and user, keeping no record.
    #[must_use]
    pub fn new(host: impl Into<String>, username: impl Into<String>) -> Self {
        Self {
            retry_for: Duration::ZERO,
            wait: Duration::from_millis(200),
            refresh: Duration::from_secs(4 * 60),
            expiry: Duration::from_secs(30 * 60),
            host: host.into(),
            username: username.into(),
            record: Arc::new(NoRecord),
        }
    }
}

impl fmt::Debug for LockOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockOptions")
            .field("retry_for", &self.retry_for)
            .field("wait", &self.wait)
            .field("refresh", &self.refresh)
            .field("expiry", &self.expiry)
            .field("host", &self.host)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// What a lock file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockFile {
    /// When it was taken or last renewed.
    pub time: Time,
    /// True when nobody else may work meanwhile.
    pub exclusive: bool,
    /// The machine of its holder.
    pub hostname: String,
    /// The user of its holder.
    pub username: String,
    /// The process id of its holder.
    pub pid: i64,
    /// The user id of its holder; 0 when unknown.
    pub uid: u32,
    /// The group id of its holder; 0 when unknown.
    pub gid: u32,
}

/// A lock file that was found.
#[derive(Clone, Debug)]
pub struct LockEntry {
    /// Its name.
    pub id: FileId,
    /// What it says, or why it cannot be read.
    pub lock: Result<LockFile>,
    /// True when it is older than a living holder would let it get, or its process is gone.
    pub stale: bool,
}

#[derive(Deserialize)]
struct Wire {
    time: String,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    pid: i64,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

impl LockFile {
    /// The lock of this process at this moment.
    fn of_this_process(cx: &Cx, mode: LockMode, options: &LockOptions) -> Self {
        Self {
            time: cx.now(),
            exclusive: mode == LockMode::Exclusive,
            hostname: options.host.clone(),
            username: options.username.clone(),
            pid: i64::from(std::process::id()),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        }
    }

    /// The JSON as it is sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut json = Vec::new();
        let mut object = Object::begin(&mut json);
        object.text("time", time::to_text(self.time));
        object.field("exclusive").extend_from_slice(if self.exclusive {
            b"true"
        } else {
            b"false"
        });
        object.text("hostname", &self.hostname);
        object.text("username", &self.username);
        object.field("pid").extend_from_slice(self.pid.to_string().as_bytes());
        object.number_if_any("uid", self.uid);
        object.number_if_any("gid", self.gid);
        object.end();
        json
    }

    /// Reads the JSON. Unknown fields are ignored.
    ///
    /// # Errors
    /// When it is malformed, or its time is none.
    pub fn decode(json: &[u8]) -> Decoded<Self> {
        if json.len() > MAX_LEN {
            return Err(DecodeError::malformed("it is too long for a lock"));
        }
        let Wire { time, exclusive, hostname, username, pid, uid, gid } =
            serde_json::from_slice(json)?;
        let time = time::parse(&time).ok_or_else(|| DecodeError::malformed("its time is none"))?;
        Ok(Self { time, exclusive, hostname, username, pid, uid, gid })
    }

    /// True when a living holder would have renewed it, or its process is gone from this machine.
    fn is_stale(&self, cx: &Cx, options: &LockOptions) -> bool {
        since(cx.now(), self.time) > options.expiry
            || (self.hostname == options.host && !process_exists(self.pid))
    }

    /// Who holds it, since when, for a message. The words come from the repository: nothing in them
    /// may steer a terminal.
    fn holder(&self, now: Time, stale: bool) -> String {
        format!(
            "{} lock of process {} of `{}` on `{}`, renewed {} ago{}",
            if self.exclusive { "exclusive" } else { "shared" },
            self.pid,
            self.username.escape_debug(),
            self.hostname.escape_debug(),
            in_words(since(now, self.time)),
            if stale { "; its holder looks dead" } else { "" },
        )
    }
}

/// All lock files, ascending by id.
pub(crate) fn list(cx: &Cx, files: &Files, options: &LockOptions) -> Result<Vec<LockEntry>> {
    let mut all = Vec::new();
    for (id, _) in files.list(FileKind::Lock)? {
        cx.check()?;
        let lock = match read(files, &id) {
            Err(Error::NotFound { .. }) => continue,
            Err(error @ Error::Store { .. }) => return Err(error),
            lock => lock,
        };
        let stale = lock.as_ref().is_ok_and(|lock| lock.is_stale(cx, options));
        all.push(LockEntry { id, lock, stale });
    }
    Ok(all)
}

/// Removes the locks that look dead, or all of them, and says which.
pub(crate) fn unlock(
    cx: &Cx,
    files: &Files,
    options: &LockOptions,
    all: bool,
) -> Result<Vec<LockEntry>> {
    let mut gone = list(cx, files, options)?;
    gone.retain(|entry| all || entry.stale);
    for entry in &gone {
        remove(files, options, &entry.id)?;
    }
    Ok(gone)
}

/// Removes one lock file; absent is fine.
pub(crate) fn remove(files: &Files, options: &LockOptions, id: &FileId) -> Result<()> {
    files.store().remove(FileKind::Lock, &id.to_string())?;
    options.record.removed(id)
}

fn read(files: &Files, id: &FileId) -> Result<LockFile> {
    LockFile::decode(&files.read(FileKind::Lock, id, MAX_LEN)?)
        .map_err(|why| why.of(format!("{} {id}", FileKind::Lock)))
}

/// Fails when a lock other than `own` forbids one of `mode`, dead or not: only `unlock` removes
/// those. One that cannot be read forbids everything, as in restic; an empty one nothing.
fn conflict(
    cx: &Cx,
    files: &Files,
    mode: LockMode,
    options: &LockOptions,
    own: &[FileId],
) -> Result<()> {
    let mut pause = options.wait;
    for _ in 0..READ_AGAIN {
        match conflict_now(cx, files, mode, options, own) {
            Err(Error::Damaged { .. }) => {}
            done => return done,
        }
        sleep(cx, pause)?;
        pause *= 5;
    }
    conflict_now(cx, files, mode, options, own)
}

fn conflict_now(
    cx: &Cx,
    files: &Files,
    mode: LockMode,
    options: &LockOptions,
    own: &[FileId],
) -> Result<()> {
    let (mut dead, mut unreadable) = (None, None);
    for (id, len) in files.list(FileKind::Lock)? {
        // A store that is not atomic leaves empty ones when a writer dies.
        if len == 0 || own.contains(&id) {
            continue;
        }
        let lock = match read(files, &id) {
            Ok(lock) => lock,
            Err(Error::NotFound { .. }) => continue,
            Err(error @ Error::Damaged { .. }) => {
                unreadable = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        if mode == LockMode::Shared && !lock.exclusive {
            continue;
        }
        let stale = lock.is_stale(cx, options);
        let holder = lock.holder(cx.now(), stale);
        let locked = Error::Locked { holder, lock: id.to_string(), stale };
        if !stale {
            return Err(locked);
        }
        dead = Some(locked);
    }
    dead.or(unreadable).map_or(Ok(()), Err)
}

/// Sleeps, and wakes up when the run is told to stop.
fn sleep(cx: &Cx, duration: Duration) -> Result<()> {
    const SLICE: Duration = Duration::from_millis(50);
    let end = cx.clock().elapsed() + duration;
    loop {
        cx.check()?;
        let rest = end.saturating_sub(cx.clock().elapsed());
        if rest.is_zero() {
            return Ok(());
        }
        cx.clock().sleep(rest.min(SLICE));
    }
}

/// The time from `then` to `now`; zero when `then` is later.
fn since(now: Time, then: Time) -> Duration {
    let nanos = now.as_nanos().saturating_sub(then.as_nanos()).max(0);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn process_exists(pid: i64) -> bool {
    let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 0) else {
        // Not an id a process of this system can have: nothing is known.
        return true;
    };
    let Some(pid) = rustix::process::Pid::from_raw(pid) else { return true };
    rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH)
}

fn in_words(age: Duration) -> String {
    let (count, unit) = match age.as_secs() {
        secs @ 0..=119 => (secs, "second"),
        secs @ 120..=7_199 => (secs / 60, "minute"),
        secs @ 7_200..=172_799 => (secs / 3_600, "hour"),
        secs => (secs / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}
