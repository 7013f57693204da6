//! A directory on a server that is reached over SFTP.
//!
//! The connection is made by the user's own `ssh`, so that its configuration, agents and known hosts hold. A file is
//! written beside its place under another name, made durable where the server can do that, and takes its place only
//! where nothing is: by a link, or by the renaming that refuses to overwrite. What a writer leaves that was killed has no
//! name of a repository's.

mod line;
mod packet;
mod session;

use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, FuturesUnordered};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use self::line::Line;
use self::packet::{Ask, Attributes, HARD_LINK, Reply, SYNC};
use self::session::{Failed, Session, Way, refused};
use crate::answer::{got, meta, stored};
use crate::location::SftpServer;
use crate::refusal::Refusal;
use crate::settings::Settings;
use crate::traffic::Meter;

const STORE: &str = "SFTP";
/// The piece that every server reads or writes in one request.
const PIECE: usize = 32 << 10;
/// Pieces of one file that are under way: with 100 ms there and back, 20 MB/s.
const PIECES: usize = 64;
/// Directories that are listed at a time.
const LISTINGS: usize = 16;
/// Nobody else gets in, as restic has it.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

type Done<T> = std::result::Result<T, Failed>;

/// A repository in a directory there. What it puts is put only where nothing is.
#[derive(Clone, Debug)]
pub(crate) struct Sftp {
    line: Arc<Line>,
    directory: Arc<str>,
}

/// What a directory holds: files of a repository perhaps, and directories.
type Held = (Vec<ObjectMeta>, Vec<Path>);

impl Sftp {
    /// A client of the directory on that server. Nothing is connected yet.
    pub(crate) fn new(
        (server, directory): (&SftpServer, &str),
        settings: &Settings,
        meter: Arc<Meter>,
    ) -> Self {
        let way = Way {
            server: server.clone(),
            command: settings.sftp_command.clone(),
            silence: settings.silence(),
            meter,
        };
        let line = Arc::new(Line::new(way, settings.patience));
        Self { line, directory: directory.trim_end_matches('/').into() }
    }

    /// Where an object lies there.
    fn file(&self, path: &Path) -> String {
        format!("{}/{path}", self.directory)
    }

    async fn call<T, F>(
        &self,
        what: (&'static str, u64),
        path: &Path,
        act: impl Fn(Arc<Session>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Done<T>>,
    {
        self.line.call(what, act).await.map_err(|failed| told(failed, path))
    }

    async fn held(&self, path: &Path) -> Result<Held> {
        let directory = self.file(path);
        let names =
            self.call(("list", 0), path, |session| names(session, directory.clone())).await?;
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        for (name, attributes) in names {
            let below = path.clone().join(name.as_str());
            match (is_directory(attributes), attributes.size) {
                (true, _) => directories.push(below),
                (false, Some(size)) => files.push(meta(below, size)),
                (false, None) => {}
            }
        }
        Ok((files, directories))
    }

    async fn remove(&self, path: &Path) -> Result<()> {
        let file = self.file(path);
        let act = |session: Arc<Session>| {
            let file = file.clone();
            async move { session.done(Ask::Remove(&file)).await }
        };
        self.call(("delete", 0), path, act).await
    }
}

impl fmt::Display for Sftp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STORE)
    }
}

