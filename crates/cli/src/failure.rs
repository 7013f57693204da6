//! What went wrong, in the form in which people and programs are told.

use std::error::Error as StdError;

use crate::exit::Code;
use crate::text::safe_line;

/// The result of a verb.
pub type Result<T> = std::result::Result<T, Failure>;

/// A failure at the front door: one line, the exit code, and the next command to type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the process ends with.
    pub code: Code,
    /// The whole chain in one line, safe to print.
    pub message: String,
    /// What to do next; a command in backticks works when pasted.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with that code.
    #[must_use]
    pub fn new(code: Code, message: impl AsRef<str>) -> Self {
        Self { code, message: safe_line(message.as_ref()), hint: None }
    }

    /// A command line that makes no sense.
    #[must_use]
    pub fn usage(message: impl AsRef<str>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// A failed system call on a file of ours.
    #[must_use]
    pub fn io(attempt: impl AsRef<str>, source: &std::io::Error) -> Self {
        let code = match source.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            _ => Code::Failed,
        };
        Self::new(code, format!("{}: {source}", attempt.as_ref()))
    }

    /// An error and all its causes.
    #[must_use]
    pub fn of(code: Code, error: &dyn StdError) -> Self {
        Self::new(code, chain(error))
    }

    /// The same, with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An error and all its causes, joined by `: `.
#[must_use]
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_without_control_characters() {
        let failure = Failure::new(Code::Failed, "open \x1b[31mx\nnext");
        assert_eq!(failure.message, "open \\x1b[31mx next");
    }

    #[test]
    fn the_whole_chain_is_told() {
        let error = alidade_entity::Error::io(
            "open file /a",
            std::io::Error::from(std::io::ErrorKind::NotFound),
        );
        assert_eq!(Failure::of(Code::NotFound, &error).message, "open file /a: entity not found");
    }
}
