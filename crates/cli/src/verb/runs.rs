//! `alidade runs`: its options, and what it prints.

use std::ffi::OsString;

use alidade_catalog::{Catalog, RunFilter, RunRow};
use alidade_protect::OutcomeDoc;
use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::printer::columns;
use crate::text::safe_line;
use crate::when::{duration, rfc3339};

/// Lists the runs that this machine knows of, the newest first. No password is needed.
#[derive(Debug, Args)]
pub struct Runs {
    /// Show this run alone: its id, or the beginning of it
    #[arg(conflicts_with_all = ["entity", "verb", "last"])]
    pub run: Option<String>,
    /// Only runs on this entity: a path, or TYPE:OBJECT
    #[arg(long, value_name = "ENTITY")]
    pub entity: Option<OsString>,
    /// Only runs of this verb: protect, restore or check
    #[arg(long, value_name = "VERB")]
    pub verb: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, default_value_t = 50, value_name = "NUMBER")]
    pub last: usize,
}

#[derive(Serialize)]
struct Doc {
    runs: Vec<RunDoc>,
}

#[derive(Serialize)]
struct RunDoc {
    run: String,
    verb: String,
    entity: Option<String>,
    host: String,
    repository: Option<String>,
    snapshot: Option<String>,
    started: String,
    ended: Option<String>,
    status: String,
    exit_code: Option<i32>,
    outcome: Option<serde_json::Value>,
}

impl Runs {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let path = app.paths.clone()?.catalog();
        let catalog = Catalog::open(&path).map_err(|error| app.explain_catalog(&error))?;
        if let Some(id) = &self.run {
            let row = catalog.run(id).map_err(|error| app.explain_catalog(&error))?;
            let row = row.ok_or_else(|| {
                let list = app.command(&[b"runs"]);
                Failure::new(Code::NotFound, format!("no run begins with `{id}`"))
                    .hint(format!("see what is there: `{list}`"))
            })?;
            return show(app, &row);
        }
        let Some(filter) = self.filter(app, &catalog)? else { return print(app, &[]) };
        let rows = catalog.runs(&filter, self.last).map_err(|error| app.explain_catalog(&error))?;
        print(app, &rows)
    }

    /// What to list; `None` when the repository that was named is not known here.
    fn filter(&self, app: &App, catalog: &Catalog) -> Result<Option<RunFilter>> {
        let entity = self.entity.as_ref().map(|text| app.entity(text)).transpose()?;
        let mut filter = RunFilter {
            host: app.host()?,
            entity,
            verb: self.verb.clone(),
            ..RunFilter::default()
        };
        if app.global.repository.is_some() {
            let place = app.place()?.to_string();
            let known = catalog.repositories().map_err(|error| app.explain_catalog(&error))?;
            match known.into_iter().rev().find(|row| row.location == place) {
                Some(row) => filter.repository = Some(row.id),
                None => return Ok(None),
            }
        }
        Ok(Some(filter))
    }
}

fn print(app: &App, rows: &[RunRow]) -> Result<Code> {
    if app.out.is_json() {
        app.out.document(&Doc { runs: rows.iter().map(document).collect::<Result<_>>()? })?;
        return Ok(Code::Done);
    }
    let mut cells: Vec<Vec<String>> = rows.iter().map(|row| line(app, row)).collect();
    if !cells.is_empty() {
        let head = ["RUN", "STARTED", "TIME", "VERB", "STATUS", "ENTITY"];
        cells.insert(0, head.map(str::to_owned).to_vec());
    }
    columns(&cells).iter().try_for_each(|line| app.out.line(line))?;
    Ok(Code::Done)
}

fn line(app: &App, row: &RunRow) -> Vec<String> {
    vec![
        row.id.to_string(),
        app.calendar.show(row.started),
        row.ended.map_or_else(|| "-".to_owned(), |ended| duration(row.started, ended)),
        safe_line(&row.verb),
        safe_line(&row.status),
        row.entity.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
    ]
}

fn show(app: &App, row: &RunRow) -> Result<Code> {
    if app.out.is_json() {
        app.out.document(&document(row)?)?;
        return Ok(Code::Done);
    }
    let Some(text) = &row.outcome else {
        app.out.line(&format!("{}: {}", row.id, safe_line(&row.status)))?;
        return Ok(Code::Done);
    };
    let unread = |error: &dyn std::error::Error| {
        Failure::new(Code::Failed, format!("read the outcome of {}: {error}", row.id))
    };
    let doc: OutcomeDoc = serde_json::from_str(text).map_err(|error| unread(&error))?;
    let outcome = doc.outcome().map_err(|error| unread(&error))?;
    let mut rows = vec![
        ("verb", safe_line(&row.verb)),
        ("entity", outcome.entity.to_string()),
        ("started", app.calendar.show(row.started)),
    ];
    rows.extend(app.outcome_rows(&outcome));
    app.sheet(row.id.as_str(), &rows)?;
    Ok(Code::Done)
}

fn document(row: &RunRow) -> Result<RunDoc> {
    let outcome =
        row.outcome.as_deref().map(serde_json::from_str).transpose().map_err(|error| {
            Failure::new(Code::Failed, format!("read the outcome of {}: {error}", row.id))
        })?;
    Ok(RunDoc {
        run: row.id.to_string(),
        verb: row.verb.clone(),
        entity: row.entity.as_ref().map(ToString::to_string),
        host: row.host.to_string(),
        repository: row.repository.clone(),
        snapshot: row.snapshot_file.clone(),
        started: rfc3339(row.started),
        ended: row.ended.map(rfc3339),
        status: row.status.clone(),
        exit_code: row.exit_code,
        outcome,
    })
}
