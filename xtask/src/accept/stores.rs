//! Repositories on real servers of every kind of store: what is put there comes back, by us and by stock restic, what
//! it costs is counted, and a server that stays away is told as such.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::bench::{Bench, Promise, Reader, Variables, first_line};
use super::faults::complains;
use super::ours::{json, same, text};

/// The servers, and the peers that some of them are.
const SERVERS: [(&str, Option<&str>); 6] = [
    ("versitygw", Some("versitygw")),
    ("minio", Some("minio")),
    ("rest-server", Some("rest-server")),
    ("sshd", None),
    ("azurite", Some("azurite")),
    ("fake-gcs-server", Some("fake-gcs-server")),
];
/// How many listings a backup may ask for, of a repository with few files.
const LISTINGS: u64 = 5;

pub(crate) fn rows(bench: &mut Bench) -> Result<()> {
    let program = bench.built("alidade-testkit", "servers")?;
    for (name, peer) in SERVERS {
        let mut command = Command::new(&program);
        command.arg(name);
        if let Some(peer) = peer {
            let variable = format!("ALIDADE_PEER_{}", peer.replace('-', "_").to_uppercase());
            command.env(variable, bench.peer(peer)?);
        }
        on(bench, Away::start(name, command)?)?;
    }
    Ok(())
}

/// A repository on a server of this machine.
struct Away {
    name: &'static str,
    child: Child,
    asking: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    reached: Reached,
}

/// How a server is reached, in its own words.
#[derive(Deserialize)]
struct Reached {
    place: String,
    options: Vec<String>,
    /// Nothing where stock restic cannot be told of it.
    restic: Option<Vec<String>>,
    variables: Variables,
}

impl Away {
    fn start(name: &'static str, mut command: Command) -> Result<Self> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start the program that starts servers")?;
        let asking = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().context("hear what it says")?);
        let said = line(&mut answers).with_context(|| format!("start {name}"))?;
        let reached = serde_json::from_str(&said)
            .with_context(|| format!("understand how {name} is reached: {said}"))?;
        Ok(Self { name, child, asking, answers, reached })
    }

    /// What came to it since the last time: how many, and of what.
    fn came(&mut self) -> Result<(u64, &'static str)> {
        let said = self.ask("came")?;
        ["requests", "logins"]
            .into_iter()
            .find_map(|word| said[word].as_u64().map(|count| (count, word)))
            .context("find how many there were")
    }

    /// From now on nobody can reach it.
    fn end(&mut self) -> Result<()> {
        self.ask("end").map(drop)
    }

    fn ask(&mut self, word: &str) -> Result<Value> {
        let asking = self.asking.as_mut().context("the server has ended")?;
        writeln!(asking, "{word}")?;
        Ok(serde_json::from_str(&line(&mut self.answers)?)?)
    }

    /// A command line of ours.
    fn ours(&self, bench: &Bench, words: &[&str]) -> Vec<String> {
        let mut all = vec!["-r".to_owned(), self.reached.place.clone()];
        all.extend(["--password-file".to_owned(), bench.path("password")]);
        all.extend(self.reached.options.iter().cloned());
        all.extend(words.iter().map(|&word| word.to_owned()));
        all
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        // It ends with its standard input, and is over when it was waited for.
        drop(self.asking.take());
        drop(self.child.wait());
    }
}

fn line(answers: &mut impl BufRead) -> Result<String> {
    let mut said = String::new();
    if answers.read_line(&mut said)? == 0 {
        bail!("it ended and said nothing");
    }
    Ok(said)
}

fn on(bench: &mut Bench, mut away: Away) -> Result<()> {
    bench.set(away.reached.variables.clone());
    ours(bench, &away, "init", 0, &["init"], |_, _| Ok(("made".to_owned(), vec![])))?;
    backups(bench, &mut away)?;
    idle(bench, &mut away)?;
    comes_back(bench, &away)?;
    match away.reached.restic.clone() {
        Some(options) => {
            let place = away.reached.place.clone();
            by_restic(bench, away.name, (&place, &options), "over the network")?;
        }
        None => by_restic_from_a_copy(bench, &away)?,
    }
    away.end()?;
    let words = ["snapshots", "--retry-store", "1s"];
    ours(bench, &away, "the server stays away", 14, &words, |_, output| {
        complains(output)?;
        Ok((first_line(&output.stderr), vec![]))
    })?;
    bench.set(Variables::new());
    Ok(())
}

fn ours(
    bench: &mut Bench,
    away: &Away,
    verb: &str,
    exit: i32,
    words: &[&str],
    holds: impl FnOnce(&Bench, &Output) -> Result<(String, Vec<u8>)>,
) -> Result<()> {
    let arguments = away.ours(bench, words);
    bench.row(&Promise { reader: Reader::Alidade, verb, data: away.name, arguments, exit }, holds)
}

