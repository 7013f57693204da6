//! `alidade protect`: its options, and what it prints.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alidade_entity::Params;
use alidade_model::{EntityName, ObjectId, Outcome, Pattern, Rule, Selection, encode_object};
use alidade_protect::{
    OutcomeDoc, Parent, ProtectOptions, ProtectPlan, Survey, is_within, stored_path,
};
use alidade_repository::Cuts;
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::app::App;
use crate::args::age;
use crate::document::{self, EndedDoc, SurveyDoc};
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::open::{Need, Opened};
use crate::outcome::{Row, code_of, count_rows, labelled, omission_lines, sheet_lines, short};
use crate::size::{self, counted, grouped, human};
use crate::text::{safe, safe_line, shell_word};
use crate::verb::stream_command::StreamCommand;
use crate::verb::writing::Writing;
use crate::what::path_of;

/// The file that marks a directory as a cache, and the text it begins with.
const CACHE_TAG: &str = "CACHEDIR.TAG";
const CACHE_HEADER: &str = "Signature: 8a477f597d28d172789f06886806bc55";

/// Copies an entity into the repository.
#[derive(Debug, Args)]
pub struct Protect {
    /// The entity: a path, or TYPE:OBJECT
    #[arg(required_unless_present_any = ["stdin", "stdin_from_command"])]
    pub entity: Option<OsString>,
    /// Store what comes on standard input as the stream of this name; nobody says that it is whole
    #[arg(long, value_name = "NAME", conflicts_with_all = ["entity", "stdin_from_command"])]
    pub stdin: Option<OsString>,
    /// Store what the command behind `--` prints as the stream of this name, if it succeeds
    #[arg(long, value_name = "NAME", conflicts_with = "entity")]
    pub stdin_from_command: Option<OsString>,
    /// The command.
    #[command(flatten)]
    pub command: StreamCommand,
    /// Show what would be done, walk the source and count, and write nothing
    #[arg(long)]
    pub plan: bool,
    /// What is left out, and what alone is meant.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Tag the snapshot; may be given more than once
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Compare with this snapshot instead of the newest of the same entity and host
    #[arg(long, value_name = "ID", conflicts_with = "force")]
    pub parent: Option<String>,
    /// Compare with no snapshot: read everything again
    #[arg(long)]
    pub force: bool,
    /// Where files are cut. In a repository that restic began `restic` finds what it stored again; it is slower
    #[arg(long, value_enum, default_value = "ours", value_name = "WHOSE")]
    pub chunker: Chunker,
    /// How to store
    #[command(flatten)]
    pub writing: Writing,
    /// Read a disk although it is mounted or otherwise written to; the snapshot is then marked torn
    #[arg(long)]
    pub live: bool,
    /// Read an image file from a clone that is made now and kept beside it: the next run then knows what
    /// changed. On file systems that share storage between files, such as btrfs and XFS
    #[arg(long, conflicts_with = "live")]
    pub clone: bool,
    /// Read of a disk only the ranges in this file, a line with offset and length in bytes for each: what
    /// changed since the snapshot that is compared with
    #[arg(long, value_name = "FILE", requires = "parent")]
    pub changed_blocks: Option<PathBuf>,
    /// Write no snapshot when it would be equal to the one compared with
    #[arg(long)]
    pub skip_if_unchanged: bool,
    /// How often what is stored so far becomes a partial snapshot, from which the next run goes on when this one is
    /// interrupted: `0s` for never; once a minute, or more rarely where it costs much, when not given
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub checkpoint: Option<Duration>,
}

