//! `docs/benchmarks.md`, made from the rounds that are committed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::counts::{self, Count};
use super::roofline;
use super::rounds::{self, Heading, Record, Run};
use super::row::{ROWS, Row};
use super::statistics::Spread;

/// Where the report lies, from the root of the checkout.
const REPORT: &str = "docs/benchmarks.md";
/// Where the text about single rows lies: one file a row, `ROW.md`.
const NOTES: &str = "testbench/bench/notes";

const HEAD: &str = "\
# Benchmarks

This page is made by `cargo xtask bench report` from the rounds in `testbench/bench/rounds` and the notes in
`testbench/bench/notes`; the tests make it again and compare. `cargo xtask bench --list` lists the rows, and
`cargo xtask bench ROW` measures one.

## Method

- **Data** is made by a seeded rule (`xtask/src/bench`), the same bytes on every machine. A data set is known by the
  SHA-256 of its manifest, which lists hash, size and path of every file; another one is refused. `tree` is about
  160,000 files with the sizes of a developer's machine (154,149 up to 64 KiB, 183 above 1 MiB) in 26,700 directories:
  text, records, and what is compressed already, one file in sixteen a copy. `image` is one file of 4 GiB in extents of
  64 KiB to 4 MiB: 60 % noise, 20 % zeros that are written (no holes), 20 % text. The changed tree has in-place edits of
  16 bytes in files that hold 1 % of the bytes, 300 new files, 300 removed and 100 renamed; the changed image has 640
  random writes of 64 KiB at multiples of 4 KiB. `million-flat` and `million-wide` are a million files of 100 bytes in
  one directory, and a thousand in each of a thousand.
- **Rounds.** In each round every tool runs once. The order turns by one place each round, and the first round is
  discarded: seven rounds give six figures, of the rows with a million files three give two. The tables show the
  median and, in brackets, the least and the most.
- **Each run** begins with an empty repository, or a copy of one kept for this, on a tmpfs whose pages were touched
  before (the rows `ext4`: on a disk), and with an empty cache; backups of a source seen before have the cache that the
  tool left then. The source lies on a disk and is read once before each run, so that it is in memory. What waits to be
  written is written first, and the machine comes to rest.
- **The rows `s3-`** have the repository in a bucket of versitygw, on the same machine, a new bucket for each run that
  writes. Between tool and server is a line that hands on every byte of an answer 20 ms after it came: each request is
  that much later, bandwidth is not limited, connections are kept. What server and line take is not other CPU time.
- **Repositories that are read** lie on a disk and are in memory. `restic` and `rustic` read the one that alidade
  wrote, and in the lines `-own` the one that they wrote themselves.
- **Keys.** Tools that share the format begin with the same empty repository, whose key costs scrypt N=1024; kopia's
  uses PBKDF2, the cheapest that it has. What a real key costs is the row `key-derivation`.
- **What is measured**: wall time; user and system CPU and the maximum RSS as `wait4` gives them, of a process that does
  nothing else; the bytes by which the files of the repository grew, or
  which they have where they are only read. Other CPU time on the machine during a run, without
  kernel threads, is taken from `/proc/stat`: a run with more than 5 % of all cores is repeated, twice at most, and then
  marked with †.
- **What came out is looked at**: there is one snapshot more; restored files are counted with their bytes every time, and
  compared with the manifest once in a row.

Classes: the rows without `fast` use each tool's defaults. alidade compresses by zstd 3 and checks each new blob again;
restic (`auto`) and rustic (0) compress in the same class and check, too, so that these rows are like for like. kopia has
no self-check; `kopia` compresses by `zstd`, and `kopia-plain` is kopia as it is without a policy: it does not compress.
`tar-zstd` is `tar | zstd -3 -T2`: it neither deduplicates nor encrypts nor checks, and its check knows no SHA-256. The
rows `fast` are alidade `--compression fast --no-self-check`, restic `--no-scan --no-extra-verify` (it has no faster
compression in this version), rustic with compression 1, no scan and no extra verification, kopia with `zstd-fastest`, and
`zstd -1`. rustic does not check the hashes of blobs that it restores; alidade and restic do.

## Roofline

";

