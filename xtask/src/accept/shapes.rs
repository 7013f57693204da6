//! Disks and streams: what is stored of them, what comes back, and what stock restic makes of it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Output;

use anyhow::{Context, Result, ensure};

use super::bench::{Bench, Promise, Reader};
use super::faults::refused;
use super::ours::{json, ours, with};

/// Bytes of a cell of a disk.
const CELL: u64 = 256 << 10;
/// What the stream of these rows is made by.
const COMMAND: &str = "seq 1 400000";

pub(crate) fn rows(bench: &mut Bench) -> Result<()> {
    disk(bench)?;
    changed_disk(bench)?;
    device(bench)?;
    stream(bench)?;
    bad_stream(bench)?;
    read_by_restic(bench)
}

fn disk(bench: &mut Bench) -> Result<()> {
    let image = bench.path("disk.img");
    bench.script("disk.sh", &[&image])?;
    let disk = format!("disk:{image}");
    let len = fs::metadata(&image)?.len();
    ours(bench, "protect", "disk", 0, &["-o", "json", "protect", &disk], |_, output| {
        let doc = json(output)?;
        ensure!(doc["status"] == "done", "status {}", doc["status"]);
        ensure!(doc["bytes"]["total"] == len, "{} bytes", doc["bytes"]["total"]);
        let read = doc["bytes"]["read"].as_u64().context("find what was read")?;
        ensure!(read < 12 << 20, "{read} bytes were read of 10 MB of data: holes, too");
        let digest = doc["digest"].as_str().context("find the digest")?.to_owned();
        Ok((format!("{read} bytes read of {len}"), digest.into_bytes()))
    })?;
    let target = bench.path("target/disk.img");
    fs::create_dir_all(bench.path("target"))?;
    let words = ["restore", &disk, "--target", &target, "--read-back"];
    ours(bench, "restore, read back", "disk", 0, &words, |_, _| {
        let (was, is) = (fs::metadata(&image)?, fs::metadata(&target)?);
        ensure!(is.blocks() <= was.blocks(), "{} blocks of {}", is.blocks(), was.blocks());
        equal(&image, &target)
    })?;
    let words = ["cat", disk.as_str(), "--offset", "2999990", "--length", "1000000"];
    ours(bench, "cat --offset --length", "disk", 0, &words, |_, output| {
        ensure!(output.stdout == fs::read(&image)?[2_999_990..3_999_990], "the bytes differ");
        Ok(("1000000 bytes equal".to_owned(), output.stdout.clone()))
    })
}

fn changed_disk(bench: &mut Bench) -> Result<()> {
    let (image, target) = (bench.path("disk.img"), bench.path("target/disk.img"));
    let disk = format!("disk:{image}");
    File::options().write(true).open(&image)?.write_all_at(b"changed", 1_000_000)?;
    ours(bench, "protect a change", "disk", 0, &["-o", "json", "protect", &disk], |_, output| {
        let added = json(output)?["bytes"]["added"].as_u64().context("find what was added")?;
        ensure!(added < 2 * CELL, "{added} bytes are new");
        Ok((format!("{added} bytes new"), vec![]))
    })?;
    let into = ["restore", disk.as_str(), "--target", target.as_str()];
    refused(bench, "restore over a disk", 21, with(bench, "repo", &into))?;
    let words = [&["-o", "json"][..], &into, &["--in-place"]].concat();
    ours(bench, "restore --in-place", "disk", 0, &words, |_, output| {
        let written =
            json(output)?["bytes"]["written"].as_u64().context("find what was written")?;
        ensure!(written == CELL, "{written} bytes were written");
        equal(&image, &target)
    })
}

/// A device that is mounted read-write, and the same with `--live`.
fn device(bench: &mut Bench) -> Result<()> {
    for (live, exit) in [("", 21), ("--live", 0)] {
        let script = format!(
            "set -e; i={dir}/device.img; m={dir}/mounted; mkdir -p $m; truncate -s 16M $i; \
             mkfs.ext4 -q -F $i; l=$(losetup --find --show $i); \
             trap 'umount $m; losetup --detach $l' EXIT; mount $l $m; \
             {alidade} -r {dir}/repo --password-file {dir}/password protect disk:$l {live}",
            dir = bench.dir.path().display(),
            alidade = bench.alidade().display(),
        );
        let verb = if live.is_empty() { "protect what is mounted" } else { "protect --live" };
        let arguments = vec!["-c".to_owned(), script];
        let promise = Promise { reader: Reader::Shell, verb, data: "device", arguments, exit };
        bench.row(&promise, |_, output| {
            let said =
                String::from_utf8_lossy(if exit == 0 { &output.stdout } else { &output.stderr });
            let wanted = if exit == 0 { "torn" } else { "is mounted read-write" };
            let line = said.lines().find(|line| line.contains(wanted));
            Ok((line.with_context(|| format!("find `{wanted}`"))?.trim().to_owned(), vec![]))
        })?;
    }
    Ok(())
}

