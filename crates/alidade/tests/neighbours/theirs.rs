//! What stock restic wrote, in our hands.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use alidade_model::decode_object;
use alidade_testkit::tree::{Kind, Listing};

use crate::bench::{Bench, Ran, Stock, kept, within, written};
use crate::sample::{DUMPED, change, sample};

/// Who wrote it, and in which version of the format.
const WRITERS: &[(Stock, &[&str])] = &[
    (Stock::Current, &[]),
    (Stock::Current, &["--repository-version", "1"]),
    (Stock::Debian, &[]),
];

fn backed_up((stock, options): (Stock, &[&str])) -> (Bench, Listing, String) {
    let bench = Bench::theirs(stock, options);
    sample().build(&bench.source());
    let listing = bench.listing();
    bench.backup(stock, &[]);
    let snapshot = bench.snapshots(stock).remove(0);
    (bench, listing, snapshot)
}

#[test]
fn we_list_read_check_and_restore_what_stock_restic_wrote() {
    for &writer in WRITERS {
        let (bench, listing, snapshot) = backed_up(writer);
        bench.check(writer.0);
        let listed = bench.alidade(&["-o", "json", "snapshots"]).done().json();
        assert_eq!(listed["snapshots"][0]["snapshot"], snapshot.as_str(), "{writer:?}");
        assert_eq!(listed["snapshots"][0]["origin"], "foreign");
        let entries = bench.alidade(&["-o", "json", "ls", &snapshot]).done().json();
        let listed: BTreeSet<Vec<u8>> = entries["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| decode_object(entry["path"].as_str().unwrap()))
            .collect();
        let source = bench.source();
        let source = source.as_os_str().as_encoded_bytes();
        let expected: BTreeSet<Vec<u8>> =
            written(writer.0, &listing).paths().map(|path| [source, b"/", path].concat()).collect();
        let missing: Vec<_> =
            expected.difference(&listed).map(|p| p.escape_ascii().to_string()).collect();
        assert!(missing.is_empty(), "{writer:?}: {missing:?}");
        let more = listed.difference(&expected).filter(|path| !source.starts_with(path)).count();
        assert_eq!(more, 0, "{writer:?}");
        for name in DUMPED {
            let path = bench.source().join(name);
            let named = within(&snapshot, path.as_os_str().as_encoded_bytes());
            let arguments: [&OsStr; 2] = ["cat".as_ref(), &named];
            let read = Ran::of(bench.command_on("repo", &arguments)).done().out;
            assert!(read == std::fs::read(&path).unwrap(), "{writer:?}: another {name}");
        }
        let restored = bench.restored(&snapshot).without_holes();
        written(writer.0, &listing).assert_equals(&restored, &format!("{writer:?} restored by us"));
    }
}

#[test]
fn we_go_on_from_their_snapshot_without_reading_a_file_again_and_they_from_ours() {
    for &writer in WRITERS {
        let (bench, listing, snapshot) = backed_up(writer);
        let outcome = bench.protect(&[]);
        assert_eq!(outcome["parent"], snapshot.as_str(), "{writer:?}");
        assert_eq!(
            outcome["counts"]["unchanged"],
            listing.count(Kind::File),
            "{writer:?}: {outcome}"
        );
        assert_eq!(outcome["bytes"]["read"], 0, "{writer:?}: {outcome}");
        let summary = bench.backup(writer.0, &[]);
        assert_eq!(summary["files_unmodified"], listing.count(Kind::File), "{writer:?}: {summary}");
        change(&bench.source(), 2);
        let changed = bench.listing();
        let outcome = bench.protect(&[]);
        let (new, changed_files) = (&outcome["counts"]["new"], &outcome["counts"]["changed"]);
        // `changing` and `new-2` are new; a file that was only touched counts as changed.
        assert_eq!((new.as_u64(), changed_files.as_u64()), (Some(2), Some(1)), "{writer:?}");
        let id = outcome["snapshot"].as_str().unwrap();
        let what = format!("ours on top of {writer:?}");
        changed.assert_equals(&bench.restored(id), &what);
        let restored = bench.stock_restored(writer.0, id, &[]).without_holes();
        kept(writer.0, &changed).assert_equals(&restored, &what);
        bench.check(writer.0);
    }
}

#[test]
fn the_difference_we_tell_between_their_snapshots_is_theirs() {
    for stock in Stock::ALL {
        let (bench, _, before) = backed_up((stock, &[]));
        change(&bench.source(), 5);
        bench.backup(stock, &[]);
        let after = bench.snapshots(stock).remove(1);
        let ours = bench.alidade(&["-o", "json", "diff", &before, &after]).done().json();
        let sum = |word: &str| ours["summary"][word].as_u64().unwrap();
        let theirs = bench.stock(stock, &["diff", "--json", &before, &after]).done().last_json();
        let number = |value: &serde_json::Value| {
            ["files", "dirs", "others"].iter().map(|key| value[key].as_u64().unwrap()).sum::<u64>()
        };
        assert_eq!(sum("added"), number(&theirs["added"]), "{stock:?}: {theirs}");
        assert_eq!(sum("removed"), number(&theirs["removed"]), "{stock:?}: {theirs}");
        assert_eq!(sum("content"), theirs["changed_files"].as_u64().unwrap(), "{stock:?}");
    }
}

#[test]
fn keys_of_either_program_open_for_both() {
    for stock in Stock::ALL {
        // A repository with stock restic's own, slow key.
        let bench = Bench::new();
        bench.stock(stock, &["init"]).done();
        std::fs::write(bench.path("second"), "another password").unwrap();
        let second = bench.path("second");
        let second = second.to_str().unwrap();
        bench.alidade(&["key", "add", "--new-password-file", second]).done();
        let keys = bench.alidade(&["-o", "json", "key", "list"]).done().json();
        assert_eq!(keys["keys"].as_array().unwrap().len(), 2, "{stock:?}: {keys}");
        let listed = bench.stock(stock, &["key", "list", "--json"]).done().json();
        assert_eq!(listed.as_array().unwrap().len(), 2, "{stock:?}: {listed}");
        std::fs::write(bench.path("password"), "another password").unwrap();
        bench.stock(stock, &["snapshots"]).done();
        bench.alidade(&["snapshots"]).done();
        std::fs::write(bench.path("password"), "a wrong one").unwrap();
        bench.alidade(&["snapshots"]).ended_with(12);
    }
}