/// Writes the report of what is committed.
pub(super) fn write(root: &Path) -> Result<()> {
    let path = root.join(REPORT);
    fs::write(&path, of_checkout(root)?).with_context(|| format!("write {}", path.display()))?;
    eprintln!("wrote {REPORT}");
    Ok(())
}

/// The report of the rounds and notes in a checkout.
fn of_checkout(root: &Path) -> Result<String> {
    let records = rounds::all(&root.join(super::ROUNDS))?;
    let mut notes = BTreeMap::new();
    for row in ROWS {
        let path = root.join(NOTES).join(format!("{}.md", row.name));
        if path.exists() {
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            notes.insert(row.name, text);
        }
    }
    let path = root.join(counts::COUNTS);
    let counts: Vec<Count> = match fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    Ok(text(&records, &notes) + &instructions(&counts))
}

/// The table of instructions; nothing where none were counted.
fn instructions(counts: &[Count]) -> String {
    let mut out = String::new();
    let stages: BTreeSet<&str> =
        counts.iter().flat_map(|count| count.instructions.keys()).map(String::as_str).collect();
    if stages.is_empty() {
        return out;
    }
    line(&mut out, "\n## Instructions\n");
    line(
        &mut out,
        "Of alidade on the small data sets of `--smoke`, in instructions for each byte of the source (1 is 10⁹ for a\n\
         GB), as valgrind counts them (`cargo xtask bench counts`). valgrind's processor has neither AVX-512 nor the SHA instructions, so that the\n\
         kernels run as their portable twins: hashing is much dearer here than it is. What matters is how the numbers change.\n",
    );
    let cells: Vec<&str> = stages.iter().copied().collect();
    line(&mut out, format!("| what | all | {} |", cells.join(" | ")));
    line(&mut out, format!("|---|---|{}", "---|".repeat(cells.len())));
    for count in counts {
        let all: u64 = count.instructions.values().sum();
        let mut cells = vec![tenths(all, count.bytes)];
        for stage in &stages {
            let spent = count.instructions.get(*stage).copied().unwrap_or(0);
            cells.push(tenths(spent, count.bytes));
        }
        line(
            &mut out,
            format!("| {} of {} | {} |", count.action, count.data_set, cells.join(" | ")),
        );
    }
    out
}

/// The report as text.
fn text(records: &[Record], notes: &BTreeMap<&str, String>) -> String {
    let mut out = HEAD.to_owned();
    out.push_str(roofline::FORMULA);
    let mut machines: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    for record in records {
        machines.entry(record.heading.machine.slug()).or_default().push(record);
    }
    if machines.is_empty() {
        out.push_str("\nNo rounds are committed yet.\n");
    }
    for records in machines.values() {
        machine(&mut out, records);
        for row in ROWS {
            if let Some(record) = records.iter().find(|record| record.heading.row == row.name) {
                out.push_str(&section(row, record));
                if let Some(note) = notes.get(row.name) {
                    line(&mut out, format!("\n**Where the rest goes.** {}", note.trim()));
                }
            }
        }
    }
    out
}

fn line(out: &mut String, text: impl AsRef<str>) {
    out.push_str(text.as_ref());
    out.push('\n');
}

fn machine(out: &mut String, records: &[&Record]) {
    let Some(machine) = records.first().map(|record| &record.heading.machine) else { return };
    line(
        out,
        format!("\n## {}, {} cores, {} GiB\n", machine.cpu, machine.cores, machine.memory_gib),
    );
    let kernels: Vec<&str> = distinct(records.iter().map(|r| r.heading.machine.kernel.as_str()));
    line(out, format!("Linux {}.\n", kernels.join(", ")));
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut sets = BTreeMap::new();
    for record in records {
        for (tool, version) in &record.heading.versions {
            let known = versions.entry(tool).or_default();
            if !known.contains(&version.as_str()) {
                known.push(version);
            }
        }
        sets.insert(&record.heading.data_set, &record.heading.facts);
    }
    line(out, "| tool | version |\n|---|---|");
    for (tool, versions) in versions {
        line(out, format!("| {tool} | {} |", versions.join("; ")));
    }
    line(
        out,
        "\n| data set | files | bytes | of these no copies or zeros | SHA-256 of the manifest |",
    );
    line(out, "|---|---|---|---|---|");
    for (name, facts) in sets {
        let (files, bytes, unique) =
            (grouped(facts.files), grouped(facts.bytes), grouped(facts.unique_bytes));
        line(out, format!("| {name} | {files} | {bytes} | {unique} | `{}` |", facts.digest));
    }
}

