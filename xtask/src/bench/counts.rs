//! Instructions by stage, as valgrind counts them: they show what got slower on a machine that is
//! too noisy for seconds.
//!
//! valgrind's processor has neither AVX-512 nor the SHA instructions, so that the kernels run as
//! their portable twins. The numbers say how much work there is around them, not how fast they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::contest::Arena;
use super::meter::Line;
use super::place::{self, Medium};
use super::set::{Kind, Scale, Set};
use super::tool::{Action, Care, Class, Key, Tool};

/// Where the counts are kept, from the root of the checkout.
pub(super) const COUNTS: &str = "testbench/bench/counts.json";

/// Instructions of one action on one data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) action: String,
    pub(super) data_set: String,
    /// SHA-256 of the data set's manifest.
    pub(super) digest: String,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// By stage.
    pub(super) instructions: BTreeMap<String, u64>,
}

/// Stages, and what the names of their functions hold. The first that fits counts.
const STAGES: &[(&str, &[&str])] = &[
    ("hash", &["sha256", "sha2::", "Sha256"]),
    ("cut", &["gear", "chunker", "Chunker"]),
    ("compress", &["ZSTD_", "HUF_", "FSE_", "HIST_", "ZSTDMT", "zstd"]),
    ("seal and open", &["aes", "ctr::", "poly1305", "Poly", "envelope", "crypto"]),
    ("copy", &["memcpy", "memmove", "memset", "memcmp", "bcmp"]),
    ("allocate", &["malloc", "free", "calloc", "realloc", "_int_", "sysmalloc", "mmap", "brk"]),
];

/// What no stage claims.
const REST: &str = "the rest";

/// Counts the instructions of every action, on small data sets.
pub(super) fn run(root: &Path, arena: &Arena<'_>) -> Result<()> {
    let mut counts = Vec::new();
    for kind in [Kind::Tree, Kind::Image] {
        counts.extend(of_set(arena, kind)?);
    }
    let path = root.join(COUNTS);
    place::make(path.parent().context("find the folder of the counts")?)?;
    fs::write(&path, serde_json::to_string_pretty(&counts)? + "\n")
        .with_context(|| format!("write {}", path.display()))?;
    eprintln!("wrote {COUNTS}; `cargo xtask bench report` puts it into the report");
    Ok(())
}

fn of_set(arena: &Arena<'_>, kind: Kind) -> Result<Vec<Count>> {
    let set = Set::new(kind, Scale::Smoke, &arena.place.sets());
    let facts = set.ready()?;
    let stage = arena.place.clear(Medium::Tmpfs)?;
    arena.tools.create(Tool::Alidade, &stage, Class::Default, Key::Bench)?;
    let backup = Action::Backup(Class::Default);
    let mut counts = Vec::new();
    for (name, action) in [
        ("backup", backup),
        ("backup, unchanged", backup),
        ("check", Action::Check),
        ("restore", Action::Restore(Care::Plain)),
    ] {
        eprintln!("counting {name} of {}", kind.name());
        let line = arena.tools.line(Tool::Alidade, action, &stage, set.source())?;
        let line = line.context("alidade does everything")?;
        let out = arena.place.output();
        place::remove(&out)?;
        counted(line, &out)?;
        let text = fs::read_to_string(&out).with_context(|| format!("read {}", out.display()))?;
        let instructions = stages(&text);
        ensure!(!instructions.is_empty(), "valgrind counted nothing in {}", out.display());
        counts.push(Count {
            action: name.to_owned(),
            data_set: kind.name().to_owned(),
            digest: facts.digest.clone(),
            files: facts.files,
            bytes: facts.bytes,
            instructions,
        });
    }
    Ok(counts)
}

/// Runs a command under valgrind, which writes what it counted to `out`.
fn counted(line: Line, out: &Path) -> Result<()> {
    let mut words = vec![
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}", out.display()),
        "--compress-strings=no".to_owned(),
        "--compress-pos=no".to_owned(),
        "--quiet".to_owned(),
        line.program.to_string_lossy().into_owned(),
    ];
    words.extend(line.words);
    let program = "valgrind".into();
    Line { program, words, environment: line.environment }
        .output()
        .context("count by valgrind; as root: apt-get install valgrind")?;
    Ok(())
}

/// Adds up what functions took themselves, by stage.
fn stages(text: &str) -> BTreeMap<String, u64> {
    let mut stages = BTreeMap::new();
    let mut stage = REST;
    // The line after `calls=` is what the call took in all: it is counted where it is spent.
    let mut is_call = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            stage = stage_of(name);
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|c: char| c.is_ascii_digit()) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok());
            if !is_call {
                *stages.entry(stage.to_owned()).or_insert(0) += cost.unwrap_or(0);
            }
            is_call = false;
        }
    }
    stages
}

fn stage_of(function: &str) -> &'static str {
    let fits = |parts: &[&str]| parts.iter().any(|part| function.contains(part));
    STAGES.iter().find(|(_, parts)| fits(parts)).map_or(REST, |(stage, _)| stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_function_took_itself_counts_for_its_stage() {
        let text = "version: 1\nevents: Ir\n\nfl=a.rs\nfn=alidade_kernels::sha256::block\n10 300\n\
                    11 4\ncfn=memcpy\ncalls=2 0\n12 1000\n13 1\n\nfn=memcpy\n0 1000\n\
                    fn=alidade_protect::walk\n5 7\ntotals: 1312\n";
        let found = stages(text);
        assert_eq!(found["hash"], 305);
        assert_eq!(found["copy"], 1_000);
        assert_eq!(found[REST], 7);
        assert_eq!(found.values().sum::<u64>(), 1_312);
    }

    #[test]
    fn functions_are_known_by_their_names() {
        for (name, stage) in [
            ("<sha2::Sha256VarCore as digest::Update>::update", "hash"),
            ("ZSTD_compressBlock_fast", "compress"),
            ("alidade_repository::chunker::Chunker::next_cut", "cut"),
            ("poly1305::backend::soft", "seal and open"),
            ("__memcpy_avx_unaligned_erms", "copy"),
            ("_int_malloc", "allocate"),
            ("alidade_protect::copy::run", REST),
        ] {
            assert_eq!(stage_of(name), stage, "{name}");
        }
    }
}
