//! The real binary with a home of its own, a source, and the repository it makes there.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use alidade_testkit::tree::Listing;
use rustix::process::{Pid, Signal, kill_process};

use crate::scene::{noise, restic};

/// Exit codes that these tests meet.
pub(crate) const DONE: i32 = 0;
pub(crate) const FAILED: i32 = 1;
pub(crate) const LOCKED: i32 = 11;

/// A home directory in which the program runs, with a source in it.
pub(crate) struct Program {
    home: tempfile::TempDir,
    data: Option<PathBuf>,
    targets: Cell<u32>,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Panics unless it ended with that code; a failure says why and what to do.
    #[track_caller]
    pub(crate) fn ends_with(self, code: i32, what: &str) -> Self {
        assert_eq!(self.code, Some(code), "{what}: {self:#?}");
        let has = |word: &str| self.err.lines().any(|line| line.starts_with(word));
        assert_eq!(has("error: "), code != DONE, "{what}: {self:#?}");
        assert_eq!(has("hint: "), code != DONE, "{what}: {self:#?}");
        self
    }
}

impl Program {
    pub(crate) fn new() -> Self {
        crate::scratch_in_memory();
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("source")).unwrap();
        Self { home, data: None, targets: Cell::new(0) }
    }

    /// With its data directory, and so its repository and catalog, below `data`.
    pub(crate) fn with_data(data: &Path) -> Self {
        Self { data: Some(data.to_owned()), ..Self::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.path("source")
    }

    pub(crate) fn repository(&self) -> PathBuf {
        let data = self.data.clone().unwrap_or_else(|| self.path(".local/share"));
        data.join("alidade/repository")
    }

    /// A file of the source that does not compress.
    pub(crate) fn put_noise(&self, name: &str, seed: u64, len: usize) {
        fs::write(self.source().join(name), noise(seed, len)).unwrap();
    }

    /// The program with these arguments, in nobody's environment but its own.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.wrapped(&[], arguments)
    }

    /// The same run by another program.
    pub(crate) fn wrapped(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_alidade");
        let mut words = wrapper.iter().copied().chain([program]).chain(arguments.iter().copied());
        let mut command = Command::new(words.next().expect("the program at least"));
        command.args(words).env_clear().env("HOME", self.home.path());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").stdin(Stdio::null());
        if let Some(data) = &self.data {
            command.env("XDG_DATA_HOME", data);
        }
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        Ran {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The arguments with which the source is protected here: packs as small as they may be.
    pub(crate) fn protecting(&self) -> [String; 4] {
        let source = self.source().display().to_string();
        ["protect".to_owned(), source, "--pack-size".to_owned(), "4".to_owned()]
    }

    pub(crate) fn protect(&self) -> Ran {
        self.run(&self.protecting().each_ref().map(String::as_str))
    }

    /// Starts to protect, and does not wait.
    pub(crate) fn start_protecting(&self) -> Child {
        let mut command = self.command(&self.protecting().each_ref().map(String::as_str));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A run that was stopped when it had stored some packs.
    pub(crate) fn stopped_in_a_run(&self) -> (Child, Pid) {
        let packs = self.files("data").len();
        let run = self.start_protecting();
        while self.files("data").len() < packs + 2 {
            std::thread::yield_now();
        }
        let pid = Pid::from_child(&run);
        kill_process(pid, Signal::STOP).unwrap();
        assert!(stands_still(run.id()), "it was not stopped in time");
        (run, pid)
    }

    /// The ids of all snapshots of the source.
    pub(crate) fn snapshots(&self) -> BTreeSet<String> {
        let listed = self.run(&["snapshots", "--json"]).ends_with(DONE, "list the snapshots");
        let listed: serde_json::Value = serde_json::from_str(&listed.out).unwrap();
        assert_eq!(listed["damaged"].as_array().map(Vec::len), Some(0), "{listed}");
        let snapshots = listed["snapshots"].as_array().unwrap().iter();
        let ours = snapshots.filter(|snapshot| snapshot["origin"] == "ours");
        ours.map(|snapshot| snapshot["snapshot"].as_str().unwrap().to_owned()).collect()
    }

    /// Restores a snapshot and compares.
    pub(crate) fn restores(&self, snapshot: &str, expected: &Listing, what: &str) {
        self.targets.set(self.targets.get() + 1);
        let target = self.path(&format!("target-{}", self.targets.get()));
        let arguments = ["restore", snapshot, "--target", target.to_str().unwrap()];
        self.run(&arguments).ends_with(DONE, &format!("{what}: restore {snapshot}"));
        let back = target.join(self.source().strip_prefix("/").unwrap());
        expected.assert_equals(&Listing::of(&back), &format!("{what}: snapshot {snapshot}"));
        fs::remove_dir_all(&target).unwrap();
    }

    /// Our check finds no damage in the repository as it is.
    pub(crate) fn passes_check(&self, what: &str) {
        self.run(&["check"]).ends_with(DONE, &format!("{what}: check"));
    }

    /// Every byte reads back.
    pub(crate) fn reads_back(&self, what: &str) {
        self.run(&["check", "--read-data"]).ends_with(DONE, &format!("{what}: check all data"));
    }

    /// Stock restic on the repository; the key is the password.
    pub(crate) fn restic(&self, arguments: &[&str]) -> String {
        restic(&self.repository(), &self.key(), arguments)
    }

    /// Stock restic's check on a copy, after its unlock: the repository itself keeps its locks.
    pub(crate) fn passes_check_of_restic(&self) {
        // Beside it: on the same file system.
        let copy = self.repository().with_extension("copy");
        let mut link = Command::new("cp");
        let linked = link.arg("-al").arg(self.repository()).arg(&copy).status().unwrap();
        assert!(linked.success(), "copy the repository: {linked}");
        restic(&copy, &self.key(), &["unlock"]);
        restic(&copy, &self.key(), &["check"]);
        fs::remove_dir_all(&copy).unwrap();
    }

    fn key(&self) -> String {
        fs::read_to_string(self.path(".config/alidade/key")).unwrap().trim().to_owned()
    }

    /// The names of all files of one kind, by the name of their directory.
    pub(crate) fn files(&self, kind: &str) -> BTreeSet<(PathBuf, u64)> {
        let mut all = BTreeSet::new();
        let mut rest = vec![self.repository().join(kind)];
        while let Some(directory) = rest.pop() {
            // A directory that is not there yet has no files.
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries {
                let entry = entry.unwrap();
                match entry.metadata() {
                    Ok(meta) if meta.is_dir() => rest.push(entry.path()),
                    Ok(meta) => {
                        all.insert((entry.path(), meta.len()));
                    }
                    // It was renamed meanwhile.
                    Err(_) => {}
                }
            }
        }
        all
    }

    /// Everything in the repository but locks.
    pub(crate) fn all_files(&self) -> BTreeSet<(PathBuf, u64)> {
        let kinds = ["keys", "data", "index", "snapshots"];
        kinds.iter().flat_map(|kind| self.files(kind)).collect()
    }

    /// No lock is left in the repository, and nothing else beside the locks.
    pub(crate) fn has_no_locks(&self, what: &str) {
        self.has_no_locks_but(&[], what);
    }

    /// No lock is left, but the file of one that a run of `killed` had not given its name yet: that is no
    /// lock, and goes with the first sweep half an hour later.
    pub(crate) fn has_no_locks_but(&self, killed: &[u32], what: &str) {
        let mut left = self.files("locks");
        left.retain(|(path, _)| !killed.iter().any(|pid| is_unnamed(path, *pid)));
        assert_eq!(left, BTreeSet::new(), "{what}: locks");
    }
}

/// True for a file that the process with that id had not given its name yet.
pub(crate) fn is_unnamed(path: &Path, pid: u32) -> bool {
    let name = path.file_name().expect("a file").to_string_lossy();
    name.split_once("-tmp-").is_some_and(|(_, rest)| rest.starts_with(&format!("{pid}-")))
}

/// True when the process is stopped; waits until the system has stopped it.
fn stands_still(pid: u32) -> bool {
    let stat = format!("/proc/{pid}/stat");
    for _ in 0..200 {
        let line = fs::read_to_string(&stat).unwrap();
        let state = line.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        match state {
            Some('T') => return true,
            Some('Z') | None => return false,
            Some(_) => sleep(Duration::from_millis(5)),
        }
    }
    false
}
