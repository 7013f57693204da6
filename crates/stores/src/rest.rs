//! A client of restic's REST protocol, version 2.
//!
//! The objects are those of a repository: `data/xx/NAME` here is `data/NAME` there. A server refuses what would
//! overwrite with the same answer as what it does not allow; which of the two it was is asked.

use std::fmt;
use std::future::ready;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, RANGE,
};
use http::{HeaderValue, Method, Request, StatusCode};
use object_store::client::{
    HttpClient, HttpConnector, HttpRequestBody, HttpResponse, HttpResponseBody,
};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use serde::Deserialize;
use url::Url;

use crate::answer::{got, meta, stored};
use crate::bucket;
use crate::login::Login;
use crate::open::OpenError;
use crate::refusal::Refusal;
use crate::remote::Prepare;
use crate::settings::Settings;
use crate::traffic::{Kind, Meter};
use crate::wire::Wire;

const STORE: &str = "REST";
/// What a client asks for and a server answers that knows lengths in listings.
const VERSION_2: &str = "application/vnd.x.restic.rest.v2";

/// A repository on a server. What it puts is put only where nothing is.
#[derive(Clone)]
pub(crate) struct Rest {
    client: HttpClient,
    /// The address, with a slash at its end.
    base: String,
    authorization: Option<HeaderValue>,
}

/// A request.
struct Ask {
    kind: &'static str,
    method: Method,
    /// What follows the address.
    below: String,
    range: Option<Range<u64>>,
    body: Option<PutPayload>,
}

impl Ask {
    fn new(kind: &'static str, method: Method, below: impl Into<String>) -> Self {
        Self { kind, method, below: below.into(), range: None, body: None }
    }
}

/// A file in a listing.
#[derive(Deserialize)]
struct Listed {
    name: String,
    size: u64,
}

impl Rest {
    /// A client of the server at that address, with the login from there or from the environment.
    pub(crate) fn new(
        (url, login): (&Url, Option<&Login>),
        settings: &Settings,
        meter: Arc<Meter>,
    ) -> std::result::Result<Self, OpenError> {
        let options = bucket::options(settings)?.with_allow_http(url.scheme() == "http");
        let client = Wire::new(meter, settings).connect(&options)?;
        let authorization = match known(login, settings) {
            Some(login) => Some(basic(&login)?),
            None => None,
        };
        Ok(Self { client, base: url.as_str().to_owned(), authorization })
    }

    async fn send(&self, ask: Ask) -> Result<HttpResponse> {
        let odd = |error: http::Error| Error::Generic { store: STORE, source: Box::new(error) };
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{}{}", self.base, ask.below))
            .header(ACCEPT, VERSION_2)
            .extension(Kind(ask.kind));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(Range { start, end }) = ask.range {
            request = request.header(RANGE, format!("bytes={start}-{}", end.saturating_sub(1)));
        }
        let body = match ask.body {
            Some(payload) => {
                request = request
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(CONTENT_LENGTH, payload.content_length());
                HttpRequestBody::from(payload)
            }
            None => HttpRequestBody::empty(),
        };
        let request = request.body(body).map_err(odd)?;
        let sent = self.client.execute(request).await;
        sent.map_err(|error| Error::Generic { store: STORE, source: Box::new(error) })
    }

    /// Puts a file where nothing is.
    async fn put_new(&self, path: &Path, payload: PutPayload) -> Result<PutResult> {
        let below = target(path);
        let ask = Ask { body: Some(payload), ..Ask::new("put", Method::POST, &*below) };
        let status = self.send(ask).await?.status();
        if status.is_success() {
            return Ok(stored());
        }
        if status == StatusCode::FORBIDDEN {
            let there = self.send(Ask::new("head", Method::HEAD, &*below)).await?.status();
            if there.is_success() {
                let said = "the server overwrites nothing".to_owned();
                return Err(Refusal { kind: ErrorKind::AlreadyExists, said }.told(STORE, &below));
            }
        }
        Err(refused(status, &below))
    }

    async fn remove(&self, path: &Path) -> Result<()> {
        let below = target(path);
        let status = self.send(Ask::new("delete", Method::DELETE, &*below)).await?.status();
        if status.is_success() {
            return Ok(());
        }
        if status == StatusCode::FORBIDDEN {
            let said = "the server is append-only: it removes nothing but locks".to_owned();
            return Err(Refusal { kind: ErrorKind::PermissionDenied, said }.told(STORE, &below));
        }
        Err(refused(status, &below))
    }

