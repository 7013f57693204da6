//! Bad input and bad luck: the right exit code, an `error:` and a `hint:`, and nothing lost.

use std::process::Output;

use anyhow::{Context, Result, ensure};

use super::bench::{Bench, Promise, Reader, first_line};
use super::ours::{json, with};

pub(crate) fn rows(bench: &mut Bench) -> Result<()> {
    let source = bench.source("everyday");
    std::fs::write(bench.path("wrong"), "not this\n")?;
    let mut wrong = with(bench, "repo", &["snapshots"]);
    wrong[3] = bench.path("wrong");
    refused(bench, "wrong password", 12, wrong)?;
    let nowhere = with(bench, "no-repository", &["snapshots"]);
    refused(bench, "no repository", 10, nowhere)?;
    let missing = with(bench, "repo", &["protect", &bench.path("not/there")]);
    refused(bench, "protect what is not there", 13, missing)?;
    let target = bench.path("target/everyday-0");
    let full = with(bench, "repo", &["restore", &source, "--target", &target]);
    refused(bench, "restore into what is not empty", 21, full)?;
    let usage = with(bench, "repo", &["protect", &source, "--no-lock"]);
    refused(bench, "protect --no-lock", 2, usage)?;
    let unknown = with(bench, "repo", &["show", "0123456789abcdef"]);
    refused(bench, "a snapshot that is not there", 13, unknown)?;
    unreadable(bench)?;
    damaged(bench)
}

pub(crate) fn refused(
    bench: &mut Bench,
    verb: &str,
    exit: i32,
    arguments: Vec<String>,
) -> Result<()> {
    let promise = Promise { reader: Reader::Alidade, verb, data: "-", arguments, exit };
    bench.row(&promise, |_, output| {
        complains(output)?;
        Ok((first_line(&output.stderr), vec![]))
    })
}

pub(crate) fn complains(output: &Output) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.lines().any(|line| line.starts_with("error: ")), "no line begins with `error:`");
    ensure!(said.lines().any(|line| line.starts_with("hint: ")), "no line begins with `hint:`");
    Ok(())
}

/// Root is never refused: the same as another user.
fn unreadable(bench: &mut Bench) -> Result<()> {
    let script = format!(
        "set -e; d={dir}; rm -rf $d; mkdir -p $d/source $d/home; printf a >$d/source/open; printf b >$d/source/closed; \
         chmod 000 $d/source/closed; cp {password} $d/password; chown -R 65534:65534 $d; chmod 755 {top}; \
         cp {alidade} $d/alidade; export HOME=$d/home; \
         run() {{ setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"; }}; \
         run $d/alidade -r $d/repo --password-file $d/password init >/dev/null; \
         run $d/alidade -r $d/repo --password-file $d/password -o json protect $d/source",
        dir = bench.path("unprivileged"),
        top = bench.path(""),
        password = bench.path("password"),
        alidade = bench.alidade().display(),
    );
    let arguments = vec!["-c".to_owned(), script];
    let verb = "protect as a user who may not read";
    let promise = Promise { reader: Reader::Shell, verb, data: "-", arguments, exit: 3 };
    bench.row(&promise, |_, output| {
        let doc = json(output)?;
        ensure!(
            doc["omissions"]["by_kind"]["permission-denied"] == 1,
            "the omission is not counted"
        );
        ensure!(doc["counts"]["files"] == 1, "the other file is not there");
        Ok((format!("1 file, omitted: {}", doc["omissions"]["named"][0]["path"]), vec![]))
    })
}

/// A flipped bit in the largest pack.
fn damaged(bench: &mut Bench) -> Result<()> {
    let script = format!(
        "set -e; cp -r {repo} {copy}; p=$(ls -S {copy}/data/*/* | head -1); chmod u+w $p; \
         printf '\\377' | dd of=$p bs=1 seek=1000 conv=notrunc status=none",
        repo = bench.path("repo"),
        copy = bench.path("damaged")
    );
    let output = bench.output(Reader::Shell, &["-c".to_owned(), script])?;
    ensure!(output.status.success(), "damage a copy: {}", first_line(&output.stderr));
    let arguments = with(bench, "damaged", &["check", "--read-data"]);
    refused(bench, "check --read-data of a flipped byte", 20, arguments)?;
    let source = bench.source("everyday");
    let target = bench.path("target/damaged");
    let arguments =
        with(bench, "damaged", &["-o", "json", "restore", &source, "--target", &target]);
    let verb = "restore of a flipped byte";
    let promise = Promise { reader: Reader::Alidade, verb, data: "everyday", arguments, exit: 20 };
    bench.row(&promise, |_, output| {
        let doc = json(output)?;
        let omitted = doc["omissions"]["total"].as_u64().context("count the omissions")?;
        ensure!(omitted > 0, "nothing is named as missing");
        ensure!(doc["counts"]["files"].as_u64() > Some(0), "nothing else was restored");
        Ok((
            format!("{} files restored, {omitted} named as damaged", doc["counts"]["files"]),
            vec![],
        ))
    })
}
