//! What stock restic does with our repositories, and we with its.

use anyhow::{Result, ensure};

use super::bench::{Bench, Promise, Reader};
use super::ours::{json, lines, same, text, with};

pub(crate) fn rows(bench: &mut Bench) -> Result<()> {
    for reader in [Reader::Restic, Reader::ResticDebian] {
        reads_ours(bench, reader)?;
        writes_theirs(bench, reader)?;
    }
    Ok(())
}

/// A restic command line on one of our scratch repositories.
pub(crate) fn restic(bench: &Bench, repository: &str, words: &[&str]) -> Vec<String> {
    let mut all = vec![
        "-r".to_owned(),
        bench.path(repository),
        "-p".to_owned(),
        bench.path("password"),
        "--no-cache".to_owned(),
    ];
    all.extend(words.iter().map(|&word| word.to_owned()));
    all
}

/// What this program can keep.
const fn listing(reader: Reader) -> &'static str {
    match reader {
        Reader::ResticDebian => "stock-0.14",
        Reader::Alidade | Reader::Restic | Reader::Shell => "stock",
    }
}

fn reads_ours(bench: &mut Bench, reader: Reader) -> Result<()> {
    let source = bench.source("everyday");
    let tag = if matches!(reader, Reader::Restic) { "new" } else { "old" };
    let row = |verb, data, words: &[&str], bench: &Bench| Promise {
        reader,
        verb,
        data,
        arguments: restic(bench, "repo", words),
        exit: 0,
    };
    let promise = row("check --read-data", "all", &["check", "--read-data"], bench);
    bench.row(&promise, |_, output| {
        ensure!(text(output).contains("no errors were found"), "errors were found");
        Ok(("no errors were found".to_owned(), vec![]))
    })?;
    let promise = row("ls", "everyday", &["ls", "latest", "--path", &source], bench);
    bench.row(&promise, |_, output| {
        ensure!(text(output).contains("/doc/note-199.txt"), "note-199.txt is not listed");
        Ok((lines(output), vec![]))
    })?;
    let file = format!("{source}/noise.bin");
    let promise = row("dump", "everyday", &["dump", "latest", "--path", &source, &file], bench);
    bench.row(&promise, |_, output| {
        ensure!(output.stdout == std::fs::read(&file)?, "the bytes differ");
        Ok((format!("{} bytes equal", output.stdout.len()), output.stdout.clone()))
    })?;
    for kind in ["everyday", "odd"] {
        let source = bench.source(kind);
        let target = bench.path(&format!("target/{tag}-{kind}"));
        let words = ["restore", "latest", "--path", &source, "--target", &target];
        let promise = row("restore", kind, &words, bench);
        bench.row(&promise, |bench, _| {
            same(bench, "listing.sh", listing(reader), &source, &format!("{target}{source}"))
        })?;
    }
    let words = ["backup", "--json", "--host", "accept", &source];
    let promise = row("backup on top", "everyday", &words, bench);
    bench.row(&promise, |_, output| {
        let last = text(output).lines().last().unwrap_or_default().to_owned();
        let summary: serde_json::Value = serde_json::from_str(&last)?;
        ensure!(
            summary["files_new"] == 0 && summary["files_changed"] == 0,
            "files were read again"
        );
        Ok((format!("{} files unmodified", summary["files_unmodified"]), vec![]))
    })?;
    let arguments = with(bench, "repo", &["-o", "json", "protect", &source]);
    let verb = "protect on restic's backup";
    let promise = Promise { reader: Reader::Alidade, verb, data: "everyday", arguments, exit: 0 };
    bench.row(&promise, |_, output| {
        let doc = json(output)?;
        ensure!(doc["bytes"]["read"] == 0, "{} bytes were read again", doc["bytes"]["read"]);
        Ok((format!("{} files unchanged", doc["counts"]["unchanged"]), vec![]))
    })
}

fn writes_theirs(bench: &mut Bench, reader: Reader) -> Result<()> {
    let tag = if matches!(reader, Reader::Restic) { "their-new" } else { "their-old" };
    let source = bench.source("odd");
    let promise = |verb, words: &[&str], bench: &Bench| Promise {
        reader,
        verb,
        data: "odd",
        arguments: restic(bench, tag, words),
        exit: 0,
    };
    let init = promise("init", &["init"], bench);
    bench.row(&init, |_, _| Ok(("made".to_owned(), vec![])))?;
    let backup = promise("backup", &["backup", "--host", "accept", &source], bench);
    bench.row(&backup, |_, output| Ok((lines(output), vec![])))?;
    let target = bench.path(&format!("target/{tag}"));
    let ours = |verb, words: &[&str], bench: &Bench| Promise {
        reader: Reader::Alidade,
        verb,
        data: "odd",
        arguments: with(bench, tag, words),
        exit: 0,
    };
    let restore = ours("restore restic's", &["restore", &source, "--target", &target], bench);
    bench.row(&restore, |bench, _| {
        same(bench, "listing.sh", listing(reader), &source, &format!("{target}{source}"))
    })?;
    let check = ours("check --read-data restic's", &["check", "--read-data"], bench);
    bench.row(&check, |_, output| Ok((lines(output), vec![])))?;
    let protect = ours("protect on restic's", &["-o", "json", "protect", &source], bench);
    bench.row(&protect, |_, output| {
        let doc = json(output)?;
        ensure!(doc["bytes"]["read"] == 0, "{} bytes were read again", doc["bytes"]["read"]);
        Ok((format!("{} files unchanged", doc["counts"]["unchanged"]), vec![]))
    })?;
    let words = ["forget", "--keep-last", "1", "--host", "accept", "--path", &source, "--prune"];
    let forget = promise("forget --prune ours", &words, bench);
    bench.row(&forget, |_, output| Ok((lines(output), vec![])))?;
    let again = bench.path(&format!("target/{tag}-kept"));
    let kept = ours("restore what prune kept", &["restore", &source, "--target", &again], bench);
    bench.row(&kept, |bench, _| {
        same(bench, "listing.sh", listing(reader), &source, &format!("{again}{source}"))
    })
}
