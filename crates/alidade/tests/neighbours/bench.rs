//! A place to work: a source, repositories, a password, and programs that see nothing else.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

use alidade_entity::{Cancel, Cx};
use alidade_repository::{Kdf, KeyOptions, LocalStore, Password, Repository};
use alidade_testkit::tree::{Kind, Listing};
use serde_json::Value;

/// A stock restic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stock {
    Current,
    Debian,
}

impl Stock {
    pub(crate) const ALL: [Self; 2] = [Self::Current, Self::Debian];

    fn binary(self) -> &'static Path {
        static CURRENT: OnceLock<PathBuf> = OnceLock::new();
        static DEBIAN: OnceLock<PathBuf> = OnceLock::new();
        match self {
            Self::Current => CURRENT.get_or_init(|| alidade_testkit::peer("restic")),
            Self::Debian => DEBIAN.get_or_init(|| alidade_testkit::peer("restic-debian")),
        }
    }
}

const PASSWORD: &str = "alidade and restic";

/// One scratch directory for one test.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    restored: std::cell::Cell<u32>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("neighbours-").tempdir().unwrap();
        for name in ["home", "tmp"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("password"), PASSWORD).unwrap();
        Self { folder, restored: std::cell::Cell::new(0) }
    }

    /// One whose repository `repo` was made by us, with a key that opens fast.
    pub(crate) fn ours() -> Self {
        let bench = Self::new();
        bench.make("repo");
        bench
    }

    /// One whose repository `repo` was made by stock restic; `more` are options of its `init`.
    pub(crate) fn theirs(stock: Stock, more: &[&str]) -> Self {
        let bench = Self::new();
        bench.stock(stock, &[&["init"], more].concat()).done();
        bench.lighten("repo");
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.path("source")
    }

    pub(crate) fn listing(&self) -> Listing {
        Listing::of(&self.source())
    }

    /// Makes a repository of that name, with a key that opens fast.
    pub(crate) fn make(&self, name: &str) {
        let cx = Cx::system(Cancel::default());
        let store = Arc::new(LocalStore::new(self.path(name)));
        Repository::init(&cx, store, &Password::new(PASSWORD), &light()).unwrap();
    }

    /// Gives a repository of stock restic a key that opens fast instead of its own.
    fn lighten(&self, name: &str) {
        let cx = Cx::system(Cancel::default());
        let store = Arc::new(LocalStore::new(self.path(name)));
        let repository = Repository::open(&cx, store, &Password::new(PASSWORD)).unwrap();
        repository.add_key(&cx, &Password::new(PASSWORD), &light()).unwrap();
        let slow = format!("{name}/keys/{}", repository.current_key());
        std::fs::remove_file(self.path(&slow)).unwrap();
    }

    fn isolated(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let home = self.path("home");
        command.env_clear().current_dir(&home).stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &home).env("TMPDIR", self.path("tmp")).env("TZ", "UTC");
        command
    }

    /// Our binary on the repository `name`.
    pub(crate) fn command_on(&self, name: &str, arguments: &[&OsStr]) -> Command {
        let mut command = self.isolated(Path::new(env!("CARGO_BIN_EXE_alidade")));
        command.arg("-r").arg(self.path(name)).arg("--password-file").arg(self.path("password"));
        command.args(arguments);
        command
    }

    /// Stock restic on the repository `name`.
    pub(crate) fn stock_command_on(
        &self,
        stock: Stock,
        name: &str,
        arguments: &[&OsStr],
    ) -> Command {
        let mut command = self.isolated(stock.binary());
        command.env("RESTIC_REPOSITORY", self.path(name));
        command.env("RESTIC_PASSWORD_FILE", self.path("password"));
        command.env("RESTIC_CACHE_DIR", self.path("restic-cache"));
        command.args(arguments);
        command
    }

    pub(crate) fn alidade(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command_on("repo", &os(arguments)))
    }

    pub(crate) fn stock(&self, stock: Stock, arguments: &[&str]) -> Ran {
        Ran::of(self.stock_command_on(stock, "repo", &os(arguments)))
    }

    /// Our backup of the source; its outcome.
    pub(crate) fn protect(&self, more: &[&str]) -> Value {
        self.try_protect(more).done().json()
    }

    pub(crate) fn try_protect(&self, more: &[&str]) -> Ran {
        let source = self.source();
        let mut arguments = os(&["-o", "json", "protect"]);
        arguments.push(source.as_os_str());
        arguments.extend(os(more));
        Ran::of(self.command_on("repo", &arguments))
    }

    /// Stock restic's backup of the source; its summary.
    pub(crate) fn backup(&self, stock: Stock, more: &[&str]) -> Value {
        let source = self.source();
        let mut arguments = os(&["backup", "--json"]);
        arguments.push(source.as_os_str());
        arguments.extend(os(more));
        Ran::of(self.stock_command_on(stock, "repo", &arguments)).done().last_json()
    }

    /// What we restore of a snapshot of the repository `name`, as it lies on the disk.
    pub(crate) fn restored_on(&self, name: &str, snapshot: &str) -> Listing {
        let target = self.target();
        let target_text = target.as_os_str();
        let arguments =
            [OsStr::new("restore"), OsStr::new(snapshot), "--target".as_ref(), target_text];
        Ran::of(self.command_on(name, &arguments)).done();
        self.look(&target)
    }

    /// What we restore of a snapshot, as it lies on the disk.
    pub(crate) fn restored(&self, snapshot: &str) -> Listing {
        self.restored_on("repo", snapshot)
    }

    /// What stock restic restores of a snapshot, as it lies on the disk.
    pub(crate) fn stock_restored(&self, stock: Stock, snapshot: &str, more: &[&str]) -> Listing {
        let target = self.target();
        let mut arguments = os(&["restore", snapshot, "--target"]);
        arguments.push(target.as_os_str());
        arguments.extend(os(more));
        Ran::of(self.stock_command_on(stock, "repo", &arguments)).done();
        self.look(&target)
    }

    fn target(&self) -> PathBuf {
        self.restored.set(self.restored.get() + 1);
        self.path(&format!("restored-{}", self.restored.get()))
    }

    /// The restored source. Nothing else may lie in the target, save our own directory in it.
    fn look(&self, target: &Path) -> Listing {
        let mut at = target.to_owned();
        for part in self.source().components().skip(1) {
            let names: Vec<OsString> =
                std::fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            let only_ours = |name: &&OsString| at != target || name.as_bytes() != b".alidade";
            let names: Vec<&OsString> = names.iter().filter(only_ours).collect();
            assert_eq!(names, [part.as_os_str()], "in {}", at.display());
            at.push(part);
        }
        let listing = Listing::of(&at);
        std::fs::remove_dir_all(target).unwrap();
        listing
    }

    /// `check --read-data` by both programs.
    pub(crate) fn check(&self, stock: Stock) {
        self.stock(stock, &["check", "--read-data"]).done();
        self.alidade(&["check", "--read-data"]).done();
    }

    /// Every snapshot that stock restic lists and that is a copy, oldest first.
    pub(crate) fn snapshots(&self, stock: Stock) -> Vec<String> {
        let listed = self.stock(stock, &["snapshots", "--json"]).done().json();
        let of_source = |snapshot: &&Value| snapshot["paths"][0].as_str() == self.source().to_str();
        let snapshots = listed.as_array().unwrap().iter().filter(of_source);
        snapshots.map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn light() -> KeyOptions {
    KeyOptions { kdf: Kdf::LIGHT, host: "bench".to_owned(), username: "bench".to_owned() }
}

pub(crate) fn os<'a>(arguments: &[&'a str]) -> Vec<&'a OsStr> {
    arguments.iter().map(|text| OsStr::new(*text)).collect()
}

