//! A cluster for a test, and what is left of it afterwards.
//!
//! Every wait has a limit, and a failure says what the cluster was doing.

#![allow(dead_code, reason = "each test uses what it needs")]
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]
#![allow(clippy::disallowed_methods, reason = "a test measures real time")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a verb may take that builds nothing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);

/// What a command has done.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) said: String,
    pub(crate) errors: String,
    pub(crate) took: Duration,
}

impl Ended {
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert!(self.status.success(), "{}\n{}{}", self.status, self.said, self.errors);
        self.said
    }

    /// What it said about its failure.
    #[track_caller]
    pub(crate) fn bad(self) -> String {
        assert!(!self.status.success(), "it should have failed: {}", self.said);
        self.errors
    }
}

/// Runs a command, for so long at most.
#[track_caller]
pub(crate) fn ended(command: &mut Command, input: &str, within: Duration) -> Ended {
    let begun = Instant::now();
    let words = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feed = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let said = collect(child.stdout.take().unwrap());
    let errors = collect(child.stderr.take().unwrap());
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > within {
            child.kill().unwrap();
            child.wait().unwrap();
            let (said, errors) = (said.join().unwrap(), errors.join().unwrap());
            panic!("not within {within:?}: {words}\n{said}{errors}");
        }
        thread::sleep(Duration::from_millis(20));
    };
    feed.join().unwrap();
    let (said, errors) = (said.join().unwrap(), errors.join().unwrap());
    Ended { status, said, errors, took: begun.elapsed() }
}

