//! A store behind a client of objects.

use std::io::Read;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use alidade_entity::Cancel;
use alidade_model::{Sabotage, Traffic};
use alidade_repository::{Body, Error, FileKind, PackPart, Result, Store};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    Error as ClientError, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload,
};
use tokio::runtime::{Handle, Runtime};
use tokio::task::unconstrained;

use crate::nearby::{Answer, Nearby};
use crate::open::OpenError;
use crate::pending::Pending;
use crate::settings::Settings;
use crate::told::{http_kind, io_error};
use crate::traffic::Meter;

/// What is larger is sent in parts of [`PART`].
const LARGE: u64 = 64 << 20;
const PART: usize = 16 << 20;
/// How many parts of packs are read at a time.
const READS: usize = 32;
/// How often a request looks whether the run was told to stop.
const TICK: Duration = Duration::from_millis(50);
/// What a request that begins after that may take: locks are removed then.
const GRACE: Duration = Duration::from_secs(5);

/// What a server asks for before a new repository's first file.
#[async_trait]
pub(crate) trait Prepare: Send + Sync {
    /// Makes the place ready; succeeds when it is.
    async fn prepare(&self) -> object_store::Result<()>;
}

/// A repository in a bucket or in what is used like one, in restic's layout.
///
/// Packs are sent while their caller goes on, some at a time; [`Store::flush`] waits for them. What is put is
/// put only where nothing is (`If-None-Match`), as far as the server knows that.
pub(crate) struct Remote {
    client: Arc<dyn ObjectStore>,
    prepare: Option<Arc<dyn Prepare>>,
    location: String,
    prefix: String,
    meter: Arc<Meter>,
    cancel: Cancel,
    pending: Pending,
    nearby: Nearby,
    /// Where what is pending runs.
    runtime: Background,
}

/// A runtime that ends without being waited for: whoever drops it may be inside another one.
#[derive(Debug)]
struct Background(Option<Runtime>);

impl Background {
    fn handle(&self) -> &Handle {
        self.0.as_ref().expect("it is there until it is dropped").handle()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Remote {
    pub(crate) fn new(
        client: Arc<dyn ObjectStore>,
        (location, prefix): (String, String),
        meter: Arc<Meter>,
        settings: &Settings,
    ) -> std::result::Result<Self, OpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("store")
            .enable_all()
            .build()
            .map_err(OpenError::Threads)?;
        Ok(Self {
            client,
            prepare: None,
            location,
            prefix,
            meter,
            cancel: settings.cancel.clone(),
            pending: Pending::new(settings.uploads),
            nearby: Nearby::default(),
            runtime: Background(Some(runtime)),
        })
    }

    /// The same at a server that asks for that.
    pub(crate) fn prepared_by(self, prepare: Option<Arc<dyn Prepare>>) -> Self {
        Self { prepare, ..self }
    }

    /// Waits for a request, or until the run is told to stop.
    fn wait<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let _inside = self.runtime.handle().enter();
        // Unconstrained: a budget that is used up would be given again by a runtime that this thread may be
        // inside of, and that does nothing while this waits.
        pollster::block_on(unconstrained(async {
            match select(pin!(request), pin!(told_to_stop(&self.cancel))).await {
                Either::Left((done, _)) => done,
                Either::Right(((), _)) => Err(Error::Cancelled),
            }
        }))
    }

    fn path(&self, kind: FileKind, name: &str) -> Result<Path> {
        let is_hash = name.len() == 64
            && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let is_name = if kind == FileKind::Config { name == "config" } else { is_hash };
        if !is_name {
            return Err(missing(kind, name));
        }
        let below = match kind {
            FileKind::Config => name.to_owned(),
            FileKind::Pack => format!("data/{}/{name}", &name[..2]),
            _ => format!("{}/{name}", directory(kind)),
        };
        Ok(self.placed(&below))
    }

    fn placed(&self, below: &str) -> Path {
        if self.prefix.is_empty() {
            Path::from(below)
        } else {
            Path::from(format!("{}/{below}", self.prefix))
        }
    }

    /// What is on its way is there, as far as anybody asks here.
    fn settled(&self, kind: FileKind) -> Result<()> {
        if kind == FileKind::Pack { self.wait(self.pending.settle()) } else { Ok(()) }
    }

    /// The same of one file.
    fn settled_one(&self, kind: FileKind, name: &str) -> Result<()> {
        if kind == FileKind::Pack { self.wait(self.pending.settle_one(name)) } else { Ok(()) }
    }

