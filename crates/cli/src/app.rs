//! What every verb is given: options, environment, streams, types, and who it speaks for.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use alidade_entity::{Cx, Registry};
use alidade_model::{EntityName, Host, TypeName};
use alidade_protect::{Engine, StoredSnapshot, Wanted, stored_path};

use crate::args::{Global, OutputForm};
use crate::environment::{Environment, Variable};
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::paths::Paths;
use crate::printer::Printer;
use crate::run_directory::RunDirectory;
use crate::text::shell_word;
use crate::what::{Reader, What};
use crate::when::Calendar;

/// What the roof gives to the command line.
pub struct Parts {
    /// The program's name as it was typed, then everything after it.
    pub arguments: Vec<OsString>,
    /// All variables of [`crate::environment::Variable`].
    pub environment: Environment,
    /// What relative paths start from.
    pub directory: PathBuf,
    /// The types this program was built with.
    pub registry: Registry,
    /// Clock, randomness and cancellation.
    pub cx: Cx,
    /// Makes signals cancel `cx` from now on; before, they end the process. Called before anything
    /// that must not be left as it is.
    pub arm: Box<dyn Fn() -> std::io::Result<()>>,
    /// Threads that carry content.
    pub workers: usize,
    /// The age at which a lock looks dead; restic's when not given. For tests that cannot wait.
    pub lock_expiry: Option<std::time::Duration>,
}

/// What every verb is given.
pub(crate) struct App {
    pub(crate) parts: Parts,
    pub(crate) global: Global,
    pub(crate) out: Printer,
    pub(crate) calendar: Calendar,
    pub(crate) paths: Result<Paths>,
    types: Vec<TypeName>,
    /// Made when it is first needed, and only with `--no-cache`.
    pub(crate) run_directory: OnceCell<RunDirectory>,
}

/// A stored snapshot that was named, and the path in it that was meant.
pub(crate) struct Found {
    pub(crate) stored: StoredSnapshot,
    /// `None` for everything.
    pub(crate) below: Option<Vec<u8>>,
}

impl App {
    pub(crate) fn new(parts: Parts, global: Global) -> Self {
        let json = global.json || global.output == Some(OutputForm::Json);
        let form = if json { OutputForm::Json } else { OutputForm::Text };
        let colour = !global.no_color && parts.environment.get(Variable::NoColor).is_none();
        Self {
            out: Printer::new(form, global.quiet, colour),
            calendar: Calendar::local(),
            paths: Paths::find(&parts.environment),
            types: parts.registry.iter().map(|kind| kind.name().clone()).collect(),
            parts,
            global,
            run_directory: OnceCell::new(),
        }
    }

    /// Removes what this run made for itself alone.
    pub(crate) fn tidy(&mut self) -> Result<()> {
        self.run_directory.take().map_or(Ok(()), RunDirectory::remove)
    }

    pub(crate) fn cx(&self) -> &Cx {
        &self.parts.cx
    }

    /// The host that was asked for.
    pub(crate) fn host(&self) -> Result<Option<Host>> {
        let variable = || self.parts.environment.get(Variable::Host);
        let name = match &self.global.host {
            Some(name) => Some(name.as_bytes().to_vec()),
            None => variable().map(|name| name.as_bytes().to_vec()),
        };
        let Some(name) = name else { return Ok(None) };
        let text = String::from_utf8_lossy(&name);
        text.parse().map(Some).map_err(|error| Failure::of(Code::Usage, &error))
    }

    /// The live entity that a text names.
    pub(crate) fn entity(&self, text: &std::ffi::OsStr) -> Result<EntityName> {
        self.reader().entity(text)
    }

    /// The stored snapshot that a text names.
    pub(crate) fn find(&self, engine: &Engine, text: &std::ffi::OsStr) -> Result<Found> {
        let What { entity, which, below } = self.reader().stored(text)?;
        let wanted = Wanted { entity: entity.clone(), which, host: self.host()? };
        let stored = engine.resolve(&wanted).map_err(|error| self.explain(&error))?;
        let below = below.or_else(|| {
            // A larger stored entity holds the one that was meant.
            entity.filter(|meant| *meant != stored.entity).map(|meant| stored_path(&meant))
        });
        Ok(Found { stored, below })
    }

    fn reader(&self) -> Reader<'_> {
        Reader {
            types: &self.types,
            directory: &self.parts.directory,
            calendar: &self.calendar,
            now: self.parts.cx.now(),
        }
    }

    /// A command line that works when pasted: this program, the options that say which repository
    /// and which password, then `words`. Only a password that stands in the place is left out.
    pub(crate) fn command(&self, words: &[&[u8]]) -> String {
        let mut all = vec![self.program()];
        let global = &self.global;
        let mut option = |name: &str, value: &[u8]| {
            all.push(name.to_owned());
            all.push(shell_word(value));
        };
        if let Some(place) = &global.repository {
            option("-r", &shown(place));
        }
        if let Some(file) = &global.password_file {
            option("--password-file", file.as_os_str().as_bytes());
        }
        if let Some(command) = &global.password_command {
            option("--password-command", command.as_bytes());
        }
        if let Some(command) = &global.sftp_command {
            option("--sftp-command", command.as_bytes());
        }
        if global.restic_env {
            all.push("--restic-env".to_owned());
        }
        all.extend(words.iter().map(|word| shell_word(word)));
        all.join(" ")
    }

    /// The command line that was typed, and `more`; a password that stands in a place is left out.
    pub(crate) fn again(&self, more: &[&str]) -> String {
        let typed = self.parts.arguments.iter().skip(1).map(|word| shell_word(&shown(word)));
        let more = more.iter().map(|word| (*word).to_owned());
        std::iter::once(self.program()).chain(typed).chain(more).collect::<Vec<_>>().join(" ")
    }

    fn program(&self) -> String {
        self.parts
            .arguments
            .first()
            .map_or_else(|| "alidade".to_owned(), |name| shell_word(name.as_bytes()))
    }

    /// A path that was typed, absolute.
    pub(crate) fn absolute(&self, path: &std::path::Path) -> Vec<u8> {
        crate::paths::absolute(&self.parts.directory, path).into_os_string().into_vec()
    }
}

/// A word that was typed, without the password of a place.
fn shown(word: &std::ffi::OsStr) -> Vec<u8> {
    match word.to_str() {
        Some(text) => alidade_stores::masked(text).into_bytes(),
        None => word.as_bytes().to_owned(),
    }
}