    /// The files of a kind, all at once: that is how the server tells them.
    async fn listed(&self, kind: &str) -> Result<Vec<Result<ObjectMeta>>> {
        let below = format!("{kind}/");
        let answer = self.send(Ask::new("list", Method::GET, &*below)).await?;
        match answer.status() {
            // A directory that nobody has made yet.
            StatusCode::NOT_FOUND => return Ok(Vec::new()),
            status if status.is_success() => {}
            status => return Err(refused(status, &below)),
        }
        let form = answer.headers().get(CONTENT_TYPE).cloned();
        if form.as_ref().is_none_or(|form| form.as_bytes() != VERSION_2.as_bytes()) {
            let said = "the server does not speak version 2 of restic's REST protocol".to_owned();
            return Err(Refusal { kind: ErrorKind::Unsupported, said }.told(STORE, &below));
        }
        let text = collected(answer).await?;
        // An empty directory is told as `null`.
        let listed: Option<Vec<Listed>> = serde_json::from_slice(&text).map_err(|error| {
            let said = format!("the server's list of {kind} files does not read: {error}");
            Refusal { kind: ErrorKind::InvalidData, said }.told(STORE, &below)
        })?;
        let found = listed.unwrap_or_default().into_iter();
        Ok(found.filter_map(|file| placed(kind, &file)).map(Ok).collect())
    }
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STORE)
    }
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").field("base", &self.base).finish_non_exhaustive()
    }
}

#[async_trait]
impl Prepare for Rest {
    async fn prepare(&self) -> Result<()> {
        let status = self.send(Ask::new("put", Method::POST, "?create=true")).await?.status();
        if status.is_success() { Ok(()) } else { Err(refused(status, "?create=true")) }
    }
}