    /// Puts what fits one request. A pack is copied once there is room for it, and sent meanwhile.
    fn put_whole(
        &self,
        kind: FileKind,
        name: &str,
        path: Path,
        bytes: impl FnOnce() -> Result<Bytes>,
    ) -> Result<()> {
        if kind != FileKind::Pack {
            let bytes = bytes()?;
            return self.wait(async {
                self.meter.room_for(bytes.len() as u64).await;
                put_new(&*self.client, kind, name, &path, bytes).await
            });
        }
        let room = self.wait(self.pending.room())?;
        let (client, meter) = (Arc::clone(&self.client), Arc::clone(&self.meter));
        let (own, bytes) = (name.to_owned(), bytes()?);
        let upload = async move {
            meter.room_for(bytes.len() as u64).await;
            put_new(&*client, kind, &own, &path, bytes).await
        };
        self.pending.begin(self.runtime.handle(), name.to_owned(), room, upload);
        Ok(())
    }

    /// A part of a pack, as much of it as there is; nothing when the server will not give it.
    fn bring(&self, name: &str, path: &Path, range: Range<u64>) -> Result<Option<Bytes>> {
        self.wait(async {
            match self.client.get_range(path, range).await {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if http_kind(&error).is_some() => {
                    Err(failed("read", FileKind::Pack, name, &error))
                }
                // Why is told to who asks for no more than it needs.
                Err(_refused) => Ok(None),
            }
        })
    }

    /// One of some parts that are read at a time.
    async fn read_part(&self, part: &mut PackPart<'_>) -> Result<()> {
        let path = self.path(FileKind::Pack, part.name)?;
        let at = (&path, part.at);
        read_range(&*self.client, FileKind::Pack, part.name, at, part.buf).await
    }

    fn put_parts(
        &self,
        kind: FileKind,
        name: &str,
        path: &Path,
        (reader, len): (&mut dyn Read, u64),
    ) -> Result<()> {
        // There is no request that ends a long upload only where nothing is.
        if self.wait(head(&*self.client, kind, name, path)).is_ok_and(|there| is_whole(there, len))
        {
            return Ok(());
        }
        let failed = |error| failed("store", kind, name, &error);
        let begin = async { self.client.put_multipart(path).await.map_err(failed) };
        let mut upload = self.wait(begin)?;
        let sent = self.send_parts(&mut *upload, kind, name, (reader, len));
        let mut ended = sent
            .and_then(|()| self.wait(async { upload.complete().await.map(drop).map_err(failed) }));
        if ended.is_err() && self.len(kind, name).is_ok_and(|there| is_whole(there, len)) {
            // It was complete; the answer that said so was lost.
            ended = Ok(());
        }
        if ended.is_err() {
            // What is there of it costs money until it is told that it will not come.
            drop(self.wait(async { upload.abort().await.map_err(failed) }));
        }
        ended
    }

    fn send_parts(
        &self,
        upload: &mut dyn MultipartUpload,
        kind: FileKind,
        name: &str,
        (reader, len): (&mut dyn Read, u64),
    ) -> Result<()> {
        let mut left = len;
        while left > 0 {
            let part = usize::try_from(left).map_or(PART, |left| left.min(PART));
            let bytes = read_exactly(kind, name, reader, part)?;
            self.wait(async {
                self.meter.room_for(part as u64).await;
                Ok(())
            })?;
            let sending = upload.put_part(PutPayload::from(bytes));
            self.wait(async {
                sending.await.map_err(|error| failed("store", kind, name, &error))
            })?;
            left -= part as u64;
        }
        Ok(())
    }
}

/// Returns when the run was told to stop: at once when that happens meanwhile, after a while when it had
/// happened before, so that what must be cleaned up is.
async fn told_to_stop(cancel: &Cancel) {
    if cancel.is_cancelled() {
        return tokio::time::sleep(GRACE).await;
    }
    while !cancel.is_cancelled() {
        tokio::time::sleep(TICK).await;
    }
}

/// Puts a file where nothing is.
async fn put_new(
    client: &dyn ObjectStore,
    kind: FileKind,
    name: &str,
    path: &Path,
    bytes: Bytes,
) -> Result<()> {
    let payload = PutPayload::from(bytes.clone());
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match client.put_opts(path, payload, options).await {
        Ok(_) => Ok(()),
        Err(ClientError::AlreadyExists { .. } | ClientError::Precondition { .. }) => {
            there_already(client, kind, name, (path, &bytes)).await
        }
        Err(ClientError::NotImplemented { .. } | ClientError::NotSupported { .. }) => {
            put_unless_there(client, kind, name, (path, bytes)).await
        }
        Err(error) => Err(failed("store", kind, name, &error)),
    }
}

/// For servers that put nothing on a condition.
async fn put_unless_there(
    client: &dyn ObjectStore,
    kind: FileKind,
    name: &str,
    (path, bytes): (&Path, Bytes),
) -> Result<()> {
    match head(client, kind, name, path).await {
        Ok(_) => there_already(client, kind, name, (path, &bytes)).await,
        Err(Error::NotFound { .. }) => {
            let put = client.put(path, PutPayload::from(bytes)).await;
            put.map(drop).map_err(|error| failed("store", kind, name, &error))
        }
        Err(error) => Err(error),
    }
}