/// What of the entity is meant.
#[derive(Debug, Args)]
pub struct SelectionArgs {
    /// Leave out what matches this pattern; `!PATTERN` takes it in again
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Read patterns from this file, one per line; lines that begin with `#` are comments
    #[arg(long, value_name = "FILE")]
    pub exclude_file: Vec<PathBuf>,
    /// Leave out the content of directories that hold a file of this name, optionally with this
    /// text at its beginning
    #[arg(long, value_name = "NAME[:HEADER]")]
    pub exclude_if_present: Vec<String>,
    /// Leave out the content of directories marked as caches by a CACHEDIR.TAG file
    #[arg(long)]
    pub exclude_caches: bool,
    /// Leave out files larger than this, such as `100M`
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub exclude_larger_than: Option<u64>,
    /// Stay on the file system of the entity
    #[arg(short = 'x', long)]
    pub one_file_system: bool,
    /// Take only the paths listed in this file, each ended by a NUL byte, and what is below them;
    /// `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub files_from0: Option<PathBuf>,
}

/// Who decides where files are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Chunker {
    /// We do.
    Ours,
    /// restic does.
    Restic,
}

#[derive(Serialize)]
struct PlanDoc {
    plan: bool,
    entity: String,
    host: String,
    repository: String,
    run: String,
    parent: Option<String>,
    goes_on_from: Vec<String>,
    rules: Vec<String>,
    only: Vec<String>,
    tags: Vec<String>,
    compression: &'static str,
    pack_size: u64,
    self_check: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    survey: Option<SurveyDoc>,
}

impl Protect {
    pub(crate) async fn run(&self, app: &App) -> Result<Code> {
        let entity = self.entity(app)?;
        let options = self.options(app, &entity)?;
        self.must_exist(app, &entity)?;
        if self.plan && app.would_make_default()? {
            let place = app.place()?.to_string();
            app.out
                .note(&format!("the first backup would make the repository {place} and its key"))?;
            let plan = async |opened| self.plan(app, opened, &entity, &options).await;
            return app.rehearse(plan).await;
        }
        if self.plan {
            let opened = app.open(Need::Write { create: false })?;
            return self.plan(app, opened, &entity, &options).await;
        }
        let mut opened = app.open(Need::Write { create: true })?;
        let plan = opened.engine.plan_protect(&entity, &options, false).await;
        let mut plan = plan.map_err(|error| self.explain(app, &error))?;
        if opened.ticker.is_bar() && plan.parent.is_none() && entity.type_name.as_str() == "fs" {
            // Nothing tells how much there is: a walk without reading does, for the time left.
            opened.ticker.begin("count", 0, 0);
            let counted = opened.engine.plan_protect(&entity, &options, true).await;
            plan = counted.map_err(|error| self.explain(app, &error))?;
        }
        let (entries, bytes) = expected(&plan);
        opened.ticker.begin("protect", entries, bytes);
        if !app.out.is_json() {
            app.out.note(&self.plan_text(app, &opened, &plan).join("\n"))?;
        }
        let outcome = opened.engine.protect(&plan).await;
        opened.ticker.stop();
        let outcome = outcome.map_err(|error| self.explain(app, &error))?;
        self.print(app, &outcome)
    }

    async fn plan(
        &self,
        app: &App,
        mut opened: Opened,
        entity: &EntityName,
        options: &ProtectOptions,
    ) -> Result<Code> {
        let plan = opened.engine.plan_protect(entity, options, true).await;
        opened.ticker.stop();
        let plan = plan.map_err(|error| self.explain(app, &error))?;
        self.print_plan(app, &opened, &plan)
    }

    /// What is protected: an entity that is there, or a stream.
    fn entity(&self, app: &App) -> Result<EntityName> {
        let stream = self.stdin.as_ref().or(self.stdin_from_command.as_ref());
        match (stream, &self.entity) {
            (None, Some(entity)) => app.entity(entity),
            (Some(name), _) if !name.is_empty() => Ok(EntityName {
                type_name: "stream".parse().expect("`stream` is a type name"),
                object: ObjectId::encode(name.as_bytes()).expect("the name is not empty"),
            }),
            _ => Err(Failure::usage("an empty text names nothing")),
        }
    }

