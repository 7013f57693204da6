//! Keys that a server beside this container gives for a while.

use std::fmt;
use std::fs;
use std::net::IpAddr;

use async_trait::async_trait;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody};
use object_store::{ClientOptions, HeaderValue};

use crate::credentials::Giver;
use crate::kept::{GivesKeys, Why};
use crate::open::OpenError;
use crate::settings::Settings;
use crate::wire::Wire;

/// Where a relative address is looked for, and who else gives keys without TLS.
const BESIDE: &str = "169.254.170.2";
const NEAR: [&str; 3] = [BESIDE, "169.254.170.23", "fd00:ec2::23"];
/// A server that gives keys: `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`, or
/// `AWS_CONTAINER_CREDENTIALS_FULL_URI`, and what it is shown.
pub(crate) struct Container {
    url: String,
    token: Token,
    client: HttpClient,
}

/// What the server is shown.
enum Token {
    None,
    Said(String),
    /// A file that is read each time: what is in it changes.
    File(String),
}

impl Container {
    /// The server that the environment names, if it names one.
    pub(crate) fn new(settings: &Settings, wire: &Wire) -> Result<Option<Self>, OpenError> {
        let Some(url) = url(settings)? else { return Ok(None) };
        let token = match (
            settings.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            settings.get("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        ) {
            (Some(path), _) => Token::File(path.to_owned()),
            (None, Some(token)) => Token::Said(token.to_owned()),
            (None, None) => Token::None,
        };
        let options = crate::bucket::options(settings)?;
        let client = wire.connect(&ClientOptions::with_allow_http(options, true))?;
        Ok(Some(Self { url, token, client }))
    }
}

#[async_trait]
impl GivesKeys for Container {
    const GIVER: Giver = Giver::Container;

    async fn ask(&self) -> Result<Vec<u8>, Why> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.uri_mut() = self.url.parse()?;
        request.headers_mut().insert("accept", HeaderValue::from_static("application/json"));
        if let Some(token) = self.token.read()? {
            let mut value = HeaderValue::from_str(token.trim_end_matches(['\r', '\n']))?;
            value.set_sensitive(true);
            request.headers_mut().insert("authorization", value);
        }
        let answer = self.client.execute(request).await?;
        let status = answer.status();
        let body = answer.into_body().bytes().await?;
        if !status.is_success() {
            let said = String::from_utf8_lossy(&body);
            return Err(format!("{} answered with status code: {status}: {said}", self.url).into());
        }
        Ok(body.into())
    }
}

impl Token {
    fn read(&self) -> Result<Option<String>, String> {
        match self {
            Self::None => Ok(None),
            Self::Said(token) => Ok(Some(token.clone())),
            Self::File(path) => {
                let read = fs::read_to_string(path);
                read.map(Some).map_err(|error| format!("read {path}: {error}"))
            }
        }
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// Where the keys are asked for. A server that is reached without TLS must be on this machine, or be the
/// one of the cloud's makers beside it.
pub(crate) fn url(settings: &Settings) -> Result<Option<String>, OpenError> {
    if let Some(path) = settings.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return Ok(Some(format!("http://{BESIDE}/{}", path.trim_start_matches('/'))));
    }
    let Some(url) = settings.get("AWS_CONTAINER_CREDENTIALS_FULL_URI") else { return Ok(None) };
    let is_fit = match url.split_once("://") {
        Some(("https", _)) => true,
        Some(("http", rest)) => is_near(host(rest)),
        _ => false,
    };
    if !is_fit {
        return Err(OpenError::Open { url: url.to_owned() });
    }
    Ok(Some(url.to_owned()))
}

/// The host of an address without its scheme.
fn host(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    match authority.strip_prefix('[') {
        Some(inner) => inner.split(']').next().unwrap_or(inner),
        None => authority.split(':').next().unwrap_or(authority),
    }
}

fn is_near(host: &str) -> bool {
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback || host == "localhost" || NEAR.contains(&host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alidade_entity::Cancel;

    fn url_of(name: &str, value: &str) -> Result<String, OpenError> {
        let environment = [(name.to_owned(), value.to_owned())].into();
        let settings = Settings { environment, ..Settings::new(Cancel::default()) };
        Ok(url(&settings)?.unwrap_or_default())
    }

    #[test]
    fn keys_are_asked_for_over_tls_or_nearby() {
        const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
        const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
        assert_eq!(url_of(RELATIVE, "/v2/role").unwrap(), "http://169.254.170.2/v2/role");
        for url in [
            "https://keys.example.org/a",
            "http://127.0.0.1:81/a?b",
            "http://[::1]:81/a",
            "http://localhost/a",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
        ] {
            assert_eq!(url_of(FULL, url).unwrap(), url);
        }
        for url in [
            "http://keys.example.org/a",
            "http://127.0.0.1@example.org/a",
            "http://169.254.169.254/a",
            "ftp://127.0.0.1/a",
            "/relative",
        ] {
            assert!(matches!(url_of(FULL, url), Err(OpenError::Open { .. })), "{url}");
        }
    }
}
