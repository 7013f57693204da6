//! `alidade copy`: its options, and what it prints.

use std::ffi::OsString;
use std::path::PathBuf;

use alidade_model::Traffic;
use alidade_protect::{Engine, Moved, StoredSnapshot, TrafficDoc, TransferOptions};
use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::open::Need;
use crate::outcome::{Row, traffic_text};
use crate::size::{counted, human};
use crate::text::safe_line;
use crate::verb::writing::Writing;

/// Copies snapshots into another repository, whose key and store may be others.
///
/// Nothing is read from the entities again and nothing is cut again; what the other repository has already
/// is not copied, and a copy that was interrupted goes on. The other repository must be there: `init` makes it.
#[derive(Debug, Args)]
pub struct Copy {
    /// Which snapshots: an id, or an entity for its newest; all of them when none is named
    pub snapshots: Vec<OsString>,
    /// The other repository, as `--repository`; else ALIDADE_TO_REPOSITORY
    #[arg(long, value_name = "PLACE")]
    pub to: Option<OsString>,
    /// Read the other repository's password from this file; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "to_password_command")]
    pub to_password_file: Option<PathBuf>,
    /// Read the other repository's password from the output of this command
    #[arg(long, value_name = "COMMAND")]
    pub to_password_command: Option<String>,
    /// Say what would be copied, and copy nothing
    #[arg(long)]
    pub plan: bool,
    /// How to store
    #[command(flatten)]
    pub writing: Writing,
}

#[derive(Serialize)]
struct Head {
    from: String,
    to: String,
    plan: bool,
}

#[derive(Serialize)]
struct Item {
    entity: String,
    host: String,
    snapshot: String,
    /// `copied`, `present`, `failed`, or, in a plan, `missing`.
    status: &'static str,
    to_snapshot: Option<String>,
    /// Of what was copied: pieces of files that were missing, and their bytes before compression.
    blobs: u64,
    bytes: u64,
    error: Option<String>,
}

#[derive(Serialize)]
struct Tail {
    copied: u64,
    present: u64,
    failed: u64,
    missing: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_from: Option<TrafficDoc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_to: Option<TrafficDoc>,
    exit_code: u8,
}

/// What was counted while it ran.
#[derive(Default)]
struct Counts {
    copied: u64,
    present: u64,
    failed: u64,
    missing: u64,
}

impl Copy {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let to = app.other_place(self.to.as_ref())?;
        let mut opened = app.open(Need::Read)?;
        let source = app
            .other_source(self.to_password_command.as_deref(), self.to_password_file.as_deref())?;
        let other = app.open_other(&to, source)?;
        let chosen = self.chosen(app, &opened.engine)?;
        let title = format!(
            "{} into {}",
            if self.plan { "plan to copy" } else { "copied" },
            safe_line(&to.to_string())
        );
        let head = Head { from: opened.place.to_string(), to: to.to_string(), plan: self.plan };
        let mut list = match app.out.is_json() {
            true => Some(app.out.begin(&head, "snapshots")?),
            false => None,
        };
        let mut counts = Counts::default();
        opened.ticker.begin("copy", 0, 0);
        let mut told: Result<()> = Ok(());
        let done = self.each(&opened.engine, &other, &chosen, &mut |stored, moved| {
            let item = item(stored, moved);
            counts.count(item.status);
            if told.is_ok() {
                told = opened.ticker.aside(|| match &mut list {
                    Some(list) => list.item(&item),
                    None => app.out.line(&line(&item)),
                });
            }
        });
        opened.ticker.stop();
        told?;
        let done = done.map_err(|error| app.explain(&error));
        let code = counts.code();
        let traffic = |engine: &Engine| engine.repository().store().traffic();
        let (from, to) = (traffic(&opened.engine), traffic(&other));
        if let Some(list) = list {
            list.end(done.map(|()| counts.tail(from, to, code)))?;
        } else {
            done?;
            app.sheet(&title, &counts.rows(from.as_ref(), to.as_ref()))?;
        }
        self.conclude(app, code);
        Ok(code)
    }

    /// Copies, or, in a plan, looks.
    fn each(
        &self,
        from: &Engine,
        to: &Engine,
        chosen: &[StoredSnapshot],
        each: &mut dyn FnMut(&StoredSnapshot, Option<&Moved>),
    ) -> alidade_protect::Result<()> {
        if self.plan {
            return from.transfer_plan(to, chosen, each);
        }
        let options = TransferOptions {
            compression: self.writing.compression(),
            pack_size: self.writing.pack_bytes(),
            self_check: !self.writing.no_self_check,
        };
        from.transfer(to, chosen, &options, &mut |stored, moved| each(stored, Some(moved)))
    }

    /// The snapshots that were named, the oldest first.
    fn chosen(&self, app: &App, engine: &Engine) -> Result<Vec<StoredSnapshot>> {
        if self.snapshots.is_empty() {
            let host = app.host()?;
            let listing = engine.snapshots().map_err(|error| app.explain(&error))?;
            if let Some((file, why)) = listing.damaged.first() {
                let what = format!("the snapshot {file} does not read: {why}");
                return Err(Failure::new(Code::Damaged, what)
                    .hint("name those that are to be copied, or repair the repository first"));
            }
            let mut all = listing.snapshots;
            all.retain(|stored| {
                stored.origin.is_state() && host.as_ref().is_none_or(|host| stored.host == *host)
            });
            return Ok(all);
        }
        let mut chosen = Vec::new();
        for text in &self.snapshots {
            let found = app.find(engine, text)?;
            if found.below.is_some() {
                let what = format!("{} is only a part of a snapshot", text.to_string_lossy());
                return Err(
                    Failure::usage(what).hint("a snapshot is copied whole: name it by its id")
                );
            }
            chosen.push(found.stored);
        }
        chosen.sort_by_key(|stored| (stored.time, stored.file));
        chosen.dedup_by_key(|stored| stored.file);
        Ok(chosen)
    }

    fn conclude(&self, app: &App, code: Code) {
        if code != Code::Done {
            let failure = Failure::new(code, "not all snapshots could be copied");
            app.out.failure(&failure.hint(app.check_hint()));
        }
    }
}