    /// What an error of the engine means for who protects.
    fn explain(&self, app: &App, error: &alidade_protect::Error) -> Failure {
        let failure = app.explain(error);
        if self.stdin_from_command.is_some() && failure.hint.is_none() {
            return failure.hint(format!(
                "nothing of it was stored; when the command is mended: `{}`",
                app.again(&[])
            ));
        }
        if failure.code != Code::Conflict || self.live || self.changed_blocks.is_some() {
            return failure;
        }
        failure.hint("unmount it or make it read-only, or read it as it is, torn: `--live`")
    }

    /// A path that is not there is told before a repository is made for it.
    fn must_exist(&self, app: &App, entity: &EntityName) -> Result<()> {
        let Some(path) = path_of(entity) else { return Ok(()) };
        match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let shown = safe(path.as_os_str().as_bytes());
                let mut failure = Failure::new(Code::NotFound, format!("`{shown}` does not exist"));
                if let Some(parent) = path.ancestors().skip(1).find(|path| path.exists()) {
                    let list = format!("ls {}", shell_word(parent.as_os_str().as_bytes()));
                    failure = failure.hint(format!("see what is there: `{list}`"));
                }
                Err(failure)
            }
            // What else may be wrong with it, the entity's own type tells better.
            _ => app.cx().check().map_err(|error| Failure::of(Code::Interrupted, &error)),
        }
    }

    fn options(&self, app: &App, entity: &EntityName) -> Result<ProtectOptions> {
        Ok(ProtectOptions {
            selection: self.selection.read(app, entity)?,
            params: self.params(app)?,
            tags: self.tags()?,
            host: app.host()?,
            parent: match (&self.parent, self.force) {
                (_, true) => Parent::None,
                (Some(id), false) => Parent::Id(id.clone()),
                (None, false) => Parent::Auto,
            },
            cuts: match self.chunker {
                Chunker::Ours => Cuts::Ours,
                Chunker::Restic => Cuts::Restic,
            },
            compression: self.writing.compression(),
            pack_size: self.writing.pack_bytes(),
            self_check: !self.writing.no_self_check,
            skip_if_unchanged: self.skip_if_unchanged,
            checkpoint: self.checkpoint,
        })
    }

    /// How to read the entity, in the words of its type.
    fn params(&self, app: &App) -> Result<Params> {
        let wanted = self.stdin_from_command.as_ref().map(|_| "--stdin-from-command");
        let mut params = self.command.params(wanted)?;
        if self.stdin.is_some() {
            params.insert("standard".to_owned(), "true".to_owned());
        }
        if self.live {
            params.insert("live".to_owned(), "true".to_owned());
        }
        if self.clone {
            params.insert("clone".to_owned(), "true".to_owned());
        }
        if let Some(map) = &self.changed_blocks {
            let path = String::from_utf8(app.absolute(map)).map_err(|_not_text| {
                Failure::usage("the path of a map of changed blocks is not text")
            })?;
            params.insert("changed-blocks".to_owned(), path);
        }
        Ok(params)
    }

    /// Tags begin with `alidade:` only where this program sets them.
    fn tags(&self) -> Result<Vec<String>> {
        for tag in &self.tag {
            if tag.is_empty() || tag.contains(',') || tag.starts_with("alidade:") {
                return Err(Failure::usage(format!(
                    "`{tag}` is no tag: it is empty, has a comma, or begins with `alidade:`"
                )));
            }
        }
        Ok(self.tag.clone())
    }

    fn print_plan(&self, app: &App, opened: &Opened, plan: &ProtectPlan) -> Result<Code> {
        if app.out.is_json() {
            let selection = &plan.options.selection;
            app.out.document(&PlanDoc {
                plan: true,
                entity: plan.entity.to_string(),
                host: plan.host.to_string(),
                repository: opened.place.to_string(),
                run: plan.run.to_string(),
                parent: plan.parent.as_ref().map(|parent| parent.file.to_string()),
                goes_on_from: plan.goes_on_from().map(|stored| stored.file.to_string()).collect(),
                rules: selection.rules.iter().map(Rule::name).collect(),
                only: selection.only.iter().map(|path| encode_object(path)).collect(),
                tags: plan.options.tags.clone(),
                compression: self.writing.level(),
                pack_size: plan.options.pack_size,
                self_check: plan.options.self_check,
                survey: plan.survey.as_ref().map(|survey| SurveyDoc {
                    counts: document::counts(&survey.counts),
                    bytes: survey.bytes,
                    to_read: survey.to_read,
                    excluded: survey.excluded.clone(),
                    omissions: document::omissions(&survey.omissions),
                }),
            })?;
        } else {
            for line in self.plan_text(app, opened, plan) {
                app.out.line(&line)?;
            }
        }
        Ok(Code::Done)
    }

    fn plan_text(&self, app: &App, opened: &Opened, plan: &ProtectPlan) -> Vec<String> {
        let mut rows: Vec<Row> = vec![
            ("host", plan.host.to_string()),
            ("repository", safe(opened.place.to_string().as_bytes())),
            ("compare with", parent_text(app, plan)),
        ];
        let partial: Vec<String> =
            plan.goes_on_from().map(|stored| alidade_protect::short(&stored.file)).collect();
        if !partial.is_empty() {
            rows.push(("goes on from", partial.join(", ")));
        }
        let selection = &plan.options.selection;
        let rules = selection.rules.iter().map(|rule| safe_line(&rule.name())).collect();
        rows.extend(labelled("leave out", rules));
        if !selection.only.is_empty() {
            rows.push(("take only", counted(selection.only.len() as u64, "path", "paths")));
        }
        rows.extend(labelled("tags", plan.options.tags.clone()));
        let check = if plan.options.self_check { "on" } else { "off" };
        let (level, pack) = (self.writing.level(), self.writing.pack_size);
        rows.push((
            "store",
            format!("compression {level}, packs of {pack} MiB, self-check {check}"),
        ));
        if let Some(survey) = &plan.survey {
            rows.extend(survey_rows(survey));
        }
        let mut lines = vec![format!("plan to protect {}", plan.entity)];
        lines.extend(sheet_lines(&rows));
        lines
    }

    fn print(&self, app: &App, outcome: &Outcome) -> Result<Code> {
        let restore = restore_command(app, outcome);
        let code = code_of(outcome.status);
        if app.out.is_json() {
            let outcome = OutcomeDoc::from(outcome);
            app.out.document(&EndedDoc { outcome, exit_code: code.number(), restore })?;
        } else {
            let mut rows = app.outcome_rows(outcome);
            rows.extend(restore.map(|command| ("restore with", command)));
            app.sheet(&format!("protected {}", outcome.entity), &rows)?;
        }
        Ok(app.conclude(outcome))
    }
}

