//! `tar | zstd`: no deduplication, no encryption, no snapshots; what people use instead.

use std::path::{Path, PathBuf};

use super::{Action, Care, Class};
use crate::bench::meter::Line;
use crate::bench::place::Stage;

/// Where the archive lies.
pub(super) fn path(stage: &Stage) -> PathBuf {
    stage.repository.join("archive.tar.zst")
}

/// The paths are words of the shell, never part of its script.
pub(super) fn line(action: Action, stage: &Stage, source: &Path) -> Option<Line> {
    let script = match action {
        Action::Backup(Class::Default) => {
            "set -o pipefail; tar -C \"$1\" -cf - . | zstd -3 -T2 -q -o \"$2\" && sync \"$2\""
        }
        Action::Backup(Class::Fast) => {
            "set -o pipefail; tar -C \"$1\" -cf - . | zstd -1 -T2 -q -o \"$2\" && sync \"$2\""
        }
        Action::Restore(Care::Plain) => {
            "set -o pipefail; zstd -dc -q \"$2\" | tar -C \"$3\" -xpf -"
        }
        Action::Check => "zstd -t -q \"$2\"",
        Action::Restore(Care::ReadBack | Care::Fsync) | Action::Open => return None,
    };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let words = [
        "-c".to_owned(),
        script.to_owned(),
        "tar-zstd".to_owned(),
        text(source),
        text(&path(stage)),
        text(&stage.target),
    ];
    Some(Line::new("bash", words))
}
