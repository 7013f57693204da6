//! `alidade diff`: its options, and what it prints.

use std::ffi::OsString;

use alidade_protect::{Change, ChangeKind, DiffSummary};
use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::document::{EntryDoc, SnapshotDoc};
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::open::Need;
use crate::size::grouped;
use crate::text::safe;

/// Compares two snapshots.
#[derive(Debug, Args)]
pub struct Diff {
    /// The older snapshot: ENTITY, ENTITY@TIME, TYPE:OBJECT:SNAPSHOT, the beginning of an id, or `latest`
    pub before: OsString,
    /// The newer one
    pub after: OsString,
}

#[derive(Serialize)]
struct Head {
    before: SnapshotDoc,
    after: SnapshotDoc,
}

#[derive(Serialize)]
struct Item {
    change: &'static str,
    before: Option<EntryDoc>,
    after: Option<EntryDoc>,
}

#[derive(Serialize)]
struct Tail {
    summary: SummaryDoc,
}

#[derive(Serialize)]
struct SummaryDoc {
    added: u64,
    removed: u64,
    kind: u64,
    content: u64,
    metadata: u64,
}

impl Diff {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let opened = app.open(Need::Read)?;
        let before = app.find(&opened.engine, &self.before)?.stored;
        let after = app.find(&opened.engine, &self.after)?.stored;
        let compare = |show: &mut dyn FnMut(&Change) -> Result<()>| -> Result<DiffSummary> {
            let mut failed: Option<Failure> = None;
            let compared = opened.engine.diff(&before, &after, &mut |change| {
                // The engine goes on to the end: a reader that went away only makes it silent.
                if failed.is_none() && app.out.is_open() {
                    failed = show(&change).err();
                }
                Ok(())
            });
            match failed {
                Some(failure) => Err(failure),
                None => compared.map_err(|error| app.explain(&error)),
            }
        };
        if app.out.is_json() {
            let head = Head { before: (&before).into(), after: (&after).into() };
            let mut list = app.out.begin(&head, "changes")?;
            let compared = compare(&mut |change| list.item(&item(change)));
            list.end(compared.map(|summary| Tail { summary: document(&summary) }))?;
            return Ok(Code::Done);
        }
        let summary = compare(&mut |change| {
            app.out.line(&format!("{} {}", sign(change.kind), safe(&change.path)))
        })?;
        app.out.finish()?;
        app.out.note(&summary_text(&summary))?;
        Ok(Code::Done)
    }
}

fn item(change: &Change) -> Item {
    let entry = |entry: &alidade_model::Entry| EntryDoc::new(&change.path, entry);
    Item {
        change: change.kind.word(),
        before: change.before.as_ref().map(entry),
        after: change.after.as_ref().map(entry),
    }
}

fn document(summary: &DiffSummary) -> SummaryDoc {
    SummaryDoc {
        added: summary.added,
        removed: summary.removed,
        kind: summary.kind,
        content: summary.content,
        metadata: summary.metadata,
    }
}

/// One character for a change, as stock restic writes them.
fn sign(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Added => '+',
        ChangeKind::Removed => '-',
        ChangeKind::Kind => 'T',
        ChangeKind::Content => 'M',
        ChangeKind::Metadata => 'U',
    }
}

fn summary_text(summary: &DiffSummary) -> String {
    format!(
        "{} added (+), {} removed (-), {} with other content (M), {} with other metadata (U), {} of another kind (T)",
        grouped(summary.added),
        grouped(summary.removed),
        grouped(summary.content),
        grouped(summary.metadata),
        grouped(summary.kind)
    )
}
