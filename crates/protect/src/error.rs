use alidade_model::IdError;

/// The result of anything an engine verb does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a verb could not be done. Print the whole chain of sources.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository failed.
    #[error(transparent)]
    Repository(#[from] alidade_repository::Error),
    /// A plug failed.
    #[error(transparent)]
    Entity(#[from] alidade_entity::Error),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] alidade_catalog::Error),
    /// Something that was named does not exist.
    #[error("{what} was not found")]
    NotFound {
        /// What was named.
        what: String,
    },
    /// The target is not as the operation needs it.
    #[error("{what}")]
    Conflict {
        /// What is in the way.
        what: String,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Two things failed, the second while the first was being cleaned up after.
    #[error("{first}; and afterwards: {second}")]
    Then {
        /// The one that counts.
        first: Box<Error>,
        /// What else failed.
        second: Box<Error>,
    },
    /// A record in the repository that this engine wrote does not read back.
    #[error("read the record {what}")]
    Record {
        /// Which record.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// This failure, and another one met while cleaning up after it.
    #[must_use]
    pub(crate) fn then(self, second: Self) -> Self {
        Self::Then { first: Box::new(self), second: Box::new(second) }
    }
}

impl From<IdError> for Error {
    fn from(error: IdError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// A repository failure, as a source or a sink reports it to the copy engine.
///
/// A cancelled run is no failure of what was attempted, and says nothing of it.
pub(crate) fn as_entity(attempt: &str, error: alidade_repository::Error) -> alidade_entity::Error {
    use alidade_entity::Class;
    use alidade_repository::Error as R;
    let class = match &error {
        R::Cancelled => return alidade_entity::Error::cancelled(),
        R::Damaged { .. } | R::NotFound { .. } | R::SelfCheck { .. } => Class::Damaged,
        R::Unrepresentable { .. } => Class::Unsupported,
        _ => Class::Failed,
    };
    alidade_entity::Error::with_source(class, attempt, error)
}

#[cfg(test)]
mod tests {
    use alidade_entity::Class;

    use super::*;

    #[test]
    fn an_interruption_is_not_blamed_on_what_was_attempted() {
        let error = as_entity("store a piece of a file", alidade_repository::Error::Cancelled);
        assert_eq!(error.class(), Class::Cancelled);
        assert_eq!(error.chain(), "the run was interrupted");
    }
}
