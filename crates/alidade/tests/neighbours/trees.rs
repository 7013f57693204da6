//! Invented trees go through both programs, in both directions, and come back the same.
//!
//! `ALIDADE_SOAK=1` tries many; `ALIDADE_SEED=N` repeats a run whose seed was printed.

use std::cell::Cell;

use alidade_testkit::tree::{Content, Fill, Limits, Listing, Plan, plans};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

use crate::bench::{Bench, Stock, kept, written};

/// The last second whose nanoseconds since 1970 fit in 63 bits: stock restic restores no later one.
const LAST_OF_STOCK: i64 = 9_223_372_035;

#[allow(clippy::print_stdout, reason = "a run that failed is repeated by its seed")]
fn each_tree(what: &str, cases: u32, limits: Limits, test: impl Fn(&Plan) -> Result<(), String>) {
    let seed = match std::env::var("ALIDADE_SEED") {
        Ok(seed) => seed.parse().expect("ALIDADE_SEED is a number"),
        Err(_) => std::process::id().into(),
    };
    let soak = std::env::var_os("ALIDADE_SOAK").is_some_and(|value| !value.is_empty());
    let cases = if soak { cases * 40 } else { cases };
    println!("{what}: {cases} trees, ALIDADE_SEED={seed}");
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 60,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let ended = TestRunner::new(config)
        .run(&plans(limits), |plan| test(&plan).map_err(TestCaseError::fail));
    match ended {
        Ok(()) => {}
        Err(TestError::Fail(why, plan)) => panic!("ALIDADE_SEED={seed}: {why}\n{plan:?}"),
        Err(other) => panic!("ALIDADE_SEED={seed}: {other}"),
    }
}

fn equal(expected: &Listing, found: &Listing, what: &str) -> Result<(), String> {
    let differences = expected.differences(found);
    if differences.is_empty() { Ok(()) } else { Err(format!("{what}\n{differences}")) }
}

#[test]
fn invented_trees_come_back_from_both_programs() {
    for stock in Stock::ALL {
        // 0.14 gives the attributes of a symlink to what the symlink points at.
        let newer = stock == Stock::Current;
        let limits = Limits {
            last_second: LAST_OF_STOCK,
            raw_targets: newer,
            link_attributes: newer,
            ..Limits::default()
        };
        each_tree(&format!("both ways with {stock:?}"), 5, limits, |plan| {
            let bench = Bench::ours();
            plan.build(&bench.source());
            let listing = bench.listing();
            bench.protect(&[]);
            bench.backup(stock, &["--force"]);
            let snapshots = bench.snapshots(stock);
            let of_us = bench.restored(&snapshots[0]);
            equal(&listing, &of_us, "ours, restored by us")?;
            let expected = kept(stock, &listing);
            let of_stock = bench.stock_restored(stock, &snapshots[0], &[]).without_holes();
            equal(&expected, &of_stock, "ours, restored by stock restic")?;
            let from_stock = bench.restored(&snapshots[1]).without_holes();
            equal(&written(stock, &listing), &from_stock, "theirs, restored by us")
        });
    }
}

#[test]
fn invented_trees_come_back_from_us_with_what_stock_restic_cannot_keep() {
    let seen = Cell::new(0);
    each_tree("ours alone", 8, Limits::default(), |plan| {
        seen.set(seen.get() + 1);
        let bench = Bench::ours();
        plan.build(&bench.source());
        let listing = bench.listing();
        bench.protect(&[]);
        equal(&listing, &bench.restored("latest"), "ours, restored by us")
    });
    assert!(seen.get() > 0);
}

#[test]
fn paths_longer_than_one_call_takes_come_back_from_us() {
    let bench = Bench::ours();
    let names: Vec<Vec<u8>> = (0..40).map(|n| vec![b'a' + n % 26; 255]).collect();
    Plan::deep(&names, Content::new(2 << 20, Fill::Text(1))).build(&bench.source());
    let listing = bench.listing();
    bench.protect(&[]);
    listing.assert_equals(&bench.restored("latest"), "ours, restored by us");
    for stock in Stock::ALL {
        bench.check(stock);
    }
}
