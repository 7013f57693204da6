//! `alidade show`: its options, and what it prints.

use std::ffi::OsString;

use alidade_protect::{OutcomeDoc, StoredSnapshot};
use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::document::SnapshotDoc;
use crate::exit::Code;
use crate::failure::Result;
use crate::open::Need;
use crate::outcome::{Row, labelled};
use crate::text::safe_line;
use crate::verb::snapshots::tags;
use crate::when::rfc3339;

/// Shows what is known of one snapshot.
#[derive(Debug, Args)]
pub struct Show {
    /// The snapshot: ENTITY, ENTITY@TIME, TYPE:OBJECT:SNAPSHOT, the beginning of an id, or `latest`
    pub what: OsString,
}

#[derive(Serialize)]
struct Doc {
    snapshot: SnapshotDoc,
    /// The outcome of the run that wrote it; null when another program did.
    outcome: Option<OutcomeDoc>,
    /// What was proven about it, the oldest first.
    evidence: Vec<EvidenceDoc>,
}

#[derive(Serialize)]
struct EvidenceDoc {
    kind: String,
    time: String,
    run: Option<String>,
}

impl Show {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let opened = app.open(Need::Read)?;
        let stored = app.find(&opened.engine, &self.what)?.stored;
        let engine = &opened.engine;
        let explain = |error: alidade_protect::Error| app.explain(&error);
        let indexed = engine.index().map_err(explain)?;
        let outcome = engine.outcome_of(&indexed, &stored).map_err(explain)?;
        let repository = engine.repository().id().to_string();
        let rows = engine
            .catalog()
            .evidence_for(&repository, &stored.file.to_string())
            .map_err(|error| app.explain_catalog(&error))?;
        if app.out.is_json() {
            let evidence = rows.iter().map(|row| EvidenceDoc {
                kind: row.kind.clone(),
                time: rfc3339(row.time),
                run: row.run.as_ref().map(ToString::to_string),
            });
            let doc = Doc {
                snapshot: SnapshotDoc::from(&stored),
                outcome: outcome.as_ref().map(OutcomeDoc::from),
                evidence: evidence.collect(),
            };
            app.out.document(&doc)?;
            return Ok(Code::Done);
        }
        let mut sheet = identity_rows(app, &stored);
        let proofs = rows
            .iter()
            .map(|row| format!("{}: {}", app.calendar.show(row.time), safe_line(&row.kind)));
        match &outcome {
            Some(outcome) => sheet.extend(
                app.outcome_rows(outcome).into_iter().filter(|(label, _)| *label != "snapshot"),
            ),
            None => sheet.push(("status", "not known: another program wrote it".to_owned())),
        }
        let proofs: Vec<String> = proofs.collect();
        let none =
            || vec!["none yet: a check with `--read-data`, or a restore, proves it".to_owned()];
        sheet.extend(labelled("proven", if proofs.is_empty() { none() } else { proofs }));
        app.sheet(&stored.entity_id().to_string(), &sheet)?;
        Ok(Code::Done)
    }
}

fn identity_rows(app: &App, stored: &StoredSnapshot) -> Vec<Row> {
    let file = &stored.snapshot;
    let mut rows: Vec<Row> = vec![
        ("snapshot", stored.file.to_string()),
        ("made", app.calendar.show(stored.time)),
        ("host", stored.host.to_string()),
        ("origin", stored.origin.word().to_owned()),
        ("by", safe_line(&format!("{}, with {}", file.username, file.program_version))),
    ];
    rows.extend(stored.run.as_ref().map(|run| ("run", run.to_string())));
    rows.extend(labelled("paths", file.paths.iter().map(|path| safe_line(path)).collect()));
    let tags = tags(stored);
    if !tags.is_empty() {
        rows.push(("tags", tags));
    }
    rows
}
