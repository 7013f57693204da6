//! The rows: what is measured, with which data, by whom.

use std::path::PathBuf;

use super::place::Medium;
use super::set::{Kind, Set};
use super::tool::{Action, Care, Class, Tool};

/// One row of the benchmark.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// What it is called on the command line and in the file of its rounds.
    pub(super) name: &'static str,
    /// What is done, in a sentence.
    pub(super) about: &'static str,
    pub(super) set: Kind,
    pub(super) shape: Shape,
    pub(super) start: Start,
    pub(super) action: Action,
    pub(super) medium: Medium,
    /// Rounds unless asked otherwise, with the one that is discarded.
    pub(super) rounds: usize,
}

/// What the source is to a tool that tells disks from files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Files,
    /// A disk, of the set that is an image of one.
    Disk,
}

impl Shape {
    /// The source as the tool is told: others than ours know files alone.
    pub(super) fn source(self, tool: Tool, set: &Set) -> PathBuf {
        if self == Self::Disk && tool == Tool::Alidade {
            return format!("disk:{}", set.image().display()).into();
        }
        set.source().to_owned()
    }
}

/// What is there when a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// An empty repository.
    Empty,
    /// A repository and a cache that hold the source as it is.
    Unchanged,
    /// A repository and a cache that hold the source as it was before 1 % changed.
    Changed,
    /// A repository that is only read, and an empty cache.
    Filled,
    /// A repository with one small snapshot whose key costs what the tool thinks right.
    DefaultKey,
}

/// Whose repository a tool reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// The one that we wrote, the same for all that read its format.
    Common,
    /// Its own.
    Own,
}

/// Who runs in a row, and on whose repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Contestant {
    pub(super) tool: Tool,
    pub(super) origin: Origin,
}

impl Contestant {
    /// Its name in rounds and tables.
    pub(super) fn name(self) -> String {
        match self.origin {
            Origin::Own if self.tool != Tool::Alidade && self.tool.shares_the_format() => {
                format!("{}-own", self.tool.name())
            }
            Origin::Own | Origin::Common => self.tool.name().to_owned(),
        }
    }
}

impl Row {
    /// Who can do what this row asks.
    pub(super) fn contestants(&self) -> Vec<Contestant> {
        let reads = matches!(self.start, Start::Filled);
        let mut all = Vec::new();
        for tool in Tool::ALL {
            if !self.wants(tool) {
                continue;
            }
            all.push(Contestant { tool, origin: Origin::Common });
            if reads && tool != Tool::Alidade && tool.shares_the_format() {
                all.push(Contestant { tool, origin: Origin::Own });
            }
        }
        all
    }

    fn wants(&self, tool: Tool) -> bool {
        let able = match self.action {
            Action::Restore(Care::ReadBack) => matches!(tool, Tool::Alidade | Tool::Restic),
            Action::Restore(Care::Fsync) => tool == Tool::Alidade,
            Action::Open => tool != Tool::Archive,
            Action::Backup(_) | Action::Restore(Care::Plain) | Action::Check => true,
        };
        // An archive knows nothing of the one before it.
        let continues = matches!(self.start, Start::Unchanged | Start::Changed);
        // kopia's real default stands beside the compressing one only where it makes a difference
        // to a first backup.
        let plain = self.start == Start::Empty
            && self.action == Action::Backup(Class::Default)
            && self.medium == Medium::Tmpfs;
        // Who writes restic's format writes it to buckets, too.
        let reaches = self.medium != Medium::S3 || tool.shares_the_format();
        able && reaches
            && !(continues && tool == Tool::Archive)
            && (tool != Tool::KopiaPlain || plain)
    }
}

/// A row that most others differ from in little.
const fn row(
    name: &'static str,
    about: &'static str,
    set: Kind,
    start: Start,
    action: Action,
) -> Row {
    Row { name, about, set, shape: Shape::Files, start, action, medium: Medium::Tmpfs, rounds: 7 }
}

const fn as_disk(row: Row) -> Row {
    Row { shape: Shape::Disk, ..row }
}

const fn on_disk(row: Row) -> Row {
    Row { medium: Medium::Disk, ..row }
}

const fn over_s3(row: Row) -> Row {
    Row { medium: Medium::S3, ..row }
}

const fn thrice(row: Row) -> Row {
    Row { rounds: 3, ..row }
}

const BACKUP: Action = Action::Backup(Class::Default);
const FAST: Action = Action::Backup(Class::Fast);
const RESTORE: Action = Action::Restore(Care::Plain);
const READ_BACK: Action = Action::Restore(Care::ReadBack);
const FSYNC: Action = Action::Restore(Care::Fsync);

const FIRST: &str = "First backup into an empty repository, each tool's own defaults; those that can check themselves do";
const FIRST_FAST: &str = "First backup, fastest compression, no self-check";
const AGAIN: &str = "Backup of a source that has not changed";
const ONE_PER_CENT: &str = "Backup of a source of which 1 % has changed";
const FIRST_DISK: &str =
    "First backup into an empty repository, by us as `disk:`, by others as the file that it is";
