//! `alidade unlock`: its options, and what it prints.

use alidade_repository::LockEntry;
use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::exit::Code;
use crate::failure::{Result, chain};
use crate::open::Need;
use crate::outcome::short;
use crate::printer::columns;
use crate::text::safe_line;
use crate::when::rfc3339;

/// Removes stale locks: those that nobody has refreshed for too long.
#[derive(Debug, Args)]
pub struct Unlock {
    /// Remove living locks too: only when nothing else uses the repository
    #[arg(long)]
    pub all: bool,
    /// List the locks, and remove nothing
    #[arg(long)]
    pub plan: bool,
}

#[derive(Serialize)]
struct Doc {
    plan: bool,
    removed: Vec<LockDoc>,
    kept: Vec<LockDoc>,
}

#[derive(Serialize)]
struct LockDoc {
    id: String,
    stale: bool,
    time: Option<String>,
    exclusive: Option<bool>,
    host: Option<String>,
    username: Option<String>,
    pid: Option<i64>,
}

impl Unlock {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let opened = app.open(Need::Write { create: false })?;
        let repository = opened.engine.repository();
        let options = opened.engine.lock_options(std::time::Duration::ZERO);
        let explain = |error: alidade_repository::Error| app.explain_repository(&error);
        let removed = if self.plan {
            let mut found = repository.locks(app.cx(), &options).map_err(explain)?;
            found.retain(|entry| entry.stale || self.all);
            found
        } else {
            repository.unlock(app.cx(), &options, self.all).map_err(explain)?
        };
        let mut kept = repository.locks(app.cx(), &options).map_err(explain)?;
        kept.retain(|entry| !removed.iter().any(|gone| gone.id == entry.id));
        if app.out.is_json() {
            let removed = removed.iter().map(document).collect();
            let kept = kept.iter().map(document).collect();
            app.out.document(&Doc { plan: self.plan, removed, kept })?;
            return Ok(Code::Done);
        }
        let word = if self.plan { "would remove" } else { "removed" };
        let mut rows: Vec<Vec<String>> = removed.iter().map(|e| cells(app, word, e)).collect();
        rows.extend(kept.iter().map(|entry| cells(app, "kept", entry)));
        columns(&rows).iter().try_for_each(|line| app.out.line(line))?;
        app.out.finish()?;
        if rows.is_empty() {
            app.out.note("there are no locks")?;
        } else if !kept.is_empty() && !self.plan {
            let all = app.command(&[b"unlock", b"--all"]);
            app.out.note(&format!("a lock that is kept belongs to a program that may still run; if it does not: `{all}`"))?;
        }
        Ok(Code::Done)
    }
}

fn document(entry: &LockEntry) -> LockDoc {
    let lock = entry.lock.as_ref().ok();
    LockDoc {
        id: entry.id.to_string(),
        stale: entry.stale,
        time: lock.map(|lock| rfc3339(lock.time)),
        exclusive: lock.map(|lock| lock.exclusive),
        host: lock.map(|lock| lock.hostname.clone()),
        username: lock.map(|lock| lock.username.clone()),
        pid: lock.map(|lock| lock.pid),
    }
}

fn cells(app: &App, word: &str, entry: &LockEntry) -> Vec<String> {
    let id = short(&entry.id.to_string()).to_owned();
    let stale = if entry.stale { "stale" } else { "living" }.to_owned();
    let mut cells = vec![word.to_owned(), id, stale];
    match &entry.lock {
        Ok(lock) => cells.extend([
            if lock.exclusive { "exclusive" } else { "shared" }.to_owned(),
            app.calendar.show(lock.time),
            safe_line(&format!("{}@{}", lock.username, lock.hostname)),
            format!("process {}", lock.pid),
        ]),
        Err(error) => cells.push(safe_line(&chain(error))),
    }
    cells
}
