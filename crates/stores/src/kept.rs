//! Keys that somebody gives for a while, kept for as long as they are good.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use alidade_entity::{Cancel, Cx};
use alidade_model::Time;
use async_trait::async_trait;
use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Result};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::credentials::{Giver, NoCredentials};

/// Keys that are good for less than this are asked for again, in seconds: that is how long a request may be
/// sent again with what it was signed with.
const LEAST_LEFT: i64 = 300;
/// Unless they were given less than this ago, in nanoseconds.
const JUST_NOW: i128 = 1_000_000_000;

/// Why there are no keys.
pub(crate) type Why = Box<dyn StdError + Send + Sync>;

/// Who gives keys when they are asked for.
#[async_trait]
pub(crate) trait GivesKeys: fmt::Debug + Send + Sync + 'static {
    /// Who it is.
    const GIVER: Giver;

    /// The keys, as the JSON document that Amazon's tools know.
    async fn ask(&self) -> Result<Vec<u8>, Why>;
}

/// The keys of one who gives them.
pub(crate) struct KeptKeys<G> {
    from: G,
    kept: Mutex<Option<Kept>>,
    cx: Cx,
}

/// Keys that were given.
struct Kept {
    keys: Arc<AwsCredential>,
    given: Time,
    /// Until when they are good, in seconds since 1970.
    until: Option<i64>,
}

/// What is said of them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    access_key_id: String,
    secret_access_key: String,
    /// Servers call it the first, programs the second.
    #[serde(alias = "SessionToken")]
    token: Option<String>,
    expiration: Option<String>,
}

impl<G: GivesKeys> KeptKeys<G> {
    /// Nothing yet of what that one gives.
    pub(crate) fn new(from: G) -> Self {
        Self { from, kept: Mutex::default(), cx: Cx::system(Cancel::default()) }
    }

    async fn ask(&self) -> Result<Kept, Why> {
        let given = self.cx.now();
        let answer = self.from.ask().await?;
        // Why it is none may quote from it.
        let said: Said = serde_json::from_slice(&answer)
            .map_err(|_secret| format!("what {:?} answered is no key", self.from))?;
        let until = said.expiration.map(|time| time.parse::<jiff::Timestamp>()).transpose()?;
        let keys = AwsCredential {
            key_id: said.access_key_id,
            secret_key: said.secret_access_key,
            token: said.token,
        };
        Ok(Kept { keys: Arc::new(keys), given, until: until.map(jiff::Timestamp::as_second) })
    }
}

impl Kept {
    fn is_good(&self, now: Time) -> bool {
        let is_new = now.as_nanos() - self.given.as_nanos() < JUST_NOW;
        self.until
            .is_none_or(|until| until - now.seconds > LEAST_LEFT || (is_new && until > now.seconds))
    }
}

impl<G: GivesKeys> fmt::Debug for KeptKeys<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptKeys").field("from", &self.from).finish_non_exhaustive()
    }
}

#[async_trait]
impl<G: GivesKeys> CredentialProvider for KeptKeys<G> {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>> {
        let mut kept = self.kept.lock().await;
        if let Some(kept) = &*kept
            && kept.is_good(self.cx.now())
        {
            return Ok(Arc::clone(&kept.keys));
        }
        let asked = self.ask().await.map_err(|why| NoCredentials::new(G::GIVER, why))?;
        Ok(Arc::clone(&kept.insert(asked).keys))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_asked_for_again_in_time() {
        let keys = AwsCredential { key_id: String::new(), secret_key: String::new(), token: None };
        let keys = Arc::new(keys);
        let kept = |until| Kept { keys: Arc::clone(&keys), given: Time::new(1000, 0), until };
        for (until, now, is_good) in [
            (None, Time::new(1_000_000, 0), true),
            (Some(2000), Time::new(1699, 0), true),
            (Some(2000), Time::new(1700, 0), false),
            (Some(1010), Time::new(1000, 900_000_000), true),
            (Some(1010), Time::new(1001, 0), false),
            (Some(1000), Time::new(1000, 1), false),
        ] {
            assert_eq!(kept(until).is_good(now), is_good, "{until:?} {now}");
        }
    }
}