fn distinct<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

/// What the counted runs of one contestant come down to.
struct Outcome {
    wall: Spread,
    cpu: Spread,
    stored: Spread,
    rss_kib: u64,
    runs: usize,
    disturbed: bool,
}

impl Outcome {
    fn of(runs: &[&Run]) -> Option<Self> {
        let measured = |of: fn(&Run) -> u64| Spread::of(runs.iter().map(|run| of(run)));
        Some(Self {
            wall: measured(|run| run.measured.wall_us)?,
            cpu: measured(|run| run.measured.user_us + run.measured.sys_us)?,
            stored: measured(|run| run.stored_bytes)?,
            rss_kib: measured(|run| run.measured.max_rss_kib)?.most,
            runs: runs.len(),
            disturbed: runs.iter().any(|run| run.disturbed),
        })
    }
}

/// What came of one row on one machine.
pub(super) fn section(row: &Row, record: &Record) -> String {
    let mut out = String::new();
    line(&mut out, format!("\n### {}\n\n{}: `{}`.", row.name, row.about, record.heading.data_set));
    let mut results = Vec::new();
    for contestant in row.contestants() {
        let name = contestant.name();
        let counted: Vec<&Run> =
            record.runs.iter().filter(|run| run.contestant == name && run.round > 0).collect();
        if let Some(result) = Outcome::of(&counted) {
            results.push((name, result));
        }
    }
    let ours = results.iter().find(|(name, _)| name == "alidade").map(|(_, result)| result.wall);
    line(
        &mut out,
        "\n| tool | wall s | CPU s | stored MB | max RSS MiB | runs | alidade is faster |\n|---|---|---|---|---|---|---|",
    );
    for (name, result) in &results {
        let ratio = match ours {
            Some(ours) if name != "alidade" => times(result.wall.median, ours.median),
            _ => String::new(),
        };
        let Outcome { wall, cpu, stored, rss_kib, runs, disturbed } = result;
        line(
            &mut out,
            format!(
                "| {name} | {} ({}–{}){} | {} | {} | {} | {runs} | {ratio} |",
                seconds(wall.median),
                seconds(wall.least),
                seconds(wall.most),
                if *disturbed { " †" } else { "" },
                seconds(cpu.median),
                tenths(stored.median, 1_000_000),
                rss_kib >> 10,
            ),
        );
    }
    for contestant in row.contestants() {
        let name = contestant.name();
        let failures: usize =
            record.runs.iter().filter(|run| run.contestant == name).map(|run| run.failures).sum();
        if failures > 0 {
            line(&mut out, format!("\n`{name}` failed in {failures} runs, which were repeated."));
        }
    }
    share(&mut out, row, record, &results);
    out
}

/// The roofline of the row, and how much of it we reach.
fn share(out: &mut String, row: &Row, record: &Record, results: &[(String, Outcome)]) {
    let Some((_, ours)) = results.iter().find(|(name, _)| name == "alidade") else { return };
    let Some(kernels) = &record.kernels else { return };
    let Heading { machine, facts, .. } = &record.heading;
    let cores = machine.cores;
    let Some(least) = roofline::least_us(row, facts, kernels, ours.stored.median, cores) else {
        return;
    };
    let percent = least * 100 / ours.wall.median.max(1);
    line(
        out,
        format!("\nRoofline: {} s, of which alidade reaches **{percent} %**.", seconds(least)),
    );
    let k = kernels;
    let mut text = String::from("Steps, ns a byte on one core:");
    for (name, ps) in [
        ("read", k.read_ps),
        ("cut", k.cut_ps),
        ("hash", k.hash_ps),
        ("zstd 3", k.zstd3_ps),
        ("zstd 1", k.zstd1_ps),
        ("decompress", k.unzstd_ps),
        ("seal", k.seal_ps),
        ("open", k.open_ps),
        ("write", k.write_ps),
    ] {
        text.push_str(&format!(" {name} {}.{:03},", ps / 1_000, ps % 1_000));
    }
    line(
        out,
        format!(
            "{text} and µs a file: visit {}, stat {}, create {}.",
            tenths(k.visit_ns, 1_000),
            tenths(k.stat_ns, 1_000),
            tenths(k.create_ns, 1_000)
        ),
    );
}

