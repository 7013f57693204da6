//! What a decoder says when bytes are not what they should be. It knows no file names: who asked
//! for the bytes adds them.

use std::borrow::Cow;
use std::io;

use crate::Error;

/// The result of a decoder.
pub type Decoded<T> = Result<T, DecodeError>;

/// Why a decoder gave up.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not of the form they should have.
    #[error("{0}")]
    Malformed(Cow<'static, str>),
    /// The bytes could not be read.
    #[error("read")]
    Read(#[source] io::Error),
    /// Who takes what was decoded wants no more.
    #[error("use what was read")]
    Stopped(#[source] Error),
}

impl DecodeError {
    /// Bytes that are not of the form they should have, and what is wrong with them.
    pub fn malformed(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed(why.into())
    }

    /// The same as the crate's error, about `what`: `tree 1234…`.
    ///
    /// A reader that failed with one of our own errors inside its [`io::Error`] gives that one back.
    #[must_use]
    pub fn of(self, what: impl Into<String>) -> Error {
        let source = match self {
            Self::Malformed(why) => return Error::damaged(what, why),
            Self::Read(source) => source,
            Self::Stopped(error) => return error,
        };
        let kind = source.kind();
        let inner = source.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        if let Some(inner) = inner {
            return inner.clone();
        }
        match kind {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::Other => {
                Error::damaged(what, source.to_string())
            }
            _ => Error::store(format!("read {}", what.into()), source),
        }
    }
}

impl From<io::Error> for DecodeError {
    fn from(source: io::Error) -> Self {
        Self::Read(source)
    }
}

impl From<Error> for DecodeError {
    fn from(error: Error) -> Self {
        Self::Stopped(error)
    }
}

impl From<serde_json::Error> for DecodeError {
    /// The message of the parser, which names a place and a field and holds no value.
    fn from(error: serde_json::Error) -> Self {
        let place = format!("line {} column {}", error.line(), error.column());
        Self::malformed(match error.classify() {
            serde_json::error::Category::Eof => format!("it ends early, at {place}"),
            serde_json::error::Category::Syntax => format!("it is no JSON, at {place}"),
            _ => format!("its JSON has a wrong or missing field, at {place}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_ours_survives_its_way_through_a_reader() {
        let inner = Error::NotFound { what: "blob 12".to_owned() };
        let error = DecodeError::from(io::Error::other(inner)).of("tree 34");
        assert_eq!(error.to_string(), "blob 12 is not in the repository");
    }

    #[test]
    fn bytes_that_end_are_damage_and_a_failing_disk_is_not() {
        let eof = DecodeError::from(io::Error::from(io::ErrorKind::UnexpectedEof)).of("tree 1");
        assert!(matches!(eof, Error::Damaged { .. }), "{eof:?}");
        let denied = DecodeError::from(io::Error::from(io::ErrorKind::PermissionDenied)).of("x");
        assert!(matches!(denied, Error::Store { .. }), "{denied:?}");
    }
}
