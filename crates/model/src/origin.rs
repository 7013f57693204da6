/// Who wrote a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// This program, with its own metadata beside the content.
    Ours,
    /// Another program that writes the same format.
    Foreign,
    /// This program, and it holds evidence about another snapshot instead of an entity.
    Evidence,
    /// This program, and it holds what a run had stored that was interrupted, or is still going on.
    Partial,
}

impl Origin {
    /// True of a whole state of an entity: what is listed, restored and compared with unless another one is named.
    #[must_use]
    pub const fn is_state(self) -> bool {
        matches!(self, Self::Ours | Self::Foreign)
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Foreign => "foreign",
            Self::Evidence => "evidence",
            Self::Partial => "partial",
        }
    }

    /// The origin with that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Ours, Self::Foreign, Self::Evidence, Self::Partial];
        all.into_iter().find(|origin| origin.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_origin_is_found_by_its_word_and_no_other_word_is_one() {
        for origin in [Origin::Ours, Origin::Foreign, Origin::Evidence, Origin::Partial] {
            assert_eq!(Origin::from_word(origin.word()), Some(origin));
        }
        assert_eq!(["", "Ours", "theirs"].map(Origin::from_word), [None; 3]);
    }
}
