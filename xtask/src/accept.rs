//! Every promise in one table: who reads, what is done, with what kind of data, and what came out.
//!
//! Real binaries on real files in a scratch directory; what is restored is compared by a listing that
//! none of our code makes (`testbench/fixtures/listing.sh`). Needs root: device nodes and foreign owners
//! are part of the promise.

mod bench;
mod faults;
mod mending;
mod neighbours;
mod ours;
mod shapes;
mod stores;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use bench::Bench;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The form of the table
    #[arg(short, long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
    /// Only rows whose reader, verb or data holds this text
    rows: Option<String>,
}

/// One promise and what came of it.
#[derive(Serialize)]
pub(crate) struct Row {
    reader: &'static str,
    verb: String,
    data: &'static str,
    command: String,
    exit: Option<i32>,
    expected: i32,
    /// SHA-256 of what was compared: a listing, or the bytes on standard output.
    digest: String,
    ok: bool,
    came_out: String,
}

/// Runs every row, prints the table, and fails when a row failed or none ran.
pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let mut bench = Bench::new(root, arguments.rows.clone())?;
    ours::rows(&mut bench)?;
    shapes::rows(&mut bench)?;
    neighbours::rows(&mut bench)?;
    faults::rows(&mut bench)?;
    mending::rows(&mut bench)?;
    stores::rows(&mut bench)?;
    let rows = bench.finish();
    if arguments.output == "json" {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print_table(&rows);
    }
    let failed = rows.iter().filter(|row| !row.ok).count();
    eprintln!("{} rows held, {failed} failed", rows.len() - failed);
    if failed > 0 || rows.is_empty() {
        bail!("{failed} of {} promises are not kept", rows.len());
    }
    Ok(())
}

fn print_table(rows: &[Row]) {
    println!(
        "{:4} {:14} {:34} {:15} {:>4} {:12} what came out",
        "", "reader", "verb", "data", "exit", "digest"
    );
    for row in rows {
        println!(
            "{:4} {:14} {:34} {:15} {:>4} {:12} {}",
            if row.ok { "ok" } else { "FAIL" },
            row.reader,
            row.verb,
            row.data,
            row.exit.map_or_else(|| "-".to_owned(), |code| code.to_string()),
            &row.digest[..row.digest.len().min(12)],
            row.came_out
        );
        println!("{:85} $ {}", "", row.command);
    }
}

/// How long one command may take before its row fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
