//! SIGKILL of the real binary, at instants that are spread over its whole run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use alidade_entity::{Cancel, Cx};
use alidade_testkit::TestChance;
use alidade_testkit::tree::Listing;

use crate::program::{DONE, Program, is_unnamed};
use crate::soak;

/// A seed of its own for every run of these tests; a failed one is looked for again with
/// `ALIDADE_SEED`.
#[allow(clippy::print_stdout, reason = "the seed belongs to what a failed test says")]
fn seed() -> u64 {
    let given = std::env::var("ALIDADE_SEED").ok().map(|text| text.parse().expect("a number"));
    let seed = given.unwrap_or_else(|| {
        let mut bytes = [0; 8];
        Cx::system(Cancel::default()).fill(&mut bytes).expect("the system has randomness");
        u64::from_le_bytes(bytes)
    });
    println!("ALIDADE_SEED={seed}");
    seed
}

/// How long something takes.
fn measure<T>(work: impl FnOnce() -> T) -> Duration {
    let cx = Cx::system(Cancel::default());
    let began = cx.clock().elapsed();
    work();
    cx.clock().elapsed() - began
}

/// When to kill in a round: every part of the run has its turn, and its very beginning more of them.
fn instant(chance: &TestChance, round: u64, rounds: u64, whole: Duration) -> Duration {
    let fraction = chance.below(1000);
    if round % 6 == 5 {
        return Duration::from_micros(fraction * 15);
    }
    // Neighbouring rounds are far apart, so that a few of them see the whole run too.
    let part = u32::try_from((round * 7 % rounds) * 1000 + fraction).expect("small");
    let whole = whole + whole / 10;
    whole * part / u32::try_from(rounds * 1000).expect("small")
}

/// A source of a few packs and many files.
fn fill(program: &Program) {
    for number in 0..6 {
        program.put_noise(&format!("noise-{number}"), number, 1 << 20);
    }
    fs::create_dir(program.source().join("many")).unwrap();
    for number in 0..150 {
        fs::write(program.source().join(format!("many/{number}")), format!("file {number}\n"))
            .unwrap();
    }
}

/// What differs from round to round: new content for several packs, one file more, one less.
fn change(program: &Program, chance: &TestChance, round: u64) {
    program.put_noise(&format!("noise-{}", round % 6), chance.next(), 5 << 20);
    program.put_noise(&format!("noise-{}", (round + 1) % 6), chance.next(), 1 << 20);
    fs::write(program.source().join(format!("many/of round {round}")), "x").unwrap();
    if round > 3 {
        fs::remove_file(program.source().join(format!("many/of round {}", round - 3))).unwrap();
    }
}

#[test]
fn a_killed_run_costs_only_itself() {
    let (program, chance) = (Program::new(), TestChance::seeded(seed()));
    let rounds: u64 = if soak() { 220 } else { 30 };
    let every = if soak() { 1 } else { 5 };
    fill(&program);
    program.protect().ends_with(DONE, "the first run");
    let mut expected = BTreeMap::new();
    let first = program.snapshots().pop_first().unwrap();
    expected.insert(first.clone(), Listing::of(&program.source()));

    change(&program, &chance, 0);
    let whole = measure(|| program.protect().ends_with(DONE, "the second run"));
    for snapshot in program.snapshots() {
        expected.entry(snapshot).or_insert_with(|| Listing::of(&program.source()));
    }
    let (mut killed, mut finished, mut dead_locks) = (Vec::new(), 0, 0);
    for round in 0..rounds {
        change(&program, &chance, round);
        let now = Listing::of(&program.source());
        let at = instant(&chance, round, rounds, whole);
        let what = format!("round {round}, killed after {at:?} of {whole:?}");
        let mut run = program.start_protecting();
        sleep(at);
        run.kill().unwrap();
        match run.wait().unwrap().code() {
            None => killed.push(run.id()),
            Some(code) => {
                assert_eq!(code, DONE, "{what}");
                finished += 1;
            }
        }
        let is_lock = |path: &Path| !is_unnamed(path, run.id());
        dead_locks += usize::from(program.files("locks").iter().any(|(path, _)| is_lock(path)));
        if round % every == 0 {
            program.passes_check_of_restic();
        }
        program.passes_check(&what);
        program.protect().ends_with(DONE, &format!("{what}: the next run"));
        program.has_no_locks_but(&killed, &what);
        let mut last = None;
        for snapshot in program.snapshots() {
            expected.entry(snapshot.clone()).or_insert_with(|| {
                last = Some(snapshot);
                now.clone()
            });
        }
        program.restores(&first, &expected[&first], &what);
        program.restores(&last.expect("the next run made one"), &now, &what);
    }
    let counted = format!("{} killed, {finished} finished, {dead_locks} left a lock", killed.len());
    assert!(killed.len() as u64 > rounds / 3, "the instants were not those of the run: {counted}");
    assert!(dead_locks > 0, "no killed run had a lock: {counted}");
    let all = program.snapshots();
    assert!(all.len() as u64 >= rounds + 2, "{} snapshots", all.len());
    for snapshot in &all {
        program.restores(snapshot, &expected[snapshot], "at the end");
    }
    program.reads_back("at the end");
    program.restic(&["check", "--read-data"]);
}

