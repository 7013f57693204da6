//! `alidade doctor`: its options, and what it prints.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alidade_catalog::Catalog;
use alidade_model::Time;
use alidade_repository::{Error as RepositoryError, LockEntry, LockOptions, Repository};
use clap::Args;
use rustix::fs::{Access, StatVfsMountFlags, access, statvfs};
use serde::Serialize;

use crate::app::App;
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::machine;
use crate::open::Need;
use crate::paths::Paths;
use crate::place::Place;
use crate::size::{counted, human};
use crate::text::{safe_line, shell_word};

/// A disk with less room than this is nearly full.
const LITTLE_ROOM: u64 = 1 << 30;
/// A snapshot may be so much newer than this machine's clock: clocks of several machines differ.
const FUTURE: Duration = Duration::from_secs(300);

/// Looks at the set-up: the clock, the place and its room, permissions, the key, locks, the catalog.
///
/// Nothing is changed. Every problem comes with the next command. What is stored is for `check`.
#[derive(Debug, Args)]
pub struct Doctor {}

#[derive(Serialize)]
struct Doc {
    repository: Option<String>,
    looks: Vec<Look>,
    problems: u64,
    exit_code: u8,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Look {
    about: &'static str,
    /// `ok`, `problem`, or `unknown` where something else must be mended first.
    state: &'static str,
    found: String,
    hint: Option<String>,
    #[serde(skip)]
    code: Code,
}

impl Doctor {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let mut looks = Looks::default();
        let place = looks.of("place", app.place(), ToString::to_string);
        if let Some(place) = &place {
            store(app, place, &mut looks);
        }
        looks.of("catalog", catalog(app), Clone::clone);
        let code = looks.all.iter().fold(Code::Done, |code, look| code.and(look.code));
        let problems = looks.all.iter().filter(|look| look.state == "problem").count() as u64;
        if app.out.is_json() {
            let repository = place.map(|place| place.to_string());
            app.out.document(&Doc {
                repository,
                looks: looks.all,
                problems,
                exit_code: code.number(),
            })?;
        } else {
            for look in &looks.all {
                let found = safe_line(&look.found);
                app.out.line(&format!("{:8} {:12} {found}", look.state, look.about))?;
                if let Some(hint) = &look.hint {
                    app.out.line(&format!("{:8} {:12} {hint}", "", ""))?;
                }
            }
        }
        if problems > 0 {
            let what = counted(problems, "problem was", "problems were");
            let failure = Failure::new(code, format!("{what} found"));
            let first = looks_hint(app);
            app.out.failure(&failure.hint(first));
        }
        Ok(code)
    }
}

fn looks_hint(app: &App) -> String {
    format!("mend the first of them, then look again: `{}`", app.command(&[b"doctor"]))
}

/// What was seen so far.
#[derive(Default)]
struct Looks {
    all: Vec<Look>,
}

impl Looks {
    /// Notes how it went, and gives what came of it.
    fn of<T>(
        &mut self,
        about: &'static str,
        seen: Result<T>,
        found: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match seen {
            Ok(seen) => {
                self.ok(about, found(&seen));
                Some(seen)
            }
            Err(failure) => {
                self.problem(about, failure);
                None
            }
        }
    }

    fn ok(&mut self, about: &'static str, found: String) {
        self.all.push(Look { about, state: "ok", found, hint: None, code: Code::Done });
    }

    fn problem(&mut self, about: &'static str, failure: Failure) {
        let Failure { code, message, hint } = failure;
        self.all.push(Look { about, state: "problem", found: message, hint, code });
    }

    fn unknown(&mut self, about: &'static str, why: &str) {
        let found = why.to_owned();
        self.all.push(Look { about, state: "unknown", found, hint: None, code: Code::Done });
    }
}

/// The store, and everything that lies in it.
fn store(app: &App, place: &Place, looks: &mut Looks) {
    if let Some(directory) = place.directory() {
        local(directory, looks);
    }
    let answers = looks.of("store", reached(app, place), |()| "it answers".to_owned());
    if answers.is_none() {
        looks.unknown("key", "the store must answer first");
        looks.unknown("locks", "the store must answer first");
        return;
    }
    match looks.of("key", opened(app, place), |_| "it opens".to_owned()) {
        Some(repository) => {
            looks.of("locks", locks(app, &repository), Clone::clone);
            looks.of("clock", clock(app, &repository), Clone::clone);
        }
        None => looks.unknown("locks", "the repository must open first"),
    }
}

/// The directory of a repository: who may write there, and how much room there is.
fn local(directory: &Path, looks: &mut Looks) {
    let mut there = directory;
    while !there.exists() {
        let Some(above) = there.parent() else { return };
        there = above;
    }
    looks.of("permissions", permissions(directory, there), Clone::clone);
    looks.of("room", room(there), Clone::clone);
}

