//! `alidade version`: its options, and what it prints.

use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::exit::Code;
use crate::failure::Result;

/// Prints the version.
#[derive(Debug, Args)]
pub struct Version {}

#[derive(Serialize)]
struct Doc {
    program: &'static str,
    version: &'static str,
    repository_versions: [u32; 2],
}

impl Version {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let version = env!("CARGO_PKG_VERSION");
        if app.out.is_json() {
            let doc = Doc { program: "alidade", version, repository_versions: [1, 2] };
            app.out.document(&doc)?;
        } else {
            app.out.line(&format!("alidade {version}"))?;
        }
        Ok(Code::Done)
    }
}
