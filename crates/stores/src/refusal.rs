//! What a store answered that is no success, as the system's words know it.

use std::io::ErrorKind;

#[cfg(any(feature = "rest", feature = "sftp"))]
use object_store::Error as ClientError;

/// An answer that says no, or none.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{said}")]
pub(crate) struct Refusal {
    /// The system's word for it.
    pub(crate) kind: ErrorKind,
    /// What was said.
    pub(crate) said: String,
}

#[cfg(any(feature = "rest", feature = "sftp"))]
impl Refusal {
    /// A refusal in the client's words, by the store and about a file.
    pub(crate) fn told(self, store: &'static str, path: &str) -> ClientError {
        let (kind, path, source) = (self.kind, path.to_owned(), Box::new(self));
        match kind {
            ErrorKind::NotFound => ClientError::NotFound { path, source },
            ErrorKind::AlreadyExists => ClientError::AlreadyExists { path, source },
            ErrorKind::PermissionDenied => ClientError::PermissionDenied { path, source },
            _ => ClientError::Generic { store, source },
        }
    }
}