/// How much a run is going to see: what was counted, or else what the parent held.
fn expected(plan: &ProtectPlan) -> (u64, u64) {
    let parent = plan.parent.as_ref().and_then(|parent| parent.snapshot.summary.as_ref());
    match (&plan.survey, parent) {
        (Some(survey), _) => (survey.counts.entries(), survey.bytes),
        (None, Some(summary)) => (0, summary.total_bytes_processed),
        (None, None) => (0, 0),
    }
}

fn survey_rows(survey: &Survey) -> Vec<Row> {
    let mut rows = count_rows(&survey.counts);
    let (counts, bytes) = (&survey.counts, survey.bytes);
    rows.push((
        "to read",
        format!(
            "{} of {}: {} new, {} changed, {} unchanged files",
            human(survey.to_read),
            human(bytes),
            grouped(counts.new),
            grouped(counts.changed),
            grouped(counts.unchanged)
        ),
    ));
    let excluded = survey.excluded.iter();
    let excluded = excluded
        .map(|(rule, n)| format!("{}: {}", safe_line(rule), counted(*n, "entry", "entries")));
    rows.extend(labelled("left out", excluded.collect()));
    rows.extend(labelled("omissions", omission_lines(&survey.omissions)));
    rows
}

fn parent_text(app: &App, plan: &ProtectPlan) -> String {
    match (&plan.parent, &plan.options.parent) {
        (Some(parent), _) => {
            let time = app.calendar.show(parent.time);
            format!("{} of {time}: incremental", alidade_protect::short(&parent.file))
        }
        (None, Parent::None) => "nothing, as asked: everything is read".to_owned(),
        (None, _) => "nothing: first backup".to_owned(),
    }
}

