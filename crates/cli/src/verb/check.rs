//! `alidade check`: its options, and what it prints.

use std::time::Duration;

use alidade_protect::{CheckOutcome, OutcomeDoc, Part, ReadData};
use alidade_repository::{Finding, FindingClass};
use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::args::age;
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
    #[arg(long, conflicts_with = "read_data_subset")]
    pub read_data: bool,
    /// Read and verify a part of the packs: the Nth of M groups, or a share or size, those read longest ago first
    #[arg(long, value_name = "N/M|P%|SIZE", value_parser = part)]
    pub read_data_subset: Option<Part>,
    /// Read and verify the packs that this machine has not read whole and right within that time, such as `30d`
    ///
    /// Takes up a check of all data that was interrupted: `--not-read-for 1d`. With `--read-data-subset`: of that part.
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub not_read_for: Option<Duration>,
}

#[derive(Serialize)]
struct Head {
    read_data: bool,
    everything: bool,
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
    packs_chosen: u64,
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
            let (read_data, everything) = (self.reads(), self.what().is_everything());
            let head = Head { read_data, everything, repository };
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
            let word = match finding.class {
                FindingClass::Touched => "touched",
                class if class.is_damage() => "damage",
                _ => "untidy",
            };
            app.out.line(&format!("{word}: {}", safe_line(&finding.to_string())))
        })?;
        let rows = self.rows(&checked);
        app.sheet(&format!("checked repository {repository}"), &rows)?;
        app.out.finish()?;
        Ok(app.conclude(&checked.outcome))
    }

    /// True when data is read.
    fn reads(&self) -> bool {
        self.what().part != Part::Nothing
    }

    fn what(&self) -> ReadData {
        let everything = self.read_data || self.not_read_for.is_some();
        let otherwise = if everything { Part::Everything } else { Part::Nothing };
        ReadData { part: self.read_data_subset.unwrap_or(otherwise), unread_for: self.not_read_for }
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
        let checked = opened.engine.check(self.what(), &mut |finding| {
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
        let read = match self.reads() {
            false => "no data, as `--read-data` was not given".to_owned(),
            true => format!(
                "{} of {}, {}",
                counted(summary.packs_read, "pack", "packs"),
                grouped(summary.packs),
                human(summary.bytes_read)
            ),
        };
        rows.push(("read", read));
        if self.reads() {
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
            packs_chosen: summary.packs_chosen,
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

/// Reads `N/M`, `P%` or a size.
fn part(text: &str) -> std::result::Result<Part, String> {
    if let Some((number, of)) = text.split_once('/') {
        let read = |text: &str| text.parse::<u8>().ok().filter(|number| *number > 0);
        return match (read(number), read(of)) {
            (Some(number), Some(of)) if number <= of => Ok(Part::Group { number, of }),
            _ => Err("of N/M, M is at most 255, and N counts from 1 to M".to_owned()),
        };
    }
    if let Some(share) = text.strip_suffix('%') {
        return match share.parse::<f64>() {
            Ok(share) if share > 0.0 && share <= 100.0 => Ok(Part::Percent(share)),
            _ => Err("a share is more than 0 % and at most 100 %".to_owned()),
        };
    }
    crate::size::parse(text).map(Part::Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_what_is_none_is_refused() {
        for (text, expected) in [
            ("1/5", Part::Group { number: 1, of: 5 }),
            ("255/255", Part::Group { number: 255, of: 255 }),
            ("2.5%", Part::Percent(2.5)),
            ("100%", Part::Percent(100.0)),
            ("10G", Part::Bytes(10 << 30)),
        ] {
            assert_eq!(part(text), Ok(expected), "{text}");
        }
        for bad in
            ["0/5", "6/5", "1/256", "1/", "/", "0%", "101%", "-1%", "NaN%", "inf%", "%", "x", ""]
        {
            assert!(part(bad).is_err(), "{bad}");
        }
    }
}