const ONE_PER_CENT_DISK: &str = "Backup of a source of which 1 % has changed, by us as `disk:`, by others as the file that it is";
const BACK: &str = "Restore into an empty target";
const ALL_READ: &str = "Check of all stored data";
const FIRST_S3: &str =
    "First backup into an empty repository in a bucket of S3, every answer 20 ms late";
const AGAIN_S3: &str =
    "Backup of a source that has not changed, into a bucket of S3, every answer 20 ms late";
const BACK_S3: &str = "Restore into an empty target from a bucket of S3, every answer 20 ms late";

/// All rows, in the order of the report.
pub(super) const ROWS: &[Row] = &[
    row("backup-tree", FIRST, Kind::Tree, Start::Empty, BACKUP),
    row("backup-image", FIRST, Kind::Image, Start::Empty, BACKUP),
    row("backup-tree-fast", FIRST_FAST, Kind::Tree, Start::Empty, FAST),
    row("backup-image-fast", FIRST_FAST, Kind::Image, Start::Empty, FAST),
    on_disk(row(
        "backup-tree-ext4",
        "First backup into a repository on a disk, each tool with the fsync that it does",
        Kind::Tree,
        Start::Empty,
        BACKUP,
    )),
    row("unchanged-tree", AGAIN, Kind::Tree, Start::Unchanged, BACKUP),
    row("unchanged-image", AGAIN, Kind::Image, Start::Unchanged, BACKUP),
    row("changed-tree", ONE_PER_CENT, Kind::Tree, Start::Changed, BACKUP),
    row("changed-image", ONE_PER_CENT, Kind::Image, Start::Changed, BACKUP),
    as_disk(row("backup-disk", FIRST_DISK, Kind::Image, Start::Empty, BACKUP)),
    as_disk(row("changed-disk", ONE_PER_CENT_DISK, Kind::Image, Start::Changed, BACKUP)),
    row("restore-tree", BACK, Kind::Tree, Start::Filled, RESTORE),
    row("restore-image", BACK, Kind::Image, Start::Filled, RESTORE),
    row(
        "restore-tree-readback",
        "Restore, and every file read again and compared",
        Kind::Tree,
        Start::Filled,
        READ_BACK,
    ),
    row(
        "restore-tree-fsync",
        "Restore, and every file waited for until it is on the disk",
        Kind::Tree,
        Start::Filled,
        FSYNC,
    ),
    row("check-tree", ALL_READ, Kind::Tree, Start::Filled, Action::Check),
    row("check-image", ALL_READ, Kind::Image, Start::Filled, Action::Check),
    over_s3(row("s3-backup-tree", FIRST_S3, Kind::Tree, Start::Empty, BACKUP)),
    over_s3(row("s3-unchanged-tree", AGAIN_S3, Kind::Tree, Start::Unchanged, BACKUP)),
    over_s3(row("s3-restore-tree", BACK_S3, Kind::Tree, Start::Filled, RESTORE)),
    thrice(row("backup-million-flat", FIRST, Kind::MillionFlat, Start::Empty, BACKUP)),
    thrice(row("backup-million-wide", FIRST, Kind::MillionWide, Start::Empty, BACKUP)),
    thrice(row("unchanged-million-flat", AGAIN, Kind::MillionFlat, Start::Unchanged, BACKUP)),
    thrice(row("unchanged-million-wide", AGAIN, Kind::MillionWide, Start::Unchanged, BACKUP)),
    thrice(row("restore-million-flat", BACK, Kind::MillionFlat, Start::Filled, RESTORE)),
    thrice(row("restore-million-wide", BACK, Kind::MillionWide, Start::Filled, RESTORE)),
    row(
        "key-derivation",
        "Opening a repository whose key costs what the tool thinks right, and listing its snapshots",
        Kind::Tree,
        Start::DefaultKey,
        Action::Open,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(row: &str) -> Vec<String> {
        let row = ROWS.iter().find(|found| found.name == row).unwrap();
        row.contestants().into_iter().map(Contestant::name).collect()
    }

    #[test]
    fn every_row_has_the_contestants_that_can_do_it() {
        let formats = ["alidade", "restic", "rustic", "kopia"];
        assert_eq!(
            names("backup-tree"),
            ["alidade", "restic", "rustic", "kopia", "kopia-plain", "tar-zstd"]
        );
        assert_eq!(names("backup-tree-fast"), ["alidade", "restic", "rustic", "kopia", "tar-zstd"]);
        assert_eq!(names("unchanged-tree"), formats);
        assert_eq!(names("changed-disk"), formats);
        assert_eq!(names("key-derivation"), formats);
        assert_eq!(
            names("restore-image"),
            ["alidade", "restic", "restic-own", "rustic", "rustic-own", "kopia", "tar-zstd"]
        );
        assert_eq!(names("restore-tree-readback"), ["alidade", "restic", "restic-own"]);
        assert_eq!(names("restore-tree-fsync"), ["alidade"]);
        assert_eq!(names("s3-backup-tree"), formats[..3]);
        assert_eq!(names("s3-unchanged-tree"), formats[..3]);
        assert_eq!(
            names("s3-restore-tree"),
            ["alidade", "restic", "restic-own", "rustic", "rustic-own"]
        );
    }

    #[test]
    fn names_are_not_used_twice() {
        let mut names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
    }
}
