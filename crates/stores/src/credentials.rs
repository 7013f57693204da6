//! Credentials that others give for a while: who gives them, and what it means when they do not.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::{CredentialProvider, Error as ClientError, Result};

use crate::told::{Told, http_kind, is_passing, text_of};

/// Who gives credentials for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Giver {
    /// A server that gives them for a token, a secret or a file.
    Identity,
    /// A server beside this container.
    Container,
    /// The program that a profile names.
    Process,
    /// The cloud that this machine is one of.
    Machine,
}

impl fmt::Display for Giver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "for this identity",
            Self::Container => "for this container",
            Self::Process => "by the profile's program",
            Self::Machine => "for this machine",
        })
    }
}

/// Who gave no credentials, when that is why a store failed.
#[must_use]
pub fn giver(error: &io::Error) -> Option<Giver> {
    error.get_ref()?.downcast_ref::<Told>()?.giver
}

/// Credentials that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("get credentials {giver}")]
pub(crate) struct NoCredentials {
    pub(crate) giver: Giver,
    /// Whether the answer was no, or there was nothing to ask with: then asking again is in vain.
    pub(crate) is_refused: bool,
    source: Box<dyn StdError + Send + Sync>,
}

impl NoCredentials {
    /// What is meant by the failure of a request for credentials, or of what must be read for it.
    pub(crate) fn new(giver: Giver, source: Box<dyn StdError + Send + Sync>) -> Self {
        let is_refused = http_kind(&*source).is_none() && !is_passing(&text_of(&*source));
        Self { giver, is_refused, source }
    }
}

impl From<NoCredentials> for ClientError {
    fn from(error: NoCredentials) -> Self {
        Self::Generic { store: "cloud", source: Box::new(error) }
    }
}

/// Passes on what another gives, and says whose failure it is when that one does not.
#[derive(Debug)]
pub(crate) struct Given<C> {
    pub(crate) giver: Giver,
    pub(crate) inner: Arc<dyn CredentialProvider<Credential = C>>,
}

#[async_trait]
impl<C: fmt::Debug + Send + Sync + 'static> CredentialProvider for Given<C> {
    type Credential = C;

    async fn get_credential(&self) -> Result<Arc<C>> {
        let given = self.inner.get_credential().await;
        given.map_err(|error| NoCredentials::new(self.giver, Box::new(error)).into())
    }
}
