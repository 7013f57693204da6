//! What a crash costs: never more than the run it ended.
//!
//! The store stops, fills up, turns read-only or loses its power under an engine in this process
//! ([`stops`], [`power`], [`suspended`]); the real binary is killed, suspended and starved of room
//! ([`kill`], [`suspended`], [`room`]), and its system calls are put in order ([`order`]). After each,
//! the repository passes a check as it is, everything complete restores, and the next run succeeds.
//!
//! With `ALIDADE_SOAK=1` every operation and many more instants are tried.

#![allow(clippy::unwrap_used, reason = "a test that meets an error it did not expect is over")]

mod hook;
mod kill;
mod order;
mod power;
mod program;
mod room;
mod scene;
mod stops;
mod suspended;

/// True when there is time for everything.
fn soak() -> bool {
    std::env::var_os("ALIDADE_SOAK").is_some_and(|value| value == "1")
}

/// Moves scratch directories into memory where there is room: nothing here depends on a disk.
fn scratch_in_memory() {
    const SHARED: &str = "/dev/shm";
    let Ok(space) = rustix::fs::statvfs(SHARED) else { return };
    if space.f_bavail * space.f_frsize >= 6 << 30 {
        // The same directory for every test, so that only the first call counts.
        drop(tempfile::env::override_temp_dir(std::path::Path::new(SHARED)));
    }
}
