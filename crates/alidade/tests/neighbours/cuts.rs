//! restic's own cut points: what restic stored is found again, byte for byte.

use std::fs;

use crate::bench::{Bench, Stock};

/// A file that is cut often, by its content: noise, text, and zeros.
fn content() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::new();
    while bytes.len() < 150 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
    }
    for number in 0..200_000 {
        bytes.extend_from_slice(format!("line {number} of a text\n").as_bytes());
    }
    bytes.extend_from_slice(&vec![0; 3 << 20]);
    bytes
}

#[test]
fn what_restic_stored_is_known_when_it_is_cut_as_restic_does() {
    for (stock, more) in [
        (Stock::Current, &[][..]),
        (Stock::Current, &["--repository-version", "1"]),
        (Stock::Debian, &[]),
    ] {
        let bench = Bench::theirs(stock, more);
        fs::create_dir(bench.source()).unwrap();
        let content = content();
        fs::write(bench.source().join("large"), &content).unwrap();
        fs::write(bench.source().join("small"), &content[..3 << 20]).unwrap();
        let source = bench.source();
        bench.stock(stock, &["backup", source.to_str().unwrap()]).done();
        let as_restic = bench.protect(&["--force", "--chunker", "restic"]);
        let added = as_restic["bytes"]["added"].as_u64().unwrap();
        assert!(added < 100_000, "{stock:?} {more:?}: only directories are new: {as_restic}");
        let ours = bench.protect(&["--force"]);
        let added = ours["bytes"]["added"].as_u64().unwrap();
        assert!(added > 100 << 20, "{stock:?}: our cuts are others: {ours}");
        bench.stock(stock, &["check", "--read-data"]).done();
    }
}
