//! What a walk keeps for its end: what was left out on purpose, and attributes that could not be read.

use std::sync::{Mutex, PoisonError};

use alidade_model::{Exclusions, Omission, OmissionKind, Omissions};
use rustix::io::Errno;

use super::owners::Owners;

/// Shared by a walk, the files it met, and its lease.
#[derive(Default)]
pub(crate) struct Tally {
    /// Names of users and groups.
    pub(crate) owners: Owners,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    excluded: Exclusions,
    omissions: Omissions,
}

impl Tally {
    /// Counts an entry that a rule left out.
    pub(crate) fn exclude(&self, rule: &str) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        match counted.excluded.get_mut(rule) {
            Some(count) => *count += 1,
            None => drop(counted.excluded.insert(rule.to_owned(), 1)),
        }
    }

    /// Keeps something that is missing although its entry is there.
    pub(crate) fn omit(&self, omission: Omission) {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).omissions.add(omission);
    }

    /// Everything so far.
    pub(crate) fn counted(&self) -> (Exclusions, Omissions) {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        (counted.excluded.clone(), counted.omissions.clone())
    }
}

/// An entry that could not be read: what was attempted, and what the system answered.
pub(crate) fn unreadable(path: Vec<u8>, attempt: &str, error: Errno) -> Omission {
    let kind = match error {
        Errno::NOENT | Errno::STALE => OmissionKind::Vanished,
        Errno::ACCESS | Errno::PERM => OmissionKind::PermissionDenied,
        Errno::TOOBIG => OmissionKind::Unrepresentable,
        _ => OmissionKind::Unreadable,
    };
    Omission { path, kind, reason: format!("{attempt}: {}", words(error)) }
}

/// An attribute that could not be read, of an entry that is there.
pub(crate) fn unreadable_attribute(path: Vec<u8>, name: &[u8], error: Errno) -> Omission {
    let attempt = if name.is_empty() {
        "list extended attributes".to_owned()
    } else {
        format!("read extended attribute {}", String::from_utf8_lossy(name))
    };
    unreadable(path, &attempt, error)
}

/// What the system answered.
pub(crate) fn words(error: Errno) -> String {
    std::io::Error::from(error).to_string()
}
