//! What options change in a repository, neither program minds.

use crate::bench::{Bench, Stock, kept, written};
use crate::sample::{change, sample};

#[test]
fn any_compression_and_pack_size_of_theirs_is_read_and_added_to() {
    let cases: &[(Stock, &[&str])] = &[
        (Stock::Current, &["--compression", "max", "--pack-size", "4"]),
        (Stock::Current, &["--compression", "off", "--pack-size", "128"]),
        (Stock::Debian, &["--compression", "max", "--pack-size", "64"]),
        (Stock::Debian, &["--compression", "off"]),
    ];
    for &(stock, options) in cases {
        let bench = Bench::theirs(stock, &[]);
        sample().build(&bench.source());
        let before = bench.listing();
        bench.backup(stock, options);
        change(&bench.source(), 4);
        let after = bench.listing();
        bench.protect(&[]);
        let snapshots = bench.snapshots(stock);
        let what = format!("{stock:?} {options:?}");
        let restored = bench.restored(&snapshots[0]).without_holes();
        written(stock, &before).assert_equals(&restored, &what);
        after.assert_equals(&bench.restored(&snapshots[1]), &what);
        bench.check(stock);
    }
}

#[test]
fn any_compression_and_pack_size_of_ours_is_read_and_added_to() {
    let cases: &[&[&str]] = &[
        &["--compression", "fast", "--pack-size", "4"],
        &["--compression", "best"],
        &["--compression", "off", "--pack-size", "128"],
    ];
    for (&options, stock) in cases.iter().zip(Stock::ALL.into_iter().cycle()) {
        let bench = Bench::ours();
        sample().build(&bench.source());
        let before = bench.listing();
        bench.protect(options);
        change(&bench.source(), 4);
        let after = bench.listing();
        bench.backup(stock, &[]);
        let snapshots = bench.snapshots(stock);
        for (listing, snapshot) in [before, after].iter().zip(&snapshots) {
            let restored = bench.stock_restored(stock, snapshot, &[]).without_holes();
            kept(stock, listing).assert_equals(&restored, &format!("{options:?}, {stock:?}"));
        }
        bench.check(stock);
    }
}