fn collect(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The tasks of the workshop.
pub(crate) fn xtask() -> Command {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
}

/// Builds what clusters are made of, so that no test waits for that.
pub(crate) fn build() {
    let mut command = xtask();
    command.args(["peers", "kubernetes", "coredns"]);
    ended(&mut command, "", Duration::from_secs(40 * 60)).good();
}

/// A cluster, which is ended with the test.
pub(crate) struct Cluster {
    name: String,
    /// What `up` took.
    pub(crate) took: Duration,
}

impl Cluster {
    /// Makes a cluster; what an earlier test of this name has left goes first.
    #[track_caller]
    pub(crate) fn up(name: &str, nodes: usize) -> Self {
        build();
        let mut cluster = Self::none(name);
        cluster.run(&["down"]).good();
        let up = cluster.run(&["up", "--nodes", &nodes.to_string()]);
        eprint!("{}", up.errors);
        cluster.took = up.took;
        up.good();
        cluster
    }

    /// A cluster that is not there yet.
    pub(crate) fn none(name: &str) -> Self {
        Self { name: name.to_owned(), took: Duration::ZERO }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A verb of `cargo xtask cluster`.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = xtask();
        command.args(["cluster", "--name", &self.name]).args(words);
        command
    }

    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> Ended {
        ended(&mut self.command(words), "", PATIENCE)
    }

    /// What the cluster says of itself.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.run(&["status", "--json"]).said).unwrap()
    }

    /// The process of a part, on this host.
    #[track_caller]
    pub(crate) fn pid(&self, part: &str) -> u64 {
        let status = self.status();
        let parts = status["parts"].as_array().unwrap();
        let found = parts.iter().find(|line| line["part"] == part);
        found.unwrap_or_else(|| panic!("no part {part}: {status:#}"))["pid"].as_u64().unwrap()
    }

    /// The number of its network: 10.N.0.0/16.
    #[track_caller]
    pub(crate) fn number(&self) -> String {
        let status = self.status();
        status["host"].as_str().unwrap().split('.').nth(1).unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn kubectl(&self, words: &[&str]) -> String {
        let all = [&["kubectl"], words].concat();
        let ended = self.run(&all);
        if !ended.status.success() {
            self.explain();
        }
        ended.good()
    }

    /// Makes objects of a document.
    #[track_caller]
    pub(crate) fn apply(&self, document: &Value) {
        let mut command = self.command(&["kubectl", "apply", "--filename=-"]);
        ended(&mut command, &document.to_string(), PATIENCE).good();
    }

    /// Asks until it is so; the last answer is in the failure.
    #[track_caller]
    pub(crate) fn until(
        &self,
        what: &str,
        within: Duration,
        mut ask: impl FnMut() -> Result<(), String>,
    ) {
        let begun = Instant::now();
        loop {
            let Err(why) = ask() else { return };
            if begun.elapsed() > within {
                self.explain();
                panic!("{what}: not within {within:?}: {why}");
            }
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until a pod is Ready.
    #[track_caller]
    pub(crate) fn pod_ready(&self, name: &str) {
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        self.until(&format!("the pod {name}"), Duration::from_secs(60), || {
            let ended = self.run(&["kubectl", "get", "pod", name, "--output", path]);
            if ended.said == "True" { Ok(()) } else { Err(ended.said + &ended.errors) }
        });
    }

    /// Runs a line of shell in a pod.
    #[track_caller]
    pub(crate) fn inside(&self, pod: &str, line: &str) -> Ended {
        self.run(&["kubectl", "exec", pod, "--", "sh", "-c", line])
    }

    /// Prints what one needs to understand a failure.
    pub(crate) fn explain(&self) {
        for words in [
            &["status"][..],
            &["kubectl", "--request-timeout=5s", "get", "pods,nodes", "-A", "-o", "wide"],
            &["kubectl", "--request-timeout=5s", "get", "events", "-A"],
        ] {
            let ended = self.run(words);
            eprintln!("--- {}\n{}{}", words.join(" "), ended.said, ended.errors);
        }
        for part in ["apiserver", "node1-kubelet", "node1-containerd"] {
            let log = self.run(&["logs", part]).said;
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(15)..];
            eprintln!("--- the end of the log of {part}\n{}", last.join("\n"));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let ended = self.command(&["down"]).output();
        if let Ok(ended) = ended
            && !ended.status.success()
        {
            eprintln!("down: {}", String::from_utf8_lossy(&ended.stderr));
        }
    }
}

/// A pod that runs a line of shell on busybox.
pub(crate) fn pod(name: &str, node: Option<&str>, line: &str) -> Value {
    let mut pod = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main",
                "image": "alidade.test/busybox:bench",
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", line],
            }],
        },
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = node.into();
    }
    pod
}

/// A command that runs beside the test.
pub(crate) struct Beside(pub(crate) Child);

impl Drop for Beside {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What a cluster has on this host while it is up.
pub(crate) struct Traces {
    /// The number of its network: 10.N.0.0/16.
    number: String,
    link: String,
    folder: PathBuf,
    /// Each process with the moment it was started.
    processes: BTreeSet<(u64, String)>,
    networks: BTreeSet<PathBuf>,
}

impl Traces {
    /// What the cluster has now.
    #[track_caller]
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let status = cluster.status();
        let folder = PathBuf::from(status["folder"].as_str().unwrap());
        let number = cluster.number();
        let link = status["link"].as_str().unwrap().to_owned();
        let mark = format!("{}/", group(&link));
        let mut processes = BTreeSet::new();
        let mut networks = BTreeSet::new();
        for pid in pids() {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            if groups.contains(&mark)
                && let Some(started) = started(pid)
            {
                processes.insert((pid, started));
                networks.extend(fs::read_link(format!("/proc/{pid}/ns/net")));
            }
        }
        assert!(processes.len() > 8, "a cluster has more processes: {processes:?}");
        assert!(Path::new("/sys/class/net").join(&link).exists());
        Self { number, link, folder, processes, networks }
    }

