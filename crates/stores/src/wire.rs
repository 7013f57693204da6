//! Requests as they go over the wire: counted, limited, and sent again until they are answered. The one layer that
//! sends anything again.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use alidade_entity::{Cancel, Cx};
use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::pauses::Pauses;
use crate::settings::{METADATA, Settings};
use crate::traffic::{CREDENTIALS, Counted, Meter, kind_of};

/// Here clouds give their machines and containers credentials. Machines that are no cloud's have nobody at
/// these addresses: who asks there waits no longer.
const NEAR: [&str; 5] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::23]",
    "metadata.google.internal",
];
const NEAR_PATIENCE: Duration = Duration::from_secs(5);

/// Makes clients whose requests go through a meter, and are sent again for as long as there is patience.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    meter: Arc<Meter>,
    patience: Duration,
    /// Servers that stand for those of [`NEAR`]: host and port.
    near: Vec<String>,
    /// Whether the server of web identities was said to speak no TLS.
    is_plain: bool,
}

impl Wire {
    /// What goes over the wire with these settings, by that meter.
    pub(crate) fn new(meter: Arc<Meter>, settings: &Settings) -> Self {
        let near = METADATA.iter().chain(&["AWS_CONTAINER_CREDENTIALS_FULL_URI"]);
        let authority = |url: &str| url.split("://").nth(1)?.split('/').next().map(str::to_owned);
        let near = near.filter_map(|name| authority(settings.get(name)?)).collect();
        let is_plain =
            settings.get("AWS_ENDPOINT_URL_STS").is_some_and(|url| url.starts_with("http://"));
        Self { meter, patience: settings.patience, near, is_plain }
    }

    fn is_near(near: &[String], request: &HttpRequest) -> bool {
        let Some(authority) = request.uri().authority() else { return false };
        NEAR.contains(&authority.host()) || near.iter().any(|near| near == authority.as_str())
    }
}

impl HttpConnector for Wire {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let connector = ReqwestConnector::default();
        // The client would refuse what somebody has asked for by name.
        let options =
            if self.is_plain { options.clone().with_allow_http(true) } else { options.clone() };
        let inner = connector.connect(&options).or_else(|error| {
            // A container may have no certificates at all: those that are named are trusted, and no TLS needs none.
            connector.connect(&options.with_no_system_certificates(true)).map_err(|_same| error)
        })?;
        let Self { meter, patience, near, .. } = self.clone();
        let cx = Cx::system(Cancel::default());
        Ok(HttpClient::new(Patient { inner, meter, patience, near, cx }))
    }
}

struct Patient {
    inner: HttpClient,
    meter: Arc<Meter>,
    patience: Duration,
    near: Vec<String>,
    /// For chance alone.
    cx: Cx,
}

impl std::fmt::Debug for Patient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patient").field("patience", &self.patience).finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpService for Patient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_near = Wire::is_near(&self.near, &request);
        let patience = if is_near { self.patience.min(NEAR_PATIENCE) } else { self.patience };
        let until = Instant::now() + patience;
        let mut pauses = Pauses::until(until);
        let mut is_again = false;
        loop {
            if is_again {
                // There was room for the first: it was waited for before it was signed.
                self.meter.room_for(request.body().content_length() as u64).await;
            }
            let answer = self.once(request.clone(), is_near.then_some(until)).await;
            is_again = true;
            let is_over = match &answer {
                Ok(answer) => !is_passing(answer.status().as_u16()),
                Err(error) => is_final(error),
            };
            let pause = if is_over { None } else { pauses.next(&self.cx) };
            let Some(pause) = pause else { return answer };
            sleep(pause).await;
        }
    }
}

impl Patient {
    /// Sends a request and takes in the whole answer: what breaks off in the midst of it is sent again, too.
    /// Answers are as long as what was asked for, some MiB.
    async fn once(
        &self,
        request: HttpRequest,
        until: Option<Instant>,
    ) -> Result<HttpResponse, HttpError> {
        let sent = request.body().content_length() as u64;
        let kind = if until.is_some() { CREDENTIALS } else { kind_of(&request) };
        self.meter.request(kind, sent);
        let asking = async {
            let (parts, body) = self.inner.execute(request).await?.into_parts();
            let body = Counted::new(body, Arc::clone(&self.meter));
            let whole = HttpResponseBody::new(body).bytes().await?;
            Ok(HttpResponse::from_parts(parts, whole.into()))
        };
        match until {
            None => asking.await,
            Some(until) => timeout_at(until, asking)
                .await
                .unwrap_or_else(|late| Err(HttpError::new(HttpErrorKind::Timeout, late))),
        }
    }
}

/// How a server says that it has no room left.
const FULL: u16 = 507;

/// True for an answer that another time may be another one.
fn is_passing(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599) && status != FULL
}

/// True for what no time mends: a server that is not the one it should be.
fn is_final(error: &HttpError) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.to_string().contains("invalid peer certificate") {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_what_the_server_says_of_itself() {
        for (status, passes) in [
            (200, false),
            (404, false),
            (403, false),
            (412, false),
            (429, true),
            (503, true),
            (507, false),
        ] {
            assert_eq!(is_passing(status), passes, "{status}");
        }
    }
}
