//! Repositories on another machine than this one: what every kind of such a place must be able to do.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use alidade_testkit::tree::Listing;
use serde_json::Value;

use crate::bucket::noise;
use crate::world::{Run, World};

pub(crate) const PASSWORD: &str = "secret";

/// A world whose repository is somewhere else.
pub(crate) struct Away {
    pub(crate) world: World,
    pub(crate) place: String,
    /// Options that every command has, ours and restic's.
    pub(crate) options: Vec<String>,
    pub(crate) restic_options: Vec<String>,
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Away {
    pub(crate) fn at(place: String) -> Self {
        let (options, restic_options, variables) = Default::default();
        Self { world: World::new(), place, options, restic_options, variables }
    }

    /// A source of some packs.
    pub(crate) fn with_noise(self, files: u64) -> Self {
        for seed in 0..files {
            self.world.write(&format!("src/noise-{seed}"), &noise(seed));
        }
        self
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let options = self.options.iter().map(String::as_str);
        let all: Vec<&str> = arguments.iter().copied().chain(options).collect();
        let mut command = self.world.command(&all);
        command.env("ALIDADE_REPOSITORY", &self.place).env("ALIDADE_PASSWORD", PASSWORD);
        command.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        World::of(self.command(arguments).output().unwrap())
    }

    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, Some(0), "{arguments:?}: {run}");
        run.out
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let run = self.run(&[arguments, &["-o", "json"]].concat());
        assert!(matches!(run.code, Some(0 | 3)), "{arguments:?}: {run}");
        serde_json::from_str(&run.out).unwrap()
    }

    /// Restores the source and compares.
    pub(crate) fn comes_back(&self, target: &str) {
        self.ok(&["restore", "src", "--target", target, "-q"]);
        let source = self.world.path("src");
        let back = self.world.path(target).join(source.strip_prefix("/").unwrap());
        Listing::of(&source).assert_equals(&Listing::of(&back), target);
    }

    pub(crate) fn restic(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(alidade_testkit::peer("restic"));
        command
            .args(["--no-cache", "-r", &self.place])
            .args(&self.restic_options)
            .args(arguments)
            .env_clear()
            .env("HOME", self.world.path("home"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("RESTIC_PASSWORD", PASSWORD)
            .envs(self.variables.iter().map(|(name, value)| (*name, value)));
        let run = World::of(command.output().unwrap());
        assert_eq!(run.code, Some(0), "restic {arguments:?}: {run}");
        run.out
    }

    /// All that one does with a repository, beginning where there is none, and stock restic on the same.
    pub(crate) fn is_as_good_as_a_directory(&self) {
        let none = self.run(&["snapshots"]);
        assert_eq!(none.code, Some(10), "{none}");
        self.ok(&["init"]);
        let again = self.run(&["init"]);
        assert_eq!(again.code, Some(21), "{again}");
        let first = self.json(&["protect", "src", "--pack-size", "4"]);
        assert_eq!(first["status"], "done");
        assert_eq!(self.json(&["protect", "src"])["bytes"]["read"], 0);
        self.comes_back("out");
        self.ok(&["check", "--read-data"]);
        let mut wrong = self.command(&["snapshots"]);
        let wrong = World::of(wrong.env("ALIDADE_PASSWORD", "wrong").output().unwrap());
        assert_eq!(wrong.code, Some(12), "{wrong}");
        self.goes_on_with_restic();
        let left = self.json(&["snapshots"]);
        let left = left["snapshots"].as_array().unwrap().len();
        assert_eq!(left, 3, "{left} snapshots");
    }

    /// Stock restic reads what is there, adds to it, and that is read here.
    fn goes_on_with_restic(&self) {
        self.restic(&["check", "--read-data"]);
        let source = self.world.path("src");
        let target = self.world.path("by-restic");
        self.restic(&["restore", "latest", "--target", target.to_str().unwrap()]);
        let back = target.join(source.strip_prefix("/").unwrap());
        assert_eq!(fs::read(back.join("noise-3")).unwrap(), noise(3));
        self.world.write("src/noise-new", &noise(99));
        self.restic(&["backup", source.to_str().unwrap()]);
        self.comes_back("of-restic");
        self.ok(&["check", "--read-data", "--no-cache"]);
    }
}

/// Files below a directory of this machine that have a name of 64 digits, and all others.
pub(crate) fn files(directory: PathBuf) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut named, mut odd, mut open) = (Vec::new(), Vec::new(), vec![directory]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            match (path.is_dir(), name.len() == 64 || name == "config") {
                (true, _) => open.push(path),
                (false, true) => named.push(path),
                (false, false) => odd.push(path),
            }
        }
    }
    (named, odd)
}
