//! The real binary on file systems without room, and on one that cannot be written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use alidade_testkit::tree::Listing;
use rustix::process::{Signal, kill_process};

use crate::program::{DONE, FAILED, Program};

/// A small file system of its own, gone when dropped.
struct Small {
    at: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

impl Small {
    fn of(size: &str) -> Self {
        crate::scratch_in_memory();
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("small");
        Self::mounted(&at, size, Some(dir))
    }

    /// Over that directory.
    fn at(at: &Path, size: &str) -> Self {
        Self::mounted(at, size, None)
    }

    fn mounted(at: &Path, size: &str, dir: Option<tempfile::TempDir>) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests mount small file systems, which needs root: run them as root"
        );
        fs::create_dir_all(at).unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "small"], at);
        Self { at: at.to_owned(), _dir: dir }
    }

    fn again_with(&self, option: &str) {
        mount(&["-o", &format!("remount,{option}")], &self.at);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg("-l").arg(&self.at).status();
        if !gone.is_ok_and(|status| status.success()) && !std::thread::panicking() {
            panic!("{} stays mounted", self.at.display());
        }
    }
}

fn mount(options: &[&str], at: &Path) {
    let done = Command::new("mount").args(options).arg(at).output().unwrap();
    assert!(done.status.success(), "mount: {}", String::from_utf8_lossy(&done.stderr));
}

fn try_mount(options: &[&str], at: &Path) -> bool {
    let mut mount = Command::new("mount");
    mount.args(options).arg(at).stderr(Stdio::null()).status().unwrap().success()
}

fn fill(program: &Program) {
    for number in 0..5 {
        program.put_noise(&format!("noise-{number}"), number, 4 << 20);
    }
    fs::write(program.source().join("small"), "small").unwrap();
}

#[test]
fn a_full_disk_below_the_repository_costs_only_the_run() {
    // From one that takes some packs to one that takes nearly all; ended by one that takes all.
    for size in [9, 14, 20] {
        let small = Small::of(&format!("{size}m"));
        let program = Program::with_data(&small.at);
        fs::write(program.source().join("small"), "small").unwrap();
        program.protect().ends_with(DONE, "before there is much");
        let first = program.snapshots().pop_first().unwrap();
        let before = Listing::of(&program.source());
        fill(&program);
        let ran = program.protect().ends_with(FAILED, &format!("a run in {size} MiB"));
        let error = ran.err.lines().find(|line| line.starts_with("error: ")).unwrap();
        assert!(error.contains("No space left"), "{error}");
        assert!(ran.err.contains("hint: make room"), "{}", ran.err);
        // Of two packs that do not fit together, one may take all that the other leaves. A lock needs
        // some bytes.
        small.again_with(&format!("size={}k", (size << 10) + 512));
        program.passes_check(&format!("full at {size} MiB"));
        program.passes_check_of_restic();
        program.restores(&first, &before, &format!("full at {size} MiB"));

        small.again_with("size=100m");
        program.protect().ends_with(DONE, "with room again");
        program.has_no_locks("with room again");
        program.reads_back("with room again");
        let now = Listing::of(&program.source());
        for snapshot in program.snapshots().into_iter().filter(|snapshot| *snapshot != first) {
            program.restores(&snapshot, &now, "with room again");
        }
        program.restic(&["check", "--read-data"]);
    }
}

