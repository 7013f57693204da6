//! The one table of exit codes, and which of them wins where several hold.

/// What the exit code of the process says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Everything was done.
    Done,
    /// It failed in a way that no other code names.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// It was done, and something is missing from it; the outcome names what.
    Omissions,
    /// There is no repository at that place.
    NoRepository,
    /// Another program holds a lock.
    Locked,
    /// No key opens with this password.
    WrongPassword,
    /// A path, an entity, a snapshot or a run is not there.
    NotFound,
    /// The store does not answer.
    Unreachable,
    /// What is stored is not what was written.
    Damaged,
    /// The target is not as it must be: not empty, changed meanwhile.
    Conflict,
    /// A signal ended it.
    Interrupted,
}

/// One row of the table.
struct Row {
    code: Code,
    number: u8,
    word: &'static str,
    about: &'static str,
}

/// Every code: its number, the word for it in JSON documents, and what it means.
/// The order is the precedence: the first that holds is the one the process ends with.
const TABLE: [Row; 12] = [
    row(Code::Interrupted, 130, "interrupted", "interrupted by a signal"),
    row(Code::NoRepository, 10, "no-repository", "there is no repository at that place"),
    row(Code::WrongPassword, 12, "wrong-password", "no key opens with this password"),
    row(Code::Locked, 11, "locked", "another program holds a lock"),
    row(Code::Unreachable, 14, "unreachable", "the store cannot be reached"),
    row(Code::Damaged, 20, "damaged", "what is stored is damaged"),
    row(Code::Conflict, 21, "conflict", "the target is not as it must be"),
    row(Code::Usage, 2, "usage", "the command line makes no sense"),
    row(Code::NotFound, 13, "not-found", "what was named is not there"),
    row(Code::Failed, 1, "failed", "it failed"),
    row(Code::Omissions, 3, "omissions", "done, with omissions that the outcome names"),
    row(Code::Done, 0, "done", "done"),
];

const fn row(code: Code, number: u8, word: &'static str, about: &'static str) -> Row {
    Row { code, number, word, about }
}

impl Code {
    /// The number the process ends with.
    #[must_use]
    pub fn number(self) -> u8 {
        self.row().number
    }

    /// The word for it in JSON documents.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.row().word
    }

    /// The one that wins when both hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self.rank() <= other.rank() { self } else { other }
    }

    /// The table as help text: numbers ascending, one per line.
    #[must_use]
    pub fn help() -> String {
        let mut rows: Vec<&Row> = TABLE.iter().collect();
        rows.sort_by_key(|row| row.number);
        let lines: Vec<String> =
            rows.iter().map(|row| format!("  {:>3}  {}", row.number, row.about)).collect();
        format!("Exit codes:\n{}", lines.join("\n"))
    }

    fn rank(self) -> usize {
        TABLE.iter().position(|row| row.code == self).unwrap_or(TABLE.len() - 1)
    }

    fn row(self) -> &'static Row {
        &TABLE[self.rank()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_number_and_word() {
        let mut numbers: Vec<u8> = TABLE.iter().map(|row| row.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1, 2, 3, 10, 11, 12, 13, 14, 20, 21, 130]);
        for row in &TABLE {
            assert_eq!(row.code.number(), row.number);
            assert_eq!(TABLE.iter().filter(|other| other.word == row.word).count(), 1);
        }
    }

    #[test]
    fn the_graver_code_wins_in_either_order() {
        for (winner, loser) in [
            (Code::Interrupted, Code::NoRepository),
            (Code::WrongPassword, Code::Locked),
            (Code::Locked, Code::Unreachable),
            (Code::Unreachable, Code::Damaged),
            (Code::Damaged, Code::Conflict),
            (Code::Conflict, Code::Failed),
            (Code::Failed, Code::Omissions),
            (Code::Omissions, Code::Done),
        ] {
            assert_eq!(winner.and(loser), winner);
            assert_eq!(loser.and(winner), winner);
        }
    }
}
