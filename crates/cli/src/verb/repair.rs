//! `alidade repair`: its options, and what it prints.

use alidade_repository::{FileId, IndexRepair, PackRepair, RepairedSnapshot, SnapshotRepair};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::app::App;
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::open::{Need, Opened};
use crate::outcome::Row;
use crate::size::counted;
use crate::text::{safe, safe_line};

/// Saves what can be saved of a damaged repository.
///
/// In this order: `index`, then `packs`, then `snapshots`; each with `--plan` first, which changes nothing. A copy of
/// the repository made before costs nothing but room.
#[derive(Debug, Args)]
pub struct Repair {
    /// What to repair
    #[command(subcommand)]
    pub what: What,
}

/// What to repair.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Make the index again of what is whole of it and of the packs themselves
    Index {
        /// Read what every pack says of itself, and believe no index file that says otherwise
        #[arg(long)]
        read_all_packs: bool,
        /// Say what would be done, and do nothing
        #[arg(long)]
        plan: bool,
    },
    /// Store what is whole of damaged packs again, and remove these packs
    Packs {
        /// Which packs; those in which a check of all data finds damage when none is named
        #[arg(value_name = "ID")]
        packs: Vec<FileId>,
        /// Say what would be done, and do nothing
        #[arg(long)]
        plan: bool,
    },
    /// Write snapshots that need what is lost again without it
    Snapshots {
        /// Remove the snapshots that are not whole afterwards
        #[arg(long)]
        forget: bool,
        /// Say what would be done, and do nothing
        #[arg(long)]
        plan: bool,
    },
}

#[derive(Serialize)]
struct IndexDoc {
    plan: bool,
    repository: String,
    index_files_removed: Vec<String>,
    packs_missing: Vec<String>,
    packs_found: Vec<String>,
    packs_unreadable: Vec<UnreadableDoc>,
    exit_code: u8,
}

#[derive(Serialize)]
struct UnreadableDoc {
    id: String,
    why: String,
}

#[derive(Serialize)]
struct PacksDoc {
    plan: bool,
    repository: String,
    packs: Vec<PackDoc>,
    exit_code: u8,
}

#[derive(Serialize)]
struct PackDoc {
    id: String,
    saved: u64,
    elsewhere: u64,
    lost: Vec<UnreadableDoc>,
}

#[derive(Serialize)]
struct SnapshotsDoc {
    plan: bool,
    repository: String,
    snapshots: Vec<SnapshotDoc>,
    unreadable: Vec<UnreadableDoc>,
    forgotten: bool,
    exit_code: u8,
}

#[derive(Serialize)]
struct SnapshotDoc {
    snapshot: String,
    /// The one without what is lost; null in a plan, and when nothing is left.
    repaired: Option<String>,
    lost: u64,
    /// The first hundred of them.
    paths: Vec<String>,
}

impl Repair {
    pub(crate) fn only_reads(&self) -> bool {
        match &self.what {
            What::Index { plan, .. } | What::Packs { plan, .. } | What::Snapshots { plan, .. } => {
                *plan
            }
        }
    }

    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let need = if self.only_reads() { Need::Read } else { Need::Write { create: false } };
        let mut opened = app.open(need)?;
        opened.ticker.begin("repair", 0, 0);
        match &self.what {
            What::Index { read_all_packs, plan } => {
                let done = opened.engine.repair_index(*read_all_packs, *plan);
                opened.ticker.stop();
                index(app, &opened, *plan, &done.map_err(|error| app.explain(&error))?)
            }
            What::Packs { packs: ids, plan } => {
                let done = opened.engine.repair_packs(ids, *plan);
                opened.ticker.stop();
                packs(app, &opened, *plan, &done.map_err(|error| app.explain(&error))?)
            }
            What::Snapshots { forget, plan } => {
                let done = opened.engine.repair_snapshots(*forget, *plan);
                opened.ticker.stop();
                let (found, repaired) = done.map_err(|error| app.explain(&error))?;
                snapshots(app, &opened, (*plan, *forget), &found, &repaired)
            }
        }
    }
}

fn index(app: &App, opened: &Opened, plan: bool, done: &IndexRepair) -> Result<Code> {
    let is_lost = !done.missing.is_empty() || !done.unreadable.is_empty();
    let code = if is_lost { Code::Damaged } else { Code::Done };
    let ids = |ids: &[FileId]| ids.iter().map(ToString::to_string).collect();
    if app.out.is_json() {
        app.out.document(&IndexDoc {
            plan,
            repository: opened.place.to_string(),
            index_files_removed: ids(&done.remove),
            packs_missing: ids(&done.missing),
            packs_found: ids(&done.found),
            packs_unreadable: done.unreadable.iter().map(unreadable).collect(),
            exit_code: code.number(),
        })?;
    } else {
        for id in &done.missing {
            app.out.line(&format!("missing: pack {id}"))?;
        }
        for (id, why) in &done.unreadable {
            app.out.line(&format!("unreadable: pack {id}: {}", safe_line(why)))?;
        }
        let packs = |count: usize| counted(count as u64, "pack", "packs");
        let files = counted(done.remove.len() as u64, "index file", "index files");
        let rows: Vec<Row> = vec![
            (if plan { "to be made again" } else { "made again" }, files),
            ("named now", packs(done.found.len())),
            ("missing", packs(done.missing.len())),
            ("unreadable", packs(done.unreadable.len())),
        ];
        app.sheet(&title("the index", plan), &rows)?;
    }
    conclude(
        app,
        code,
        "some packs are missing or not readable",
        &[b"repair", b"snapshots", b"--plan"],
    )
}

