//! What alidade does with its own repositories.

use std::process::Output;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::bench::{Bench, Promise, Reader};

/// The kinds of data, and how restored ones are listed.
const KINDS: [(&str, &str, &str); 4] = [
    ("everyday", "listing.sh", "holes"),
    ("odd", "listing.sh", ""),
    ("sparse", "listing.sh", "holes"),
    ("deep", "deep-listing.sh", ""),
];

/// The words every alidade command begins with.
pub(crate) fn with(bench: &Bench, repository: &str, words: &[&str]) -> Vec<String> {
    let mut all = vec![
        "-r".to_owned(),
        bench.path(repository),
        "--password-file".to_owned(),
        bench.path("password"),
    ];
    all.extend(words.iter().map(|&word| word.to_owned()));
    all
}

/// The JSON document a command printed.
pub(crate) fn json(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).context("read the JSON document on standard output")
}

pub(crate) fn rows(bench: &mut Bench) -> Result<()> {
    ours(bench, "init", "-", 0, &["init"], |_, _| Ok(("made".to_owned(), vec![])))?;
    for (kind, listing, option) in KINDS {
        let source = bench.source(kind);
        ours(bench, "protect", kind, 0, &["-o", "json", "protect", &source], |_, output| {
            let doc = json(output)?;
            ensure!(doc["status"] == "done", "status {}", doc["status"]);
            ensure!(
                doc["checks"]["self_checked"] == doc["checks"]["new_blobs"],
                "not all self-checked"
            );
            let digest = doc["digest"].as_str().context("find the digest")?.to_owned();
            Ok((
                format!("{} entries, digest {}", doc["counts"]["entries"], &digest[..12]),
                digest.into_bytes(),
            ))
        })?;
        ours(bench, "protect again", kind, 0, &["-o", "json", "protect", &source], |_, output| {
            let doc = json(output)?;
            ensure!(doc["bytes"]["read"] == 0, "{} bytes were read again", doc["bytes"]["read"]);
            ensure!(
                doc["counts"]["unchanged"] == doc["counts"]["files"],
                "not all files are unchanged"
            );
            Ok((format!("{} files unchanged, none read", doc["counts"]["files"]), vec![]))
        })?;
        restored(bench, kind, listing, option, "restore", &[])?;
        restored(bench, kind, listing, option, "restore, read back", &["--read-back", "--fsync"])?;
    }
    parts(bench)?;
    looks(bench)?;
    upkeep(bench)
}

pub(crate) fn ours(
    bench: &mut Bench,
    verb: &str,
    data: &'static str,
    exit: i32,
    words: &[&str],
    holds: impl FnOnce(&Bench, &Output) -> Result<(String, Vec<u8>)>,
) -> Result<()> {
    let arguments = with(bench, "repo", words);
    bench.row(&Promise { reader: Reader::Alidade, verb, data, arguments, exit }, holds)
}

/// Restores a whole fixture and compares listings.
fn restored(
    bench: &mut Bench,
    kind: &'static str,
    listing: &str,
    option: &str,
    verb: &str,
    more: &[&str],
) -> Result<()> {
    let source = bench.source(kind);
    let target = bench.path(&format!("target/{kind}-{}", more.len()));
    let mut words = vec!["-o", "json", "restore", source.as_str(), "--target", target.as_str()];
    words.extend_from_slice(more);
    ours(bench, verb, kind, 0, &words, |bench, output| {
        let doc = json(output)?;
        ensure!(doc["status"] == "done", "status {}", doc["status"]);
        if !more.is_empty() {
            // A further name of a file is a link to what was read already.
            let number = |part: &str, name: &str| doc[part][name].as_u64().unwrap_or(0);
            let read = number("checks", "read_back") + number("counts", "hard_links");
            ensure!(read >= number("counts", "files"), "not all files were read back");
        }
        same(bench, listing, option, &source, &format!("{target}{source}"))
    })
}

/// Two trees must list alike.
pub(crate) fn same(
    bench: &Bench,
    listing: &str,
    option: &str,
    source: &str,
    target: &str,
) -> Result<(String, Vec<u8>)> {
    let before = bench.script(listing, &[source, option])?;
    let after = bench.script(listing, &[target, option])?;
    if before != after {
        let old: std::collections::BTreeSet<&[u8]> = before.split(|&b| b == b'\n').collect();
        let new: std::collections::BTreeSet<&[u8]> = after.split(|&b| b == b'\n').collect();
        let line = old.symmetric_difference(&new).next().copied().unwrap_or(b"order");
        bail!("differs, first in: {}", String::from_utf8_lossy(line));
    }
    ensure!(!before.is_empty(), "nothing was listed");
    Ok((format!("{} facts equal", before.split(|&b| b == b'\n').count()), after))
}

