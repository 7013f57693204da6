//! How rustic is asked.

use std::path::Path;

use super::{Action, Care, Class, Key};
use crate::bench::meter::Line;
use crate::bench::place::Stage;

/// Its compression and its self-check are settings of the repository.
pub(super) fn create(rustic: &Path, class: Class, key: Key) -> Vec<Line> {
    let mut lines = Vec::new();
    if key == Key::Default {
        lines.push(Line::new(rustic, ["init"]));
    }
    if class == Class::Fast {
        let words = ["config", "--set-compression", "1", "--set-extra-verify", "false"];
        lines.push(Line::new(rustic, words));
    }
    lines
}

pub(super) fn line(rustic: &Path, action: Action, stage: &Stage, source: &Path) -> Option<Line> {
    let source = source.to_string_lossy();
    let target = stage.target.to_string_lossy();
    let words: Vec<&str> = match action {
        Action::Backup(Class::Default) => vec!["backup", &source],
        Action::Backup(Class::Fast) => vec!["backup", "--no-scan", &source],
        Action::Restore(Care::Plain) => vec!["restore", "latest", &target],
        Action::Restore(Care::ReadBack | Care::Fsync) => return None,
        Action::Check => vec!["check", "--read-data"],
        Action::Open => vec!["snapshots"],
    };
    Some(Line::new(rustic, words))
}
