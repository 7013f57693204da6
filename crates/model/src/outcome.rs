use std::collections::BTreeMap;

use crate::{Digest, EntityId, Host, Omissions, RunId, Time};

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Copied a live entity into a repository.
    Protect,
    /// Created an entity from a stored one.
    Restore,
    /// Checked a repository.
    Check,
}

impl Verb {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Protect => "protect",
            Self::Restore => "restore",
            Self::Check => "check",
        }
    }

    /// The verb with that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Protect, Self::Restore, Self::Check].into_iter().find(|verb| verb.word() == word)
    }
}

/// How a run ended; computed from what was counted, never from what was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Everything that was meant is there and was checked.
    Done,
    /// It is there, with omissions or inconsistent entries.
    Omissions,
    /// Damage was found.
    Damaged,
    /// Nothing usable came of it.
    Failed,
}

impl Status {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Omissions => "omissions",
            Self::Damaged => "damaged",
            Self::Failed => "failed",
        }
    }

    /// The status with that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Done, Self::Omissions, Self::Damaged, Self::Failed]
            .into_iter()
            .find(|status| status.word() == word)
    }
}

/// How consistent a copy is in itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Consistency {
    /// Some entries changed while they were read, and again when they were read a second time.
    Torn,
    /// Every file is as it was at one instant, different files at different instants.
    PerFile,
    /// Everything is as it was at one instant, as after a power cut.
    Crash,
}

impl Consistency {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::PerFile => "per-file",
            Self::Crash => "crash",
        }
    }

    /// The level with that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Torn, Self::PerFile, Self::Crash].into_iter().find(|level| level.word() == word)
    }
}

/// Entries by kind and by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Device nodes, FIFOs and sockets.
    pub specials: u64,
    /// Names beyond the first of an inode; also counted by their kind.
    pub hard_links: u64,
    /// Files with holes; also counted as files.
    pub sparse: u64,
    /// Files that were not in the base.
    pub new: u64,
    /// Files that were in the base with another version.
    pub changed: u64,
    /// Files whose version is that of the base, and which were not read again.
    pub unchanged: u64,
    /// Files that grew while they were read, stored with the size they had when opened.
    pub grew: u64,
    /// Files that changed while they were read twice; their stored content may never have existed.
    pub inconsistent: u64,
}

impl Counts {
    /// All entries.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.files + self.directories + self.symlinks + self.specials
    }
}

/// Bytes by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// The sum of the sizes of all files, read or not.
    pub total: u64,
    /// Content read from the source; holes are not read.
    pub read: u64,
    /// Content written to the target: what a restore wrote.
    pub written: u64,
    /// Content that the repository did not have yet, before compression.
    pub added: u64,
    /// What those took in the repository, compressed and sealed, trees and metadata included.
    pub stored: u64,
    /// Content read that the repository had already.
    pub deduplicated: u64,
}

/// What was checked, and how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// Sealed blobs that were opened, decompressed and hashed again before upload.
    pub self_checked: u64,
    /// New blobs in all; with the self-check on, the same number.
    pub new_blobs: u64,
    /// Blobs whose hash was compared after they were read from the store.
    pub verified: u64,
    /// Restored files that were read from the target again and compared.
    pub read_back: u64,
}

/// What went over a wire to a store and back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests by kind, such as `get` and `list`; each attempt counts.
    pub requests: BTreeMap<String, u64>,
    /// Bytes of content that were sent.
    pub sent: u64,
    /// Bytes of content that were received.
    pub received: u64,
}

/// How many entries each exclusion rule left out; what lies below an excluded directory is not counted.
pub type Exclusions = BTreeMap<String, u64>;

/// What came of a run: the numbers that prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The run.
    pub run: RunId,
    /// What it did.
    pub verb: Verb,
    /// To which entity; with the snapshot, where one was made or used.
    pub entity: EntityId,
    /// Where that entity lives.
    pub host: Host,
    /// The snapshot file's id in the repository, 64 hex digits, where there is one.
    pub snapshot_file: Option<String>,
    /// The snapshot file the run compared with.
    pub parent: Option<String>,
    /// Computed from the rest.
    pub status: Status,
    /// Entries.
    pub counts: Counts,
    /// Bytes.
    pub bytes: Bytes,
    /// Of all entries that are in the copy.
    pub digest: Option<Digest>,
    /// What is missing, and why.
    pub omissions: Omissions,
    /// What was left out on purpose, by rule.
    pub excluded: Exclusions,
    /// How consistent the copy is.
    pub consistency: Option<Consistency>,
    /// What was checked.
    pub checks: Checks,
    /// What went to the store and back, where that is a wire; known when the run has ended.
    pub traffic: Option<Traffic>,
    /// What a reader should know and what takes nothing away from the copy, one sentence each.
    pub notes: Vec<String>,
    /// When the run began.
    pub started: Time,
    /// When it ended.
    pub ended: Time,
}

impl Outcome {
    /// The status that the numbers of a finished copy mean.
    #[must_use]
    pub fn verdict(&self) -> Status {
        if !self.omissions.is_empty() || self.counts.inconsistent > 0 {
            Status::Omissions
        } else {
            Status::Done
        }
    }
}
