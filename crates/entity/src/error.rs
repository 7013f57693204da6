use std::io;

/// The result of anything a socket offers.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it is; decides exit codes, omissions and whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// The run was told to stop.
    Cancelled,
    /// It is not there.
    NotFound,
    /// The system refused access.
    Denied,
    /// The plug, or the format, cannot do this at all.
    Unsupported,
    /// The target is not as the operation needs it: not empty, changed meanwhile.
    Conflict,
    /// What was read is not what was stored.
    Damaged,
    /// Anything else.
    Failed,
}

/// A failure of a plug: what was attempted, on what, and why it did not work.
///
/// The message says what was attempted and does not repeat its source; print the whole chain.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}")]
pub struct Error {
    class: Class,
    attempt: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure without a deeper cause. `attempt` is a verb and its object: `open file /a`.
    #[must_use]
    pub fn new(class: Class, attempt: impl Into<String>) -> Self {
        Self { class, attempt: attempt.into(), source: None }
    }

    /// A failure with its cause.
    #[must_use]
    pub fn with_source(
        class: Class,
        attempt: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { class, attempt: attempt.into(), source: Some(source.into()) }
    }

    /// A failed system call, classed by its error number.
    #[must_use]
    pub fn io(attempt: impl Into<String>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let class = match source.kind() {
            io::ErrorKind::NotFound => Class::NotFound,
            io::ErrorKind::PermissionDenied => Class::Denied,
            io::ErrorKind::Unsupported => Class::Unsupported,
            _ => Class::Failed,
        };
        Self::with_source(class, attempt, source)
    }

    /// The run was told to stop.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(Class::Cancelled, "the run was interrupted")
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// The message and all its causes, joined by `: `.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.attempt.clone();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}
