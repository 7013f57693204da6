//! Damage that is named and mended, data that is read in parts, runs that go on after they were killed.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::bench::{Bench, Promise, Reader};
use super::ours::{json, with};

pub(crate) fn rows(bench: &mut Bench) -> Result<()> {
    parts(bench)?;
    mended(bench)?;
    killed(bench)?;
    on(bench, "doctor", "repo", 0, &["doctor"], |doc| {
        Ok(format!(
            "{} looks, {} problems",
            doc["looks"].as_array().map_or(0, Vec::len),
            doc["problems"]
        ))
    })
}

/// A verb of ours on a repository, and what must hold of its document.
fn on(
    bench: &mut Bench,
    verb: &str,
    repository: &str,
    exit: i32,
    words: &[&str],
    holds: impl FnOnce(&Value) -> Result<String>,
) -> Result<()> {
    let arguments = with(bench, repository, &[&["-o", "json"], words].concat());
    let promise = Promise { reader: Reader::Alidade, verb, data: "-", arguments, exit };
    bench.row(&promise, |_, output| Ok((holds(&json(output)?)?, vec![])))
}

fn parts(bench: &mut Bench) -> Result<()> {
    let read = |doc: &Value| {
        let count = |name: &str| doc["summary"][name].as_u64().context("count packs");
        ensure!(
            count("packs_read")? == count("packs_chosen")?,
            "not all were read: {}",
            doc["summary"]
        );
        Ok((count("packs_read")?, count("packs")?))
    };
    let half = |doc: &Value| read(doc).map(|(read, all)| format!("{read} of {all} packs"));
    let verb = "check --read-data-subset";
    on(bench, verb, "repo", 0, &["check", "--read-data-subset", "1/2"], half)?;
    on(bench, verb, "repo", 0, &["check", "--read-data-subset", "2/2"], half)?;
    on(bench, "check --not-read-for", "repo", 0, &["check", "--not-read-for", "1d"], |doc| {
        let (read, all) = read(doc)?;
        // Each of the two checks has written a proof since, of two packs at most.
        ensure!(read <= 4 && all > 20, "{read} of {all} packs were read again");
        Ok(format!("{read} of {all} packs, those of the proofs: both halves were all of them"))
    })
}

/// What [`super::faults`] damaged.
fn mended(bench: &mut Bench) -> Result<()> {
    on(bench, "check names what is touched", "damaged", 20, &["check", "--read-data"], |doc| {
        let findings = doc["findings"].as_array().context("find the findings")?;
        let touched = findings.iter().find(|finding| finding["class"] == "touched");
        Ok(touched.context("find what is touched")?["why"].to_string())
    })?;
    for (verb, words) in [
        ("repair packs --plan", &["repair", "packs", "--plan"][..]),
        ("repair packs", &["repair", "packs"]),
    ] {
        on(bench, verb, "damaged", 20, words, |doc| {
            let pack = &doc["packs"][0];
            let lost = pack["lost"].as_array().context("find what is lost")?.len();
            ensure!(lost == 1, "{lost} blobs are lost, and one byte is wrong");
            Ok(format!("{} blobs saved, {lost} lost", pack["saved"]))
        })?;
    }
    let words = ["repair", "snapshots", "--forget"];
    on(bench, "repair snapshots --forget", "damaged", 20, &words, |doc| {
        let snapshots = doc["snapshots"].as_array().context("find the snapshots")?;
        ensure!(!snapshots.is_empty(), "none is touched");
        Ok(format!("{} written again", snapshots.len()))
    })?;
    on(bench, "check of what was mended", "damaged", 0, &["check", "--read-data"], |doc| {
        Ok(format!("{} damage", doc["summary"]["damage"]))
    })?;
    let (source, target) = (bench.source("everyday"), bench.path("target/mended"));
    let words = ["restore", source.as_str(), "--target", target.as_str()];
    on(bench, "restore of what was mended", "damaged", 3, &words, |doc| {
        let lost = doc["omissions"]["total"].as_u64().context("count the omissions")?;
        ensure!(lost > 0, "nothing is named as missing");
        Ok(format!("{} files, {lost} named as lost", doc["counts"]["files"]))
    })?;
    let arguments = super::neighbours::restic(bench, "damaged", &["check", "--read-data"]);
    let verb = "check of what was mended";
    let promise = Promise { reader: Reader::Restic, verb, data: "-", arguments, exit: 0 };
    bench.row(&promise, |_, _| Ok(("no errors were found".to_owned(), vec![])))
}

/// SIGKILL once three partial snapshots were seen, then the same again.
fn killed(bench: &mut Bench) -> Result<()> {
    let script = format!(
        "set -e; d={dir}/killed; mkdir -p $d; head -c 80000000 /dev/urandom | split -a 4 -b 20000 - $d/f; \
         a=\"{alidade} -r {dir}/resumed --password-file {dir}/password\"; $a init >/dev/null; \
         $a protect --checkpoint 1ms $d >/dev/null 2>&1 & p=$!; seen=0; last=; \
         while [ $seen -lt 3 ]; do kill -0 $p; now=$(ls {dir}/resumed/snapshots | grep -v tmp || true); \
         [ \"$now\" = \"$last\" ] || seen=$((seen + 1)); last=$now; done; \
         kill -9 $p; wait $p 2>/dev/null || true; $a unlock >/dev/null; $a -o json protect $d",
        dir = bench.dir.path().display(),
        alidade = bench.alidade().display(),
    );
    let arguments = vec!["-c".to_owned(), script];
    let verb = "protect, SIGKILL, protect";
    let promise = Promise { reader: Reader::Shell, verb, data: "-", arguments, exit: 0 };
    bench.row(&promise, |_, output| {
        let doc = json(output)?;
        let (read, total) = (doc["bytes"]["read"].as_u64(), doc["bytes"]["total"].as_u64());
        ensure!(total == Some(80_000_000), "{total:?} bytes in all");
        ensure!(read < total, "everything was read again");
        Ok((format!("{} of 80000000 bytes read the second time", doc["bytes"]["read"]), vec![]))
    })
}