/// A first backup and one of what is the same: few listings, and every request is counted.
fn backups(bench: &mut Bench, away: &mut Away) -> Result<()> {
    let source = bench.source("everyday");
    for (verb, is_first) in [("protect", true), ("protect again", false)] {
        away.came()?;
        let words = ["-o", "json", "protect", "--pack-size", "4", &source];
        let promise = Promise {
            reader: Reader::Alidade,
            verb,
            data: away.name,
            arguments: away.ours(bench, &words),
            exit: 0,
        };
        bench.row(&promise, |_, output| {
            let doc = json(output)?;
            ensure!(doc["status"] == "done", "status {}", doc["status"]);
            let bytes = |name: &str| doc["bytes"][name].as_u64().context("count the bytes");
            ensure!(is_first == (bytes("read")? > 0), "{} bytes were read", bytes("read")?);
            let cost = counted(&doc["traffic"], away)?;
            let sent = doc["traffic"]["sent"].as_u64().context("count what was sent")?;
            ensure!(sent > bytes("stored")?, "{sent} bytes sent of {} stored", bytes("stored")?);
            Ok((format!("{cost}, {sent} bytes sent"), vec![]))
        })?;
    }
    Ok(())
}

/// The requests of an outcome, which are those that came, and few of them listings.
fn counted(traffic: &Value, away: &mut Away) -> Result<String> {
    let requests = traffic["requests"].as_object().context("find the requests")?;
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let total: u64 = requests.values().map(count).sum();
    let listings = requests.get("list").map_or(0, count);
    ensure!(listings <= LISTINGS, "{listings} listings");
    match away.came()? {
        (seen, "requests") => {
            ensure!(seen == total, "{total} requests were counted, and {seen} came");
        }
        (logins, _) => ensure!(logins == 1 && total > 0, "{logins} logins, {total} requests"),
    }
    Ok(format!("{total} requests, {listings} of them listings"))
}

/// Between runs nothing is asked.
fn idle(bench: &mut Bench, away: &mut Away) -> Result<()> {
    away.came()?;
    let promise = Promise {
        reader: Reader::Shell,
        verb: "nothing for a second",
        data: away.name,
        arguments: vec!["-c".to_owned(), "sleep 1".to_owned()],
        exit: 0,
    };
    bench.row(&promise, |_, _| {
        let (count, of) = away.came()?;
        ensure!(count == 0, "{count} {of} came");
        Ok((format!("no {of}"), vec![]))
    })
}

fn comes_back(bench: &mut Bench, away: &Away) -> Result<()> {
    let words = ["-o", "json", "check", "--read-data"];
    ours(bench, away, "check --read-data", 0, &words, |_, output| {
        let doc = json(output)?;
        let packs = &doc["summary"]["packs_read"];
        ensure!(packs.as_u64() > Some(1), "{packs} packs were read");
        Ok((format!("{packs} packs read, {} damage", doc["summary"]["damage"]), vec![]))
    })?;
    let (source, target) = (bench.source("everyday"), bench.path(&format!("target/{}", away.name)));
    let words = ["-o", "json", "restore", &source, "--target", &target];
    ours(bench, away, "restore", 0, &words, |bench, output| {
        let traffic = &json(output)?["traffic"];
        let received = traffic["received"].as_u64().context("count what was received")?;
        ensure!(received > 0, "nothing was received");
        let (said, listing) =
            same(bench, "listing.sh", "holes", &source, &format!("{target}{source}"))?;
        Ok((format!("{said}, {received} bytes received"), listing))
    })
}

/// Stock restic checks and restores what is in that place, with those options.
fn by_restic(
    bench: &mut Bench,
    name: &'static str,
    (place, options): (&str, &[String]),
    how: &str,
) -> Result<()> {
    let words = |bench: &Bench, words: &[&str]| {
        let mut all = vec!["-r".to_owned(), place.to_owned()];
        all.extend(["-p".to_owned(), bench.path("password"), "--no-cache".to_owned()]);
        all.extend(options.iter().cloned());
        all.extend(words.iter().map(|&word| word.to_owned()));
        all
    };
    let promise =
        |verb, arguments| Promise { reader: Reader::Restic, verb, data: name, arguments, exit: 0 };
    let arguments = words(bench, &["check", "--read-data"]);
    bench.row(&promise("check --read-data", arguments), |_, output| {
        ensure!(text(output).contains("no errors were found"), "errors were found");
        Ok((format!("no errors were found, {how}"), vec![]))
    })?;
    let (source, target) = (bench.source("everyday"), bench.path(&format!("target/restic-{name}")));
    let arguments = words(bench, &["restore", "latest", "--path", &source, "--target", &target]);
    bench.row(&promise("restore", arguments), |bench, _| {
        same(bench, "listing.sh", "stock", &source, &format!("{target}{source}"))
    })
}

/// restic speaks to Azure's own servers alone: it reads what was copied from there.
fn by_restic_from_a_copy(bench: &mut Bench, away: &Away) -> Result<()> {
    let copy = bench.path(&format!("copy-{}", away.name));
    let password = bench.path("password");
    let init: Vec<String> =
        ["-r", &copy, "--password-file", &password, "init"].map(str::to_owned).to_vec();
    let promise = Promise {
        reader: Reader::Alidade,
        verb: "init of a copy",
        data: away.name,
        arguments: init,
        exit: 0,
    };
    bench.row(&promise, |_, _| Ok(("made".to_owned(), vec![])))?;
    let words = ["-o", "json", "copy", "--to", &copy, "--to-password-file", &password];
    ours(bench, away, "copy", 0, &words, |_, output| {
        let copied = json(output)?["copied"].as_u64().context("count what was copied")?;
        ensure!(copied == 2, "{copied} snapshots were copied, and there are 2");
        Ok((format!("{copied} snapshots copied"), vec![]))
    })?;
    by_restic(bench, away.name, (&copy, &[]), "in a copy")
}
