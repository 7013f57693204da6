//! Breaking one thing on purpose, to see that a test or an outcome notices.
//!
//! Only with the feature `sabotage`, which no release has; without it every question is answered `false`
//! at compile time. `cargo xtask sabotage` goes through the list.

/// One way to break the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A file loses its last piece on the way in.
    DropLastChunk,
    /// A byte of a pack is flipped after everything was checked.
    FlipStoredByte,
    /// One file is left out of a walk.
    SkipFile,
    /// What may not be read is not reported.
    SwallowPermissionError,
    /// An extended attribute is not read.
    LoseXattr,
    /// A POSIX ACL is not read.
    LoseAcl,
    /// Times are read in whole seconds.
    LoseNanoseconds,
    /// The snapshot is written before the index that it needs.
    SnapshotBeforeIndex,
    /// Sealed blobs are not opened again before they are stored.
    SkipSelfCheck,
    /// A part of a disk that changed is taken for one that did not.
    KeepChangedCell,
    /// A part of a disk that has no storage is left out.
    DropHole,
    /// The output of a command that failed is stored.
    StoreFailedStream,
    /// A stream that breaks off is handed over as if it had ended.
    EndBrokenStream,
    /// What an interrupted run had stored counts as a state of its entity.
    TakePartialForWhole,
    /// A snapshot that was repaired does not say what it lacks.
    HideRepair,
    /// A pack in which something is wrong counts as read.
    RecordDamagedPack,
    /// A file that a store has half of counts as stored.
    TakeHalfForWhole,
    /// An upload that failed counts as done.
    LoseFailedUpload,
}

impl Sabotage {
    /// Every way.
    pub const ALL: [Self; 18] = [
        Self::DropLastChunk,
        Self::FlipStoredByte,
        Self::SkipFile,
        Self::SwallowPermissionError,
        Self::LoseXattr,
        Self::LoseAcl,
        Self::LoseNanoseconds,
        Self::SnapshotBeforeIndex,
        Self::SkipSelfCheck,
        Self::KeepChangedCell,
        Self::DropHole,
        Self::StoreFailedStream,
        Self::EndBrokenStream,
        Self::TakePartialForWhole,
        Self::HideRepair,
        Self::RecordDamagedPack,
        Self::TakeHalfForWhole,
        Self::LoseFailedUpload,
    ];

    /// Its name, as the environment variable `ALIDADE_SABOTAGE` gives it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::DropLastChunk => "drop-last-chunk",
            Self::FlipStoredByte => "flip-stored-byte",
            Self::SkipFile => "skip-file",
            Self::SwallowPermissionError => "swallow-permission-error",
            Self::LoseXattr => "lose-xattr",
            Self::LoseAcl => "lose-acl",
            Self::LoseNanoseconds => "lose-nanoseconds",
            Self::SnapshotBeforeIndex => "snapshot-before-index",
            Self::SkipSelfCheck => "skip-self-check",
            Self::KeepChangedCell => "keep-changed-cell",
            Self::DropHole => "drop-hole",
            Self::StoreFailedStream => "store-failed-stream",
            Self::EndBrokenStream => "end-broken-stream",
            Self::TakePartialForWhole => "take-partial-for-whole",
            Self::HideRepair => "hide-repair",
            Self::RecordDamagedPack => "record-damaged-pack",
            Self::TakeHalfForWhole => "take-half-for-whole",
            Self::LoseFailedUpload => "lose-failed-upload",
        }
    }

    /// True when this process is to be broken in this way.
    #[must_use]
    #[cfg(feature = "sabotage")]
    pub fn is_on(self) -> bool {
        static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        let chosen = CHOSEN.get_or_init(|| std::env::var("ALIDADE_SABOTAGE").ok());
        chosen.as_deref() == Some(self.word())
    }

    /// Never: this build cannot be broken on purpose.
    #[must_use]
    #[cfg(not(feature = "sabotage"))]
    pub const fn is_on(self) -> bool {
        false
    }
}
