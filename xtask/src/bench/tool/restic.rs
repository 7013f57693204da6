//! How stock restic is asked.

use std::path::Path;

use super::{Action, Care, Class, Key, Tools};
use crate::bench::meter::Line;
use crate::bench::place::Stage;

pub(super) fn create(tools: &Tools, key: Key) -> Vec<Line> {
    match key {
        Key::Bench => Vec::new(),
        Key::Default => vec![Line::new(&tools.restic, ["init"])],
    }
}

/// restic 0.18.1 has one compression beside `max` and `off`, so that its fast class differs in the
/// self-check and the scan alone.
pub(super) fn line(tools: &Tools, action: Action, stage: &Stage, source: &Path) -> Option<Line> {
    let source = source.to_string_lossy();
    let target = stage.target.to_string_lossy();
    let words: Vec<&str> = match action {
        Action::Backup(Class::Default) => vec!["backup", &source],
        Action::Backup(Class::Fast) => {
            vec!["backup", "--no-scan", "--no-extra-verify", &source]
        }
        Action::Restore(Care::Plain) => vec!["restore", "latest", "--target", &target],
        Action::Restore(Care::ReadBack) => {
            vec!["restore", "latest", "--verify", "--target", &target]
        }
        Action::Restore(Care::Fsync) => return None,
        Action::Check => vec!["check", "--read-data"],
        Action::Open => vec!["snapshots"],
    };
    Some(Line::new(&tools.restic, words))
}