fn stream(bench: &mut Bench) -> Result<()> {
    let words =
        ["-o", "json", "protect", "--stdin-from-command", "dump", "--", "sh", "-c", COMMAND];
    ours(bench, "protect --stdin-from-command", "stream", 0, &words, |_, output| {
        let doc = json(output)?;
        ensure!(doc["status"] == "done", "status {}", doc["status"]);
        ensure!(doc["bytes"]["total"] == 2_688_895, "{} bytes", doc["bytes"]["total"]);
        Ok((format!("{} bytes", doc["bytes"]["total"]), vec![]))
    })?;
    let words = ["restore", "stream:dump", "--to-stdout"];
    ours(bench, "restore --to-stdout", "stream", 0, &words, |_, output| whole(&output.stdout))?;
    let taken = bench.path("taken");
    let script = format!("cat > {taken}");
    let words = ["restore", "stream:dump", "--to-command", "--", "sh", "-c", script.as_str()];
    ours(bench, "restore --to-command", "stream", 0, &words, |_, _| whole(&fs::read(&taken)?))
}

/// What is not whole is not stored, and what fails to take it all fails.
fn bad_stream(bench: &mut Bench) -> Result<()> {
    let before = snapshots(bench)?;
    let protect = ["protect", "--stdin-from-command", "dump"];
    for (verb, options, script) in [
        ("protect a command that fails", &[][..], "seq 1 400000; exit 3"),
        ("protect a command that is killed", &[], "seq 1 400000; kill -9 $$"),
        ("protect a command that takes too long", &["--command-timeout", "1s"], "sleep 60"),
    ] {
        let words = [&protect[..], options, &["--", "sh", "-c", script]].concat();
        refused(bench, verb, 1, with(bench, "repo", &words))?;
    }
    let after = snapshots(bench)?;
    ensure!(after == before, "{after} snapshots, of {before}: of a command that failed, too");
    let words =
        ["restore", "stream:dump", "--to-command", "--", "sh", "-c", "head -c 9 >/dev/null"];
    refused(bench, "restore to a command that breaks off", 1, with(bench, "repo", &words))
}

fn snapshots(bench: &Bench) -> Result<usize> {
    Ok(fs::read_dir(bench.path("repo/snapshots"))?.count())
}

fn read_by_restic(bench: &mut Bench) -> Result<()> {
    let image = bench.path("disk.img");
    let rows = [("disk", format!("/disk{image}")), ("stream", "/stream/dump".to_owned())];
    for (data, path) in rows {
        for reader in [Reader::Restic, Reader::ResticDebian] {
            let file = format!("{path}/data");
            let words = ["dump", "latest", "--path", path.as_str(), file.as_str()];
            let arguments = super::neighbours::restic(bench, "repo", &words);
            let promise = Promise { reader, verb: "dump", data, arguments, exit: 0 };
            bench.row(&promise, |_, output: &Output| match data {
                "stream" => whole(&output.stdout),
                _ => {
                    ensure!(output.stdout == fs::read(&image)?, "the bytes differ");
                    Ok((format!("{} bytes equal", output.stdout.len()), output.stdout.clone()))
                }
            })?;
        }
    }
    Ok(())
}

fn equal(one: &str, other: &str) -> Result<(String, Vec<u8>)> {
    let (one, other) = (fs::read(one)?, fs::read(other)?);
    ensure!(one == other, "the bytes differ");
    Ok((format!("{} bytes equal", one.len()), one))
}

fn whole(found: &[u8]) -> Result<(String, Vec<u8>)> {
    let meant: Vec<u8> = (1..=400_000).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    ensure!(found == meant, "{} bytes, which are not those that were printed", found.len());
    Ok((format!("{} bytes equal", found.len()), meant))
}