#[async_trait]
impl ObjectStore for Sftp {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        _: PutOptions,
    ) -> Result<PutResult> {
        let (file, len) = (self.file(location), payload.content_length() as u64);
        let act = |session| put_new(session, file.clone(), payload.clone());
        self.call(("put", len), location, act).await?;
        Ok(stored())
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let file = self.file(location);
        // It stays when the connection does not.
        let mark = self.line.mark().map_err(|failed| told(failed, location))?;
        let temporary = temporary(&file, &mark);
        Ok(Box::new(Parts { sftp: self.clone(), path: location.clone(), file, temporary, len: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let file = self.file(location);
        let (bytes, size, start) = if options.head {
            let act = |session| size_of(session, file.clone());
            (Bytes::new(), self.call(("head", 0), location, act).await?, 0)
        } else {
            let wanted = options.range;
            let act = |session| read(session, file.clone(), wanted.clone());
            let (bytes, start) = self.call(("get", 0), location, act).await?;
            let end = start + bytes.len() as u64;
            (bytes, end, start)
        };
        Ok(got(location, size, (bytes, start)))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let sftp = self.clone();
        let removed = locations.and_then(move |path| {
            let sftp = sftp.clone();
            async move { sftp.remove(&path).await.map(|()| path) }
        });
        removed.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (sftp, top) = (self.clone(), prefix.cloned().unwrap_or_default());
        let first = {
            let sftp = sftp.clone();
            async move { sftp.held(&top).await }
        };
        let all = stream::once(first).map_ok(move |(files, directories)| {
            let sftp = sftp.clone();
            let below = stream::iter(directories)
                .map(move |directory| {
                    let sftp = sftp.clone();
                    async move { sftp.held(&directory).await }
                })
                .buffered(LISTINGS)
                .map_ok(|(files, _)| stream::iter(files.into_iter().map(Ok::<_, Error>)))
                .try_flatten();
            stream::iter(files.into_iter().map(Ok::<_, Error>)).chain(below)
        });
        all.try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (objects, common_prefixes) = self.held(&prefix.cloned().unwrap_or_default()).await?;
        Ok(ListResult { objects, common_prefixes, extensions: Default::default() })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        let (operation, implementer) = ("a copy on the server".to_owned(), STORE.to_owned());
        Err(Error::NotImplemented { operation, implementer })
    }
}

/// A file that comes in parts. Each is durable before the next, so that a part that is sent again on another
/// connection is all that is.
#[derive(Debug)]
struct Parts {
    sftp: Sftp,
    path: Path,
    file: String,
    temporary: String,
    len: u64,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (sftp, path, temporary) =
            (self.sftp.clone(), self.path.clone(), self.temporary.clone());
        let (at, len) = (self.len, data.content_length() as u64);
        self.len += len;
        Box::pin(async move {
            let act = |session| put_part(session, temporary.clone(), (at, data.clone()));
            sftp.call(("put", len), &path, act).await
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (temporary, file, len) = (&self.temporary, &self.file, self.len);
        let act = |session| complete(session, temporary.clone(), file.clone(), len);
        self.sftp.call(("put", 0), &self.path, act).await?;
        Ok(stored())
    }

    async fn abort(&mut self) -> Result<()> {
        let act = |session: Arc<Session>| {
            let temporary = self.temporary.clone();
            async move { session.done(Ask::Remove(&temporary)).await }
        };
        match self.sftp.call(("delete", 0), &self.path, act).await {
            Err(Error::NotFound { .. }) => Ok(()),
            done => done,
        }
    }
}

/// Puts a file where nothing is.
async fn put_new(session: Arc<Session>, file: String, payload: PutPayload) -> Done<()> {
    let temporary = temporary(&file, &session.unique());
    let handle = create(&session, &temporary).await?;
    let written = match write(&session, &handle, (0, payload)).await {
        Ok(()) => keep(&session, &handle).await,
        Err(failed) => Err(failed),
    };
    let closed = session.done(Ask::Close(&handle)).await;
    match written.and(closed) {
        Ok(()) => place(&session, &temporary, &file).await,
        Err(failed) => Err(without(&session, &temporary, failed).await),
    }
}

/// Writes a part of a file; the first one makes it.
async fn put_part(
    session: Arc<Session>,
    temporary: String,
    (at, payload): (u64, PutPayload),
) -> Done<()> {
    let there = Ask::Open { path: &temporary, flags: packet::WRITE, mode: FILE_MODE };
    let handle = match open(&session, there).await {
        Err(failed) if at == 0 && is_absent(&failed) => create(&session, &temporary).await?,
        opened => opened?,
    };
    let written = match write(&session, &handle, (at, payload)).await {
        Ok(()) => keep(&session, &handle).await,
        Err(failed) => Err(failed),
    };
    let closed = session.done(Ask::Close(&handle)).await;
    written.and(closed)
}

/// Gives a file its name when all parts are there.
async fn complete(session: Arc<Session>, temporary: String, file: String, len: u64) -> Done<()> {
    match size_of(Arc::clone(&session), temporary.clone()).await {
        Ok(there) if there == len => place(&session, &temporary, &file).await,
        Ok(there) => {
            let said = format!("the server has {there} bytes of {len}");
            let failed = Failed::Final { kind: ErrorKind::Other, said };
            Err(without(&session, &temporary, failed).await)
        }
        // It has its name already; the answer that said so was lost.
        Err(failed) if is_absent(&failed) => match size_of(session, file).await {
            Ok(there) if there == len => Ok(()),
            Err(lost @ Failed::Lost(_)) => Err(lost),
            _ => Err(failed),
        },
        Err(failed) => Err(failed),
    }
}

/// A name beside that of a file, which is no name of a repository's.
fn temporary(file: &str, mark: &str) -> String {
    format!("{file}-tmp-{mark}")
}

async fn open(session: &Session, ask: Ask<'_>) -> Done<Bytes> {
    match session.ask(ask).await? {
        Reply::Handle(handle) => Ok(handle),
        reply => Err(refused(reply)),
    }
}

/// Makes a new file, and its directory where there is none.
async fn create(session: &Session, path: &str) -> Done<Bytes> {
    let flags = packet::WRITE | packet::CREATE | packet::EXCLUSIVE;
    let ask = Ask::Open { path, flags, mode: FILE_MODE };
    match open(session, ask).await {
        Err(failed) if is_absent(&failed) => {
            make_directory(session, path.rsplit_once('/').map_or("", |(above, _)| above)).await?;
            open(session, ask).await
        }
        opened => opened,
    }
}

/// Makes a directory, and those above it. Whether it is there says the file that comes next.
async fn make_directory(session: &Session, path: &str) -> Done<()> {
    if made(session, path).await? {
        return Ok(());
    }
    let ends = path.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
    for end in ends.chain([path.len()]) {
        made(session, &path[..end]).await?;
    }
    Ok(())
}

/// Makes one directory; false when those above it are missing.
async fn made(session: &Session, path: &str) -> Done<bool> {
    match session.done(Ask::MakeDirectory { path, mode: DIRECTORY_MODE }).await {
        Err(Failed::Status { code, .. }) => Ok(code != packet::NO_SUCH_FILE),
        done => done.map(|()| true),
    }
}

/// Writes bytes from there on, many pieces at a time.
async fn write(
    session: &Arc<Session>,
    handle: &Bytes,
    (mut at, payload): (u64, PutPayload),
) -> Done<()> {
    let mut under_way = FuturesUnordered::new();
    for mut bytes in payload {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            if under_way.len() >= PIECES
                && let Some(done) = under_way.next().await
            {
                done?;
            }
            let (session, handle, start) = (Arc::clone(session), handle.clone(), at);
            at += piece.len() as u64;
            under_way.push(async move {
                let ask = Ask::Write { handle: &handle, at: start, data: &piece };
                session.done(ask).await
            });
            // It is sent now, not when the others were waited for.
            if let Some(Some(done)) = under_way.next().now_or_never() {
                done?;
            }
        }
    }
    while let Some(done) = under_way.next().await {
        done?;
    }
    Ok(())
}

/// Makes what was written durable, where the server can.
async fn keep(session: &Session, handle: &[u8]) -> Done<()> {
    if session.knows(SYNC) { session.done(Ask::Sync(handle)).await } else { Ok(()) }
}

/// Gives a file its name, where nothing has it.
async fn place(session: &Arc<Session>, temporary: &str, file: &str) -> Done<()> {
    if session.knows(HARD_LINK) {
        match session.done(Ask::HardLink { from: temporary, to: file }).await {
            Ok(()) => return session.done(Ask::Remove(temporary)).await,
            // The name is taken, or the file system has no links: the renaming says which.
            Err(Failed::Status { .. }) => {}
            Err(lost) => return Err(lost),
        }
        if size_of(Arc::clone(session), file.to_owned()).await.is_ok() {
            return Err(without(session, temporary, Failed::Exists).await);
        }
    }
    match session.done(Ask::Rename { from: temporary, to: file }).await {
        Err(failed @ Failed::Status { .. }) => {
            let is_there = size_of(Arc::clone(session), file.to_owned()).await.is_ok();
            let failed = if is_there { Failed::Exists } else { failed };
            Err(without(session, temporary, failed).await)
        }
        done => done,
    }
}

/// Why it failed, after what was begun is removed; when that fails too, it stays and is no file of the repository.
async fn without(session: &Session, temporary: &str, failed: Failed) -> Failed {
    match failed {
        Failed::Lost(_) => failed,
        failed => match session.done(Ask::Remove(temporary)).await {
            Err(lost @ Failed::Lost(_)) => lost,
            _ => failed,
        },
    }
}

async fn size_of(session: Arc<Session>, file: String) -> Done<u64> {
    match session.ask(Ask::Stat(&file)).await? {
        Reply::Attributes(Attributes { size: Some(size), .. }) => Ok(size),
        reply => Err(refused(reply)),
    }
}

/// The bytes of a range, as far as there are any, and where they begin.
async fn read(session: Arc<Session>, file: String, wanted: Option<GetRange>) -> Done<(Bytes, u64)> {
    let ask = Ask::Open { path: &file, flags: packet::READ, mode: FILE_MODE };
    let handle = open(&session, ask).await?;
    let came = async {
        let range = match wanted {
            Some(GetRange::Bounded(range)) if range.end - range.start <= PIECE as u64 => range,
            wanted => {
                let size = match session.ask(Ask::Size(&handle)).await? {
                    Reply::Attributes(Attributes { size: Some(size), .. }) => size,
                    reply => return Err(refused(reply)),
                };
                match wanted {
                    None => 0..size,
                    Some(GetRange::Offset(start)) => start.min(size)..size,
                    Some(GetRange::Suffix(len)) => size.saturating_sub(len)..size,
                    Some(GetRange::Bounded(range)) => range.start..range.end.min(size),
                }
            }
        };
        let start = range.start;
        Ok::<_, Failed>((pieces(&session, &handle, range).await?, start))
    };
    let came = came.await;
    let closed = session.done(Ask::Close(&handle)).await;
    let came = came?;
    closed.map(|()| came)
}

/// Reads many pieces at a time; a server may give less of one than was asked for.
async fn pieces(session: &Arc<Session>, handle: &Bytes, range: Range<u64>) -> Done<Bytes> {
    let too_long = |_: std::num::TryFromIntError| Failed::Final {
        kind: ErrorKind::OutOfMemory,
        said: "more is asked for than memory holds".to_owned(),
    };
    let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(too_long)?;
    let mut bytes = BytesMut::zeroed(len);
    let mut end = len;
    let mut wanted: Vec<(usize, usize)> =
        (0..len).step_by(PIECE).map(|at| (at, PIECE.min(len - at))).rev().collect();
    let mut under_way = FuturesUnordered::new();
    loop {
        while under_way.len() < PIECES
            && let Some((at, len)) = wanted.pop()
        {
            let (session, handle, start) = (Arc::clone(session), handle.clone(), range.start);
            under_way.push(async move {
                let len = u32::try_from(len).unwrap_or(u32::MAX);
                let ask = Ask::Read { handle: &handle, at: start + at as u64, len };
                (at, len as usize, session.ask(ask).await)
            });
        }
        let Some((at, len, reply)) = under_way.next().await else { break };
        match reply? {
            Reply::Data(data) if !data.is_empty() && data.len() <= len => {
                bytes[at..at + data.len()].copy_from_slice(&data);
                if data.len() < len {
                    wanted.push((at + data.len(), len - data.len()));
                }
            }
            Reply::Status { code: packet::END, .. } => end = end.min(at),
            reply => return Err(refused(reply)),
        }
    }
    bytes.truncate(end);
    Ok(bytes.freeze())
}

/// All names of a directory; none when it is not there.
async fn names(session: Arc<Session>, path: String) -> Done<Vec<(String, Attributes)>> {
    let handle = match open(&session, Ask::OpenDirectory(&path)).await {
        Err(failed) if is_absent(&failed) => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut found = Vec::new();
    let ended = loop {
        match session.ask(Ask::ReadDirectory(&handle)).await? {
            Reply::Names(names) => found.extend(names),
            Reply::Status { code: packet::END, .. } => break Ok(()),
            reply => break Err(refused(reply)),
        }
    };
    let closed = session.done(Ask::Close(&handle)).await;
    ended.and(closed)?;
    let mut known = Vec::with_capacity(found.len());
    for entry in found {
        // What is not UTF-8 is no name of a repository's.
        let Ok(name) = String::from_utf8(entry.name.to_vec()) else { continue };
        if name == "." || name == ".." {
            continue;
        }
        let mut attributes = entry.attributes;
        if attributes.size.is_none() || attributes.mode.is_none() {
            let file = format!("{path}/{name}");
            match session.ask(Ask::Stat(&file)).await? {
                Reply::Attributes(more) => attributes = more,
                // It is gone by now.
                Reply::Status { code: packet::NO_SUCH_FILE, .. } => continue,
                reply => return Err(refused(reply)),
            }
        }
        known.push((name, attributes));
    }
    Ok(known)
}

fn is_directory(attributes: Attributes) -> bool {
    attributes.mode.is_some_and(|mode| mode & 0o170_000 == 0o040_000)
}

fn is_absent(failed: &Failed) -> bool {
    matches!(failed, Failed::Status { code: packet::NO_SUCH_FILE, .. })
}

/// A failure in the words of the layer above.
fn told(failed: Failed, path: &Path) -> Error {
    let (kind, said) = match failed {
        Failed::Lost(said) => (ErrorKind::NotConnected, said),
        Failed::Final { kind, said } => (kind, said),
        Failed::Exists => (ErrorKind::AlreadyExists, "it is there already".to_owned()),
        Failed::Status { code, message } => {
            let kind = match code {
                packet::NO_SUCH_FILE => ErrorKind::NotFound,
                packet::PERMISSION_DENIED => ErrorKind::PermissionDenied,
                _ => ErrorKind::Other,
            };
            (kind, format!("the server answers `{message}`"))
        }
    };
    Refusal { kind, said }.told(STORE, path.as_ref())
}