/// Something of that name is there: our own, the answer to which was lost. For a content hash the length says so:
/// no other run makes these bytes, and a server may have kept half of them.
async fn there_already(
    client: &dyn ObjectStore,
    kind: FileKind,
    name: &str,
    (path, bytes): (&Path, &Bytes),
) -> Result<()> {
    if kind != FileKind::Config {
        let there = head(client, kind, name, path).await?;
        if is_whole(there, bytes.len() as u64) {
            return Ok(());
        }
        let what = format!("the store keeps {there} bytes of the {} that were sent", bytes.len());
        return Err(Error::damaged_file(kind, name, what));
    }
    let found = async { client.get(path).await?.bytes().await }.await;
    let found = found.map_err(|error| failed("read", kind, name, &error))?;
    if found == *bytes { Ok(()) } else { Err(Error::Exists { location: path.to_string() }) }
}

/// Whether so many bytes are all that were to be stored.
fn is_whole(there: u64, len: u64) -> bool {
    there == len || Sabotage::TakeHalfForWhole.is_on()
}

/// The length of a file.
async fn head(client: &dyn ObjectStore, kind: FileKind, name: &str, path: &Path) -> Result<u64> {
    match client.head(path).await {
        Ok(found) => Ok(found.size),
        Err(ClientError::NotFound { .. }) => Err(missing(kind, name)),
        // An answer to this question has no room for a reason; one to another has.
        Err(refused @ ClientError::PermissionDenied { .. }) => {
            let why = client.get(path).await.err().unwrap_or(refused);
            Err(failed("look at", kind, name, &why))
        }
        Err(error) => Err(failed("look at", kind, name, &error)),
    }
}

async fn read_range(
    client: &dyn ObjectStore,
    kind: FileKind,
    name: &str,
    (path, at): (&Path, u64),
    buf: &mut [u8],
) -> Result<()> {
    let end = at.checked_add(buf.len() as u64);
    let short = || Error::damaged_file(kind, name, "it ends before what is asked of it");
    let Some(end) = end else { return Err(short()) };
    if buf.is_empty() {
        return if head(client, kind, name, path).await? < at { Err(short()) } else { Ok(()) };
    }
    match client.get_range(path, at..end).await {
        Ok(bytes) if bytes.len() == buf.len() => {
            buf.copy_from_slice(&bytes);
            Ok(())
        }
        Ok(_) => Err(short()),
        Err(ClientError::NotFound { .. }) => Err(missing(kind, name)),
        // A range beyond the end is refused in words of each server's own.
        Err(error) => match head(client, kind, name, path).await {
            Ok(len) if len < end => Err(short()),
            Ok(_) => Err(failed("read", kind, name, &error)),
            Err(error) => Err(error),
        },
    }
}

/// The first bytes of a file, once its length is known.
async fn read_known(
    client: &dyn ObjectStore,
    kind: FileKind,
    name: &str,
    path: &Path,
    max: usize,
) -> Result<Vec<u8>> {
    let len = head(client, kind, name, path).await?;
    let mut bytes = vec![0; usize::try_from(len).map_or(max, |len| len.min(max))];
    read_range(client, kind, name, (path, 0), &mut bytes).await?;
    Ok(bytes)
}

impl Store for Remote {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn create(&self) -> Result<()> {
        match self.len(FileKind::Config, "config") {
            Ok(_) => return Err(Error::Exists { location: self.location() }),
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let Some(prepare) = &self.prepare else { return Ok(()) };
        self.wait(async {
            let prepared = prepare.prepare().await;
            prepared.map_err(|error| Error::store("make the repository", io_error(&error)))
        })
    }

    fn put(&self, kind: FileKind, name: &str, body: Body<'_>) -> Result<()> {
        let path = self.path(kind, name)?;
        let put = match body {
            Body::Bytes(mut bytes) if bytes.len() as u64 > LARGE => {
                let len = bytes.len() as u64;
                self.put_parts(kind, name, &path, (&mut bytes, len))
            }
            Body::Bytes(bytes) => {
                self.put_whole(kind, name, path, || Ok(Bytes::copy_from_slice(bytes)))
            }
            Body::Reader { reader, len } if len > LARGE => {
                self.put_parts(kind, name, &path, (reader, len))
            }
            Body::Reader { reader, len } => {
                let len = usize::try_from(len).map_err(|_too_long| missing(kind, name))?;
                self.put_whole(kind, name, path, || read_exactly(kind, name, reader, len))
            }
        };
        put.map_err(|error| match error {
            Error::Exists { .. } => Error::Exists { location: self.location() },
            error => error,
        })
    }

