//! `alidade catalog`: its options, and what it prints.

use alidade_catalog::{Catalog, Error as CatalogError, RebuildReport};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::app::App;
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::open::Need;
use crate::outcome::{Row, labelled};
use crate::size::{counted, grouped};
use crate::text::safe_line;

/// Looks after the catalog.
#[derive(Debug, Args)]
pub struct CatalogVerb {
    /// What to do with it.
    #[command(subcommand)]
    pub verb: CatalogAction,
}

/// What to do with the catalog.
#[derive(Debug, Subcommand)]
pub enum CatalogAction {
    /// Bring back entities, snapshots, runs and evidence from the repository alone
    Rebuild,
}

#[derive(Serialize)]
struct Doc {
    catalog: String,
    entities: u64,
    snapshots: u64,
    runs: u64,
    evidence: u64,
    local_runs_kept: u64,
    /// Null when nobody knows.
    local_runs_lost: Option<u64>,
    /// Null when nobody knows.
    tasks_lost: Option<u64>,
    damaged: Vec<DamagedDoc>,
}

#[derive(Serialize)]
struct DamagedDoc {
    snapshot: String,
    why: String,
}

impl CatalogVerb {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        match self.verb {
            CatalogAction::Rebuild => rebuild(app),
        }
    }
}

fn rebuild(app: &App) -> Result<Code> {
    let path = app.paths.clone()?.catalog();
    if let Err(CatalogError::Corrupt { .. }) = Catalog::open(&path) {
        let recreated = Catalog::recreate(&path).map_err(|error| app.explain_catalog(&error))?;
        if let Some(old) = recreated.moved_to {
            let old = safe_line(&old.display().to_string());
            app.out.note(&format!("the damaged catalog is kept as {old}"))?;
        }
    }
    let mut opened = app.open(Need::Write { create: false })?;
    let rebuilt = opened.engine.rebuild_catalog();
    opened.ticker.stop();
    let (report, damaged) = rebuilt.map_err(|error| app.explain(&error))?;
    let path = safe_line(&path.display().to_string());
    if app.out.is_json() {
        app.out.document(&document(path, &report, &damaged))?;
    } else {
        app.sheet(&format!("rebuilt {path}"), &rows(&report, &damaged))?;
    }
    app.out.finish()?;
    let Some((file, why)) = damaged.first() else { return Ok(Code::Done) };
    let many = counted(damaged.len() as u64, "snapshot does not read", "snapshots do not read");
    let failure = Failure::new(Code::Damaged, format!("{many}, such as {file}: {why}"));
    app.out.failure(&failure.hint(app.check_hint()));
    Ok(Code::Damaged)
}

fn document(catalog: String, report: &RebuildReport, damaged: &[(String, String)]) -> Doc {
    let doc =
        |(file, why): &(String, String)| DamagedDoc { snapshot: file.clone(), why: why.clone() };
    Doc {
        catalog,
        entities: report.entities,
        snapshots: report.snapshots,
        runs: report.runs,
        evidence: report.evidence,
        local_runs_kept: report.local_runs_kept,
        local_runs_lost: report.local_runs_lost,
        tasks_lost: report.tasks_lost,
        damaged: damaged.iter().map(doc).collect(),
    }
}

fn rows(report: &RebuildReport, damaged: &[(String, String)]) -> Vec<Row> {
    let lost = |count: Option<u64>| match count {
        Some(count) => grouped(count),
        None => "those an earlier catalog held; it does not tell how many".to_owned(),
    };
    let mut rows: Vec<Row> = vec![
        ("entities", grouped(report.entities)),
        ("snapshots", grouped(report.snapshots)),
        ("runs", grouped(report.runs)),
        ("evidence", grouped(report.evidence)),
        ("local runs kept", grouped(report.local_runs_kept)),
        ("local runs lost", lost(report.local_runs_lost)),
        ("tasks lost", lost(report.tasks_lost)),
    ];
    let damaged = damaged.iter().map(|(file, why)| safe_line(&format!("{file}: {why}")));
    rows.extend(labelled("damaged", damaged.collect()));
    rows
}
