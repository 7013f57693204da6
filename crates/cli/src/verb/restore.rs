//! `alidade restore`: its options, and what it prints.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use alidade_entity::Params;
use alidade_model::{EntityName, Outcome, encode_object};
use alidade_protect::{CountsDoc, OutcomeDoc, Planning, RestoreOptions, RestorePlanned};
use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::document::{self, EndedDoc, SnapshotDoc};
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::open::Need;
use crate::outcome::{Row, code_of, count_rows, labelled, sheet_lines};
use crate::size::{self, human};
use crate::text::{safe, safe_line};
use crate::verb::protect::check_pattern;
use crate::verb::stream_command::StreamCommand;

/// Creates an entity again from a snapshot, at a new or empty place.
#[derive(Debug, Args)]
pub struct Restore {
    /// What to restore: ENTITY, ENTITY@TIME, TYPE:OBJECT:SNAPSHOT, the beginning of an id, or `latest`; `:/PATH` after it restores only that path
    pub what: OsString,
    /// The directory to restore into, new or empty; absolute paths are created below it. Of a disk: the new
    /// file, or with `--in-place` the file or device to write to
    #[arg(short, long, value_name = "PATH")]
    #[arg(required_unless_present_any = ["to_command", "to_stdout"])]
    pub target: Option<PathBuf>,
    /// Write a stream to the command behind `--`; it sees the end only when every byte was verified
    #[arg(long, conflicts_with_all = ["target", "to_stdout"])]
    pub to_command: bool,
    /// Write a stream to standard output
    #[arg(long, conflicts_with = "target")]
    pub to_stdout: bool,
    /// The command.
    #[command(flatten)]
    pub command: StreamCommand,
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
    /// Write into the file or device that is there what differs from the disk
    #[arg(long)]
    pub in_place: bool,
    /// Restore of a disk what begins at this byte, to the same place; such as `4096` or `1G`
    #[arg(long, value_name = "SIZE", requires = "length", value_parser = size::parse)]
    pub offset: Option<u64>,
    /// Restore of a disk so many bytes
    #[arg(long, value_name = "SIZE", requires = "offset", value_parser = size::parse)]
    pub length: Option<u64>,
}

#[derive(Serialize)]
struct PlanDoc {
    plan: bool,
    run: String,
    from: SnapshotDoc,
    target: Option<String>,
    only: Vec<String>,
    include: Vec<String>,
    exclude: Vec<String>,
    steps: Vec<String>,
    counts: CountsDoc,
    bytes: u64,
}

impl Restore {
    pub(crate) async fn run(&self, app: &App) -> Result<Code> {
        if self.to_stdout && app.out.is_json() {
            return Err(Failure::usage("`--to-stdout` prints the stream, not JSON"));
        }
        self.include.iter().chain(&self.exclude).try_for_each(|text| check_pattern(text))?;
        let params = self.params()?;
        let mut opened = app.open(Need::Read)?;
        let found = app.find(&opened.engine, &self.what)?;
        self.must_fit(&found.stored.entity)?;
        let options = RestoreOptions {
            target: self.target.as_ref().map(|target| app.absolute(target)),
            params,
            only: found.below.into_iter().collect(),
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            fsync: self.fsync,
            read_back: self.read_back,
            sparse_zeros: self.sparse,
            in_place: self.in_place,
            range: self.offset.zip(self.length).map(|(from, len)| from..from.saturating_add(len)),
        };
        let planning = if self.plan { Planning::ToShow } else { Planning::ToRun };
        let planned = opened.engine.plan_restore(&found.stored, &options, planning).await;
        let planned = planned.map_err(|error| self.explain(app, &error))?;
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
        let outcome = outcome.map_err(|error| self.explain(app, &error))?;
        self.print(app, &outcome)
    }

    /// Streams go to commands and to standard output, and nothing else does.
    fn must_fit(&self, entity: &EntityName) -> Result<()> {
        let is_stream = entity.type_name.as_str() == "stream";
        match (is_stream, self.to_command || self.to_stdout) {
            (true, false) => {
                Err(Failure::usage(format!("`{entity}` is a stream: it has no place"))
                    .hint("name where it goes: `--to-stdout`, or `--to-command -- COMMAND…`"))
            }
            (false, true) => Err(Failure::usage(format!("`{entity}` is no stream"))
                .hint("name where it goes: `--target PATH`")),
            _ => Ok(()),
        }
    }

    fn params(&self) -> Result<Params> {
        let mut params = self.command.params(self.to_command.then_some("--to-command"))?;
        if self.to_stdout {
            params.insert("standard".to_owned(), "true".to_owned());
        }
        Ok(params)
    }

    /// What an error of the engine means for who restores.
    fn explain(&self, app: &App, error: &alidade_protect::Error) -> Failure {
        let failure = app.explain(error);
        if self.to_command && failure.hint.is_none() {
            return failure.hint(format!(
                "it took only a part of the stream, or failed; when it is mended: `{}`",
                app.again(&[])
            ));
        }
        let is_disk = self.what.as_bytes().starts_with(b"disk:");
        if failure.code != Code::Conflict || !is_disk || self.in_place {
            return failure;
        }
        failure.hint("name a new file with `--target`, or write into what is there: `--in-place`")
    }

    fn print(&self, app: &App, outcome: &Outcome) -> Result<Code> {
        if app.out.is_json() {
            let exit_code = code_of(outcome.status).number();
            let outcome = OutcomeDoc::from(outcome);
            app.out.document(&EndedDoc { outcome, exit_code, restore: None })?;
        } else {
            let target = match &self.target {
                Some(target) => safe(target.as_os_str().as_bytes()),
                None if self.to_stdout => "standard output".to_owned(),
                None => "a command".to_owned(),
            };
            let head = format!("restored {} to {target}", outcome.entity);
            let rows = app.outcome_rows(outcome);
            if self.to_stdout {
                // Standard output is the stream's.
                let lines = std::iter::once(head).chain(sheet_lines(&rows));
                app.out.note(&lines.collect::<Vec<_>>().join("\n"))?;
            } else {
                app.sheet(&head, &rows)?;
            }
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
            target: options.target.as_deref().map(encode_object),
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
    let mut rows: Vec<Row> = vec![("made", app.calendar.show(planned.from.time))];
    rows.extend(options.target.as_deref().map(|target| ("target", safe(target))));
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
