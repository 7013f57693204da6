//! `./test` fails when anything is missing, failed, ignored or did not run.
//!
//! The script runs in a folder of its own, with a `cargo` that answers what the case needs.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const GOOD: &str = "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
const MORE: &str = "test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
const BAD: &str = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
const IGNORED: &str = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
const NONE: &str = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";

struct Bench {
    folder: tempfile::TempDir,
}

struct Ended {
    code: i32,
    last: String,
    errors: String,
}

impl Bench {
    /// A folder with the script and every program it calls, all of them willing.
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../test");
        fs::create_dir(bench.bin()).unwrap();
        fs::create_dir(bench.folder.path().join("testbench")).unwrap();
        fs::copy(script, bench.folder.path().join("test")).unwrap();
        for tool in
            ["awk", "basename", "bash", "cat", "dirname", "env", "mktemp", "rm", "tee", "touch"]
        {
            let path = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool));
            let path = path.iter().find(|path| path.exists()).unwrap();
            symlink(path, bench.bin().join(tool)).unwrap();
        }
        let packaged = [
            "setfacl",
            "setfattr",
            "bindfs",
            "busybox",
            "containerd",
            "mkfs.ext4",
            "fusermount3",
            "cc",
            "curl",
            "ip",
            "iptables",
            "losetup",
            "runc",
            "setcap",
            "ssh",
            "sshd",
            "mmdebstrap",
            "node",
            "npm",
            "openssl",
            "restic",
            "runc",
            "strace",
            "setpriv",
            "zstd",
        ];
        for tool in packaged.iter().chain(&["go", "git"]) {
            bench.tool(tool, "exit 0");
        }
        bench.tool("id", "echo 1000");
        bench.cargo(GOOD, "exit 0");
        bench
    }

    fn bin(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    fn tool(&self, name: &str, body: &str) {
        let path = self.bin().join(name);
        fs::write(&path, format!("#!/bin/bash\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A `cargo` whose `test --workspace` prints the lines and ends as told; the targets that have
    /// a step of their own say nothing and are content.
    fn cargo(&self, lines: &str, end: &str) {
        let tests = "[ \"$1 $2\" = 'test --workspace' ] || exit 0";
        self.tool("cargo", &format!("{tests}\ncat <<'E'\n{lines}\nE\n{end}"));
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.bin().join(name)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let out = Command::new(self.bin().join("bash"))
            .arg(self.folder.path().join("test"))
            .args(arguments)
            .env_clear()
            .env("PATH", self.bin())
            .env("TMPDIR", self.folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8(out.stdout).unwrap();
        Ended {
            code: out.status.code().unwrap(),
            last: said.lines().last().unwrap_or_default().to_owned(),
            errors: String::from_utf8(out.stderr).unwrap(),
        }
    }
}

#[track_caller]
fn check(lines: &str, end: &str, code: i32, last: &str) {
    let bench = Bench::new();
    bench.cargo(lines, end);
    let ended = bench.run(&[]);
    assert_eq!((ended.code, ended.last.as_str()), (code, last), "{}", ended.errors);
}

#[test]
fn tests_of_all_binaries_are_summed() {
    check(&format!("{GOOD}\n{MORE}"), "exit 0", 0, "7 passed, 0 failed");
}

#[test]
fn a_failed_test_fails_it_and_is_counted_once() {
    check(&format!("{GOOD}\n{BAD}"), "exit 101", 1, "4 passed, 2 failed");
}

#[test]
fn a_test_that_does_not_compile_fails_it() {
    check(GOOD, "exit 101", 1, "3 passed, 1 failed");
}

#[test]
fn an_ignored_test_fails_it() {
    check(IGNORED, "exit 0", 1, "5 passed, 1 failed");
}

#[test]
fn no_tests_at_all_fail_it() {
    check(NONE, "exit 0", 1, "0 passed, 1 failed");
    check("", "exit 0", 1, "0 passed, 1 failed");
}

#[test]
fn a_failed_step_fails_it_and_the_others_still_run() {
    let bench = Bench::new();
    bench.tool(
        "cargo",
        &format!("[ \"$1\" != clippy ] || exit 1\n[ \"$1 $2\" = 'test --workspace' ] && echo '{GOOD}'\nexit 0"),
    );
    let ended = bench.run(&[]);
    assert_eq!((ended.code, ended.last.as_str()), (1, "3 passed, 1 failed"));
    assert!(ended.errors.contains("step clippy failed"), "{}", ended.errors);
}

#[test]
fn a_missing_package_is_named_and_fails_it_for_who_may_not_install() {
    let bench = Bench::new();
    bench.remove("setfattr");
    bench.remove("setfacl");
    bench.tool("apt-get", "touch installed");
    let ended = bench.run(&[]);
    assert_eq!(ended.code, 1);
    assert!(ended.errors.contains("missing: acl attr"), "{}", ended.errors);
    assert!(ended.errors.contains("hint: as root: apt-get install acl attr"), "{}", ended.errors);
    assert!(!bench.folder.path().join("installed").exists());
}

#[test]
fn root_installs_what_is_missing_and_fails_when_it_is_still_missing() {
    let bench = Bench::new();
    bench.remove("setfattr");
    bench.tool("id", "echo 0");
    bench.tool("apt-get", "exit 0");
    let ended = bench.run(&[]);
    assert_eq!(ended.code, 1);
    assert!(ended.errors.contains("still missing after apt-get: attr"), "{}", ended.errors);

    let made = "#!/bin/bash\\nexit 0\\n";
    let target = bench.bin().join("setfattr");
    let target = target.display();
    bench.tool("apt-get", &format!("printf '{made}' >{target}; /bin/chmod +x {target}"));
    assert_eq!(bench.run(&[]).code, 0);
}

#[test]
fn a_missing_toolchain_is_named_and_fails_it() {
    for tool in ["cargo", "go"] {
        let bench = Bench::new();
        bench.remove(tool);
        let ended = bench.run(&[]);
        assert_eq!(ended.code, 1);
        assert!(ended.errors.contains(&format!("{tool} is not on the PATH")), "{}", ended.errors);
        assert!(ended.errors.contains("hint: install"), "{}", ended.errors);
    }
}

#[test]
fn a_peer_that_cannot_be_had_fails_it() {
    let bench = Bench::new();
    bench.tool("cargo", "[ \"$1\" != xtask ]");
    let ended = bench.run(&["tests"]);
    assert_eq!(ended.code, 1);
    assert!(ended.errors.contains("the peer restic-debian cannot be had"), "{}", ended.errors);
}

#[test]
fn a_checkout_that_the_tests_change_fails_it() {
    let bench = Bench::new();
    bench.tool("git", "[ -e asked ] && echo '?? left-over'; touch asked");
    let ended = bench.run(&[]);
    assert_eq!((ended.code, ended.last.as_str()), (1, "3 passed, 1 failed"));
    assert!(ended.errors.contains("?? left-over"), "{}", ended.errors);
}

#[test]
fn one_step_runs_alone_and_an_unknown_one_is_refused() {
    let bench = Bench::new();
    let ended = bench.run(&["fmt"]);
    assert_eq!((ended.code, ended.last.as_str()), (0, "0 passed, 0 failed"));
    let ended = bench.run(&["fnt"]);
    assert_eq!(ended.code, 1);
    assert!(ended.errors.contains("there is no step fnt"), "{}", ended.errors);
}

#[test]
fn soak_runs_everything_and_tells_the_tests() {
    let bench = Bench::new();
    bench.tool(
        "cargo",
        &format!("[ \"$1 $2\" != 'test --workspace' ] || {{ [ -n \"$ALIDADE_SOAK\" ] && echo '{MORE}'; }}"),
    );
    assert_eq!(bench.run(&["soak"]).last, "4 passed, 0 failed");
    assert_eq!(bench.run(&[]).code, 1);
}
