//! Both programs keep to each other's locks.

use alidade_testkit::tree::{Content, Dress, Fill, Make, Plan, Thing};
use rustix::process::Signal;

use crate::bench::{Bench, Running, Stock, os, until};

/// A source that takes a while to copy.
fn slow_source(bench: &Bench) {
    let file = |number: u64| Thing {
        parent: 0,
        name: format!("file-{number}").into_bytes(),
        make: Make::File(Content::new(12 << 20, Fill::Random(number))),
        dress: Dress::default(),
    };
    Plan { root: Dress::default(), things: (0..8).map(file).collect() }.build(&bench.source());
}

fn count(bench: &Bench, folder: &str) -> usize {
    let names = std::fs::read_dir(bench.path("repo").join(folder)).unwrap();
    let is_whole = |name: &std::ffi::OsString| name.len() == 64;
    names.filter(|entry| is_whole(&entry.as_ref().unwrap().file_name())).count()
}

fn packs(bench: &Bench) -> usize {
    let folders = std::fs::read_dir(bench.path("repo/data")).unwrap();
    folders
        .map(|entry| count(bench, &format!("data/{}", entry.unwrap().file_name().display())))
        .sum()
}

#[test]
fn an_exclusive_lock_of_stock_restic_stops_us() {
    for stock in Stock::ALL {
        let bench = Bench::ours();
        std::fs::create_dir(bench.source()).unwrap();
        let snapshot = bench.protect(&[])["snapshot"].as_str().unwrap().to_owned();
        let prune = Running::start(bench.stock_command_on(stock, "repo", &os(&["prune"])));
        until("prune holds its lock", || count(&bench, "locks") > 0);
        prune.stop();
        bench.try_protect(&[]).ended_with(11);
        bench.alidade(&["ls", &snapshot]).ended_with(11);
        bench.alidade(&["--no-lock", "ls", &snapshot]).done();
        assert_eq!(count(&bench, "locks"), 1, "we left a lock");
        prune.signal(Signal::CONT);
        assert_eq!(prune.wait(), Some(0));
        bench.protect(&[]);
        assert_eq!(count(&bench, "locks"), 0);
    }
}

#[test]
fn a_shared_lock_of_stock_restic_does_not_stop_us() {
    for stock in Stock::ALL {
        let bench = Bench::ours();
        slow_source(&bench);
        let listing = bench.listing();
        let source = bench.source();
        let mut arguments = os(&["backup", "--pack-size", "4"]);
        arguments.push(source.as_os_str());
        let backup = Running::start(bench.stock_command_on(stock, "repo", &arguments));
        until("a pack is there", || packs(&bench) > 0);
        backup.stop();
        assert_eq!(count(&bench, "locks"), 1);
        let ours = bench.protect(&[])["snapshot"].as_str().unwrap().to_owned();
        bench.stock(stock, &["prune"]).refused();
        backup.signal(Signal::CONT);
        assert_eq!(backup.wait(), Some(0));
        bench.check(stock);
        for snapshot in bench.snapshots(stock) {
            listing
                .assert_equals(&bench.restored(&snapshot), &format!("{snapshot}, ours is {ours}"));
        }
    }
}

#[test]
fn our_lock_stops_an_exclusive_one_and_unlock_clears_it_after_a_kill() {
    for stock in Stock::ALL {
        let bench = Bench::ours();
        slow_source(&bench);
        let listing = bench.listing();
        let source = bench.source();
        let arguments = [&os(&["protect", "--pack-size", "4"])[..], &[source.as_os_str()]].concat();
        let protect = Running::start(bench.command_on("repo", &arguments));
        until("a pack is there", || packs(&bench) > 0);
        protect.stop();
        bench.stock(stock, &["prune"]).refused();
        protect.signal(Signal::CONT);
        assert_eq!(protect.wait(), Some(0));
        assert_eq!(count(&bench, "locks"), 0);
        bench.stock(stock, &["prune"]).done();

        std::fs::write(bench.source().join("file-0"), "changed").unwrap();
        let changed = bench.listing();
        let again = [&os(&["protect", "--force"])[..], &[source.as_os_str()]].concat();
        let protect = Running::start(bench.command_on("repo", &again));
        until("a lock is there", || count(&bench, "locks") > 0);
        protect.signal(Signal::KILL);
        assert_eq!(protect.wait(), None);
        assert_eq!(count(&bench, "locks"), 1, "killed too late");
        bench.stock(stock, &["prune"]).refused();
        bench.stock(stock, &["unlock"]).done();
        assert_eq!(count(&bench, "locks"), 0);
        bench.stock(stock, &["prune"]).done();
        bench.check(stock);
        let first = bench.snapshots(stock).remove(0);
        listing.assert_equals(&bench.restored(&first), "what was complete before the kill");
        let next = bench.protect(&[]);
        changed.assert_equals(&bench.restored(next["snapshot"].as_str().unwrap()), "the next run");
    }
}
