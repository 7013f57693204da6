//! The rounds of one row on one machine, as they are committed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::meter::Measured;
use super::roofline::Kernels;
use super::set::Facts;

/// What figures belong to. Rounds under another heading are figures of something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Heading {
    pub(super) row: String,
    pub(super) machine: Machine,
    pub(super) data_set: String,
    pub(super) facts: Facts,
    /// Of every tool that took part; ours with the hash of its binary.
    pub(super) versions: BTreeMap<String, String>,
}

/// One run of one tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// The first is 0 and is discarded.
    pub(super) round: usize,
    pub(super) contestant: String,
    #[serde(flatten)]
    pub(super) measured: Measured,
    /// Bytes that the repository grew by; where it is only read, bytes that it has.
    pub(super) stored_bytes: u64,
    /// How often it was run before, because too much else ran.
    pub(super) repeats: usize,
    /// How often the tool failed before.
    #[serde(default)]
    pub(super) failures: usize,
    /// True when too much else ran in the last one, too.
    pub(super) disturbed: bool,
    /// When it ended, in seconds since 1970.
    pub(super) at: String,
    /// The commit that the binary was built from.
    pub(super) commit: String,
}

/// All that is known of a row on a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten)]
    pub(super) heading: Heading,
    /// Measured in the same run as the rounds; the roofline is computed from them.
    pub(super) kernels: Option<Kernels>,
    pub(super) runs: Vec<Run>,
}

impl Record {
    /// Whether this was measured already.
    pub(super) fn has(&self, round: usize, contestant: &str) -> bool {
        self.runs.iter().any(|run| run.round == round && run.contestant == contestant)
    }
}

/// A record and the file it is kept in.
pub(super) struct Rounds {
    /// Nothing when nothing is kept.
    path: Option<PathBuf>,
    pub(super) record: Record,
}

impl Rounds {
    /// Takes up the rounds in the file where they have this heading, else begins anew.
    pub(super) fn resume(path: PathBuf, heading: Heading) -> Result<Self> {
        let record = match read(&path)? {
            Some(record) if record.heading == heading => record,
            _ => Record { heading, kernels: None, runs: Vec::new() },
        };
        Ok(Self { path: Some(path), record })
    }

    /// Rounds that are only looked at.
    pub(super) fn unkept(heading: Heading) -> Self {
        Self { path: None, record: Record { heading, kernels: None, runs: Vec::new() } }
    }

    /// Adds a run and writes the file, so that nothing is lost when the next one breaks.
    pub(super) fn add(&mut self, run: Run) -> Result<()> {
        self.record.runs.push(run);
        self.save()
    }

    pub(super) fn save(&self) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let folder = path.parent().context("find the folder of the rounds")?;
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let write = || format!("write {}", path.display());
        let new = path.with_extension("new");
        fs::write(&new, text(&self.record)?).with_context(write)?;
        fs::rename(&new, path).with_context(write)
    }
}

/// All records below a folder, by machine and row.
pub(super) fn all(folder: &Path) -> Result<Vec<Record>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut paths = super::manifest::files(folder)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let mut records = Vec::new();
    for path in paths {
        records.extend(read(&path)?);
    }
    Ok(records)
}

fn read(path: &Path) -> Result<Option<Record>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    match serde_json::from_slice(&text) {
        Ok(record) => Ok(Some(record)),
        Err(error) => bail!("{} holds no rounds: {error}", path.display()),
    }
}

/// JSON with one run a line, so that a difference shows which runs are new.
fn text(record: &Record) -> Result<String> {
    let bare = Record { runs: Vec::new(), ..record.clone() };
    let head = serde_json::to_string_pretty(&bare)?;
    let runs: Vec<String> = record
        .runs
        .iter()
        .map(|run| Ok(format!("    {}", serde_json::to_string(run)?)))
        .collect::<Result<_>>()?;
    if runs.is_empty() {
        return Ok(head + "\n");
    }
    let filled = format!("\"runs\": [\n{}\n  ]", runs.join(",\n"));
    Ok(head.replace("\"runs\": []", &filled) + "\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::bench) fn heading() -> Heading {
        Heading {
            row: "backup-tree".to_owned(),
            machine: Machine::sample(),
            data_set: "tree".to_owned(),
            facts: Facts { digest: "d1".into(), files: 2, bytes: 4_000_000_000, unique_bytes: 3 },
            versions: BTreeMap::from([
                ("alidade".to_owned(), "alidade 1, binary 0a".to_owned()),
                ("restic".to_owned(), "restic 0.18.1".to_owned()),
            ]),
        }
    }

    pub(in crate::bench) fn run(round: usize, contestant: &str, seconds: u64) -> Run {
        Run {
            round,
            contestant: contestant.to_owned(),
            measured: Measured {
                exit: Some(0),
                wall_us: seconds * 1_000_000,
                user_us: seconds * 1_500_000,
                sys_us: seconds * 250_000,
                max_rss_kib: 100 << 10,
                foreign_us: 0,
            },
            stored_bytes: 1_700_000_000,
            repeats: 0,
            failures: 0,
            disturbed: false,
            at: "1795219200.0".to_owned(),
            commit: "abc".to_owned(),
        }
    }

    #[test]
    fn a_broken_row_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine/backup-tree.json");
        let mut rounds = Rounds::resume(path.clone(), heading()).unwrap();
        rounds.add(run(0, "alidade", 9)).unwrap();
        rounds.add(run(0, "restic", 20)).unwrap();
        let again = Rounds::resume(path.clone(), heading()).unwrap();
        assert_eq!(again.record, rounds.record);
        assert!(
            again.record.has(0, "restic")
                && !again.record.has(1, "alidade")
                && !again.record.has(0, "kopia")
        );
        assert_eq!(all(folder.path()).unwrap(), vec![rounds.record]);
    }

    #[test]
    fn figures_of_another_program_data_set_or_machine_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup-tree.json");
        Rounds::resume(path.clone(), heading()).unwrap().add(run(0, "alidade", 9)).unwrap();
        let changes: [fn(&mut Heading); 3] = [
            |heading| heading.facts.digest = "d2".to_owned(),
            |heading| heading.machine.cores += 1,
            |heading| {
                heading.versions.insert("alidade".to_owned(), "alidade 1, binary 0b".to_owned());
            },
        ];
        for change in changes {
            let mut other = heading();
            change(&mut other);
            assert!(!Rounds::resume(path.clone(), other).unwrap().record.has(0, "alidade"));
        }
    }

    #[test]
    fn a_file_that_holds_no_rounds_is_named_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup-tree.json");
        fs::write(&path, "{").unwrap();
        let error = Rounds::resume(path.clone(), heading()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("backup-tree.json holds no rounds"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"{");
    }

    #[test]
    fn every_run_is_one_line() {
        let record = Record { heading: heading(), kernels: None, runs: vec![run(0, "a", 1); 3] };
        let text = text(&record).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains("wall_us")).count(), 3);
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
