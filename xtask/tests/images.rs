//! Images are made the same each time, whole or not at all, and containers of them do their work.
//!
//! Needs root, the Debian archive or a warm cache, and containerd.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]
#![allow(clippy::disallowed_methods, reason = "a test measures real time")]

#[path = "images/containerd.rs"]
mod containerd;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use containerd::{Containerd, said};

/// Our task, told to make images.
fn task(names: &[&str]) -> Command {
    let mut task = Command::new(env!("CARGO_BIN_EXE_xtask"));
    task.arg("image").args(names).stdin(Stdio::null());
    task
}

/// The archive of one image, from the cache that everybody uses.
#[track_caller]
fn archive(name: &str) -> PathBuf {
    PathBuf::from(said(&[name], &task(&[name]).output().unwrap()).trim())
}

/// The archives of some images, made anew in an empty cache.
#[track_caller]
fn fresh(cache: &Path, names: &[&str]) -> Vec<Vec<u8>> {
    let out = task(names).env("ALIDADE_TESTBENCH", cache).output().unwrap();
    let paths = said(names, &out);
    paths.lines().map(|path| fs::read(path).unwrap()).collect()
}

/// A folder that every user may use.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("alidade-images-").tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

/// The archives in a cache: there must be none after a build that failed.
fn kept(cache: &Path) -> Vec<String> {
    let names = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| name.starts_with("image-")).collect()
}

#[track_caller]
fn check_refused(out: &Output, problem: &str, hint: &str, cache: &Path) {
    let errors = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{errors}");
    let hinted = errors.lines().any(|line| line.starts_with("hint: ") && line.contains(hint));
    assert!(errors.contains("error: ") && errors.contains(problem) && hinted, "{errors}");
    assert_eq!(kept(cache), [""; 0]);
}

#[test]
fn pause_and_busybox_have_the_same_bytes_each_time() {
    let names = ["pause", "busybox"];
    let [one, other] = [folder(), folder()];
    let first = fresh(one.path(), &names);
    assert_eq!(first.len(), 2);
    assert!(first == fresh(other.path(), &names), "two builds differ");
    assert!(first == fresh(one.path(), &names), "the cache gives something else");
}

#[test]
fn an_image_of_packages_has_the_same_bytes_each_time() {
    let [one, other] = [folder(), folder()];
    let first = fresh(one.path(), &["redis"]);
    // What was loaded once need not be loaded again.
    symlink(one.path().join("debs"), other.path().join("debs")).unwrap();
    assert!(first == fresh(other.path(), &["redis"]), "two builds differ");
}

#[test]
fn busybox_runs_a_shell_and_answers_to_its_public_names() {
    let containerd = Containerd::start();
    containerd.import(&archive("busybox"));
    let names = containerd.must(&["images", "ls", "-q"]);
    assert!(names.contains("docker.io/library/busybox:latest"), "{names}");
    let script = "echo one | sed s/one/two/ && id -un && test -w /tmp && ls -di /proc";
    let told = containerd.run("alidade.test/busybox:bench", &["sh", "-c", script]);
    assert!(told.starts_with("two\nroot\n"), "{told}");
}

#[test]
fn pause_stays_until_it_is_told_to_end() {
    let containerd = Containerd::start();
    containerd.import(&archive("pause"));
    containerd.stay("registry.k8s.io/pause:3.10", "pause", &[], &[]);
    sleep(Duration::from_secs(1));
    let state = |wanted: &str| {
        let tasks = containerd.must(&["task", "ls"]);
        assert!(tasks.lines().any(|line| line.starts_with("pause") && line.contains(wanted)));
    };
    state("RUNNING");
    containerd.must(&["task", "kill", "--signal", "SIGTERM", "pause"]);
    sleep(Duration::from_secs(1));
    state("STOPPED");
}

#[test]
fn alidade_runs_with_what_it_needs() {
    let containerd = Containerd::start();
    containerd.import(&archive("alidade"));
    let told = containerd.run("alidade.test/alidade:bench", &["/usr/bin/alidade", "version"]);
    assert!(told.starts_with("alidade "), "{told}");
}

#[test]
fn postgres_makes_the_database_it_is_told_to_and_answers() {
    let containerd = Containerd::start();
    containerd.import(&archive("postgres"));
    let settings = ["POSTGRES_PASSWORD=se'cret", "POSTGRES_USER=anna", "POSTGRES_DB=shop"];
    containerd.stay("docker.io/library/postgres:15", "postgres", &settings, &[]);
    // The first server, which makes the database, listens on no address; its socket answers.
    containerd.until("postgres", &["sh", "-c", "grep -q ':1538 ' /proc/net/tcp"]);
    let sql = "create table t as select generate_series(1, 1000) n; select sum(n) from t;";
    let words = ["psql", "-h", "/var/run/postgresql", "-U", "anna", "-d", "shop", "-Atc", sql];
    let told = containerd.until("postgres", &words);
    assert!(told.contains("500500"), "{told}");
}

#[test]
fn postgres_without_a_password_says_what_is_missing() {
    let containerd = Containerd::start();
    containerd.import(&archive("postgres"));
    let errors = containerd.refused("alidade.test/postgres:bench");
    assert!(errors.contains("POSTGRES_PASSWORD is not set"), "{errors}");
}

#[test]
fn mariadb_makes_the_database_it_is_told_to_and_answers() {
    let containerd = Containerd::start();
    containerd.import(&archive("mariadb"));
    let settings = ["MARIADB_ROOT_PASSWORD=se'cr\\et", "MARIADB_DATABASE=sh`op"];
    containerd.stay("docker.io/library/mariadb:10.11", "mariadb", &settings, &[]);
    containerd.until("mariadb", &["sh", "-c", "grep -q ':0CEA ' /proc/net/tcp*"]);
    let client = ["mariadb", "-uroot", "-pse'cr\\et", "-N", "-D", "sh`op", "-e"];
    let sql = "create table t select seq from seq_1_to_1000; select sum(seq) from t";
    let told = containerd.until("mariadb", &[&client[..], &[sql]].concat());
    assert_eq!(told.trim(), "500500");
}

