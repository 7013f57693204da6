//! Keys that a program gives: a profile's `credential_process`.

use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;
use tokio::time::timeout;

use crate::credentials::Giver;
use crate::kept::{GivesKeys, Why};

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that prints keys, in the words of a shell.
pub(crate) struct Process(pub(crate) String);

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

#[async_trait]
impl GivesKeys for Process {
    const GIVER: Giver = Giver::Process;

    async fn ask(&self) -> Result<Vec<u8>, Why> {
        let mut program = Command::new("/bin/sh");
        program.arg("-c").arg(&self.0).stdin(Stdio::null()).kill_on_drop(true);
        let ended = timeout(PATIENCE, program.output()).await;
        let ended = ended.map_err(|_late| {
            format!("{self:?} has not ended after {} seconds", PATIENCE.as_secs())
        })??;
        if ended.status.success() {
            return Ok(ended.stdout);
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        let said = said.trim().lines().last().map_or(String::new(), |line| format!(": {line}"));
        Err(format!("{self:?} ended with {}{said}", ended.status).into())
    }
}