/// Seconds with two places, three below one.
fn seconds(us: u64) -> String {
    if us < 1_000_000 {
        format!("0.{:03}", us / 1_000)
    } else {
        let hundredths = (us + 5_000) / 10_000;
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

/// One number by another, with one place.
fn tenths(number: u64, by: u64) -> String {
    let tenths = (number * 10 + by / 2) / by.max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// How many times larger `theirs` is, with two places.
fn times(theirs: u64, ours: u64) -> String {
    let hundredths = (u128::from(theirs) * 100 + u128::from(ours) / 2) / u128::from(ours.max(1));
    format!("{}.{:02}×", hundredths / 100, hundredths % 100)
}

/// With commas between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::rounds::tests::{heading, run};
    use super::*;
    use crate::bench::roofline::Kernels;

    fn record() -> Record {
        let mut disturbed = run(2, "restic", 30);
        disturbed.disturbed = true;
        let runs = vec![
            run(0, "alidade", 99),
            run(0, "restic", 99),
            run(1, "alidade", 8),
            run(1, "restic", 20),
            disturbed,
            run(2, "alidade", 10),
            run(3, "alidade", 12),
            run(3, "restic", 25),
        ];
        let kernels = Kernels { read_ps: 3_000, ..Kernels::default() };
        Record { heading: heading(), kernels: Some(kernels), runs }
    }

    #[test]
    fn a_table_has_medians_spread_ratios_and_the_share_of_the_roofline() {
        let notes = BTreeMap::from([("backup-tree", "In reading.\n".to_owned())]);
        let text = text(&[record()], &notes);
        let found = &text[text.find("### backup-tree").unwrap()..];
        let expected = "\
### backup-tree

First backup into an empty repository, each tool's own defaults; those that can check themselves do: `tree`.

| tool | wall s | CPU s | stored MB | max RSS MiB | runs | alidade is faster |
|---|---|---|---|---|---|---|
| alidade | 10.00 (8.00–12.00) | 17.50 | 1700.0 | 100 | 3 |  |
| restic | 25.00 (20.00–30.00) † | 43.75 | 1700.0 | 100 | 3 | 2.50× |

Roofline: 6.00 s, of which alidade reaches **60 %**.
";
        assert!(found.starts_with(expected), "{found}");
        assert!(found.ends_with("\n**Where the rest goes.** In reading.\n"), "{found}");
        assert!(text.contains("| restic | restic 0.18.1 |"), "{text}");
        assert!(text.contains("| tree | 2 | 4,000,000,000 | 3 | `d1` |"), "{text}");
    }

    #[test]
    fn instructions_are_given_for_a_byte_of_the_source() {
        let instructions = BTreeMap::from([("cut".to_owned(), 250), ("hash".to_owned(), 1_000)]);
        let count = Count {
            action: "backup".to_owned(),
            data_set: "tree".to_owned(),
            digest: String::new(),
            files: 1,
            bytes: 100,
            instructions,
        };
        let table = "| what | all | cut | hash |\n|---|---|---|---|\n| backup of tree | 12.5 | 2.5 | 10.0 |\n";
        assert!(super::instructions(&[count]).ends_with(table));
        assert_eq!(super::instructions(&[]), "");
    }

    #[test]
    fn without_rounds_the_report_says_so() {
        assert!(text(&[], &BTreeMap::new()).ends_with("No rounds are committed yet.\n"));
    }

    #[test]
    fn the_committed_report_is_made_of_the_committed_rounds() {
        let root = crate::checkout().unwrap();
        let committed = fs::read_to_string(root.join(REPORT)).unwrap();
        assert!(committed == of_checkout(&root).unwrap(), "run: cargo xtask bench report");
    }

    #[test]
    fn numbers_are_rounded_and_never_fail() {
        assert_eq!((seconds(1_234), seconds(59_999_999)), ("0.001".into(), "60.00".into()));
        assert_eq!((tenths(149, 100), tenths(1, 0)), ("1.5".into(), "1.0".into()));
        assert_eq!((times(25, 10), times(1, 0)), ("2.50×".into(), "1.00×".into()));
        assert_eq!((grouped(0), grouped(1_234_567)), ("0".into(), "1,234,567".into()));
    }
}
