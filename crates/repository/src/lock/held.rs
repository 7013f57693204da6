use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use alidade_entity::Cx;
use alidade_model::Time;

use super::{LockFile, LockMode, LockOptions, conflict, remove, since, sleep};
use crate::files::Files;
use crate::{Error, FileId, FileKind, Result};

/// The first and the longest pause between two attempts to get a lock that others hold.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));

/// A lock on the repository, renewed by a thread of its own until it is released or dropped.
///
/// Stock restic asks whether a holder on the same machine lives by sending it SIGHUP: a process that
/// takes locks must not die of that signal.
///
/// [`Lock::release`] says whether the lock file is gone. Dropping tries the same and keeps quiet: a
/// file that stays is stale for everybody after its expiry, and still in the holder's record.
pub struct Lock {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    files: Arc<Files>,
    mode: LockMode,
    options: LockOptions,
    state: Mutex<State>,
    stop: Mutex<bool>,
    stopped: Condvar,
}

/// What is known of our lock. Behind one mutex that is held while files are written: a check waits
/// for a renewal that is under way.
struct State {
    /// Our lock files; the last is the one in force, earlier ones could not be removed yet.
    ids: Vec<FileId>,
    /// When it was last renewed: time of day and running time.
    renewed: (Time, Duration),
    /// Running time of the last attempt to renew.
    tried: Duration,
    lost: bool,
    /// Running time when it was written, while nobody has looked since for locks that came at the
    /// same moment.
    unsure: Option<Duration>,
}

