//! Other programs that tests talk to, by name.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The binary of the peer `name`: where `ALIDADE_PEER_NAME` says (`./test` sets it), else what
/// `cargo xtask peers NAME` prints, which builds the peer when its cache has none.
///
/// # Panics
/// When there is no such peer or it cannot be had: a test without its peer fails, it is not skipped.
#[must_use]
pub fn peer(name: &str) -> PathBuf {
    let variable = format!("ALIDADE_PEER_{}", name.replace('-', "_").to_uppercase());
    let path = match env::var_os(&variable) {
        Some(path) if !path.is_empty() => PathBuf::from(path),
        _ => from_xtask(name),
    };
    assert!(path.is_file(), "the peer {name} is not at {} (see {variable})", path.display());
    path
}

fn from_xtask(name: &str) -> PathBuf {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let run = Command::new(cargo)
        .args(["xtask", "peers", name])
        .current_dir(crate_folder)
        .output()
        .unwrap_or_else(|error| panic!("`cargo xtask peers {name}` does not start: {error}"));
    assert!(
        run.status.success(),
        "the peer {name} cannot be had: `cargo xtask peers {name}` failed:\n{}",
        String::from_utf8_lossy(&run.stderr)
    );
    let path = String::from_utf8_lossy(&run.stdout);
    PathBuf::from(path.trim_end_matches('\n'))
}