    fn flush(&self, kind: FileKind) -> Result<()> {
        self.settled(kind)
    }

    fn read_at(&self, kind: FileKind, name: &str, at: u64, buf: &mut [u8]) -> Result<()> {
        let path = self.path(kind, name)?;
        self.settled_one(kind, name)?;
        if kind != FileKind::Pack {
            return self.wait(read_range(&*self.client, kind, name, (&path, at), buf));
        }
        match self.nearby.ask(name, at, buf) {
            Answer::Held => return Ok(()),
            Answer::Bring(range) => {
                let begin = range.start;
                if let Some(bytes) = self.bring(name, &path, range)?
                    && self.nearby.keep(name, (begin, bytes), at, buf)
                {
                    return Ok(());
                }
            }
            Answer::Alone => {}
        }
        self.wait(read_range(&*self.client, kind, name, (&path, at), buf))?;
        self.nearby.compare(name, at, buf);
        Ok(())
    }

    fn is_far(&self) -> bool {
        true
    }

    fn reads_together(&self) -> usize {
        READS
    }

    fn read_parts(&self, parts: &mut [PackPart<'_>]) -> Vec<Result<()>> {
        let waited = self.wait(async {
            for part in &*parts {
                self.pending.settle_one(part.name).await?;
            }
            let all = stream::iter(parts.iter_mut().map(|part| self.read_part(part)));
            Ok(all.buffered(READS).collect().await)
        });
        waited.unwrap_or_else(|error| parts.iter().map(|_| Err(error.clone())).collect())
    }

    fn read_first(&self, kind: FileKind, name: &str, max: usize) -> Result<Vec<u8>> {
        let path = self.path(kind, name)?;
        self.settled_one(kind, name)?;
        let asked = self.wait(async {
            Ok(match self.client.get_range(&path, 0..max as u64).await {
                Err(ClientError::NotFound { .. }) => return Err(missing(kind, name)),
                answer => answer,
            })
        })?;
        match asked {
            Ok(bytes) => Ok(bytes.into()),
            // Of an empty file there is no such part. Its length says so, or the next answer why.
            Err(_refused) => self.wait(read_known(&*self.client, kind, name, &path, max)),
        }
    }

    fn len(&self, kind: FileKind, name: &str) -> Result<u64> {
        let path = self.path(kind, name)?;
        self.settled_one(kind, name)?;
        self.wait(head(&*self.client, kind, name, &path))
    }

    fn list(&self, kind: FileKind, each: &mut dyn FnMut(&str, u64) -> Result<()>) -> Result<()> {
        self.settled(kind)?;
        if kind == FileKind::Config {
            return match self.len(kind, "config") {
                Ok(len) => each("config", len),
                Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            };
        }
        let place = self.placed(directory(kind));
        let mut pages = self.client.list(Some(&place)).try_chunks(1000);
        while let Some(page) = self.wait(async { Ok(pages.next().await) })? {
            let page = page.map_err(|error| {
                Error::store(format!("list the {kind} files"), io_error(&error.1))
            })?;
            for found in page {
                let name = found.location.filename().unwrap_or_default();
                if self.path(kind, name).is_ok_and(|path| path == found.location) {
                    each(name, found.size)?;
                }
            }
        }
        Ok(())
    }

    fn remove(&self, kind: FileKind, name: &str) -> Result<()> {
        let path = self.path(kind, name)?;
        self.settled_one(kind, name)?;
        self.nearby.forget(name);
        self.wait(async {
            match self.client.delete(&path).await {
                Ok(()) | Err(ClientError::NotFound { .. }) => Ok(()),
                Err(error) => Err(failed("remove", kind, name, &error)),
            }
        })
    }

    fn traffic(&self) -> Option<Traffic> {
        Some(self.meter.traffic())
    }
}

/// The directory of a kind's files, as restic calls it.
fn directory(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Config => "",
        FileKind::Key => "keys",
        FileKind::Pack => "data",
        FileKind::Index => "index",
        FileKind::Snapshot => "snapshots",
        FileKind::Lock => "locks",
    }
}

fn read_exactly(kind: FileKind, name: &str, reader: &mut dyn Read, len: usize) -> Result<Bytes> {
    let mut bytes = vec![0; len];
    let read = reader.read_exact(&mut bytes);
    read.map_err(|error| {
        Error::store(format!("read what is to be stored as {kind} {name}"), error)
    })?;
    Ok(bytes.into())
}

fn missing(kind: FileKind, name: &str) -> Error {
    Error::NotFound { what: format!("{kind} {name}") }
}

fn failed(verb: &str, kind: FileKind, name: &str, error: &ClientError) -> Error {
    // There is only one of it.
    let name = if kind == FileKind::Config { String::new() } else { format!(" {name}") };
    Error::store(format!("{verb} {kind}{name}"), io_error(error))
}
