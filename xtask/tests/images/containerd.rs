//! A containerd of a test's own: its root, its state, its socket, its processes and its mounts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long anything may take: a disk that others write to takes long to unpack an image.
const PATIENCE: Duration = Duration::from_secs(300);

/// The containerd; what it runs ends with it.
pub(crate) struct Containerd {
    folder: tempfile::TempDir,
    process: Child,
    /// The namespace of its containers, and the beginning of the names of their control groups.
    name: String,
}

impl Containerd {
    pub(crate) fn start() -> Self {
        let folder =
            tempfile::Builder::new().prefix("alidade-images-").tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = '{}'\nstate = '{}'\n[grpc]\naddress = '{}'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n",
            at("root"),
            at("state"),
            at("socket"),
        );
        // A key of the top level, which must stand before any table.
        let (table, disabled) = config.split_at(config.find("disabled_plugins").unwrap());
        let (version, rest) = table.split_once('\n').unwrap();
        fs::write(at("config.toml"), format!("{version}\n{disabled}{rest}")).unwrap();
        let log = fs::File::create(at("log")).unwrap();
        // Ends with this thread, and everything below with it: processes and mounts are in
        // namespaces of their own. Sockets of containers are in a folder that nobody can choose.
        let script = "mkdir -p /run/containerd && mount -t tmpfs none /run/containerd && \
                      exec containerd --config \"$1\"";
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"])
            .args(["--kill-child", "--mount-proc", "sh", "-c", script, "sh"])
            .arg(at("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let name = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        let containerd = Self { folder, process, name };
        let started = Instant::now();
        while !containerd.ctr(&["version"]).status.success() {
            assert!(started.elapsed() < PATIENCE, "{}", containerd.log());
            sleep(Duration::from_millis(100));
        }
        containerd
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    pub(crate) fn ctr(&self, words: &[&str]) -> Output {
        Command::new("timeout")
            .arg(PATIENCE.as_secs().to_string())
            .arg("ctr")
            .arg("--address")
            .arg(self.at("socket"))
            .args(["--namespace", &self.name])
            .args(words)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What `ctr` says; it must end well.
    #[track_caller]
    pub(crate) fn must(&self, words: &[&str]) -> String {
        said(words, &self.ctr(words))
    }

    #[track_caller]
    pub(crate) fn import(&self, archive: &Path) {
        self.must(&["images", "import", archive.to_str().unwrap()]);
    }

    /// Runs a command in a new container of an image, and gives what it says.
    #[track_caller]
    pub(crate) fn run(&self, image: &str, command: &[&str]) -> String {
        let out = self.container(&["--rm", "--fifo-dir", &self.fifos()], image, "once", command);
        said(command, &out)
    }

    /// Runs a container that ends badly, and gives what it says about that.
    #[track_caller]
    pub(crate) fn refused(&self, image: &str) -> String {
        let out = self.container(&["--rm", "--fifo-dir", &self.fifos()], image, "once", &[]);
        assert!(!out.status.success(), "{image} should have ended badly");
        String::from_utf8_lossy(&out.stderr).into_owned()
    }

    /// Starts a container that stays.
    #[track_caller]
    pub(crate) fn stay(&self, image: &str, id: &str, environment: &[&str], command: &[&str]) {
        let log = format!("file://{}", self.at(id).display());
        let mut options = vec!["--detach", "--log-uri", &log];
        for pair in environment {
            options.extend(["--env", pair]);
        }
        said(command, &self.container(&options, image, id, command));
    }

    fn container(&self, options: &[&str], image: &str, id: &str, command: &[&str]) -> Output {
        let runc = self.at("runc");
        let cgroup = format!("/{}-{id}", self.name);
        let mut words = vec!["run", "--runc-root", runc.to_str().unwrap(), "--cgroup", &cgroup];
        words.extend(options);
        words.extend([image, id]);
        words.extend(command);
        self.ctr(&words)
    }

    fn fifos(&self) -> String {
        let folder = self.at("fifos");
        fs::create_dir_all(&folder).unwrap();
        folder.display().to_string()
    }

    /// Runs a command in a container that stays, until it ends well.
    #[track_caller]
    pub(crate) fn until(&self, id: &str, command: &[&str]) -> String {
        let started = Instant::now();
        let fifos = self.fifos();
        let mut words = vec!["task", "exec", "--fifo-dir", &fifos, "--exec-id", "until", id];
        words.extend(command);
        loop {
            let runs = self.must(&["task", "ls"]).lines().any(|line| line.ends_with("RUNNING"));
            let log = || fs::read_to_string(self.at(id)).unwrap_or_default();
            assert!(runs, "{id} has ended: {}", log());
            let out = self.ctr(&words);
            if out.status.success() {
                return said(command, &out);
            }
            let errors = String::from_utf8_lossy(&out.stderr);
            assert!(started.elapsed() < PATIENCE, "{command:?}: {errors}\n{}", log());
            sleep(Duration::from_millis(250));
        }
    }
}

/// What a command said on stdout; it must have ended well.
#[track_caller]
pub(crate) fn said(words: &[&str], out: &Output) -> String {
    let errors = String::from_utf8_lossy(&out.stderr);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{words:?} ended with {}: {text}{errors}", out.status);
    text
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        // What a killed runtime leaves in the hierarchies is empty now, or soon.
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let Ok(groups) = fs::read_dir(hierarchy.path()) else { continue };
            for group in groups.flatten() {
                if group.file_name().to_string_lossy().starts_with(&self.name) {
                    remove(&group.path());
                }
            }
        }
    }
}

fn remove(group: &Path) {
    for _ in 0..50 {
        if fs::remove_dir(group).is_ok() {
            return;
        }
        sleep(Duration::from_millis(100));
    }
}