fn packs(app: &App, opened: &Opened, plan: bool, done: &PackRepair) -> Result<Code> {
    let lost: usize = done.packs.iter().map(|pack| pack.lost.len()).sum();
    let code = if lost > 0 { Code::Damaged } else { Code::Done };
    if app.out.is_json() {
        let packs = done.packs.iter().map(|pack| PackDoc {
            id: pack.pack.to_string(),
            saved: pack.whole.len() as u64,
            elsewhere: pack.elsewhere,
            lost: pack.lost.iter().map(|(_, id, why)| unreadable(&(*id, why.clone()))).collect(),
        });
        app.out.document(&PacksDoc {
            plan,
            repository: opened.place.to_string(),
            packs: packs.collect(),
            exit_code: code.number(),
        })?;
    } else {
        for pack in &done.packs {
            for (_, id, why) in &pack.lost {
                let why = safe_line(why);
                app.out.line(&format!("lost: blob {id} in pack {}: {why}", pack.pack))?;
            }
        }
        let blobs = |count: usize| counted(count as u64, "blob", "blobs");
        let saved = done.packs.iter().map(|pack| pack.whole.len()).sum();
        let rows: Vec<Row> = vec![
            ("damaged", counted(done.packs.len() as u64, "pack", "packs")),
            (if plan { "can be saved" } else { "saved" }, blobs(saved)),
            ("lost", blobs(lost)),
        ];
        app.sheet(&title("packs", plan), &rows)?;
    }
    conclude(app, code, "some blobs are lost", &[b"repair", b"snapshots", b"--plan"])
}

fn snapshots(
    app: &App,
    opened: &Opened,
    (plan, forget): (bool, bool),
    found: &SnapshotRepair,
    repaired: &[RepairedSnapshot],
) -> Result<Code> {
    let code = if found.is_empty() { Code::Done } else { Code::Damaged };
    let to = |from: &FileId| {
        let done = repaired.iter().find(|done| done.from == *from);
        done.and_then(|done| done.to).map(|to| to.to_string())
    };
    if app.out.is_json() {
        let snapshots = found.snapshots.iter().map(|(file, _, touched)| SnapshotDoc {
            snapshot: file.to_string(),
            repaired: to(file),
            lost: touched.count,
            paths: touched.named.iter().map(|path| alidade_model::encode_object(path)).collect(),
        });
        app.out.document(&SnapshotsDoc {
            plan,
            repository: opened.place.to_string(),
            snapshots: snapshots.collect(),
            unreadable: found.unreadable.iter().map(unreadable).collect(),
            forgotten: forget && !plan,
            exit_code: code.number(),
        })?;
    } else {
        for (file, _, touched) in &found.snapshots {
            let (snapshot, parts) = (alidade_protect::short(file), touched.count);
            for path in &touched.named {
                app.out.line(&format!("lost: {} in snapshot {snapshot}", safe(path)))?;
            }
            let parts = counted(parts, "file or directory", "files and directories");
            let written = to(file).map_or_else(String::new, |to| {
                format!("; written again without them as {}", to.get(..8).unwrap_or(&to))
            });
            app.out.line(&format!("snapshot {snapshot}: {parts} not whole{written}"))?;
        }
        for (file, why) in &found.unreadable {
            app.out.line(&format!("snapshot {file} does not read: {}", safe_line(why)))?;
        }
        let all = |count: usize| counted(count as u64, "snapshot", "snapshots");
        let rows: Vec<Row> = vec![
            ("not whole", all(found.snapshots.len())),
            ("unreadable", all(found.unreadable.len())),
            (if forget && !plan { "forgotten" } else { "kept" }, all(found.snapshots.len())),
        ];
        app.sheet(&title("snapshots", plan), &rows)?;
    }
    conclude(app, code, "some snapshots are not whole", &[b"check", b"--read-data"])
}

fn unreadable(found: &(impl ToString, String)) -> UnreadableDoc {
    UnreadableDoc { id: found.0.to_string(), why: found.1.clone() }
}

fn title(what: &str, plan: bool) -> String {
    if plan { format!("plan to repair {what}") } else { format!("repaired {what}") }
}

/// Damage that was found stays damage, whatever could be saved of it: it is told.
fn conclude(app: &App, code: Code, message: &str, next: &[&[u8]]) -> Result<Code> {
    if code != Code::Done {
        let hint = format!("next: `{}`", app.command(next));
        app.out.failure(&Failure::new(code, message).hint(hint));
    }
    Ok(code)
}
