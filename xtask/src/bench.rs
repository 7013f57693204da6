//! The benchmark: us and the tools that people have, on the same data, in the same run.
//!
//! Data sets are made by a seeded rule and known by their digest. In every round each tool runs
//! once, in an order that turns; the first round is discarded. What is measured is kept row by row
//! as JSON, and `docs/benchmarks.md` is made from that. Start at [`row::ROWS`], then
//! [`contest::Contest`].

mod base;
mod chance;
mod content;
mod contest;
mod counts;
mod delay;
mod image;
pub(crate) mod kernels;
mod machine;
mod manifest;
pub(crate) mod meter;
mod million;
mod place;
mod report;
mod roofline;
mod rounds;
mod row;
mod rule;
mod served;
mod set;
mod skeleton;
mod statistics;
mod tool;
mod tree;

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use contest::{Arena, Contest};
use machine::Machine;
use place::Place;
use roofline::Kernels;
use rounds::{Heading, Rounds};
use row::{Contestant, ROWS, Row};
use set::{Facts, Kind, Scale, Set};
use tool::{Tool, Tools};

#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    measure: Measure,
}

#[derive(clap::Subcommand)]
enum Other {
    /// Make docs/benchmarks.md of the rounds that are committed
    Report,
    /// Count the instructions of every stage on small data, by valgrind
    Counts {
        /// Where data sets and repositories lie; else below the user's cache folder
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
struct Measure {
    /// List the rows and run none
    #[arg(long)]
    list: bool,
    /// Small data sets, one round, nothing kept: shows that everything runs
    #[arg(long)]
    smoke: bool,
    /// How many rounds, with the first, which is discarded; else as many as the row says
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Where data sets and repositories lie, on a disk; else below the user's cache folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Run only these tools, separated by commas, and keep no figures
    #[arg(long, value_name = "TOOLS", value_delimiter = ',')]
    tools: Vec<String>,
    /// Which rows; all of them without a name
    rows: Vec<String>,
}

/// Where the rounds are kept, from the root of the checkout.
const ROUNDS: &str = "testbench/bench/rounds";

/// Runs rows and keeps what was measured, or makes the report of it.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    match &arguments.other {
        Some(Other::Report) => report::write(root),
        Some(Other::Counts { data }) => {
            let place = place(root, data.as_deref(), Scale::Smoke)?;
            // The build that people run, on the data that a slow processor can do.
            let (tools, xtask) = tools(root, &place, Scale::Full)?;
            counts::run(root, &arena(root, &place, &tools, &xtask, false)?)
        }
        None if arguments.measure.list => {
            for row in ROWS {
                println!("{:24} {} ({})", row.name, row.about, row.set.name());
            }
            Ok(())
        }
        None => measure(root, &arguments.measure),
    }
}

fn measure(root: &Path, arguments: &Measure) -> Result<()> {
    let rows = chosen(&arguments.rows)?;
    let only = tools_of(&arguments.tools)?;
    let scale = if arguments.smoke { Scale::Smoke } else { Scale::Full };
    let place = place(root, arguments.data.as_deref(), scale)?;
    let (tools, xtask) = tools(root, &place, scale)?;
    let machine = Machine::this()?;
    let arena = arena(root, &place, &tools, &xtask, scale == Scale::Full)?;
    let mut ready: BTreeMap<Kind, Facts> = BTreeMap::new();
    let mut short = Vec::new();
    for row in rows {
        let set = Set::new(row.set, scale, &place.sets());
        let facts = match ready.get(&row.set) {
            Some(facts) => facts.clone(),
            None => set.ready()?,
        };
        ready.insert(row.set, facts.clone());
        let contestants = present(row, &tools, &only);
        let rounds = arguments.rounds.unwrap_or(if arena.figures { row.rounds } else { 1 });
        let heading = heading(&arena, row, &machine, &facts, &contestants)?;
        let file = if arena.figures && only.is_empty() {
            let path = root.join(ROUNDS).join(machine.slug()).join(format!("{}.json", row.name));
            Rounds::resume(path, heading)?
        } else {
            Rounds::unkept(heading)
        };
        let ended = run_row(&arena, row, &set, (contestants, rounds), file);
        // The next row needs the data set as it was, even when this one failed.
        set.undo()?;
        let left_out = ended.with_context(|| format!("row {}", row.name))?;
        if left_out > 0 {
            short.push(format!("{} ({left_out})", row.name));
        }
    }
    ensure!(short.is_empty(), "peers failed, and these rows lack runs: {}", short.join(", "));
    if !arena.figures {
        let set = Set::new(Kind::Tree, scale, &place.sets());
        set.ready()?;
        eprintln!("kernels {:?}", roofline_kernels(&xtask, &set, &place)?);
    }
    eprintln!("bench: everything ran");
    Ok(())
}

fn place(root: &Path, data: Option<&Path>, scale: Scale) -> Result<Place> {
    let data = data.map_or_else(|| default_data(root), Path::to_owned);
    Place::new(&std::path::absolute(&data)?, scale)
}

