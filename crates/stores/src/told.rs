//! What a client says of a failure, as the system's words know it, in one line.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, ErrorKind};

use object_store::Error as ClientError;
use object_store::client::{HttpError, HttpErrorKind};

use crate::credentials::{Giver, NoCredentials};
use crate::refusal::Refusal;

/// A failure in one line: the client's words and those of every cause that they leave out.
#[derive(Debug)]
pub(crate) struct Told {
    text: String,
    /// Who gave no credentials, if that is why.
    pub(crate) giver: Option<Giver>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Told {}

/// The client's failure as the system's words know it: whether the store answered, and what.
pub(crate) fn io_error(error: &ClientError) -> io::Error {
    if let Some(refusal) = below::<Refusal>(error) {
        return io::Error::new(refusal.kind, refusal.clone());
    }
    let text = text_of(error);
    let none = below::<NoCredentials>(error);
    let kind = match (http_kind(error), none) {
        (Some(HttpErrorKind::Timeout), _) => ErrorKind::TimedOut,
        (Some(HttpErrorKind::Connect), _) => ErrorKind::NotConnected,
        (_, Some(none)) if none.is_refused => ErrorKind::PermissionDenied,
        (_, None) if is_refusal(error, &text) => ErrorKind::PermissionDenied,
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, Told { text, giver: none.map(|none| none.giver) })
}

/// True when the store answered, and said that this one may not.
fn is_refusal(error: &ClientError, text: &str) -> bool {
    // A refused listing has no kind of its own.
    matches!(error, ClientError::PermissionDenied { .. } | ClientError::Unauthenticated { .. })
        || ["401", "403"].iter().any(|status| text.contains(&format!("{STATUS}{status}")))
}

/// How the client begins to say which status an answer had.
const STATUS: &str = "status code: ";

/// True for the words about an answer that another time may be another one.
pub(crate) fn is_passing(text: &str) -> bool {
    ["408", "429", "5"].iter().any(|status| text.contains(&format!("{STATUS}{status}")))
}

/// The kind of the request's failure, when no answer came.
pub(crate) fn http_kind(error: &(dyn StdError + 'static)) -> Option<HttpErrorKind> {
    below::<HttpError>(error).map(HttpError::kind)
}

/// The first of that type among an error and its causes.
fn below<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error and its causes in one line, nothing of it twice: some say what caused them, some do not.
pub(crate) fn text_of(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl Into<Box<dyn StdError + Send + Sync>>) -> ClientError {
        ClientError::Generic { store: "S3", source: source.into() }
    }

    #[test]
    fn a_cause_is_told_once() {
        let inner = generic(io::Error::other("no such place"));
        let outer = ClientError::NotFound { path: "a".to_owned(), source: Box::new(inner) };
        assert_eq!(
            text_of(&outer),
            "Object at location a not found: Generic S3 error: no such place"
        );
        let quiet = NoCredentials::new(Giver::Machine, Box::new(io::Error::other("nobody")));
        assert_eq!(
            text_of(&generic(quiet)),
            "Generic S3 error: get credentials for this machine: nobody"
        );
    }

    #[test]
    fn what_was_refused_is_told_from_what_did_not_answer() {
        let said = |status: &str| format!("Server returned non-2xx status code: {status}: ");
        for (text, kind) in [
            (said("403 Forbidden"), ErrorKind::PermissionDenied),
            (said("401 Unauthorized"), ErrorKind::PermissionDenied),
            (said("503 Service Unavailable"), ErrorKind::Other),
            (said("404 Not Found"), ErrorKind::Other),
        ] {
            assert_eq!(io_error(&generic(&*text)).kind(), kind, "{text}");
        }
        for (text, kind) in [
            (said("404 Not Found"), ErrorKind::PermissionDenied),
            (said("400 Bad Request"), ErrorKind::PermissionDenied),
            (said("500 Internal Server Error"), ErrorKind::Other),
            ("no such file".to_owned(), ErrorKind::PermissionDenied),
        ] {
            let none = NoCredentials::new(Giver::Identity, Box::new(generic(&*text)));
            let error = io_error(&none.into());
            assert_eq!(error.kind(), kind, "{text}");
            assert_eq!(crate::giver(&error), Some(Giver::Identity));
        }
        let late = HttpError::new(HttpErrorKind::Connect, io::Error::other("refused"));
        let none = NoCredentials::new(Giver::Machine, Box::new(generic(late)));
        assert_eq!(io_error(&none.into()).kind(), ErrorKind::NotConnected);
    }
}