#[async_trait]
impl ObjectStore for Rest {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        _: PutOptions,
    ) -> Result<PutResult> {
        self.put_new(location, payload).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Whole { rest: self.clone(), path: location.clone(), parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let below = target(location);
        let (kind, method) =
            if options.head { ("head", Method::HEAD) } else { ("get", Method::GET) };
        let range = match options.range {
            Some(GetRange::Bounded(range)) => Some(range),
            None => None,
            Some(_) => return Err(unable("a range without both ends")),
        };
        let ask = Ask { range: range.clone(), ..Ask::new(kind, method, &*below) };
        let answer = self.send(ask).await?;
        if !answer.status().is_success() {
            return Err(refused(answer.status(), &below));
        }
        let is_part = answer.status() == StatusCode::PARTIAL_CONTENT;
        let said = said_size(&answer, is_part);
        let bytes = if options.head { Bytes::new() } else { collected(answer).await? };
        let known = if options.head || is_part { said } else { Some(bytes.len() as u64) };
        let size = known.ok_or_else(|| {
            let said = "the server does not say how long the file is".to_owned();
            Refusal { kind: ErrorKind::InvalidData, said }.told(STORE, &below)
        })?;
        let start = range.as_ref().map_or(0, |range| range.start);
        let bytes = match range {
            // Some servers send all of some files whatever is asked for.
            Some(range) if !is_part => part(&bytes, &range),
            _ => bytes,
        };
        Ok(got(location, size, (bytes, start)))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let rest = self.clone();
        let removed = locations.and_then(move |path| {
            let rest = rest.clone();
            async move { rest.remove(&path).await.map(|()| path) }
        });
        removed.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (rest, kind) = (self.clone(), prefix.map(Path::to_string).unwrap_or_default());
        let listed = async move { rest.listed(&kind).await.map(stream::iter) };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(unable("a listing by directories"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(unable("a copy on the server"))
    }
}

/// A file that comes in parts and goes in one request: the protocol has no other.
#[derive(Debug)]
struct Whole {
    rest: Rest,
    path: Path,
    parts: Vec<Bytes>,
}

#[async_trait]
impl MultipartUpload for Whole {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.extend(data);
        Box::pin(ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload = self.parts.drain(..).collect();
        self.rest.put_new(&self.path, payload).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}

/// The login of the place, completed by the environment: a password from there belongs to the user from there.
fn known(login: Option<&Login>, settings: &Settings) -> Option<Login> {
    let get = |name: &str| {
        let ours = settings.get(&format!("ALIDADE_REST_{name}"));
        ours.or_else(|| settings.get(&format!("RESTIC_REST_{name}")))
    };
    let (user, password) = (get("USERNAME"), get("PASSWORD"));
    let Some(login) = login else {
        let is_there = user.is_some() || password.is_some();
        return is_there.then(|| Login::new(user.unwrap_or_default(), password.map(str::to_owned)));
    };
    let is_theirs = user.is_none_or(|user| user == login.user());
    match (login.password(), password) {
        (None, Some(password)) if is_theirs => {
            Some(Login::new(login.user(), Some(password.to_owned())))
        }
        _ => Some(login.clone()),
    }
}

fn basic(login: &Login) -> std::result::Result<HeaderValue, OpenError> {
    let text = format!("{}:{}", login.user(), login.password().unwrap_or_default());
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(text)))
        .map_err(|error| Error::Generic { store: STORE, source: Box::new(error) })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Where the server has a file: the directories by the first two digits are its own affair.
fn target(path: &Path) -> String {
    let path = path.as_ref();
    match path.split_once('/') {
        Some((kind, rest)) => format!("{kind}/{}", rest.rsplit('/').next().unwrap_or(rest)),
        None => path.to_owned(),
    }
}

/// Where a listed file lies in a bucket. What has no such name is no file of a repository.
fn placed(kind: &str, file: &Listed) -> Option<ObjectMeta> {
    let name = &file.name;
    let path = match kind {
        "data" => format!("{kind}/{}/{name}", name.get(..2)?),
        _ => format!("{kind}/{name}"),
    };
    Some(meta(Path::from(path), file.size))
}

/// How long the whole file is, in the head of an answer.
fn said_size(answer: &HttpResponse, is_part: bool) -> Option<u64> {
    let text = |name: HeaderName| answer.headers().get(name)?.to_str().ok();
    if is_part {
        return text(CONTENT_RANGE)?.rsplit('/').next()?.parse().ok();
    }
    text(CONTENT_LENGTH)?.parse().ok()
}

fn part(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    let len = bytes.len();
    let within = |at: u64| usize::try_from(at).map_or(len, |at| at.min(len));
    bytes.slice(within(range.start)..within(range.end).max(within(range.start)))
}

async fn collected(answer: HttpResponse) -> Result<Bytes> {
    let body: HttpResponseBody = answer.into_body();
    let bytes = body.bytes().await;
    bytes.map_err(|error| Error::Generic { store: STORE, source: Box::new(error) })
}

/// An answer that is no success.
fn refused(status: StatusCode, below: &str) -> Error {
    let (kind, said) = match status {
        StatusCode::NOT_FOUND => (ErrorKind::NotFound, "the server has no such file".to_owned()),
        StatusCode::UNAUTHORIZED => (
            ErrorKind::PermissionDenied,
            "the server knows no such user with this password".to_owned(),
        ),
        StatusCode::FORBIDDEN => {
            (ErrorKind::PermissionDenied, "the server does not allow it".to_owned())
        }
        StatusCode::INSUFFICIENT_STORAGE | StatusCode::PAYLOAD_TOO_LARGE => {
            (ErrorKind::StorageFull, format!("the server has no room: it answers {status}"))
        }
        status => (ErrorKind::Other, format!("the server answers {status}")),
    };
    Refusal { kind, said }.told(STORE, below)
}

fn unable(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: STORE.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alidade_entity::Cancel;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let environment =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings { environment, ..Settings::new(Cancel::default()) }
    }

    #[test]
    fn the_place_goes_before_the_environment_and_ours_before_restics() {
        let both = [("RESTIC_REST_USERNAME", "r"), ("RESTIC_REST_PASSWORD", "rp")];
        let ours = [("ALIDADE_REST_USERNAME", "o"), ("ALIDADE_REST_PASSWORD", "op")];
        let said = |login: Option<Login>, pairs: &[(&str, &str)]| {
            let login = known(login.as_ref(), &settings(pairs))?;
            Some(format!("{}:{}", login.user(), login.password().unwrap_or("none")))
        };
        assert_eq!(said(None, &[]), None);
        assert_eq!(said(None, &both).unwrap(), "r:rp");
        assert_eq!(said(None, &[both, ours].concat()).unwrap(), "o:op");
        let whole = Some(Login::new("u", Some("up".to_owned())));
        assert_eq!(said(whole, &both).unwrap(), "u:up");
        let user = Some(Login::new("u", None));
        assert_eq!(said(user.clone(), &both).unwrap(), "u:none", "another user's password");
        assert_eq!(said(user, &both[1..]).unwrap(), "u:rp");
    }

    #[test]
    fn files_lie_on_the_server_without_directories_by_digits() {
        let name = "ab".repeat(32);
        for (path, below) in [
            ("config".to_owned(), "config".to_owned()),
            (format!("data/ab/{name}"), format!("data/{name}")),
            (format!("locks/{name}"), format!("locks/{name}")),
        ] {
            assert_eq!(target(&Path::from(&*path)), below);
        }
        let listed = |name: &str| Listed { name: name.to_owned(), size: 7 };
        let there = placed("data", &listed(&name)).unwrap();
        assert_eq!((there.location.to_string(), there.size), (format!("data/ab/{name}"), 7));
        assert!(placed("data", &listed("é")).is_some() && placed("data", &listed("x")).is_none());
        assert!(placed("data", &listed("xé")).is_none());
    }

    #[test]
    fn a_part_is_cut_from_what_comes_whole() {
        let bytes = Bytes::from_static(b"0123456789");
        for (range, wanted) in [
            (2..4, &b"23"[..]),
            (8..12, b"89"),
            (10..12, b""),
            (12..14, b""),
            (0..u64::MAX, &bytes),
        ] {
            assert_eq!(part(&bytes, &range), wanted, "{range:?}");
        }
    }
}
