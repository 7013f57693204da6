//! The corpora of the fuzz targets, and every small change of them, through the same checks: what a
//! fuzzer once found stays found, without a fuzzer.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/checks.rs"]
#[allow(unreachable_pub, reason = "the fuzz targets take it in as well")]
mod checks;

/// Longest input whose every byte is changed; of longer ones some are.
const WHOLE: usize = 400;

fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let data = fs::read(entry.unwrap().path()).unwrap();
        inputs += 1;
        check(&data);
        for at in (0..data.len()).step_by(data.len() / WHOLE + 1) {
            check(&data[..at]);
            check(&data[at..]);
            for byte in [data[at] ^ 1, data[at] ^ 0x80, b'"', b'\\', b'0', b'}', 0, 0xff] {
                let mut changed = data.clone();
                changed[at] = byte;
                check(&changed);
            }
        }
    }
    assert!(inputs > 1, "{target} has no corpus");
}

#[test]
fn no_change_of_a_key_breaks_its_decoder() {
    run("key", checks::key);
}

#[test]
fn no_change_of_a_config_breaks_its_decoder() {
    run("config", checks::config);
}

#[test]
fn no_change_of_a_pack_header_breaks_its_decoder() {
    run("pack_header", checks::pack_header);
}

#[test]
fn no_change_of_an_index_breaks_its_decoder() {
    run("index", checks::index);
}

#[test]
fn no_change_of_a_tree_breaks_its_decoder() {
    run("tree", checks::tree);
}

#[test]
fn no_change_of_a_snapshot_breaks_its_decoder() {
    run("snapshot", checks::snapshot);
}

#[test]
fn no_change_of_a_lock_breaks_its_decoder() {
    run("lock", checks::lock);
}

#[test]
fn no_change_of_an_unpacked_file_breaks_its_decoder() {
    run("unpacked", checks::unpacked);
}

#[test]
fn no_change_of_a_name_or_time_breaks_its_decoder() {
    run("names", checks::names);
}
