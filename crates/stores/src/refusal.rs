//! What a store answered that is no success, as the system's words know it.

use std::io::ErrorKind;

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

impl Refusal {
    /// A refusal in the client's words, by the store and about a file.
    #[cfg(any(feature = "rest", feature = "sftp"))]
    pub(crate) fn told(self, store: &'static str, path: &str) -> ClientError {
        let (kind, path, source) = (self.kind, path.to_owned(), Box::new(self));
        match kind {
            ErrorKind::NotFound => ClientError::NotFound { path, source },
            ErrorKind::AlreadyExists => ClientError::AlreadyExists { path, source },
            ErrorKind::PermissionDenied => ClientError::PermissionDenied { path, source },
            _ => ClientError::Generic { store, source },
        }
    }

    /// The refusal below an error of the client.
    pub(crate) fn below(error: &ClientError) -> Option<&Self> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}