    /// That nothing of it is left.
    #[track_caller]
    pub(crate) fn gone(&self) {
        let begun = Instant::now();
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            // The kernel takes networks down after the last process is gone.
            assert!(begun.elapsed() < Duration::from_secs(5), "left behind: {left:#?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (pid, start) in &self.processes {
            if started(*pid).as_ref() == Some(start) {
                let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                left.push(format!("process {pid} {words}"));
            }
        }
        for pid in pids() {
            let network = fs::read_link(format!("/proc/{pid}/ns/net"));
            if network.is_ok_and(|network| self.networks.contains(&network)) {
                left.push(format!("process {pid} in its network"));
            }
        }
        let folder = self.folder.display().to_string();
        for file in ["/proc/self/mountinfo", "/proc/swaps"] {
            let text = fs::read_to_string(file).unwrap_or_default();
            left.extend(text.lines().filter(|line| line.contains(&folder)).map(str::to_owned));
        }
        let links = Command::new("ip").args(["route", "show", "table", "all"]).output().unwrap();
        let routes = String::from_utf8(links.stdout).unwrap();
        let ours = format!("10.{}.", self.number);
        left.extend(routes.lines().filter(|line| line.contains(&ours)).map(str::to_owned));
        left.extend(self.files());
        left
    }

    fn files(&self) -> Vec<String> {
        let link = Path::new("/sys/class/net").join(&self.link);
        let lock = self.folder.with_file_name(format!(
            ".{}.lock",
            self.folder.file_name().unwrap().to_string_lossy()
        ));
        let mut paths = vec![link, lock, self.folder.clone()];
        groups(Path::new("/sys/fs/cgroup"), &group(&self.link), &mut paths);
        let mut left: Vec<String> = paths
            .into_iter()
            .filter(|path| path.exists())
            .map(|path| path.display().to_string())
            .collect();
        let folder = self.folder.display().to_string();
        for device in fs::read_dir("/sys/block").unwrap().flatten() {
            let file = fs::read_to_string(device.path().join("loop/backing_file"));
            left.extend(file.into_iter().filter(|file| file.contains(&folder)));
        }
        left
    }
}

/// What a cluster that was never Ready has on this host, if it has come so far as to be recorded.
pub(crate) fn half_made(folder: &Path) -> Option<Traces> {
    let record = fs::read(folder.join("cluster.json")).ok()?;
    let record: Value = serde_json::from_slice(&record).unwrap();
    Some(Traces {
        number: record["network"]["number"].to_string(),
        link: record["link"].as_str().unwrap().to_owned(),
        folder: folder.to_owned(),
        processes: BTreeSet::new(),
        networks: BTreeSet::new(),
    })
}

/// The control group of the cluster with this link.
fn group(link: &str) -> String {
    link.replace("alidade", "alidade-")
}

/// Folders of this name below another.
fn groups(folder: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name() == name {
                found.push(entry.path());
            } else {
                groups(&entry.path(), name, found);
            }
        }
    }
}

/// What this host has that clusters of any name could change: it is the same before and after.
pub(crate) fn host() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for folder in [
        "/etc/cni",
        "/etc/containerd",
        "/var/lib/cni",
        "/var/lib/kubelet",
        "/var/lib/containerd",
        "/var/log/pods",
        "/var/log/containers",
        "/run/containerd",
        "/run/netns",
        "/root/.kube",
        "/opt/cni",
    ] {
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        all.extend(names.map(|entry| entry.path().display().to_string()));
        all.extend(Path::new(folder).exists().then(|| folder.to_owned()));
    }
    for setting in [
        "net/ipv4/ip_forward",
        "net/netfilter/nf_conntrack_max",
        "vm/overcommit_memory",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/hostname",
    ] {
        let value = fs::read_to_string(format!("/proc/sys/{setting}")).unwrap_or_default();
        all.insert(format!("{setting} {}", value.trim()));
    }
    all
}

fn pids() -> Vec<u64> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The moment a process was started, if it is there and not only waits to be collected.
fn started(pid: u64) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    (fields[0] != "Z").then(|| fields[19].to_owned())
}
