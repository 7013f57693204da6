//! `alidade init`: its options, and what it prints.

use alidade_repository::Error as RepositoryError;
use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::exit::Code;
use crate::failure::Result;
use crate::password::Source;
use crate::text::safe;

/// Makes a new repository.
///
/// Without `--repository` it is the embedded default, with a generated key.
#[derive(Debug, Args)]
pub struct Init {
    /// Say what would be made, and make nothing
    #[arg(long)]
    pub plan: bool,
}

#[derive(Serialize)]
struct Doc {
    repository: String,
    id: Option<String>,
    key_file: Option<String>,
    plan: bool,
}

impl Init {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let place = app.place()?;
        let store = app.store(&place)?;
        if app.exists(&*store)? {
            let location = store.location();
            return Err(app.explain_repository(&RepositoryError::Exists { location }));
        }
        let source = app.source()?;
        let generated = source.is_none() && place.is_default;
        let key_file = generated.then(|| app.key_file()).transpose()?;
        let mut doc = Doc {
            repository: place.to_string(),
            id: None,
            key_file: key_file.map(|file| file.path().display().to_string()),
            plan: self.plan,
        };
        if !self.plan {
            let made = if generated {
                app.make_default(&place, store)?
            } else {
                let source = source.unwrap_or(Source::Prompt);
                app.make(store, &app.secret(&source, "password for the new repository", true)?)?
            };
            doc.id = Some(made.id().to_string());
        }
        self.print(app, &doc)?;
        Ok(Code::Done)
    }

    fn print(&self, app: &App, doc: &Doc) -> Result<()> {
        if app.out.is_json() {
            return app.out.document(doc);
        }
        let path = safe(doc.repository.as_bytes());
        match &doc.id {
            Some(id) => app.out.line(&format!("made repository {id} at {path}")),
            None => {
                app.out.line(&format!("would make a repository at {path}"))?;
                match &doc.key_file {
                    Some(file) => {
                        let file = safe(file.as_bytes());
                        app.out.line(&format!("with a generated key in {file}"))
                    }
                    None => app.out.line("with the password you choose"),
                }
            }
        }
    }
}
