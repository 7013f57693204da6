//! `alidade check`: its options, and what it prints.

use alidade_protect::{CheckOutcome, OutcomeDoc};
use alidade_repository::Finding;
use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::open::{Need, Opened};
use crate::outcome::{Row, code_of, traffic_text};
use crate::size::{counted, grouped, human};
use crate::text::safe_line;

/// Looks for damage in the repository: its structure, its references, and, where asked, all data.
#[derive(Debug, Args)]
pub struct Check {
    /// Read and verify every byte of every pack
    #[arg(long)]
    pub read_data: bool,
}

#[derive(Serialize)]
struct Head {
    read_data: bool,
    repository: String,
}

#[derive(Serialize)]
struct Item<'a> {
    class: &'static str,
    damage: bool,
    what: &'a str,
    why: &'a str,
}

#[derive(Serialize)]
struct Tail {
    summary: SummaryDoc,
    outcome: OutcomeDoc,
    exit_code: u8,
}

#[derive(Serialize)]
struct SummaryDoc {
    index_files: u64,
    snapshots: u64,
    packs: u64,
    pack_bytes: u64,
    blobs: u64,
    trees: u64,
    nodes: u64,
    packs_read: u64,
    blobs_read: u64,
    bytes_read: u64,
    damage: u64,
    hints: u64,
}

impl Check {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let mut opened = app.open(Need::Read)?;
        let repository = opened.engine.repository().id().to_string();
        if app.out.is_json() {
            let head = Head { read_data: self.read_data, repository };
            let mut list = app.out.begin(&head, "findings")?;
            let checked = self.check(app, &mut opened, |finding| {
                list.item(&Item {
                    class: finding.class.word(),
                    damage: finding.class.is_damage(),
                    what: &finding.what,
                    why: &finding.why,
                })
            });
            let tail = checked.as_ref().map(tail).map_err(Clone::clone);
            list.end(tail)?;
            return Ok(app.conclude(&checked?.outcome));
        }
        let checked = self.check(app, &mut opened, |finding| {
            let word = if finding.class.is_damage() { "damage" } else { "untidy" };
            app.out.line(&format!("{word}: {}", safe_line(&finding.to_string())))
        })?;
        let rows = self.rows(&checked);
        app.sheet(&format!("checked repository {repository}"), &rows)?;
        app.out.finish()?;
        Ok(app.conclude(&checked.outcome))
    }

    /// Checks, and tells every finding when it is found.
    fn check(
        &self,
        app: &App,
        opened: &mut Opened,
        mut tell: impl FnMut(&Finding) -> Result<()>,
    ) -> Result<CheckOutcome> {
        opened.ticker.begin("check", 0, 0);
        let mut failed: Option<Failure> = None;
        let checked = opened.engine.check(self.read_data, &mut |finding| {
            if failed.is_none() {
                let told = opened.ticker.aside(|| tell(finding).and_then(|()| app.out.finish()));
                failed = told.err();
            }
        });
        opened.ticker.stop();
        match failed {
            Some(failure) => Err(failure),
            None => checked.map_err(|error| app.explain(&error)),
        }
    }

    fn rows(&self, checked: &CheckOutcome) -> Vec<Row> {
        let summary = &checked.summary;
        let mut rows: Vec<Row> = vec![
            ("status", checked.outcome.status.word().to_owned()),
            ("snapshots", grouped(summary.snapshots)),
            ("index files", grouped(summary.index_files)),
            ("packs", format!("{}, {}", grouped(summary.packs), human(summary.pack_bytes))),
            ("blobs", grouped(summary.blobs)),
            (
                "trees",
                format!("{} with {} entries", grouped(summary.trees), grouped(summary.nodes)),
            ),
        ];
        let read = match self.read_data {
            false => "no data, as `--read-data` was not given".to_owned(),
            true => format!(
                "{} of {}, {}",
                counted(summary.packs_read, "pack", "packs"),
                grouped(summary.packs),
                human(summary.bytes_read)
            ),
        };
        rows.push(("read", read));
        if self.read_data {
            rows.push(("verified", counted(summary.blobs_read, "blob", "blobs")));
        }
        rows.push(("damage", grouped(summary.damage)));
        rows.push(("untidy", grouped(summary.hints)));
        let traffic = checked.outcome.traffic.as_ref();
        rows.extend(traffic.map(|traffic| ("requests", traffic_text(traffic))));
        let (from, to) = (checked.outcome.started, checked.outcome.ended);
        rows.push(("time", crate::when::duration(from, to)));
        rows
    }
}

fn tail(checked: &CheckOutcome) -> Tail {
    let summary = &checked.summary;
    Tail {
        summary: SummaryDoc {
            index_files: summary.index_files,
            snapshots: summary.snapshots,
            packs: summary.packs,
            pack_bytes: summary.pack_bytes,
            blobs: summary.blobs,
            trees: summary.trees,
            nodes: summary.nodes,
            packs_read: summary.packs_read,
            blobs_read: summary.blobs_read,
            bytes_read: summary.bytes_read,
            damage: summary.damage,
            hints: summary.hints,
        },
        outcome: OutcomeDoc::from(&checked.outcome),
        exit_code: code_of(checked.outcome.status).number(),
    }
}
