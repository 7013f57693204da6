//! The way to a server: a connection, and another one when that is lost.

use std::sync::Arc;
use std::time::Duration;

use alidade_entity::{Cancel, Cx};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::session::{Failed, Session, Way, mark};
use crate::pauses::Pauses;

/// Connections to one server, one at a time. What is done on one that is lost is done again on the next, for as long
/// as there is patience.
#[derive(Debug)]
pub(super) struct Line {
    way: Way,
    patience: Duration,
    session: Mutex<Option<Arc<Session>>>,
    /// For chance alone.
    chance: Chance,
}

struct Chance(Cx);

impl std::fmt::Debug for Chance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chance")
    }
}

impl Line {
    pub(super) fn new(way: Way, patience: Duration) -> Self {
        let chance = Chance(Cx::system(Cancel::default()));
        Self { way, patience, session: Mutex::default(), chance }
    }

    /// Does something of that kind, which brings so many bytes; from its beginning again when the connection is lost.
    pub(super) async fn call<T, F>(
        &self,
        (kind, bytes): (&'static str, u64),
        act: impl Fn(Arc<Session>) -> F,
    ) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let mut pauses = Pauses::until(Instant::now() + self.patience);
        loop {
            let done = match self.session().await {
                Ok(session) => {
                    self.way.meter.request(kind, bytes);
                    act(session).await
                }
                Err(failed) => Err(failed),
            };
            let is_lost = matches!(done, Err(Failed::Lost(_)));
            let pause = if is_lost { pauses.next(&self.chance.0) } else { None };
            let Some(pause) = pause else { return done };
            sleep(pause).await;
            // There was room for the first attempt: it was waited for before.
            self.way.meter.room_for(bytes).await;
        }
    }

    /// Letters that nobody else makes up.
    pub(super) fn mark(&self) -> Result<String, Failed> {
        mark(&self.chance.0)
    }

    /// The connection, made now when there is none.
    async fn session(&self) -> Result<Arc<Session>, Failed> {
        let mut held = self.session.lock().await;
        if let Some(session) = held.as_ref().filter(|session| !session.is_lost()) {
            return Ok(Arc::clone(session));
        }
        *held = None;
        let session = Arc::new(Session::connect(&self.way, &self.chance.0).await?);
        *held = Some(Arc::clone(&session));
        Ok(session)
    }
}