/// `snapshot:/path`, the way a file of a snapshot is named.
pub(crate) fn within(snapshot: &str, path: &[u8]) -> OsString {
    OsString::from_vec([snapshot.as_bytes(), b":", path].concat())
}

/// What stock restic writes of a tree.
pub(crate) fn written(stock: Stock, listing: &Listing) -> Listing {
    let listing = listing.clone().without(Kind::Socket).without_holes();
    let listing = listing.without_links_of(Kind::Fifo);
    match stock {
        Stock::Current => listing,
        Stock::Debian => listing.without_attributes_of(Kind::Symlink),
    }
}

/// What stock restic restores of a tree, whoever wrote it: less than it writes.
pub(crate) fn kept(stock: Stock, listing: &Listing) -> Listing {
    let specials = [Kind::Symlink, Kind::CharDevice, Kind::BlockDevice];
    specials.into_iter().fold(written(stock, listing), Listing::without_links_of)
}

/// A program that ended.
pub(crate) struct Ran {
    line: String,
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(mut command: Command) -> Self {
        let ended = command.output().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
        Self {
            line: format!(
                "{:?} {:?}",
                command.get_program(),
                command.get_args().collect::<Vec<_>>()
            ),
            code: ended.status.code(),
            out: ended.stdout,
            err: String::from_utf8_lossy(&ended.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "{}\nstdout: {}\nstderr: {}",
            self.line,
            String::from_utf8_lossy(&self.out),
            self.err
        );
        self
    }

    #[track_caller]
    pub(crate) fn done(self) -> Self {
        self.ended_with(0)
    }

    #[track_caller]
    pub(crate) fn refused(&self) {
        let says_locked = self.err.contains("already locked");
        assert!(self.code != Some(0) && says_locked, "{}: {:?} {}", self.line, self.code, self.err);
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| {
            panic!("{}: {error}: {}", self.line, String::from_utf8_lossy(&self.out))
        })
    }

    /// The last of several documents, one a line.
    #[track_caller]
    pub(crate) fn last_json(&self) -> Value {
        self.lines_of_json().pop().unwrap()
    }

    #[track_caller]
    pub(crate) fn lines_of_json(&self) -> Vec<Value> {
        let lines = self.out.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }
}

/// A program that runs; it is ended when this is dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
    }

    /// Waits until it is really stopped.
    pub(crate) fn stop(&self) {
        self.signal(rustix::process::Signal::STOP);
        let stat = format!("/proc/{}/stat", self.0.id());
        until("the program stands still", || {
            let text = std::fs::read_to_string(&stat).unwrap();
            let state = text.rsplit(") ").next().unwrap();
            assert!(!state.starts_with('Z'), "the program ended before it could be stopped");
            state.starts_with('T')
        });
    }

    #[track_caller]
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _killed = self.0.kill();
        let _waited = self.0.wait();
    }
}

/// Waits up to a minute.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("a minute passed before {what}");
}
