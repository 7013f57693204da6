//! How rustic is asked.

use std::path::Path;

use super::{Action, Care, Class, Key};
use crate::bench::meter::Line;
use crate::bench::place::Stage;
use crate::bench::served::{Address, KEY, REGION};

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

/// Where it finds the repository.
pub(super) fn repository(stage: &Stage) -> String {
    match &stage.served {
        // The rest of it stands beside.
        Some(_) => "opendal:s3".to_owned(),
        None => stage.repository.to_string_lossy().into_owned(),
    }
}

/// How it is told of a bucket.
pub(super) fn bucket(address: &Address) -> Vec<(&'static str, String)> {
    vec![
        ("OPENDAL_ENDPOINT", address.server.clone()),
        ("OPENDAL_BUCKET", address.bucket.clone()),
        ("OPENDAL_ROOT", "/".to_owned()),
        ("OPENDAL_REGION", REGION.to_owned()),
        ("OPENDAL_ACCESS_KEY_ID", KEY.0.to_owned()),
        ("OPENDAL_SECRET_ACCESS_KEY", KEY.1.to_owned()),
    ]
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
