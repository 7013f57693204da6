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

/// An error and all its causes, joined by `: `. A cause is said once: errors of other programs' making say in
/// their own message what caused them, and have it as a cause besides.
#[must_use]
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !is_said(&text, &said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

/// True when a text says that already, in whole words.
fn is_said(text: &str, cause: &str) -> bool {
    let is_word = |end: Option<char>| end.is_some_and(char::is_alphanumeric);
    // Where the cause itself ends in no letter, anything may be next to it.
    let joins = |inner: Option<char>, outer: Option<char>| is_word(inner) && is_word(outer);
    text.match_indices(cause).any(|(at, found)| {
        let (before, after) = (&text[..at], &text[at + found.len()..]);
        !joins(found.chars().next(), before.chars().next_back())
            && !joins(found.chars().next_back(), after.chars().next())
    })
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

    /// An error that says what it is told to say.
    #[derive(Debug)]
    struct Saying(&'static str, Option<Box<Saying>>);

    impl std::fmt::Display for Saying {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Saying {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    fn said(texts: &[&'static str]) -> String {
        let below = |below, text: &&'static str| Some(Box::new(Saying(text, below)));
        chain(&*texts.iter().rev().fold(None, below).unwrap())
    }

    #[test]
    fn a_cause_is_said_once() {
        for (texts, told) in [
            (&["store: no room", "no room"][..], "store: no room"),
            (&["no room", "no room", "no room"], "no room"),
            // What lies below a cause that was said is told all the same.
            (&["store: no room", "no room", "disk full"], "store: no room: disk full"),
            (&["store", "pack (no room)", "no room"], "store: pack (no room)"),
            // Half a word says nothing.
            (&["open notes", "no"], "open notes: no"),
            (&["open file", "open file /a"], "open file: open file /a"),
            (&["store", ""], "store"),
        ] {
            assert_eq!(said(texts), told);
        }
    }
}
