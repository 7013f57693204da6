//! How we are asked.

use std::path::Path;

use super::{Action, Care, Class, Key, Tools};
use crate::bench::meter::Line;
use crate::bench::place::Stage;

/// What makes a repository that the skeleton does not make.
pub(super) fn create(tools: &Tools, key: Key) -> Vec<Line> {
    match key {
        Key::Bench => Vec::new(),
        Key::Default => vec![Line::new(&tools.alidade, ["init"])],
    }
}

pub(super) fn line(tools: &Tools, action: Action, stage: &Stage, source: &Path) -> Line {
    let source = source.to_string_lossy();
    let target = stage.target.to_string_lossy();
    let words: Vec<&str> = match action {
        Action::Backup(Class::Default) => vec!["protect", &source],
        Action::Backup(Class::Fast) => {
            vec!["protect", "--compression", "fast", "--no-self-check", &source]
        }
        Action::Restore(care) => {
            let mut words = vec!["restore", &source, "--target", &target];
            words.extend(match care {
                Care::Plain => None,
                Care::ReadBack => Some("--read-back"),
                Care::Fsync => Some("--fsync"),
            });
            words
        }
        Action::Check => vec!["check", "--read-data"],
        Action::Open => vec!["snapshots"],
    };
    Line::new(&tools.alidade, words)
}