#[test]
fn a_disk_without_a_byte_left_still_lists_checks_and_restores() {
    let small = Small::of("40m");
    let program = Program::with_data(&small.at);
    fill(&program);
    program.protect().ends_with(DONE, "with room");
    let snapshot = program.snapshots().pop_first().unwrap();
    let now = Listing::of(&program.source());
    // Written until nothing more fits.
    let filler = small.at.join("filler");
    let filled = fs::write(&filler, vec![1; 64 << 20]);
    assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);

    fs::write(program.source().join("more"), "more").unwrap();
    let ran = program.protect().ends_with(FAILED, "without a byte");
    assert!(ran.err.contains("hint: "), "{}", ran.err);
    let without = |verb: &[&str], what: &str| {
        program.run(&[verb, &["--no-lock"]].concat()).ends_with(DONE, what);
    };
    without(&["snapshots"], "list without a byte");
    without(&["check"], "check without a byte");
    let target = program.path("back");
    without(&["restore", &snapshot, "--target", target.to_str().unwrap()], "restore");
    let back = target.join(program.source().strip_prefix("/").unwrap());
    now.assert_equals(&Listing::of(&back), "restored from a full disk");

    fs::remove_file(&filler).unwrap();
    program.protect().ends_with(DONE, "with room again");
    program.has_no_locks("with room again");
    program.reads_back("with room again");
}

#[test]
fn a_full_disk_below_the_target_fails_the_restore_alone() {
    let small = Small::of("6m");
    let program = Program::new();
    fill(&program);
    program.protect().ends_with(DONE, "protect");
    let snapshot = program.snapshots().pop_first().unwrap();
    let before = program.all_files();
    let target = small.at.join("target");
    let ran = program.run(&["restore", &snapshot, "--target", target.to_str().unwrap()]);
    let ran = ran.ends_with(FAILED, "restore into too little room");
    assert!(ran.err.contains("No space left"), "{}", ran.err);
    assert_eq!(program.all_files(), before, "the repository changed");
    program.has_no_locks("after a failed restore");
    program.reads_back("after a failed restore");
    program.restores(&snapshot, &Listing::of(&program.source()), "into enough room");
}

#[test]
fn a_read_only_repository_refuses_writing_and_restores() {
    let small = Small::of("100m");
    let program = Program::with_data(&small.at);
    fill(&program);
    program.protect().ends_with(DONE, "writable");
    let snapshot = program.snapshots().pop_first().unwrap();
    let now = Listing::of(&program.source());
    program.put_noise("more", 77, 6 << 20);
    small.again_with("ro");
    let ran = program.protect().ends_with(FAILED, "read-only");
    assert!(ran.err.contains("ead-only"), "{}", ran.err);
    program.run(&["check", "--no-lock"]).ends_with(DONE, "check, read-only");
    let target = program.path("back");
    let arguments = ["restore", &snapshot, "--no-lock", "--target", target.to_str().unwrap()];
    program.run(&arguments).ends_with(DONE, "restore, read-only");
    let back = target.join(program.source().strip_prefix("/").unwrap());
    now.assert_equals(&Listing::of(&back), "restored from read-only");
    small.again_with("rw");
    program.protect().ends_with(DONE, "writable again");
    program.reads_back("writable again");
}

#[test]
fn a_repository_that_turns_read_only_in_a_run_costs_only_the_run() {
    // The catalog lies elsewhere: a file that is open for writing keeps its file system writable.
    let program = Program::new();
    let small = Small::at(&program.repository(), "200m");
    fs::write(program.source().join("small"), "small").unwrap();
    program.protect().ends_with(DONE, "writable");
    for number in 0..12 {
        program.put_noise(&format!("noise-{number}"), number, 4 << 20);
    }
    let (run, pid) = program.stopped_in_a_run();
    // Refused while a file is being written: then the run may go on for a moment.
    while !try_mount(&["-o", "remount,ro"], &small.at) {
        kill_process(pid, Signal::CONT).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        kill_process(pid, Signal::STOP).unwrap();
    }
    kill_process(pid, Signal::CONT).unwrap();
    let ended = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(FAILED), "{said}");
    assert!(said.contains("ead-only") && said.contains("hint: "), "{said}");
    program.run(&["check", "--no-lock"]).ends_with(DONE, "turned read-only");
    small.again_with("rw");
    program.passes_check("turned read-only, and back");
    program.restic(&["unlock"]);
    program.restic(&["check"]);
    program.protect().ends_with(DONE, "writable again");
    program.has_no_locks("writable again");
    program.reads_back("writable again");
}