impl Counts {
    fn count(&mut self, status: &str) {
        let counter = match status {
            "copied" => &mut self.copied,
            "present" => &mut self.present,
            "missing" => &mut self.missing,
            _ => &mut self.failed,
        };
        *counter += 1;
    }

    fn code(&self) -> Code {
        if self.failed > 0 { Code::Damaged } else { Code::Done }
    }

    fn tail(&self, from: Option<Traffic>, to: Option<Traffic>, code: Code) -> Tail {
        Tail {
            copied: self.copied,
            present: self.present,
            failed: self.failed,
            missing: self.missing,
            traffic_from: from.map(TrafficDoc),
            traffic_to: to.map(TrafficDoc),
            exit_code: code.number(),
        }
    }

    fn rows(&self, from: Option<&Traffic>, to: Option<&Traffic>) -> Vec<Row> {
        let snapshots = |count: u64| counted(count, "snapshot", "snapshots");
        let mut rows: Vec<Row> = vec![("there before", snapshots(self.present))];
        match self.missing {
            0 => rows.insert(0, ("copied", snapshots(self.copied))),
            missing => rows.insert(0, ("to be copied", snapshots(missing))),
        }
        if self.failed > 0 {
            rows.push(("failed", snapshots(self.failed)));
        }
        rows.extend(from.map(|traffic| ("requests from", traffic_text(traffic))));
        rows.extend(to.map(|traffic| ("requests to", traffic_text(traffic))));
        rows
    }
}

fn item(stored: &StoredSnapshot, moved: Option<&Moved>) -> Item {
    let mut item = Item {
        entity: stored.entity.to_string(),
        host: stored.host.to_string(),
        snapshot: stored.file.to_string(),
        status: "missing",
        to_snapshot: None,
        blobs: 0,
        bytes: 0,
        error: None,
    };
    match moved {
        None => {}
        Some(Moved::Copied { file, took }) => {
            item.status = "copied";
            item.to_snapshot = Some(file.to_string());
            (item.blobs, item.bytes) = (took.blobs, took.bytes);
        }
        Some(Moved::Present { file }) => {
            item.status = "present";
            item.to_snapshot = Some(file.to_string());
        }
        Some(Moved::Failed { error }) => {
            item.status = "failed";
            item.error = Some(crate::failure::chain(error));
        }
    }
    item
}

fn line(item: &Item) -> String {
    let short = |id: &str| id.get(..8).unwrap_or(id).to_owned();
    let (from, what) = (short(&item.snapshot), safe_line(&item.entity));
    match (&item.to_snapshot, &item.error) {
        (Some(to), _) if item.status == "copied" => {
            let blobs = counted(item.blobs, "piece", "pieces");
            format!("copied {from} of {what} as {}: {blobs}, {} new", short(to), human(item.bytes))
        }
        (Some(to), _) => format!("present {from} of {what} as {}", short(to)),
        (None, Some(error)) => format!("failed {from} of {what}: {}", safe_line(error)),
        (None, None) => format!("missing {from} of {what}"),
    }
}
