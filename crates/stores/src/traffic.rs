//! What goes over the wire: counted by kind of request, and limited.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use alidade_model::Traffic;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use object_store::client::{HttpError, HttpRequest, HttpResponseBody};
use tokio::time::{Instant, Sleep, sleep};

use crate::limit::Limit;

/// Counts and limits. Every attempt of a request counts.
#[derive(Debug)]
pub(crate) struct Meter {
    requests: Mutex<BTreeMap<&'static str, u64>>,
    sent: AtomicU64,
    received: AtomicU64,
    up: Limit,
    down: Limit,
}

impl Meter {
    /// A meter that lets so many bytes a second pass in each direction.
    pub(crate) fn new(up: Option<u64>, down: Option<u64>) -> Arc<Self> {
        Arc::new(Self {
            requests: Mutex::default(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            up: Limit::new(up),
            down: Limit::new(down),
        })
    }

    /// What it counted so far.
    pub(crate) fn traffic(&self) -> Traffic {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        Traffic {
            requests: requests.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }

    /// So much came in: how long it has to wait before it may pass.
    pub(crate) fn arrived(&self, bytes: u64) -> Duration {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        self.down.wait_for(bytes, Instant::now())
    }

    /// Waits until so many bytes may be sent. Whoever sends something long waits before it is signed: a signature
    /// is good for minutes.
    pub(crate) async fn room_for(&self, bytes: u64) {
        let wait = self.up.wait_for(bytes, Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    /// A request is sent.
    pub(crate) fn request(&self, kind: &'static str, sent: u64) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(kind).or_insert(0) += 1;
        self.sent.fetch_add(sent, Ordering::Relaxed);
    }
}

/// Says of which kind a request is, where its method does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind(pub(crate) &'static str);

/// The kind of a request for credentials, which no store is paid for.
pub(crate) const CREDENTIALS: &str = "credentials";

/// The kind of a request, as bills name it.
pub(crate) fn kind_of(request: &HttpRequest) -> &'static str {
    if let Some(Kind(kind)) = request.extensions().get() {
        return kind;
    }
    let query = request.uri().query().unwrap_or_default();
    let has = |word: &str| query.split('&').any(|part| part.split('=').next() == Some(word));
    let is_listing = has("list-type") || has("comp") || has("delimiter") || has("prefix");
    match request.method().as_str() {
        "GET" if is_listing => "list",
        "GET" => "get",
        "HEAD" => "head",
        "PUT" => "put",
        "DELETE" => "delete",
        // The beginning and the end of a long upload, and a removal of many.
        "POST" if has("delete") => "delete",
        "POST" if has("Action") => CREDENTIALS,
        "POST" => "post",
        _ => "other",
    }
}

/// A response as it comes in.
pub(crate) struct Counted {
    body: HttpResponseBody,
    meter: Arc<Meter>,
    /// What came and may not pass yet, and until when.
    frame: Option<Frame<Bytes>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Counted {
    /// What comes in that body, through that meter.
    pub(crate) fn new(body: HttpResponseBody, meter: Arc<Meter>) -> Self {
        Self { body, meter, frame: None, pause: None }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = self.get_mut();
        if this.frame.is_none() {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            let len = frame.data_ref().map_or(0, |data| data.len() as u64);
            let wait = this.meter.arrived(len);
            this.pause = (!wait.is_zero()).then(|| Box::pin(sleep(wait)));
            this.frame = Some(frame);
        }
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        Poll::Ready(this.frame.take().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.frame.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.frame.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len);
        let mut hint = self.body.size_hint();
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + held as u64);
        }
        hint.set_lower(hint.lower() + held as u64);
        hint
    }
}