#[test]
fn redis_keeps_what_it_is_given() {
    let containerd = Containerd::start();
    containerd.import(&archive("redis"));
    let command = ["entry", "redis-server", "--unixsocket", "/tmp/socket"];
    containerd.stay("docker.io/library/redis:7", "redis", &[], &command);
    let client = ["redis-cli", "-s", "/tmp/socket"];
    containerd.until("redis", &[&client[..], &["set", "key", "value"]].concat());
    let told = containerd.until("redis", &[&client[..], &["get", "key"]].concat());
    assert_eq!(told.trim(), "value");
}

#[test]
fn tools_has_what_blueprints_call() {
    let containerd = Containerd::start();
    containerd.import(&archive("tools"));
    let script = "for tool in awk aws bash curl gosu gunzip gzip jq mysql mysqldump openssl pg_dump \
                  pg_dumpall ps psql redis-cli restic sed tar xargs zstd; do \
                  command -v $tool >/dev/null || echo no $tool; done; \
                  restic version; aws --version; test -s /etc/ssl/certs/ca-certificates.crt";
    let told = containerd.run("ghcr.io/kanisterio/kanister-tools:0.119.0", &["bash", "-c", script]);
    assert!(!told.contains("no "), "{told}");
    assert!(told.contains("restic 0.14") && told.contains("aws-cli/2"), "{told}");
}

#[test]
fn an_image_that_is_not_there_and_a_user_who_may_not_are_told_so() {
    let cache = folder();
    let out = task(&["none"]).env("ALIDADE_TESTBENCH", cache.path()).output().unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(errors.contains("there is no image `none`; there are: alidade, busybox"), "{errors}");

    // Who may read everything, so that the checkout can be anywhere, and is not root.
    let out = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"])
        .args([env!("CARGO_BIN_EXE_xtask"), "image", "redis"])
        .env("ALIDADE_TESTBENCH", cache.path())
        .output()
        .unwrap();
    check_refused(&out, "you are not root", "run it as root", cache.path());
}

#[test]
fn missing_tools_are_named() {
    let [cache, bin] = [folder(), folder()];
    let make = |name: &str| {
        task(&[name])
            .env("ALIDADE_TESTBENCH", cache.path())
            .env("PATH", bin.path())
            .output()
            .unwrap()
    };
    check_refused(&make("redis"), "`mmdebstrap`", "apt-get install mmdebstrap", cache.path());
    check_refused(&make("pause"), "`cc`", "apt-get install gcc", cache.path());
}

#[test]
fn without_a_network_the_error_says_so_and_a_warm_cache_will_do() {
    let cache = folder();
    fs::create_dir(cache.path().join("debs")).unwrap();
    let cut = |cache: Option<&Path>| {
        let mut command = Command::new("unshare");
        command.args(["--net", env!("CARGO_BIN_EXE_xtask"), "image", "redis"]);
        if let Some(cache) = cache {
            command.env("ALIDADE_TESTBENCH", cache);
        }
        command.stdin(Stdio::null()).output().unwrap()
    };
    let out = cut(Some(cache.path()));
    check_refused(&out, "mmdebstrap ended", "the Debian archive must be reachable", cache.path());
    archive("redis");
    said(&["redis"], &cut(None));
}

#[test]
fn a_full_disk_is_said_before_and_while_it_fills() {
    let cache = folder();
    let make = |size: &str, name: &str| {
        let script = "mount -t tmpfs -o size=$1 none \"$2\" && \"$3\" image \"$4\"; \
                      code=$?; ls \"$2\" | grep ^image- && exit 9; exit $code";
        Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh", size])
            .arg(cache.path())
            .args([env!("CARGO_BIN_EXE_xtask"), name])
            .env("ALIDADE_TESTBENCH", cache.path())
            .output()
            .unwrap()
    };
    check_refused(&make("100m", "redis"), "MiB left", "ALIDADE_TESTBENCH", cache.path());
}

#[test]
fn a_build_that_is_killed_leaves_no_image_no_process_and_no_mount() {
    let cache = folder();
    let mut build = task(&["redis"])
        .env("ALIDADE_TESTBENCH", cache.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let scratch = || {
        let names = fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path());
        names.into_iter().find(|path| path.join("root/var").is_dir())
    };
    let started = Instant::now();
    while scratch().is_none() {
        assert!(started.elapsed() < Duration::from_secs(60), "mmdebstrap does not begin");
        sleep(Duration::from_millis(50));
    }
    build.kill().unwrap();
    build.wait().unwrap();
    let left = scratch().unwrap();
    let started = Instant::now();
    while users(&left) > 0 {
        assert!(started.elapsed() < Duration::from_secs(10), "processes are left");
        sleep(Duration::from_millis(100));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(left.to_str().unwrap()), "{mounts}");
    assert_eq!(kept(cache.path()), [""; 0]);

    // The next build removes what this one left, before it does anything else.
    let out = Command::new("unshare")
        .args(["--net", env!("CARGO_BIN_EXE_xtask"), "image", "redis"])
        .env("ALIDADE_TESTBENCH", cache.path())
        .output()
        .unwrap();
    assert!(!out.status.success());
    assert!(!left.exists(), "{} is still there", left.display());
}

/// How many processes have this path among their arguments.
fn users(path: &Path) -> usize {
    let path = path.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(path))
        .count()
}
