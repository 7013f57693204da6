//! What a copy is compared with: the parent, and before it what interrupted runs have stored since.

use alidade_entity::{Cx, Place};
use alidade_model::Entry;

use crate::base::{Base, Found, KnownHoles};

/// Bases, the one that is asked first before the others. Memory: that of each.
pub(crate) struct Bases {
    bases: Vec<Base>,
    /// The one that has what was found last.
    chosen: usize,
}

impl Bases {
    /// These bases; there is at least one.
    pub(crate) fn new(first: Base, rest: Vec<Base>) -> Self {
        let mut bases = vec![first];
        bases.extend(rest);
        Self { bases, chosen: 0 }
    }

    /// As [`Base::find`]: what a base says of this version of the entry, else what the first one says that
    /// knows of it at all.
    pub(crate) fn find(&mut self, cx: &Cx, place: Place, entry: &Entry) -> Found {
        self.chosen = 0;
        let mut bases = self.bases.iter_mut().enumerate();
        let Some((_, first)) = bases.next() else { return Found::Nothing };
        let mut best = first.find(cx, place, entry);
        for (at, base) in bases {
            let found = base.find(cx, place, entry);
            let is_of_it = |found: &Found| {
                found.version(entry).is_some_and(|version| entry.version.matches(&version))
            };
            let is_nothing = matches!(best, Found::Nothing);
            if is_nothing || (!is_of_it(&best) && is_of_it(&found)) {
                (best, self.chosen) = (found, at);
            }
        }
        best
    }

    /// As [`Base::ids`].
    pub(crate) fn ids(&self) -> &[u8] {
        self.bases.get(self.chosen).map_or(&[], Base::ids)
    }

    /// As [`Base::holes`].
    pub(crate) fn holes(&mut self, name: &[u8]) -> KnownHoles {
        self.bases.get_mut(self.chosen).map_or(KnownHoles::Ask, |base| base.holes(name))
    }

    /// The path of that name in the innermost directory.
    pub(crate) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        self.bases.first().map(|base| base.path_of(name)).unwrap_or_default()
    }

    /// As [`Base::take_notes`].
    pub(crate) fn take_notes(&mut self) -> Vec<String> {
        self.bases.iter_mut().flat_map(Base::take_notes).collect()
    }
}
