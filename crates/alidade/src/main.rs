//! The binary: it alone names the plugs, and it alone leaves the process.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alidade_cli::environment::Environment;
use alidade_cli::{Code, Parts};
use alidade_entity::{Cancel, Cx, Registry};
use alidade_entity_host::{DiskType, FsType, StreamType};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code.number()),
        Err(error) => {
            tell(&error);
            ExitCode::from(Code::Failed.number())
        }
    }
}

fn run() -> anyhow::Result<Code> {
    alidade_entity_host::raise_open_files()?;
    let flag = Arc::new(AtomicBool::new(false));
    let signals = Arc::clone(&flag);
    let armed = AtomicBool::new(false);
    let parts = Parts {
        arguments: std::env::args_os().collect(),
        environment: Environment::read(|name| std::env::var_os(name)),
        directory: std::env::current_dir()?,
        registry: registry(),
        cx: Cx::system(Cancel::from_flag(flag)),
        arm: Box::new(
            move || {
                if armed.swap(true, Ordering::Relaxed) { Ok(()) } else { arm(&signals) }
            },
        ),
        workers: std::thread::available_parallelism()?.get(),
        lock_expiry: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(runtime.block_on(alidade_cli::main_with(parts)))
}

/// The types this program knows. A new type of Protected Entities is one line here.
fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.add(Arc::new(FsType::new(Vec::new())));
    registry.add(Arc::new(DiskType::new()));
    registry.add(Arc::new(StreamType::new()));
    registry
}

/// The first signal asks the run to stop; the second one does what the system does by default.
///
/// A hang-up changes nothing: stock `restic unlock` sends one to learn whether the holder of a lock lives.
fn arm(flag: &Arc<AtomicBool>) -> std::io::Result<()> {
    signal_hook::flag::register(SIGHUP, Arc::new(AtomicBool::new(false)))?;
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(flag))?;
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// Before the command line runs, nobody else can tell.
#[allow(clippy::print_stderr, reason = "there is no printer yet")]
fn tell(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
