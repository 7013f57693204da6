//! `alidade restore`: its options, and what it prints.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use alidade_model::{Outcome, encode_object};
use alidade_protect::{CountsDoc, OutcomeDoc, Planning, RestoreOptions, RestorePlanned};
use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::document::{self, EndedDoc, SnapshotDoc};
use crate::exit::Code;
use crate::failure::Result;
use crate::open::Need;
use crate::outcome::{Row, code_of, count_rows, labelled, sheet_lines};
use crate::size::human;
use crate::text::{safe, safe_line};
use crate::verb::protect::check_pattern;

/// Creates an entity again from a snapshot, at a new or empty place.
#[derive(Debug, Args)]
pub struct Restore {
    /// What to restore: ENTITY, ENTITY@TIME, TYPE:OBJECT:SNAPSHOT, the beginning of an id, or `latest`; `:/PATH` after it restores only that path
    pub what: OsString,
    /// The directory to restore into, new or empty; absolute paths are created below it
    #[arg(short, long, value_name = "DIR")]
    pub target: PathBuf,
    /// Only what matches this pattern, a directory with its contents; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// All but what matches this pattern; may be given more than once
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Show what would be done, and write nothing
    #[arg(long)]
    pub plan: bool,
    /// Wait for each file to be on disk, not only for all of them at the end
    #[arg(long)]
    pub fsync: bool,
    /// Read each restored file again and compare
    #[arg(long)]
    pub read_back: bool,
    /// Make holes of all runs of zeros, not only of those that were holes
    #[arg(long)]
    pub sparse: bool,
}

#[derive(Serialize)]
struct PlanDoc {
    plan: bool,
    run: String,
    from: SnapshotDoc,
    target: String,
    only: Vec<String>,
    include: Vec<String>,
    exclude: Vec<String>,
    steps: Vec<String>,
    counts: CountsDoc,
    bytes: u64,
}

impl Restore {
    pub(crate) async fn run(&self, app: &App) -> Result<Code> {
        self.include.iter().chain(&self.exclude).try_for_each(|text| check_pattern(text))?;
        let mut opened = app.open(Need::Read)?;
        let found = app.find(&opened.engine, &self.what)?;
        let options = RestoreOptions {
            target: app.absolute(&self.target),
            only: found.below.into_iter().collect(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            fsync: self.fsync,
            read_back: self.read_back,
            sparse_zeros: self.sparse,
        };
        let planning = if self.plan { Planning::ToShow } else { Planning::ToRun };
        let planned = opened.engine.plan_restore(&found.stored, &options, planning).await;
        let planned = planned.map_err(|error| app.explain(&error))?;
        if self.plan {
            opened.ticker.stop();
            return print_plan(app, &planned);
        }
        if !app.out.is_json() {
            app.out.note(&plan_text(app, &planned).join("\n"))?;
        }
        opened.ticker.begin("restore", planned.counts.entries(), planned.bytes);
        let outcome = opened.engine.restore(planned).await;
        opened.ticker.stop();
        let outcome = outcome.map_err(|error| app.explain(&error))?;
        self.print(app, &outcome)
    }

    fn print(&self, app: &App, outcome: &Outcome) -> Result<Code> {
        if app.out.is_json() {
            let exit_code = code_of(outcome.status).number();
            let outcome = OutcomeDoc::from(outcome);
            app.out.document(&EndedDoc { outcome, exit_code, restore: None })?;
        } else {
            let target = safe(self.target.as_os_str().as_bytes());
            let head = format!("restored {} to {target}", outcome.entity);
            app.sheet(&head, &app.outcome_rows(outcome))?;
        }
        Ok(app.conclude(outcome))
    }
}

fn print_plan(app: &App, planned: &RestorePlanned) -> Result<Code> {
    if app.out.is_json() {
        let options = &planned.options;
        app.out.document(&PlanDoc {
            plan: true,
            run: planned.run.to_string(),
            from: SnapshotDoc::from(&planned.from),
            target: encode_object(&options.target),
            only: options.only.iter().map(|path| encode_object(path)).collect(),
            include: options.include.clone(),
            exclude: options.exclude.clone(),
            steps: planned.steps.clone(),
            counts: document::counts(&planned.counts),
            bytes: planned.bytes,
        })?;
        return Ok(Code::Done);
    }
    plan_text(app, planned).iter().try_for_each(|line| app.out.line(line))?;
    Ok(Code::Done)
}

fn plan_text(app: &App, planned: &RestorePlanned) -> Vec<String> {
    let options = &planned.options;
    let mut rows: Vec<Row> =
        vec![("made", app.calendar.show(planned.from.time)), ("target", safe(&options.target))];
    rows.extend(labelled("only", options.only.iter().map(|path| safe(path)).collect()));
    rows.extend(labelled("include", options.include.iter().map(|text| safe_line(text)).collect()));
    rows.extend(labelled("exclude", options.exclude.iter().map(|text| safe_line(text)).collect()));
    rows.extend(count_rows(&planned.counts));
    rows.push(("bytes", human(planned.bytes)));
    rows.extend(labelled("steps", planned.steps.iter().map(|step| safe_line(step)).collect()));
    let mut lines = vec![format!("plan to restore {}", planned.from.entity_id())];
    lines.extend(sheet_lines(&rows));
    lines
}