impl Lock {
    pub(crate) fn acquire(
        cx: &Cx,
        files: Arc<Files>,
        mode: LockMode,
        options: &LockOptions,
    ) -> Result<Self> {
        let end = cx.clock().elapsed() + options.retry_for;
        let mut pause = PAUSES.0;
        loop {
            let taken = State::take(cx, &files, mode, options)
                .and_then(|mut state| state.make_sure(cx, &files, mode, options).map(|()| state));
            match taken {
                Ok(state) => return Self::keep(cx, files, mode, options, state),
                Err(error @ Error::Locked { .. }) => {
                    let rest = end.saturating_sub(cx.clock().elapsed());
                    if rest.is_zero() {
                        return Err(error);
                    }
                    // Two that want the same must not meet at every attempt.
                    let mut jitter = [0];
                    cx.fill(&mut jitter)?;
                    sleep(cx, (pause + pause * u32::from(jitter[0]) / 512).min(rest))?;
                    pause = (pause * 2).min(PAUSES.1);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// As [`Lock::acquire`], with the wait for others that came at the same moment put off to the first
    /// [`Lock::check`].
    pub(crate) fn acquire_early(
        cx: &Cx,
        files: Arc<Files>,
        mode: LockMode,
        options: &LockOptions,
    ) -> Result<Self> {
        match State::take(cx, &files, mode, options) {
            Ok(state) => Self::keep(cx, files, mode, options, state),
            // Somebody is there: there is nothing to be gained.
            Err(Error::Locked { .. }) => Self::acquire(cx, files, mode, options),
            Err(error) => Err(error),
        }
    }

    fn keep(
        cx: &Cx,
        files: Arc<Files>,
        mode: LockMode,
        options: &LockOptions,
        state: State,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            files,
            mode,
            options: options.clone(),
            state: Mutex::new(state),
            stop: Mutex::new(false),
            stopped: Condvar::new(),
        });
        let (cx, ours) = (cx.clone(), Arc::clone(&shared));
        let spawned = std::thread::Builder::new()
            .name("lock".to_owned())
            .spawn(move || ours.renew_until_stopped(&cx));
        match spawned {
            Ok(thread) => Ok(Self { shared, thread: Some(thread) }),
            Err(error) => {
                shared.remove_all()?;
                Err(Error::System {
                    attempt: format!("start a thread that renews the lock: {error}"),
                })
            }
        }
    }

    /// The id of the lock file in force.
    #[must_use]
    pub fn id(&self) -> Option<FileId> {
        lock(&self.shared.state).ids.last().copied()
    }

    /// Who else may work meanwhile.
    #[must_use]
    pub fn mode(&self) -> LockMode {
        self.shared.mode
    }

    /// Makes sure the lock still holds. Called before every index and every snapshot that is
    /// written: what they refer to may be gone when somebody broke the lock.
    ///
    /// After a suspension longer than others let a lock live, it is renewed as carefully as it was
    /// taken.
    ///
    /// # Errors
    /// [`Error::LockLost`] when our file is gone, [`Error::Locked`] when another lock came that
    /// forbids ours, [`Error::Store`] when that cannot be found out.
    pub fn check(&self, cx: &Cx) -> Result<()> {
        self.shared.check(cx)
    }

    /// The same check for who does not hold the lock; it fails once the lock is released.
    pub(crate) fn watch(&self) -> LockWatch {
        LockWatch(Arc::clone(&self.shared))
    }

    /// Ends the lock and removes its file.
    ///
    /// # Errors
    /// When it cannot be removed; it is stale for others after its expiry.
    pub fn release(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        *lock(&self.shared.stop) = true;
        self.shared.stopped.notify_all();
        let joined = self.thread.take().map_or(Ok(()), JoinHandle::join);
        self.shared.remove_all()?;
        joined.map_err(|_panic| Error::System { attempt: "renew the lock: the thread died".into() })
    }
}

/// Looks after a lock that somebody else holds.
#[derive(Clone)]
pub(crate) struct LockWatch(Arc<Shared>);

impl LockWatch {
    /// As [`Lock::check`].
    pub(crate) fn check(&self, cx: &Cx) -> Result<()> {
        self.0.check(cx)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.thread.is_some() {
            // Nobody is there to be told; see the type's contract.
            drop(self.end());
        }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("id", &self.id()).field("mode", &self.mode()).finish()
    }
}

impl Shared {
    /// The age from which others may have judged our lock dead: a quarter of its life is left for
    /// clocks that differ.
    fn doubtful(&self) -> Duration {
        self.options.expiry * 3 / 4
    }

    fn check(&self, cx: &Cx) -> Result<()> {
        cx.check()?;
        let mut state = lock(&self.state);
        self.still_there(&mut state)?;
        if let Some(written) = state.unsure {
            let since = cx.clock().elapsed().saturating_sub(written);
            sleep(cx, wait(&self.files, &self.options).saturating_sub(since))?;
            self.nobody_forbids(cx, &state)?;
            state.unsure = None;
        }
        if state.age(cx) > self.doubtful() {
            self.renew_carefully(cx, &mut state)?;
        }
        Ok(())
    }

    fn renew_until_stopped(&self, cx: &Cx) {
        // Short, as waiting does not count while the machine sleeps and the time of day does.
        let poll =
            (self.options.refresh / 8).clamp(Duration::from_millis(1), Duration::from_secs(1));
        let mut stop = lock(&self.stop);
        while !*stop {
            drop(stop);
            self.renew_when_due(cx);
            stop = lock(&self.stop);
            if !*stop {
                stop = match self.stopped.wait_timeout(stop, poll) {
                    Ok((stop, _)) => stop,
                    Err(poison) => poison.into_inner().0,
                };
            }
        }
    }

    fn renew_when_due(&self, cx: &Cx) {
        let mut state = lock(&self.state);
        let now = cx.clock().elapsed();
        let due = state.age(cx) >= self.options.refresh;
        if state.lost || !due || now.saturating_sub(state.tried) < self.options.refresh / 8 {
            return;
        }
        state.tried = now;
        let done = if state.age(cx) > self.doubtful() {
            self.renew_carefully(cx, &mut state)
        } else {
            self.renew(cx, &mut state)
        };
        // A failure is not the end: it is tried again soon, and `check` fails when it must matter.
        drop(done);
    }

    fn still_there(&self, state: &mut State) -> Result<()> {
        if !state.lost {
            let name = state.ids.last().map(FileId::to_string).ok_or(Error::LockLost)?;
            match self.files.store().len(FileKind::Lock, &name) {
                Ok(_) => return Ok(()),
                Err(Error::NotFound { .. }) => state.lost = true,
                Err(error) => return Err(error),
            }
        }
        Err(Error::LockLost)
    }

    /// A new lock file, then away with the old one.
    fn renew(&self, cx: &Cx, state: &mut State) -> Result<()> {
        self.still_there(state)?;
        let before = state.ids.len();
        let at = (cx.now(), cx.clock().elapsed());
        if let Err(error) = state.write(cx, &self.files, self.mode, &self.options) {
            self.withdraw(state, before)?;
            return Err(error);
        }
        state.renewed = at;
        self.remove_first(state, before)
    }

    /// The same after others may have judged our lock dead: the old file must be there until the
    /// new one has been there for a while, and nobody may hold a lock that forbids ours.
    fn renew_carefully(&self, cx: &Cx, state: &mut State) -> Result<()> {
        self.still_there(state)?;
        let before = state.ids.len();
        let old = state.ids.last().map(FileId::to_string).ok_or(Error::LockLost)?;
        let at = (cx.now(), cx.clock().elapsed());
        let sure = state
            .write(cx, &self.files, self.mode, &self.options)
            .and_then(|()| sleep(cx, self.options.wait))
            .and_then(|()| match self.files.store().len(FileKind::Lock, &old) {
                Ok(_) => Ok(()),
                Err(Error::NotFound { .. }) => {
                    state.lost = true;
                    Err(Error::LockLost)
                }
                Err(error) => Err(error),
            })
            .and_then(|()| self.nobody_forbids(cx, state));
        if let Err(error) = sure {
            self.withdraw(state, before)?;
            return Err(error);
        }
        state.renewed = at;
        self.remove_first(state, before)
    }

    /// Somebody who only tries to get a lock sees ours and withdraws within a moment.
    fn nobody_forbids(&self, cx: &Cx, state: &State) -> Result<()> {
        for _ in 0..3 {
            match conflict(cx, &self.files, self.mode, &self.options, &state.ids) {
                Err(Error::Locked { .. }) => sleep(cx, self.options.wait * 2)?,
                done => return done,
            }
        }
        conflict(cx, &self.files, self.mode, &self.options, &state.ids)
    }

    /// Removes the lock files after the first `keep`.
    fn withdraw(&self, state: &mut State, keep: usize) -> Result<()> {
        while state.ids.len() > keep {
            if let Some(id) = state.ids.last() {
                remove(&self.files, &self.options, id)?;
            }
            state.ids.pop();
        }
        Ok(())
    }

    /// Removes the first `count` lock files.
    fn remove_first(&self, state: &mut State, count: usize) -> Result<()> {
        for _ in 0..count {
            if let Some(id) = state.ids.first() {
                remove(&self.files, &self.options, id)?;
            }
            state.ids.remove(0);
        }
        Ok(())
    }

    fn remove_all(&self) -> Result<()> {
        self.withdraw(&mut lock(&self.state), 0)
    }
}

impl State {
    /// Writes a lock unless one is there that forbids it.
    fn take(cx: &Cx, files: &Files, mode: LockMode, options: &LockOptions) -> Result<Self> {
        conflict(cx, files, mode, options, &[])?;
        let now = cx.clock().elapsed();
        let (ids, renewed) = (Vec::new(), (cx.now(), now));
        let mut state = Self { ids, renewed, tried: now, lost: false, unsure: None };
        let written = state.write(cx, files, mode, options);
        state.unsure = Some(cx.clock().elapsed());
        state.unless_failed(files, options, written)?;
        Ok(state)
    }

    /// Waits for locks that came at the same moment.
    fn make_sure(
        &mut self,
        cx: &Cx,
        files: &Files,
        mode: LockMode,
        options: &LockOptions,
    ) -> Result<()> {
        let sure = sleep(cx, wait(files, options))
            .and_then(|()| conflict(cx, files, mode, options, &self.ids));
        self.unless_failed(files, options, sure)?;
        self.unsure = None;
        Ok(())
    }

    /// Removes what was written when something failed.
    fn unless_failed(&self, files: &Files, options: &LockOptions, done: Result<()>) -> Result<()> {
        if done.is_err() {
            self.ids.iter().try_for_each(|id| remove(files, options, id))?;
        }
        done
    }

    /// Writes a lock file. It is ours from the moment it may exist.
    fn write(
        &mut self,
        cx: &Cx,
        files: &Files,
        mode: LockMode,
        options: &LockOptions,
    ) -> Result<()> {
        let file = files.seal(cx, &LockFile::of_this_process(cx, mode, options).encode())?;
        options.record.will_write(&file.id)?;
        self.ids.push(file.id);
        files.put(FileKind::Lock, &file)
    }

    /// Time since the last renewal, by whichever clock says more: one of them stands still while
    /// the machine sleeps, the other may be set back.
    fn age(&self, cx: &Cx) -> Duration {
        let (day, running) = self.renewed;
        since(cx.now(), day).max(cx.clock().elapsed().saturating_sub(running))
    }
}

/// How long it may take until others that came at the same moment are listed.
///
/// Where a listing has all that was put before, there is nothing to wait for: of two that put their locks
/// and then look, the one that put last sees the other, however close they came.
fn wait(files: &Files, options: &LockOptions) -> Duration {
    if files.store().lists_at_once() { Duration::ZERO } else { options.wait }
}

/// What is behind these is in order whenever it can be seen, so poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
