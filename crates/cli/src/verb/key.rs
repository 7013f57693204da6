//! `alidade key`: its options, and what it prints.

use std::path::PathBuf;

use alidade_repository::{FileId, Kdf, KeyEntry, LockMode, Repository};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::app::App;
use crate::environment::Environment;
use crate::exit::Code;
use crate::failure::{Failure, Result, chain};
use crate::open::{Need, Opened, password};
use crate::outcome::short;
use crate::password::Source;
use crate::printer::columns;
use crate::text::safe_line;
use crate::when::rfc3339;

/// Lists, adds or removes the repository's passwords.
#[derive(Debug, Args)]
pub struct Key {
    /// What to do with them.
    #[command(subcommand)]
    pub verb: KeyVerb,
}

/// What to do with the repository's passwords.
#[derive(Debug, Subcommand)]
pub enum KeyVerb {
    /// List the keys
    List,
    /// Add a key with another password
    Add(AddKey),
    /// Remove a key: its password opens the repository no more
    Remove {
        /// The key's id, or the beginning of it
        id: String,
        /// Say which key would be removed, and remove nothing
        #[arg(long)]
        plan: bool,
    },
}

/// Where the new password comes from; without these, somebody at the terminal types it.
#[derive(Debug, Args)]
pub struct AddKey {
    /// Read the new password from this file
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_command")]
    pub new_password_file: Option<PathBuf>,
    /// Read the new password from the output of this command
    #[arg(long, value_name = "COMMAND")]
    pub new_password_command: Option<String>,
    /// Say what would be done, and add nothing
    #[arg(long)]
    pub plan: bool,
}

impl Key {
    /// True when it changes nothing.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        matches!(self.verb, KeyVerb::List)
    }
}

#[derive(Serialize)]
struct Doc {
    keys: Vec<KeyDoc>,
}

#[derive(Serialize)]
struct KeyDoc {
    id: String,
    current: bool,
    created: Option<String>,
    host: Option<String>,
    username: Option<String>,
    /// Why it does not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<String>,
}

#[derive(Serialize)]
struct ChangedDoc {
    plan: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    added: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<String>,
}

impl Key {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        match &self.verb {
            KeyVerb::List => list(app),
            KeyVerb::Add(add) => add.run(app),
            KeyVerb::Remove { id, plan } => remove(app, id, *plan),
        }
    }
}

fn list(app: &App) -> Result<Code> {
    let repository = app.repository(&app.place()?, Need::Read)?;
    let keys = repository.keys(app.cx()).map_err(|error| app.explain_repository(&error))?;
    if app.out.is_json() {
        app.out.document(&Doc { keys: keys.iter().map(document).collect() })?;
    } else {
        let head = ["ID", "CREATED", "HOST", "USER", ""].map(str::to_owned).to_vec();
        let rows: Vec<Vec<String>> =
            std::iter::once(head).chain(keys.iter().map(|entry| cells(app, entry))).collect();
        columns(&rows).iter().try_for_each(|line| app.out.line(line))?;
    }
    let Some(broken) = keys.iter().find(|entry| entry.key.is_err()) else { return Ok(Code::Done) };
    app.out.finish()?;
    let failure = Failure::new(Code::Damaged, format!("key {} does not read", broken.id));
    let id = broken.id.to_string();
    let remove = app.command(&[b"key", b"remove", id.as_bytes()]);
    app.out.failure(&failure.hint(format!("the repository opens without it: `{remove}`")));
    Ok(Code::Damaged)
}

fn document(entry: &KeyEntry) -> KeyDoc {
    let key = entry.key.as_ref().ok();
    KeyDoc {
        id: entry.id.to_string(),
        current: entry.current,
        created: key.map(|key| rfc3339(key.created)),
        host: key.map(|key| key.hostname.clone()),
        username: key.map(|key| key.username.clone()),
        damaged: entry.key.as_ref().err().map(|error| chain(error)),
    }
}

fn cells(app: &App, entry: &KeyEntry) -> Vec<String> {
    let id = short(&entry.id.to_string()).to_owned();
    match &entry.key {
        Ok(key) => vec![
            id,
            app.calendar.show(key.created),
            safe_line(&key.hostname),
            safe_line(&key.username),
            if entry.current { "in use".to_owned() } else { String::new() },
        ],
        Err(error) => {
            let dash = || "-".to_owned();
            vec![id, dash(), dash(), dash(), safe_line(&chain(error))]
        }
    }
}

impl AddKey {
    fn run(&self, app: &App) -> Result<Code> {
        let opened = app.open(Need::Write { create: false })?;
        if self.plan {
            if app.out.is_json() {
                app.out.document(&ChangedDoc { plan: true, added: None, removed: None })?;
            } else {
                app.out.line("would add a key with the new password")?;
            }
            return Ok(Code::Done);
        }
        let file = self.new_password_file.as_deref();
        let command = self.new_password_command.as_deref();
        let source = Source::choose(command, file, &Environment::default(), false)?;
        let secret = app.secret(&source.unwrap_or(Source::Prompt), "new password", true)?;
        let options = app.key_options(Kdf::calibrated(&**app.cx().clock()))?;
        let id = locked(app, &opened, LockMode::Shared, |repository| {
            repository.add_key(app.cx(), &password(&secret), &options)
        })?;
        if app.out.is_json() {
            let added = Some(id.to_string());
            app.out.document(&ChangedDoc { plan: false, added, removed: None })?;
        } else {
            app.out.line(&format!("added key {id}"))?;
        }
        Ok(Code::Done)
    }
}

fn remove(app: &App, prefix: &str, plan: bool) -> Result<Code> {
    let opened = app.open(Need::Write { create: false })?;
    let find = || -> Result<FileId> {
        let found = opened.engine.repository().find_key(prefix);
        found.map_err(|error| {
            let list = app.command(&[b"key", b"list"]);
            app.explain_repository(&error).hint(format!("see what is there: `{list}`"))
        })
    };
    let id = find()?;
    if !plan {
        // As stock restic does it: nobody may be opening the repository with that key meanwhile.
        locked(app, &opened, LockMode::Exclusive, |repository| repository.remove_key(&id))?;
    }
    if app.out.is_json() {
        app.out.document(&ChangedDoc { plan, added: None, removed: Some(id.to_string()) })?;
    } else {
        let word = if plan { "would remove" } else { "removed" };
        app.out.line(&format!("{word} key {id}"))?;
    }
    Ok(Code::Done)
}

/// Does something to the repository under a lock.
fn locked<T>(
    app: &App,
    opened: &Opened,
    mode: LockMode,
    work: impl FnOnce(&Repository) -> alidade_repository::Result<T>,
) -> Result<T> {
    let repository = opened.engine.repository();
    let explain = |error: alidade_repository::Error| app.explain_repository(&error);
    let options = opened.engine.lock_options(app.global.retry_lock.unwrap_or_default());
    let lock = repository.lock(app.cx(), mode, &options).map_err(explain)?;
    let done = work(repository);
    let released = lock.release();
    let done = done.map_err(explain)?;
    if let Err(error) = released {
        app.out.warn(&format!("the lock could not be removed: {}", chain(&error)))?;
    }
    Ok(done)
}
