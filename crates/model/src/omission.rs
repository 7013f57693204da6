use std::collections::BTreeMap;

/// Why something is missing from a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OmissionKind {
    /// It was listed, and gone when it was read.
    Vanished,
    /// The source refused to let it be read.
    PermissionDenied,
    /// Reading it failed in another way.
    Unreadable,
    /// It is of a kind, or larger than, what the format can say.
    Unrepresentable,
    /// The target could not take it: a device node without privilege, an attribute the file system refuses.
    Unwritable,
}

impl OmissionKind {
    /// Every kind, in the order in which outcomes list them.
    pub const ALL: [Self; 5] = [
        Self::Vanished,
        Self::PermissionDenied,
        Self::Unreadable,
        Self::Unrepresentable,
        Self::Unwritable,
    ];

    /// The word for it, as printed and as written into outcomes.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vanished => "vanished",
            Self::PermissionDenied => "permission-denied",
            Self::Unreadable => "unreadable",
            Self::Unrepresentable => "unrepresentable",
            Self::Unwritable => "unwritable",
        }
    }

    /// The kind with that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Something that should be in a copy and is not, or an attribute of an entry that is not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Omission {
    /// Which entry: its path, raw bytes.
    pub path: Vec<u8>,
    /// Why, as a class.
    pub kind: OmissionKind,
    /// Why, in words: what was attempted and what the system answered.
    pub reason: String,
}

/// All omissions of a run: every one counted, the first [`Omissions::NAMED`] kept with their names.
///
/// The bound keeps memory flat when a million files cannot be read; where the complete list is
/// kept is the business of the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Omissions {
    counts: BTreeMap<OmissionKind, u64>,
    named: Vec<Omission>,
}

impl Omissions {
    /// How many omissions are kept by name.
    pub const NAMED: usize = 1_000;

    /// Counts one, and keeps its name while there is room.
    pub fn add(&mut self, omission: Omission) {
        *self.counts.entry(omission.kind).or_insert(0) += 1;
        if self.named.len() < Self::NAMED {
            self.named.push(omission);
        }
    }

    /// Counts more of a kind without names: for outcomes that are read back.
    pub fn add_unnamed(&mut self, kind: OmissionKind, count: u64) {
        if count > 0 {
            *self.counts.entry(kind).or_insert(0) += count;
        }
    }

    /// Adds all of another's.
    pub fn append(&mut self, other: Self) {
        let mut unnamed = other.counts;
        for omission in other.named {
            if let Some(left) = unnamed.get_mut(&omission.kind) {
                *left -= 1;
            }
            self.add(omission);
        }
        for (kind, left) in unnamed {
            self.add_unnamed(kind, left);
        }
    }

    /// How many there are in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many there are of each kind that occurred.
    pub fn counts(&self) -> impl Iterator<Item = (OmissionKind, u64)> + '_ {
        self.counts.iter().map(|(kind, count)| (*kind, *count))
    }

    /// Those kept by name, in the order in which they were found.
    #[must_use]
    pub fn named(&self) -> &[Omission] {
        &self.named
    }

    /// True when nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}