fn permissions(directory: &Path, there: &Path) -> Result<String> {
    let word = shell_word(there.as_os_str().as_encoded_bytes());
    for part in ["", "data", "index", "snapshots", "locks", "keys"] {
        let path = directory.join(part);
        let path = if path.exists() { path } else { there.to_owned() };
        let seen = access(&path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK);
        seen.map_err(|errno| {
            let user = machine::identity().map_or_else(|_| String::new(), |id| id.username);
            let owner = std::fs::metadata(&path).map_or(0, |meta| meta.uid());
            let what = format!("{} is not for {user} to write: {errno}", path.display());
            Failure::new(Code::Failed, what).hint(format!(
                "run as the user with the number {owner}, or: `chown -R {user} {word}`"
            ))
        })?;
    }
    Ok(format!("{} can be read and written", directory.display()))
}

fn room(there: &Path) -> Result<String> {
    let seen = statvfs(there)
        .map_err(|errno| Failure::io(format!("look at {}", there.display()), &errno.into()))?;
    if seen.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let what = format!("the file system of {} is read-only", there.display());
        return Err(Failure::new(Code::Failed, what)
            .hint("verbs that read work with `--no-lock`; for others mount it read-write"));
    }
    let free = seen.f_bavail.saturating_mul(seen.f_frsize);
    let word = shell_word(there.as_os_str().as_encoded_bytes());
    let hint = format!("make room there: `df -h {word}` and `df -i {word}` say how much there is");
    if free < LITTLE_ROOM {
        let what = format!("{} are free at {}", human(free), there.display());
        return Err(Failure::new(Code::Failed, what).hint(hint));
    }
    // File systems without a bound say that there are none at all.
    if seen.f_files > 0 && seen.f_favail < 1000 {
        let what = format!("{} files more have room at {}", seen.f_favail, there.display());
        return Err(Failure::new(Code::Failed, what).hint(hint));
    }
    Ok(format!("{} are free", human(free)))
}

/// Whether the store answers and has a repository.
fn reached(app: &App, place: &Place) -> Result<()> {
    let store = app.store(place)?;
    if app.exists(&*store)? {
        return Ok(());
    }
    let location = store.location();
    Err(app.explain_repository(&RepositoryError::NoRepository { location }))
}

fn opened(app: &App, place: &Place) -> Result<Arc<Repository>> {
    if place.is_default
        && app.source()?.is_none()
        && let Ok(file) = app.key_file()
        && let Ok(meta) = std::fs::metadata(file.path())
        && meta.mode() & 0o077 != 0
    {
        let path = shell_word(file.path().as_os_str().as_encoded_bytes());
        let what = format!("others may read the key file {}", file.path().display());
        return Err(Failure::new(Code::Failed, what).hint(format!("`chmod 600 {path}`")));
    }
    app.repository(place, Need::Read)
}

fn locks(app: &App, repository: &Arc<Repository>) -> Result<String> {
    let identity = machine::identity()?;
    let options = LockOptions::new(identity.host.as_str(), identity.username.as_str());
    let found = repository.locks(app.cx(), &options);
    let found = found.map_err(|error| app.explain_repository(&error))?;
    let stale = found.iter().filter(|lock| lock.stale).count() as u64;
    if stale > 0 {
        let what = format!("{} left behind", counted(stale, "lock was", "locks were"));
        let unlock = app.command(&[b"unlock"]);
        return Err(Failure::new(Code::Locked, what).hint(format!("`{unlock}`")));
    }
    let is_exclusive = |lock: &LockEntry| lock.lock.as_ref().is_ok_and(|lock| lock.exclusive);
    if found.iter().any(is_exclusive) {
        let list = app.command(&[b"unlock", b"--plan"]);
        return Err(Failure::new(Code::Locked, "another program has the repository to itself")
            .hint(format!("wait for it; who it is says `{list} --all`")));
    }
    Ok(match found.len() {
        0 => "there are none".to_owned(),
        count => format!("{} in use", counted(count as u64, "is", "are")),
    })
}

/// Compares the clock with what is stored: nothing can be newer than now.
fn clock(app: &App, repository: &Arc<Repository>) -> Result<String> {
    let now = app.cx().now();
    let mut newest: Option<Time> = None;
    let listed = repository.each_snapshot(app.cx(), &mut |_, snapshot| {
        // One that does not read is for `check`.
        newest = newest.max(snapshot.ok().map(|snapshot| snapshot.time));
        Ok(())
    });
    listed.map_err(|error| app.explain_repository(&error))?;
    match newest {
        Some(time) if time.as_nanos() > now.as_nanos() + FUTURE.as_nanos().cast_signed() => {
            let (time, now) = (app.calendar.show(time), app.calendar.show(now));
            let what = format!("the newest snapshot is of {time}, and it is {now} here");
            Err(Failure::new(Code::Failed, what)
                .hint("set the clock of this machine, or of the one that made it: `timedatectl`"))
        }
        _ => Ok(format!("it is {}", app.calendar.show(now))),
    }
}

fn catalog(app: &App) -> Result<String> {
    let paths: Paths = app.paths.clone()?;
    let path = paths.catalog();
    if !path.exists() {
        return Ok("there is none yet; the first backup makes it".to_owned());
    }
    Catalog::open(&path).map_err(|error| app.explain_catalog(&error))?;
    Ok(format!("{} reads", path.display()))
}
