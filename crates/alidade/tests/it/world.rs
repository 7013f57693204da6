//! A home directory, a small tree to protect, and the binary.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

/// The time of every file of the tree: 2026-01-02T03:04:05Z.
const MTIME: Duration = Duration::from_secs(1_767_323_045);

pub(crate) struct World {
    root: tempfile::TempDir,
}

/// How the binary ended, and what it said.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or("by a signal".to_owned(), |code| code.to_string());
        write!(f, "exit {code}\n--- stdout\n{}--- stderr\n{}", self.out, self.err)
    }
}

impl World {
    /// A home without a repository, and the tree `src`.
    pub(crate) fn new() -> Self {
        // One level below the root on every machine: the directories above are counted, too.
        let root = tempfile::Builder::new().prefix("alidade-").tempdir_in("/tmp").unwrap();
        let world = Self { root };
        fs::create_dir(world.path("home")).unwrap();
        let src = world.path("src");
        fs::create_dir_all(src.join("sub")).unwrap();
        world.write("src/a.txt", b"hello\n");
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
        world.write("src/sub/data.bin", &bytes);
        std::os::unix::fs::symlink("a.txt", src.join("link")).unwrap();
        for path in ["src/sub", "src"] {
            world.set_mtime(path);
        }
        world
    }

    /// The same, with one backup of `src`.
    pub(crate) fn protected() -> Self {
        let world = Self::new();
        world.ok(&["protect", "src", "-q"]);
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.path("home/.local/share/alidade/repository")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.path("home/.config/alidade/key")
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o644)).unwrap();
        self.set_mtime(name);
    }

    fn set_mtime(&self, name: &str) {
        let file = fs::File::open(self.path(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + MTIME).unwrap();
    }

    /// The binary with nothing of this test's environment in it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alidade"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path("home"))
            .env("TZ", "UTC")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            // Built to be broken on purpose, it must know how.
            .envs(std::env::var_os("ALIDADE_SABOTAGE").map(|way| ("ALIDADE_SABOTAGE", way)))
            .current_dir(self.root.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs as somebody who may be refused something: as another user where this test is root.
    pub(crate) fn run_unprivileged(&self, arguments: &[&str]) -> Run {
        const NOBODY: u32 = 65534;
        if !rustix::process::getuid().is_root() {
            return self.run(arguments);
        }
        // The build directory may lie where nobody else can look.
        let binary = self.path("alidade");
        fs::copy(env!("CARGO_BIN_EXE_alidade"), &binary).unwrap();
        for path in ["", "home", "src", "src/a.txt", "src/sub", "src/sub/data.bin"] {
            std::os::unix::fs::chown(self.path(path), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut command = Command::new(&binary);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.path("home"))
            .env("TZ", "UTC")
            .current_dir(self.root.path())
            .uid(NOBODY)
            .gid(NOBODY)
            .stdin(Stdio::null());
        Self::of(command.output().unwrap())
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Self::of(self.command(arguments).output().unwrap())
    }

    /// Runs what must succeed, and gives its standard output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, Some(0), "{arguments:?}: {run}");
        run.out
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let run = self.run(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&run.out)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {run}"))
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Pastes a command line into a shell.
    pub(crate) fn paste(&self, line: &str) -> Run {
        let mut command = Command::new("bash");
        command
            .args(["-c", line])
            .env_clear()
            .env("HOME", self.path("home"))
            .env("TZ", "UTC")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(self.root.path())
            .stdin(Stdio::null());
        Self::of(command.output().unwrap())
    }

    pub(crate) fn of(output: Output) -> Run {
        Run {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The file ids of all snapshots, the oldest first.
    pub(crate) fn snapshot_files(&self) -> Vec<String> {
        let listed = self.json(&["snapshots"]);
        let snapshots = listed["snapshots"].as_array().unwrap();
        snapshots.iter().map(|row| row["snapshot"].as_str().unwrap().to_owned()).collect()
    }

    /// Every file below a directory of the repository.
    pub(crate) fn files(&self, directory: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut open = vec![self.repository().join(directory)];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { open.push(path) } else { found.push(path) }
            }
        }
        found.sort();
        found
    }

    /// Says whether the whole text is as it was committed, with what differs from run to run masked.
    pub(crate) fn check(&self, name: &str, run: &impl fmt::Display) {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let literal = |path: &Path| regex_literal(&path.to_string_lossy());
        settings.add_filter(&literal(Path::new(env!("CARGO_BIN_EXE_alidade"))), "[BIN]");
        // As ids write it, then as paths do.
        let root = self.root.path().to_string_lossy().into_owned();
        settings.add_filter(&regex_literal(&root), "[ROOT]");
        settings.add_filter(r"\[ROOT\]/alidade\b", "[BIN]");
        settings.add_filter(r"run-\d{8}T\d{6}Z-[0-9a-f]{8}", "[RUN]");
        settings.add_filter(r"\d{8}T\d{6}Z-[0-9a-f]{8}", "[SNAPSHOT]");
        settings.add_filter(r"[0-9a-f]{64}", "[ID]");
        settings.add_filter(r"\b[0-9a-f]{8}\b", "[SHORT]");
        settings.add_filter(r"2026-01-02 03:04:05", "[MTIME]");
        settings.add_filter(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "[TIME]");
        settings.add_filter(r"\b\d+\.\d s\b", "[DURATION]");
        settings.add_filter(r"[\d.]+ (B|KiB) (added|stored)", "[SIZE] $2");
        settings.add_filter(r"(packs? .*, )[\d.]+ KiB", "$1[SIZE]");
        settings.add_filter(&format!(r"\b{}\b +", regex_literal(&host)), "[HOST]  ");
        settings.add_filter(&format!(r"\b{}\b", regex_literal(&host)), "[HOST]");
        settings.add_filter(r"(-rw-r--r--) \S+ +\S+ +", "$1 [USER] [GROUP] ");
        settings.add_filter(r"\[HOST\]  \S+ +in use", "[HOST]  [USER]  in use");
        settings.add_filter(r"(  by +)\S+,", "$1[USER],");
        settings.add_filter(r"process \d+ of `[^`]*`", "process [PID] of `[USER]`");
        settings.add_filter(r"renewed \d+ seconds? ago", "renewed [N] seconds ago");
        settings.add_filter(r"\S+@\[HOST\]\s+process \d+", "[USER]@[HOST]  process [PID]");
        // Blobs are spread over the open packs by chance.
        settings.add_filter(r"(  packs +)\d+,", "$1[N],");
        settings.add_filter(r"\d+ packs? of \d+,", "[N] packs of [N],");
        // Any program may touch the directory above meanwhile.
        settings.add_filter(r"(?m)^U /tmp\n", "");
        settings.add_filter(r"\d+ with other metadata", "[N] with other metadata");
        let _guard = settings.bind_to_scope();
        insta::assert_snapshot!(name, narrow(&run.to_string()));
    }
}

/// The text with the heads of tables narrowed: their columns are as wide as this machine's names.
fn narrow(text: &str) -> String {
    let is_head =
        |line: &str| line.len() > 4 && line.chars().take(2).all(|c| c.is_ascii_uppercase());
    let narrowed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join("  ");
    text.lines()
        .map(|line| if is_head(line) { narrowed(line) } else { line.to_owned() } + "\n")
        .collect()
}

/// A text as a regular expression that fits just it.
fn regex_literal(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_alphanumeric() { c.to_string() } else { format!("\\{c}") })
        .collect()
}

/// True when both trees have the same names, kinds, bytes, modes and times.
pub(crate) fn same_tree(a: &Path, b: &Path) -> bool {
    let listing = |root: &Path| {
        let script =
            "find . -printf '%P %y %m %T@ %l\\n' | sort; find . -type f | sort | xargs sha256sum";
        let output = Command::new("bash")
            .args([OsStr::new("-c"), OsStr::new(script)])
            .current_dir(root)
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    listing(a) == listing(b)
}
