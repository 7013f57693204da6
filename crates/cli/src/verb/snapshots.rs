//! `alidade snapshots`: its options, and what it prints.

use std::ffi::OsString;

use alidade_model::Origin;
use alidade_protect::StoredSnapshot;
use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::document::{DamagedDoc, SnapshotDoc};
use crate::exit::Code;
use crate::failure::Result;
use crate::open::Need;
use crate::printer::columns;
use crate::size::human;
use crate::text::safe_line;
use crate::verb::list::{damaged_docs, tell_damaged};

/// Lists the snapshots that the repository holds.
#[derive(Debug, Args)]
pub struct Snapshots {
    /// Only snapshots of this entity: a path, or TYPE:OBJECT
    pub entity: Option<OsString>,
    /// Only snapshots with this tag; given more than once, with all of them
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Also those that hold evidence instead of content
    #[arg(long)]
    pub evidence: bool,
}

#[derive(Serialize)]
struct Doc {
    snapshots: Vec<SnapshotDoc>,
    damaged: Vec<DamagedDoc>,
}

impl Snapshots {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let entity = self.entity.as_ref().map(|text| app.entity(text)).transpose()?;
        let host = app.host()?;
        let opened = app.open(Need::Read)?;
        let listing = opened.engine.snapshots().map_err(|error| app.explain(&error))?;
        let wanted = |stored: &&StoredSnapshot| {
            (self.evidence || stored.origin != Origin::Evidence)
                && entity.as_ref().is_none_or(|entity| stored.entity == *entity)
                && host.as_ref().is_none_or(|host| stored.host == *host)
                && self.tag.iter().all(|tag| stored.snapshot.tags.contains(tag))
        };
        let chosen = listing.snapshots.iter().filter(wanted);
        if app.out.is_json() {
            let snapshots = chosen.map(SnapshotDoc::from).collect();
            app.out.document(&Doc { snapshots, damaged: damaged_docs(&listing) })?;
        } else {
            let mut rows: Vec<Vec<String>> = chosen.map(|stored| cells(app, stored)).collect();
            if !rows.is_empty() {
                let head = ["ID", "TIME", "ENTITY", "SNAPSHOT", "HOST", "SIZE", "ORIGIN", "TAGS"];
                rows.insert(0, head.map(str::to_owned).to_vec());
            }
            columns(&rows).iter().try_for_each(|line| app.out.line(line))?;
        }
        tell_damaged(app, &listing)
    }
}

fn cells(app: &App, stored: &StoredSnapshot) -> Vec<String> {
    let summary = stored.snapshot.summary.as_ref();
    let own = stored.origin != Origin::Foreign;
    vec![
        alidade_protect::short(&stored.file),
        app.calendar.show(stored.time),
        stored.entity.to_string(),
        if own { stored.id.to_string() } else { "-".to_owned() },
        stored.host.to_string(),
        summary.map_or_else(|| "-".to_owned(), |summary| human(summary.total_bytes_processed)),
        stored.origin.word().to_owned(),
        tags(stored),
    ]
}

/// The tags that people gave; ours say what the other columns say.
pub(crate) fn tags(stored: &StoredSnapshot) -> String {
    let tags = stored.snapshot.tags.iter().filter(|tag| !tag.starts_with("alidade:"));
    tags.map(|tag| safe_line(tag)).collect::<Vec<_>>().join(", ")
}
