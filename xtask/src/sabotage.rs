//! Breaks one thing at a time and sees who notices.
//!
//! The tests are built once with the feature `sabotage`, then run once unbroken, which must be green, and
//! once for each way to break the program. A way that leaves every test green is a hole in the tests, and
//! makes this fail.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

/// Every way to break it, as `alidade_model::Sabotage` names them, and which tests are asked first.
const WAYS: [(&str, &str); 18] = [
    ("drop-last-chunk", "engine"),
    ("flip-stored-byte", "engine"),
    ("skip-file", "engine"),
    ("swallow-permission-error", "engine"),
    ("lose-xattr", "engine"),
    ("lose-acl", "engine"),
    ("lose-nanoseconds", "engine"),
    ("snapshot-before-index", "write_read"),
    ("skip-self-check", "engine"),
    ("keep-changed-cell", "it"),
    ("drop-hole", "it"),
    ("store-failed-stream", "it"),
    ("end-broken-stream", "it"),
    ("take-partial-for-whole", "it"),
    ("hide-repair", "damage"),
    ("record-damaged-pack", "it"),
    ("take-half-for-whole", "nothing_is_overwritten"),
    ("lose-failed-upload", "nothing_is_overwritten"),
];

/// The tests that are asked, in this order: package, test target, and what the names of those begin with that
/// are run of it; all without one.
const WITNESSES: [(&str, &str, &[&str]); 5] = [
    ("alidade", "engine", &[]),
    ("alidade-repository", "write_read", &[]),
    ("alidade", "it", &["disk::", "stream::", "parts::", "partial::a_partial_snapshot"]),
    ("alidade", "damage", &["repair::a_disk", "repair::a_snapshot"]),
    ("alidade-stores", "nothing_is_overwritten", &[]),
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The form of the list
    #[arg(short, long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
    /// Only these ways; all of them without a name
    ways: Vec<String>,
}

/// One way to break it, and who noticed.
#[derive(Serialize)]
struct Verdict {
    sabotage: String,
    /// The test that turned red first, as `target::test`.
    caught_by: Option<String>,
    /// How many tests of that target turned red.
    red: usize,
}

/// A built test target.
struct Witness {
    name: &'static str,
    tests: &'static [&'static str],
    binary: PathBuf,
}

/// Goes through the list; fails when a way stays green.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    for way in &arguments.ways {
        ensure!(
            WAYS.iter().any(|(known, _)| known == way),
            "there is no `{way}`; there are: {}",
            WAYS.map(|(known, _)| known).join(", ")
        );
    }
    let witnesses = build(root)?;
    for witness in &witnesses {
        eprintln!("unbroken: {}", witness.name);
        let red = reds(root, witness, None)?;
        ensure!(red.is_empty(), "{} is red without being broken: {}", witness.name, red.join(", "));
    }
    let mut verdicts = Vec::new();
    for (way, first) in WAYS {
        if arguments.ways.is_empty() || arguments.ways.iter().any(|asked| asked == way) {
            verdicts.push(judge(root, &witnesses, (way, first))?);
        }
    }
    if arguments.output == "json" {
        println!("{}", serde_json::to_string_pretty(&verdicts)?);
    } else {
        for verdict in &verdicts {
            let by = verdict.caught_by.as_deref().unwrap_or("NOBODY");
            println!("{:26} caught by {by} ({} red)", verdict.sabotage, verdict.red);
        }
    }
    let green = verdicts.iter().filter(|verdict| verdict.caught_by.is_none()).count();
    eprintln!("{} breaks caught, {green} not", verdicts.len() - green);
    if green > 0 {
        bail!("{green} ways to break the program stay green");
    }
    Ok(())
}

fn judge(root: &Path, witnesses: &[Witness], (way, first): (&str, &str)) -> Result<Verdict> {
    eprintln!("broken: {way}");
    let mut witnesses: Vec<&Witness> = witnesses.iter().collect();
    witnesses.sort_by_key(|witness| witness.name != first);
    for witness in witnesses {
        let red = reds(root, witness, Some(way))?;
        if let Some(first) = red.first() {
            let caught_by = Some(format!("{}::{first}", witness.name));
            return Ok(Verdict { sabotage: way.to_owned(), caught_by, red: red.len() });
        }
    }
    Ok(Verdict { sabotage: way.to_owned(), caught_by: None, red: 0 })
}

/// Builds the tests that are asked. Their binaries have a folder of their own, for the feature is part of the
/// build; what is the same with it and without is built once for both.
fn build(root: &Path) -> Result<Vec<Witness>> {
    let shared = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    WITNESSES
        .into_iter()
        .map(|(package, test, tests)| {
            eprintln!("building {package}::{test} with the feature `sabotage`");
            let output = Command::new("cargo")
                .args(["test", "--locked", "--no-run", "--message-format=json"])
                .args([
                    "--features",
                    "alidade-model/sabotage",
                    "--package",
                    package,
                    "--test",
                    test,
                ])
                .arg("--target-dir")
                .arg(shared.join("sabotage"))
                .env("CARGO_BUILD_BUILD_DIR", &shared)
                .current_dir(root)
                .stderr(std::process::Stdio::inherit())
                .output()
                .context("start cargo")?;
            ensure!(output.status.success(), "{package}::{test} does not build");
            Ok(Witness { name: test, tests, binary: executable(&output.stdout, test)? })
        })
        .collect()
}

/// The path of the test binary among cargo's messages.
fn executable(messages: &[u8], test: &str) -> Result<PathBuf> {
    String::from_utf8_lossy(messages)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == test)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("find the binary of {test} among cargo's messages"))
}

/// Runs a witness and names the tests that failed.
fn reds(root: &Path, witness: &Witness, way: Option<&str>) -> Result<Vec<String>> {
    let mut command = Command::new(&witness.binary);
    command.current_dir(root).args(witness.tests).env_remove("ALIDADE_SABOTAGE");
    if let Some(way) = way {
        command.env("ALIDADE_SABOTAGE", way);
    }
    let output = command.output().with_context(|| format!("start {}", witness.binary.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let red: Vec<String> = said
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(str::to_owned)
        .collect();
    ensure!(
        output.status.success() == red.is_empty(),
        "{} ended with {} and named no failed test",
        witness.name,
        output.status
    );
    Ok(red)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_are_those_that_the_model_knows() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/model/src/sabotage.rs");
        let source = std::fs::read_to_string(root).expect("read the list of the model");
        let known = source.matches(" => \"").count();
        assert_eq!(known, WAYS.len());
        assert!(WAYS.iter().all(|(way, _)| source.contains(&format!("=> \"{way}\""))));
    }

    #[test]
    fn the_binary_is_found_among_other_messages() {
        let messages = b"noise\n{\"target\":{\"name\":\"engine\"},\"executable\":\"/x/engine\"}\n";
        assert_eq!(executable(messages, "engine").expect("find it"), PathBuf::from("/x/engine"));
        assert!(executable(messages, "other").is_err());
    }
}