fn parts(bench: &mut Bench) -> Result<()> {
    let source = bench.source("everyday");
    let (target, file) = (bench.path("target/one"), format!("fs:{source}/run.sh"));
    ours(
        bench,
        "restore one file",
        "everyday",
        0,
        &["restore", &file, "--target", &target],
        |bench, _| {
            let back = std::fs::read(format!("{target}{source}/run.sh"))?;
            ensure!(back == std::fs::read(format!("{source}/run.sh"))?, "the bytes differ");
            let found = bench.script("listing.sh", &[&target])?;
            let files = found
                .split(|&b| b == b'\n')
                .filter(|l| l.starts_with(b"entry") && l.windows(3).any(|w| w == b"\tf\t"))
                .count();
            ensure!(files == 1, "{files} files were restored");
            Ok(("one file, its bytes".to_owned(), back))
        },
    )?;
    let (target, sub) = (bench.path("target/sub"), format!("{source}/doc/deep"));
    ours(
        bench,
        "restore a subtree",
        "everyday",
        0,
        &["restore", &sub, "--target", &target],
        |bench, _| same(bench, "listing.sh", "part", &sub, &format!("{target}{sub}")),
    )?;
    let target = bench.path("target/filtered");
    let words =
        ["restore", &source, "--target", &target, "--include", "doc", "--exclude", "note-1*"];
    ours(bench, "restore --include --exclude", "everyday", 0, &words, |_, _| {
        let doc = format!("{target}{source}/doc");
        ensure!(std::path::Path::new(&doc).join("note-2.txt").exists(), "note-2.txt is missing");
        ensure!(!std::path::Path::new(&doc).join("note-1.txt").exists(), "note-1.txt is there");
        ensure!(
            !std::path::Path::new(&format!("{target}{source}/run.sh")).exists(),
            "run.sh is there"
        );
        Ok(("as chosen".to_owned(), vec![]))
    })
}

fn looks(bench: &mut Bench) -> Result<()> {
    let source = bench.source("everyday");
    ours(bench, "snapshots", "all", 0, &["-o", "json", "snapshots"], |_, output| {
        let count = json(output)?["snapshots"].as_array().map_or(0, Vec::len);
        ensure!(count >= 8, "{count} snapshots");
        Ok((format!("{count} snapshots"), vec![]))
    })?;
    ours(bench, "list", "all", 0, &["list"], |_, output| {
        Ok((lines(output), output.stdout.clone()))
    })?;
    ours(bench, "show", "everyday", 0, &["show", &source], |_, output| {
        Ok((lines(output), vec![]))
    })?;
    ours(bench, "ls", "everyday", 0, &["ls", &source], |_, output| {
        ensure!(text(output).contains("note-199.txt"), "note-199.txt is not listed");
        Ok((lines(output), output.stdout.clone()))
    })?;
    let file = format!("{source}/noise.bin");
    ours(bench, "cat", "everyday", 0, &["cat", &file], |_, output| {
        ensure!(output.stdout == std::fs::read(&file)?, "the bytes differ");
        Ok((format!("{} bytes equal", output.stdout.len()), output.stdout.clone()))
    })?;
    ours(bench, "find", "everyday", 0, &["find", "note-7?.txt"], |_, output| {
        ensure!(text(output).contains("note-77.txt"), "note-77.txt was not found");
        Ok((lines(output), vec![]))
    })?;
    std::fs::write(format!("{source}/added"), "new")?;
    ours(
        bench,
        "protect a change",
        "everyday",
        0,
        &["-o", "json", "protect", &source],
        |_, output| {
            let doc = json(output)?;
            ensure!(
                doc["counts"]["new"] == 1 && doc["bytes"]["read"] == 3,
                "more than the change was read"
            );
            Ok(("1 new file, 3 bytes read".to_owned(), vec![]))
        },
    )?;
    ours(bench, "runs", "all", 0, &["-o", "json", "runs"], |_, output| {
        Ok((format!("{} bytes of JSON", output.stdout.len()), vec![]))
    })
}

fn upkeep(bench: &mut Bench) -> Result<()> {
    ours(bench, "check", "all", 0, &["check"], |_, output| Ok((lines(output), vec![])))?;
    ours(bench, "check --read-data", "all", 0, &["check", "--read-data"], |_, output| {
        Ok((lines(output), vec![]))
    })?;
    ours(bench, "key list", "-", 0, &["key", "list"], |_, output| Ok((lines(output), vec![])))?;
    ours(bench, "unlock", "-", 0, &["unlock"], |_, _| {
        Ok(("nothing to remove".to_owned(), vec![]))
    })?;
    let catalog = bench.path("home/.local/share/alidade/catalog.sqlite");
    std::fs::remove_file(&catalog).with_context(|| format!("remove {catalog}"))?;
    ours(bench, "catalog rebuild", "all", 0, &["catalog", "rebuild"], |_, output| {
        Ok((lines(output), vec![]))
    })
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn lines(output: &Output) -> String {
    format!("{} lines", text(output).lines().count())
}