/// The command that restores what an outcome made, into a new directory.
fn restore_command(app: &App, outcome: &Outcome) -> Option<String> {
    let file = outcome.snapshot_file.as_deref()?;
    let target = format!("restored-{}", short(file));
    let what = outcome.entity.to_string();
    let mut words: Vec<&[u8]> = vec![b"restore", what.as_bytes()];
    if outcome.entity.name.type_name.as_str() == "stream" {
        words.push(b"--to-stdout");
    } else {
        words.extend([&b"--target"[..], target.as_bytes()]);
    }
    Some(app.command(&words))
}

impl SelectionArgs {
    fn read(&self, app: &App, entity: &EntityName) -> Result<Selection> {
        let mut rules: Vec<Rule> = self.exclude.iter().cloned().map(Rule::Pattern).collect();
        for file in &self.exclude_file {
            rules.extend(patterns(file)?.into_iter().map(Rule::Pattern));
        }
        for rule in &rules {
            if let Rule::Pattern(pattern) = rule {
                check_pattern(pattern)?;
            }
        }
        for marker in &self.exclude_if_present {
            let (name, header) = marker.split_once(':').unwrap_or((marker, ""));
            if name.is_empty() || name.contains('/') {
                return Err(Failure::usage(format!("`{name}` is no file name")));
            }
            rules.push(Rule::IfPresent { name: name.to_owned(), header: header.to_owned() });
        }
        if self.exclude_caches {
            let (name, header) = (CACHE_TAG.to_owned(), CACHE_HEADER.to_owned());
            rules.push(Rule::IfPresent { name, header });
        }
        rules.extend(self.exclude_larger_than.map(Rule::LargerThan));
        if self.one_file_system {
            rules.push(Rule::OneFileSystem);
        }
        let only = match &self.files_from0 {
            Some(file) => listed(app, file, entity)?,
            None => Vec::new(),
        };
        Ok(Selection { rules, only, ..Selection::default() })
    }
}

/// Refuses what is no pattern before anything is opened or made.
pub(crate) fn check_pattern(text: &str) -> Result<()> {
    Pattern::parse(text).map(|_| ()).map_err(|error| Failure::of(Code::Usage, &error))
}

/// The patterns in a file: one a line, without blanks around it, comments and empty lines left out.
fn patterns(file: &Path) -> Result<Vec<String>> {
    let attempt = format!("read exclude file {}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| Failure::io(attempt, &error))?;
    let lines = text.lines().map(str::trim);
    Ok(lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

/// The paths in a file, each ended by a NUL byte, absolute; every one must lie in the entity.
fn listed(app: &App, file: &Path, entity: &EntityName) -> Result<Vec<Vec<u8>>> {
    let attempt = format!("read file list {}", file.display());
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes))
    }
    .map_err(|error| Failure::io(&attempt, &error))?;
    let root = stored_path(entity);
    let mut only = Vec::new();
    for name in bytes.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let path = app.absolute(Path::new(OsStr::from_bytes(name)));
        if !is_within(&path, &root) {
            let path = safe(&path);
            return Err(Failure::usage(format!("{attempt}: `{path}` is not in {entity}")));
        }
        only.push(path);
    }
    if only.is_empty() {
        return Err(Failure::usage(format!("{attempt}: it lists nothing")));
    }
    Ok(only)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclude_file_may_have_comments_and_empty_lines() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x");
        std::fs::write(&file, "# why\n\n  *.o  \n!keep.o\n").unwrap();
        assert_eq!(patterns(&file).unwrap(), ["*.o", "!keep.o"]);
        assert_eq!(patterns(&directory.path().join("y")).unwrap_err().code, Code::NotFound);
    }
}