#[test]
fn a_killed_first_run_converges_with_the_next() {
    let chance = TestChance::seeded(seed());
    let begin = || {
        let program = Program::new();
        fill(&program);
        program
    };
    let program = begin();
    let whole = measure(|| program.protect().ends_with(DONE, "a first run"));
    let rounds = if soak() { 60 } else { 12 };
    for round in 0..rounds {
        let program = begin();
        // Half of them while the key and the repository come to be.
        let whole = if round % 2 == 0 { whole } else { whole / 4 };
        let at = instant(&chance, round, rounds, whole);
        let what = format!("first run, round {round}, killed after {at:?} of {whole:?}");
        let mut run = program.start_protecting();
        sleep(at);
        run.kill().unwrap();
        run.wait().unwrap();
        program.protect().ends_with(DONE, &format!("{what}: the next run"));
        program.has_no_locks_but(&[run.id()], &what);
        program.reads_back(&what);
        let now = Listing::of(&program.source());
        for snapshot in program.snapshots() {
            program.restores(&snapshot, &now, &what);
        }
        assert_eq!(program.files("keys").iter().filter(|(path, _)| is_key(path)).count(), 1);
        if soak() || round % 4 == 0 {
            program.restic(&["check", "--read-data"]);
        }
    }
}

/// True when no part of the name says that the file is temporary.
fn is_key(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.len() == 64)
}

#[test]
fn a_killed_restore_leaves_the_repository_as_it_was() {
    let (program, chance) = (Program::new(), TestChance::seeded(seed()));
    fill(&program);
    program.protect().ends_with(DONE, "protect");
    let now = Listing::of(&program.source());
    let snapshot = program.snapshots().pop_first().unwrap();
    let whole = measure(|| program.restores(&snapshot, &now, "measure"));
    let rounds = if soak() { 60 } else { 10 };
    let mut killed = Vec::new();
    for round in 0..rounds {
        let at = instant(&chance, round, rounds, whole);
        let what = format!("restore, round {round}, killed after {at:?} of {whole:?}");
        let target = program.path("partial");
        let arguments = ["restore", &snapshot, "--target", target.to_str().unwrap()];
        let before = program.all_files();
        let mut command = program.command(&arguments);
        let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(at);
        run.kill().unwrap();
        run.wait().unwrap();
        killed.push(run.id());
        // A restore ends with a record of itself; else it changes nothing.
        assert!(program.all_files().is_superset(&before), "{what}: the repository lost a file");
        assert_eq!(program.snapshots().len(), 1, "{what}: the snapshots changed");
        program.passes_check(&what);
        program.restores(&snapshot, &now, &what);
        program.has_no_locks_but(&killed, &what);
        if target.exists() {
            fs::remove_dir_all(&target).unwrap();
        }
    }
    program.passes_check_of_restic();
}