fn arena<'a>(
    root: &Path,
    place: &'a Place,
    tools: &'a Tools,
    xtask: &'a Path,
    figures: bool,
) -> Result<Arena<'a>> {
    let cores = Machine::this()?.cores;
    Ok(Arena { place, tools, xtask, cores, figures, commit: contest::commit(root) })
}

/// Runs a row from where its file ends, measures the kernels beside it, and prints its table. Returns how
/// many runs are missing because a peer failed.
fn run_row(
    arena: &Arena<'_>,
    row: &Row,
    set: &Set,
    (contestants, rounds): (Vec<Contestant>, usize),
    mut file: Rounds,
) -> Result<usize> {
    let known = file.record.clone();
    let facts = &known.heading.facts;
    let all = (0..rounds)
        .all(|round| contestants.iter().all(|contestant| known.has(round, &contestant.name())));
    if all && known.kernels.is_some() {
        eprintln!("{}: all rounds are there", row.name);
        return Ok(0);
    }
    let mut contest = Contest::new(arena, row, set, facts, contestants)?;
    let has = |round, name: &str| known.has(round, name);
    let left_out = contest.run(rounds, &has, &mut |run| file.add(run))?;
    if arena.figures {
        file.record.kernels = Some(roofline_kernels(arena.xtask, set, arena.place)?);
        file.save()?;
        println!("{}", report::section(row, &file.record));
    }
    Ok(left_out)
}

/// Has a program of our own build measure the costs of single steps.
fn roofline_kernels(xtask: &Path, set: &Set, place: &Place) -> Result<Kernels> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let words = [
        "bench-kernels".to_owned(),
        "--set".to_owned(),
        text(set.source()),
        "--tmpfs".to_owned(),
        text(&place.tmpfs()),
    ];
    let said = meter::Line::new(xtask, words).output()?;
    serde_json::from_slice(&said).context("read what the kernels cost")
}

fn heading(
    arena: &Arena<'_>,
    row: &Row,
    machine: &Machine,
    facts: &Facts,
    contestants: &[Contestant],
) -> Result<Heading> {
    let mut versions = BTreeMap::new();
    for contestant in contestants {
        let tool = contestant.tool;
        versions.insert(tool.name().to_owned(), arena.tools.version(tool)?);
    }
    Ok(Heading {
        row: row.name.to_owned(),
        machine: machine.clone(),
        data_set: row.set.name().to_owned(),
        facts: facts.clone(),
        versions,
    })
}

fn chosen(names: &[String]) -> Result<Vec<&'static Row>> {
    if names.is_empty() {
        return Ok(ROWS.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            ROWS.iter().find(|row| row.name == name).with_context(|| {
                format!("there is no row `{name}`; `cargo xtask bench --list` lists them")
            })
        })
        .collect()
}

fn tools_of(names: &[String]) -> Result<Vec<Tool>> {
    names
        .iter()
        .map(|name| {
            let found = Tool::ALL.into_iter().find(|tool| tool.name() == name);
            let all = Tool::ALL.map(Tool::name).join(", ");
            found.with_context(|| format!("there is no tool `{name}`; there are: {all}"))
        })
        .collect()
}

/// The contestants that are there and wanted; who is missing is said.
fn present(row: &Row, tools: &Tools, only: &[Tool]) -> Vec<Contestant> {
    let mut all = row.contestants();
    all.retain(|contestant| only.is_empty() || only.contains(&contestant.tool));
    all.retain(|contestant| {
        let there = tools.has(contestant.tool);
        if !there {
            eprintln!("{}: {} is not built and does not run", row.name, contestant.name());
        }
        there
    });
    all
}

/// Below the user's cache folder, else in the build folder of this checkout.
fn default_data(root: &Path) -> PathBuf {
    let set = |key| env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .map_or_else(|| root.join("target/bench"), |caches| caches.join("alidade-bench"))
}

/// Builds or finds all tools, and this program: for figures a release build of it.
fn tools(root: &Path, place: &Place, scale: Scale) -> Result<(Tools, PathBuf)> {
    eprintln!("building alidade");
    // Building this program in its own profile would replace it while it runs.
    let more: &[&str] =
        if scale == Scale::Full { &["--release", "--package", "xtask"] } else { &[] };
    let built = Command::new("cargo")
        .args(["build", "--locked", "--quiet", "--package", "alidade"])
        .args(more)
        .current_dir(root)
        .status()
        .context("start cargo")?;
    if !built.success() {
        bail!("alidade does not build");
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let profile = if scale == Scale::Full { "release" } else { "debug" };
    let names = ["restic", "kopia", "versitygw"].map(str::to_owned);
    let [restic, kopia, versitygw]: [PathBuf; 3] = crate::peers::paths(root, &names)?
        .try_into()
        .map_err(|_paths| anyhow::anyhow!("find restic, kopia and versitygw"))?;
    let skeleton = place.base("skeleton");
    skeleton::make(&skeleton)?;
    let built = target.join(profile);
    let tools = Tools {
        alidade: built.join("alidade"),
        restic,
        kopia,
        versitygw,
        rustic: crate::peers::rustic(root)?,
        skeleton,
    };
    let xtask = match scale {
        Scale::Full => built.join("xtask"),
        Scale::Smoke => env::current_exe().context("find this program")?,
    };
    Ok((tools, xtask))
}
