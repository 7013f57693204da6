//! What we wrote, in the hands of stock restic.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use alidade_model::decode_object;
use alidade_testkit::tree::{Kind, Listing};
use serde_json::Value;

use crate::bench::{Bench, Ran, Stock, kept, os, written};
use crate::sample::{DUMPED, change, sample};

/// A repository of ours with one snapshot of the sample.
fn protected() -> (Bench, Listing, String) {
    let bench = Bench::ours();
    sample().build(&bench.source());
    let listing = bench.listing();
    let outcome = bench.protect(&[]);
    let snapshot = text(&outcome["snapshot"]);
    (bench, listing, snapshot)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The paths of the source as a program lists them: parents first, each followed by what is in it.
fn walked(bench: &Bench, listing: &Listing) -> Vec<Vec<u8>> {
    let source = bench.source();
    let mut paths: Vec<Vec<u8>> = source
        .ancestors()
        .map(|path| path.as_os_str().as_bytes().to_vec())
        .filter(|path| path != b"/")
        .collect();
    let below = |path: &[u8]| [source.as_os_str().as_bytes(), b"/", path].concat();
    paths.extend(listing.paths().map(below));
    paths.sort_by_key(|path| {
        path.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>()
    });
    paths
}

#[test]
fn stock_restic_checks_lists_and_dumps_what_we_wrote() {
    let (bench, listing, snapshot) = protected();
    let mut expected = walked(&bench, &listing).join(&b'\n');
    expected.push(b'\n');
    for stock in Stock::ALL {
        bench.check(stock);
        let listed = bench.stock(stock, &["ls", "-q", &snapshot]).done().out;
        let own = |line: &&[u8]| !line.starts_with(b"/.alidade");
        let listed: Vec<&[u8]> = listed.split(|&byte| byte == b'\n').filter(own).collect();
        assert_eq!(
            listed.join(&b'\n').escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
        for name in DUMPED {
            let path = bench.source().join(name);
            let arguments = [&os(&["dump", &snapshot])[..], &[path.as_os_str()]].concat();
            let dumped = Ran::of(bench.stock_command_on(stock, "repo", &arguments)).done().out;
            assert!(dumped == std::fs::read(&path).unwrap(), "{stock:?} dumps another {name}");
        }
    }
}

#[test]
fn stock_restic_restores_what_we_wrote() {
    let (bench, listing, snapshot) = protected();
    listing.assert_equals(&bench.restored(&snapshot), "ours restored by us");
    // What a check and a restore prove is a snapshot of its own, and must not be the latest.
    bench.alidade(&["check", "--read-data"]).done();
    for stock in Stock::ALL {
        let restored = bench.stock_restored(stock, "latest", &[]);
        let restored = restored.without_holes();
        kept(stock, &listing).assert_equals(&restored, &format!("ours restored by {stock:?}"));
    }
}

#[test]
fn stock_restic_restores_our_sparse_files_sparse() {
    let (bench, listing, snapshot) = protected();
    let restored = bench.stock_restored(Stock::Current, &snapshot, &["--sparse"]);
    let dense = restored.clone().without_holes();
    kept(Stock::Current, &listing).assert_equals(&dense, "with --sparse");
    for name in [&b"sparse"[..], b"only-a-hole"] {
        let (before, after) = (listing.get(name).unwrap(), restored.get(name).unwrap());
        assert!(
            after.allocated <= before.allocated + (1 << 20),
            "{}: {} bytes on disk became {}",
            name.escape_ascii(),
            before.allocated,
            after.allocated
        );
    }
}

#[test]
fn stock_restic_and_we_tell_the_same_difference_between_our_snapshots() {
    let (bench, _, before) = protected();
    change(&bench.source(), 4);
    std::fs::rename(bench.path("source/large"), bench.path("source/sub/large")).unwrap();
    std::fs::remove_dir(bench.path("source/sub/empty")).unwrap();
    std::fs::write(bench.path("source/sub/empty"), "a file now").unwrap();
    let after = text(&bench.protect(&[])["snapshot"]);
    let ours = bench.alidade(&["-o", "json", "diff", &before, &after]).done().json();
    let our_changes: BTreeSet<(String, Vec<u8>)> = ours["changes"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|change| change["change"] != "metadata")
        .map(|change| {
            let entry =
                if change["after"].is_null() { &change["before"] } else { &change["after"] };
            (text(&change["change"]), decode_object(entry["path"].as_str().unwrap()))
        })
        .collect();
    assert!(our_changes.len() > 5, "{our_changes:?}");
    for stock in Stock::ALL {
        // As text: their JSON has other names where they are not UTF-8.
        let theirs = bench.stock(stock, &["diff", &before, &after]).done().out;
        let their_changes: BTreeSet<(String, Vec<u8>)> = theirs
            .split(|&byte| byte == b'\n')
            .filter_map(|line| line.split_at_checked(5))
            .filter(|(_, path)| path.starts_with(b"/") && !path.starts_with(b"/.alidade"))
            .map(|(sign, path)| (word(sign), path.strip_suffix(b"/").unwrap_or(path).to_vec()))
            .collect();
        let shown = |all: &BTreeSet<(String, Vec<u8>)>| {
            let lines = all.iter().map(|(word, path)| format!("{word} {}\n", path.escape_ascii()));
            lines.collect::<String>()
        };
        assert_eq!(shown(&our_changes), shown(&their_changes), "{stock:?}");
    }
}

fn word(sign: &[u8]) -> String {
    let word = match sign.trim_ascii() {
        b"+" => "added",
        b"-" => "removed",
        b"T" => "kind",
        b"M" => "content",
        other => panic!("what does {} mean?", other.escape_ascii()),
    };
    word.to_owned()
}

#[test]
fn what_stock_restic_copied_of_ours_is_ours() {
    let (bench, listing, snapshot) = protected();
    for (stock, copy) in Stock::ALL.into_iter().zip(["copy-1", "copy-2"]) {
        bench.make(copy);
        let repo = bench.path("repo");
        let password = bench.path("password");
        let arguments: [&OsStr; 6] = [
            "copy".as_ref(),
            "--from-repo".as_ref(),
            repo.as_ref(),
            "--from-password-file".as_ref(),
            password.as_ref(),
            snapshot.as_ref(),
        ];
        Ran::of(bench.stock_command_on(stock, copy, &arguments)).done();
        Ran::of(bench.command_on(copy, &os(&["check", "--read-data"]))).done();
        listing.assert_equals(&bench.restored_on(copy, "latest"), "the copy restored");
    }
}

#[test]
fn stock_restic_goes_on_from_our_snapshot_without_reading_a_file_again() {
    for stock in Stock::ALL {
        let (bench, listing, snapshot) = protected();
        let summary = bench.backup(stock, &[]);
        let files = listing.count(Kind::File);
        assert_eq!(summary["files_unmodified"], files, "{stock:?}: {summary}");
        assert_eq!(summary["files_new"], 0, "{stock:?}");
        let snapshots = bench.snapshots(stock);
        assert_eq!(snapshots[0], snapshot);
        let restored = bench.restored(&snapshots[1]).without_holes();
        let what = format!("{stock:?} on top of ours, restored by us");
        written(stock, &listing).assert_equals(&restored, &what);
        bench.check(stock);
    }
}

#[test]
fn stock_restic_forgets_and_prunes_ours_and_leaves_the_rest_whole() {
    for stock in Stock::ALL {
        let (bench, _, first) = protected();
        change(&bench.source(), 1);
        std::fs::remove_file(bench.path("source/large")).unwrap();
        let listing = bench.listing();
        let last = text(&bench.protect(&[])["snapshot"]);
        bench.stock(stock, &["forget", "--keep-last", "1", "--prune", "--max-unused", "0"]).done();
        assert_eq!(
            bench.snapshots(stock),
            std::slice::from_ref(&last),
            "{stock:?} removed {first}"
        );
        bench.check(stock);
        listing.assert_equals(&bench.restored(&last), "what was kept, restored by us");
        let restored = bench.stock_restored(stock, &last, &[]).without_holes();
        kept(stock, &listing).assert_equals(&restored, "what was kept, restored by stock restic");
    }
}

#[test]
fn stock_restic_rewrites_our_trees_without_loss() {
    let (bench, listing, snapshot) = protected();
    bench.stock(Stock::Current, &["rewrite", "--exclude", "/**/large-text", &snapshot]).done();
    let snapshots = bench.snapshots(Stock::Current);
    assert_eq!(snapshots.len(), 2);
    let rewritten = snapshots.iter().find(|id| **id != snapshot).unwrap();
    let expected = listing.without_path(b"large-text");
    expected.assert_equals(&bench.restored(rewritten), "rewritten, restored by us");
    let restored = bench.stock_restored(Stock::Current, rewritten, &[]).without_holes();
    kept(Stock::Current, &expected).assert_equals(&restored, "rewritten, restored by it");
    bench.check(Stock::Current);
}

#[test]
fn stock_restic_tags_finds_and_counts_what_we_wrote_and_keeps_keys() {
    for stock in Stock::ALL {
        let (bench, listing, snapshot) = protected();
        let found = bench.stock(stock, &["find", "--json", "before-1970"]).done().json();
        assert_eq!(found[0]["snapshot"], snapshot.as_str(), "{stock:?}");
        assert_eq!(found[0]["hits"], 1);
        let stats = bench.stock(stock, &["stats", "--json", &snapshot]).done().json();
        let size: u64 = listing
            .entries()
            .filter(|(path, found)| found.linked.as_ref().is_none_or(|first| first == path))
            .map(|(_, found)| found.size)
            .sum();
        assert!(stats["total_size"].as_u64().unwrap() >= size, "{stock:?}: {stats}");
        std::fs::write(bench.path("second"), "another password").unwrap();
        let second = bench.path("second");
        let second = second.to_str().unwrap();
        bench.stock(stock, &["key", "add", "--new-password-file", second]).done();
        std::fs::write(bench.path("password"), "another password").unwrap();
        bench.stock(stock, &["tag", "--add", "kept", &snapshot]).done();
        let tagged = bench.alidade(&["-o", "json", "snapshots", "--tag", "kept"]).done().json();
        let tagged = text(&tagged["snapshots"][0]["snapshot"]);
        assert_ne!(tagged, snapshot, "another snapshot file");
        listing.assert_equals(&bench.restored(&tagged), "tagged, restored by us");
    }
}
