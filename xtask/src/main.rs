//! The tasks of the workshop: what a person or the checks run on the sources, never the product.
//!
//! One file per verb; a verb is a function from a checkout to a result, and says on stderr what it
//! does. Start at [`Verb`].

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task of the workshop speaks to the person who runs it"
)]

mod accept;
mod bench;
mod cluster;
mod image;
mod packages;
mod peers;
mod sabotage;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the workshop")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check the rules of the house that the compiler does not check
    Tidy,
    /// Run every promise with the real binaries and print what came out
    Accept(accept::Arguments),
    /// Break one thing at a time, and see which test turns red
    Sabotage(sabotage::Arguments),
    /// Measure us and others on the same data, and keep the rounds
    Bench(bench::Arguments),
    /// Run a command and print what it took; `bench` runs itself so
    #[command(hide = true)]
    BenchMeter(bench::meter::Arguments),
    /// Measure what the roofline is made of; `bench` runs itself so
    #[command(hide = true)]
    BenchKernels(bench::kernels::Arguments),
    /// Build, or find in the cache, other programs that the tests talk to; print their paths
    Peers(peers::Arguments),
    /// Make, or find in the cache, container images for the test bench; print their paths
    Image(image::Arguments),
    /// A Kubernetes cluster on this machine, for tests
    Cluster(cluster::Arguments),
    /// What makes and enters the machines of a cluster; `cluster` runs itself so
    #[command(hide = true, subcommand)]
    ClusterMachine(cluster::machine::Verb),
}

fn main() -> ExitCode {
    let verb = Arguments::parse().verb;
    let ended = checkout().and_then(|root| match verb {
        Verb::Tidy => tidy::run(&root),
        Verb::Accept(arguments) => accept::run(&root, &arguments),
        Verb::Sabotage(arguments) => sabotage::run(&root, &arguments),
        Verb::Bench(arguments) => bench::run(&root, &arguments),
        Verb::BenchMeter(arguments) => bench::meter::run(&arguments),
        Verb::BenchKernels(arguments) => bench::kernels::run(&arguments),
        Verb::Peers(arguments) => peers::run(&root, &arguments),
        Verb::Image(arguments) => image::run(&root, &arguments),
        Verb::Cluster(arguments) => cluster::run(&root, &arguments),
        Verb::ClusterMachine(verb) => cluster::machine::run(&verb),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the sources this task was built from.
fn checkout() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_owned).context("find the folder above xtask")
}
