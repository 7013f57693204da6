//! Both programs add to one repository, in turns.

use alidade_testkit::tree::Listing;

use crate::bench::{Bench, Stock, kept, written};
use crate::sample::{change, sample};

#[test]
fn after_three_turns_each_every_snapshot_restores_equal_with_both() {
    for stock in Stock::ALL {
        let bench = Bench::ours();
        sample().build(&bench.source());
        let mut states: Vec<Listing> = Vec::new();
        for turn in 0..3 {
            states.push(bench.listing());
            let ours = bench.protect(&[]);
            if turn > 0 {
                assert!(!ours["parent"].is_null(), "turn {turn} begins from nothing: {ours}");
            }
            change(&bench.source(), 2 * turn);
            states.push(bench.listing());
            let theirs = bench.backup(stock, &[]);
            assert_ne!(theirs["files_unmodified"], 0, "turn {turn} begins from nothing: {theirs}");
            change(&bench.source(), 2 * turn + 1);
        }
        let snapshots = bench.snapshots(stock);
        assert_eq!(snapshots.len(), 6);
        for (number, (state, snapshot)) in states.iter().zip(&snapshots).enumerate() {
            let what = format!("snapshot {number}, with {stock:?}");
            let (ours, restored) = (number % 2 == 0, bench.restored(snapshot));
            if ours {
                state.assert_equals(&restored, &format!("{what}, ours restored by us"));
            } else {
                let restored = restored.without_holes();
                written(stock, state).assert_equals(&restored, &format!("{what}, restored by us"));
            }
            let restored = bench.stock_restored(stock, snapshot, &[]).without_holes();
            kept(stock, state).assert_equals(&restored, &format!("{what}, restored by it"));
        }
        bench.check(stock);
    }
}
