//! The way out: what the repository holds, blob by blob and tree by tree.

use std::collections::HashSet;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use alidade_entity::Cx;
use zstd::bulk::Decompressor;

use crate::compress::{Pool, decompress};
use crate::crypto::{IV_LEN, OVERHEAD};
use crate::index::{Found, SharedIndex, Table};
use crate::index_file::{self, PackInIndex};
use crate::local_index::{Draft, LocalIndex};
use crate::local_snapshots::LocalSnapshots;
use crate::pack_header::HeaderEntry;
use crate::sealed::{Expected, PackRange, PlainReader};
use crate::tree_codec::{Order, TreeDecoder};
use crate::writer::{MAX_BLOB, held, no_zstd};
use crate::{
    BlobId, BlobKind, Error, FileId, FileKind, Gear, Node, Repository, Result, TreeText, envelope,
    files,
};

/// A tree whose JSON is no longer is held whole while it is read.
const HELD_TREE: u64 = 1 << 20;
/// Texts of trees that are in memory to be compared, in bytes; beyond that trees are read in pieces.
const HELD_TEXTS: usize = 16 << 20;

/// Index files that are decoded at a time.
const DECODERS: usize = 4;
/// A longer index file is decoded with no other beside it.
const TOGETHER: u64 = 8 << 20;
/// Blobs that are handed over at a time.
const SENT: usize = 8192;
/// The longest index file that is read. Stock ones have 50,000 blobs and less than 4 MiB.
const MAX_INDEX: usize = 128 << 20;

/// A repository whose index is in memory: 54 to 60 bytes a blob.
pub struct Indexed {
    repository: Arc<Repository>,
    gear: Gear,
    index: SharedIndex,
    benches: Pool<Bench>,
    /// Bytes of all [`TreeText`]s in memory.
    texts_held: Arc<AtomicUsize>,
    /// Takes down the index files that are written, where there is a local form of the index.
    draft: Option<Mutex<Draft>>,
    /// Where snapshot files that are written are kept, if they are.
    pub(crate) snapshots: Option<LocalSnapshots>,
}

/// What opening a blob needs, kept from blob to blob.
pub(crate) struct Bench {
    pub(crate) decompressor: Decompressor<'static>,
    pub(crate) sealed: Vec<u8>,
}

impl std::fmt::Debug for Indexed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Indexed").field("blobs", &self.index.read().len()).finish_non_exhaustive()
    }
}

impl Indexed {
    /// Reads all index files.
    ///
    /// # Errors
    /// [`Error::Damaged`] when one of them is: what it said is not known, and a blob that only it
    /// named would seem to be missing. When the store fails; when the run was told to stop.
    pub fn load(repository: Arc<Repository>, cx: &Cx) -> Result<Arc<Self>> {
        let indexed = Self::load_each(repository, cx, &mut |_file, loaded| loaded.map(|_pack| ()))?;
        Ok(Arc::new(indexed))
    }

    /// As [`Indexed::load`], with the help of what was kept of index files in the directory `cache`: only
    /// new ones are read. They are kept there, too, as are those that a [`crate::Writer`] into this
    /// index writes.
    ///
    /// What is kept is sealed, and believed only as far as its index file is there and its MAC is
    /// right; whatever is wrong with it, and when nothing can be kept, is no error. It may be deleted
    /// at any time. An index file that was damaged after it was kept is not noticed; [`Repository::check`]
    /// keeps nothing and reads them all.
    ///
    /// # Errors
    /// As [`Indexed::load`].
    pub fn load_cached(repository: Arc<Repository>, cx: &Cx, cache: &Path) -> Result<Arc<Self>> {
        let Some(local) = LocalIndex::of(cache, &repository) else {
            return Self::load(repository, cx);
        };
        let bundles = local.bundles();
        let mut files = repository.files().list(FileKind::Index)?;
        let plan = bundles.plan(&files);
        let mut table = Table::default();
        table.reserve(usize::try_from(plan.blobs()).unwrap_or(0));
        let (missing, mut renewal) = plan.read(cx, &mut |pack| {
            cx.check()?;
            add(&mut table, pack)
        })?;
        files.retain(|(file, _)| missing.contains(file));
        let mut begun = None;
        read_each(&repository, cx, &files, &mut |file, told| {
            if begun.replace(file) != Some(file) {
                renewal.draft.begin(cx, file);
            }
            match told {
                Told::Pack(pack) => {
                    renewal.draft.pack(cx, pack);
                    add(&mut table, pack)?;
                }
                Told::End(end) => {
                    end?;
                    renewal.draft.end(cx);
                }
            }
            Ok(())
        })?;
        renewal.finish(cx);
        let draft = Some(Mutex::new(local.draft()));
        let snapshots = LocalSnapshots::of(cache, &repository);
        Ok(Arc::new(Self { draft, snapshots, ..Self::of(repository, table) }))
    }

    /// With no index file read: it knows no blob. For writing a few blobs that nobody has written before;
    /// one that is stored already is stored a second time. What is written is kept in `cache`, if there is
    /// one, for [`Indexed::load_cached`].
    #[must_use]
    pub fn unread(repository: Arc<Repository>, cache: Option<&Path>) -> Arc<Self> {
        let local = cache.and_then(|cache| LocalIndex::of(cache, &repository));
        let draft = local.map(|local| Mutex::new(local.draft()));
        let snapshots = cache.and_then(|cache| LocalSnapshots::of(cache, &repository));
        Arc::new(Self { draft, snapshots, ..Self::of(repository, Table::default()) })
    }

    /// Reads all index files; tells `each` about every pack that one of them names, and about every
    /// file that is damaged. What `each` fails with ends it.
    pub(crate) fn load_each(
        repository: Arc<Repository>,
        cx: &Cx,
        each: &mut dyn FnMut(FileId, Result<&PackInIndex>) -> Result<()>,
    ) -> Result<Self> {
        let mut table = Table::default();
        let files = repository.files().list(FileKind::Index)?;
        read_each(&repository, cx, &files, &mut |file, told| match told {
            Told::Pack(pack) => {
                add(&mut table, pack)?;
                each(file, Ok(pack))
            }
            Told::End(Ok(())) => Ok(()),
            Told::End(Err(error)) => each(file, Err(error)),
        })?;
        Ok(Self::of(repository, table))
    }

    /// As [`Indexed::load`], as if these packs were not there.
    ///
    /// # Errors
    /// As [`Indexed::load`].
    pub(crate) fn load_without(
        repository: Arc<Repository>,
        cx: &Cx,
        gone: &HashSet<FileId>,
    ) -> Result<Self> {
        let mut table = Table::default();
        let files = repository.files().list(FileKind::Index)?;
        read_each(&repository, cx, &files, &mut |_file, told| match told {
            Told::Pack(pack) if gone.contains(&pack.id) => Ok(()),
            Told::Pack(pack) => add(&mut table, pack),
            Told::End(end) => end,
        })?;
        Ok(Self::of(repository, table))
    }

    /// Whether the copy of a blob that lies in that pack is whole.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is not; when the store fails.
    pub(crate) fn check_copy(&self, cx: &Cx, pack: &FileId, blob: &HeaderEntry) -> Result<()> {
        cx.check()?;
        let copies = self.index.read().copies_of(blob.kind, &blob.id);
        let copy = copies.iter().find(|copy| copy.pack == *pack && copy.blob.offset == blob.offset);
        let Some(copy) = copy else {
            return Err(Error::NotFound { what: format!("{} {}", noun(blob.kind), blob.id) });
        };
        if u64::from(copy.blob.len) <= HELD_TREE && copy.blob.content_len().is_some() {
            return self.read_copy(copy, &mut Vec::new());
        }
        self.stream_copy(copy)?.verify().map(drop).map_err(|error| damage(copy, &error))
    }

    /// Whether a blob is whole in another pack than these.
    pub(crate) fn is_elsewhere(&self, cx: &Cx, blob: &HeaderEntry, packs: &[FileId]) -> bool {
        let copies = self.index.read().copies_of(blob.kind, &blob.id);
        let others = copies.iter().filter(|copy| !packs.contains(&copy.pack));
        let mut whole = others.map(|copy| self.check_copy(cx, &copy.pack, &copy.blob));
        whole.any(|whole| whole.is_ok())
    }

    fn of(repository: Arc<Repository>, table: Table) -> Self {
        let gear = Gear::of_polynomial(repository.polynomial().bits());
        let index = SharedIndex::new(table);
        let (benches, texts_held) = (Pool::default(), Arc::default());
        Self { repository, gear, index, benches, texts_held, draft: None, snapshots: None }
    }

    /// An index file that says this was stored: the local form takes it down.
    pub(crate) fn index_stored(&self, cx: &Cx, file: FileId, packs: &[PackInIndex]) {
        if let Some(draft) = &self.draft {
            let mut draft = held(draft);
            draft.begin(cx, file);
            packs.iter().for_each(|pack| draft.pack(cx, pack));
            draft.end(cx);
        }
    }

    /// Lets the next command find what the local form took down.
    pub(crate) fn keep_stored(&self, cx: &Cx) {
        if let Some(draft) = &self.draft {
            held(draft).finish(cx);
        }
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// What decides where files are cut in this repository.
    #[must_use]
    pub fn gear(&self) -> &Gear {
        &self.gear
    }

    /// True when the blob is stored, as far as the index says.
    #[must_use]
    pub fn contains(&self, kind: BlobKind, id: &BlobId) -> bool {
        self.index.read().find(kind, id).is_some()
    }

    /// The length of a blob's content, as the index says; `None` when it is not stored.
    #[must_use]
    pub fn plain_len(&self, kind: BlobKind, id: &BlobId) -> Option<u32> {
        self.index.read().find(kind, id)?.blob.content_len()
    }

    /// Where the copy of a blob lies that is read first: its pack and the offset in it. For reading
    /// many blobs in the order of the store. `None` when it is not stored.
    #[must_use]
    pub fn place(&self, kind: BlobKind, id: &BlobId) -> Option<(FileId, u32)> {
        let found = self.index.read().find(kind, id)?;
        Some((found.pack, found.blob.offset))
    }

    /// Makes `buf` the content of a blob. Its MAC, length and hash are right, or it is an error;
    /// when a copy is damaged the others are tried.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the index does not name it; [`Error::Damaged`] when no copy is whole
    /// or it has more than 128 MiB; when the store fails; when the run was told to stop.
    pub fn read_blob(&self, cx: &Cx, kind: BlobKind, id: &BlobId, buf: &mut Vec<u8>) -> Result<()> {
        self.try_copies(cx, kind, id, |copy| self.read_copy(copy, buf))
    }

    /// Reads a tree node by node. What comes is believable from the first node on: a tree is
    /// checked whole before. Memory is about 1 MiB for a small tree and 2 MiB for one of any size,
    /// which is read twice.
    ///
    /// # Errors
    /// As [`Indexed::read_blob`], without its bound; a tree that is no tree fails while it is read.
    pub fn tree(&self, cx: &Cx, id: BlobId) -> Result<TreeReader> {
        let (json, len) = self.tree_json(cx, id)?;
        Ok(TreeReader { id, nodes: TreeDecoder::sized(json, Order::Ascending, len) })
    }

    /// The JSON of a tree, which is checked whole before, and its length.
    ///
    /// # Errors
    /// As [`Indexed::tree`].
    pub(crate) fn tree_json(&self, cx: &Cx, id: BlobId) -> Result<(Box<dyn Read + Send>, u64)> {
        self.try_copies(cx, BlobKind::Tree, &id, |copy| {
            let len = copy.blob.content_len().map_or(u64::MAX, u64::from);
            if len <= HELD_TREE && u64::from(copy.blob.len) <= HELD_TREE {
                let mut json = Vec::new();
                self.read_copy(copy, &mut json)?;
                return Ok((Box::new(Cursor::new(json)) as Box<dyn Read + Send>, len));
            }
            self.stream_copy(copy)?.verify().map_err(|error| damage(copy, &error))?;
            Ok((Box::new(self.stream_copy(copy)?), len))
        })
    }

    /// The text of a tree, whole, to be compared; its hash is right. `None` for one of more than 1 MiB
    /// and while the texts that are in use take 16 MiB: [`Indexed::tree`] reads it in pieces.
    ///
    /// # Errors
    /// As [`Indexed::read_blob`].
    pub fn tree_text(&self, cx: &Cx, id: BlobId) -> Result<Option<Arc<TreeText>>> {
        if self.texts_held.load(Ordering::Relaxed) > HELD_TEXTS {
            return Ok(None);
        }
        let json = self.try_copies(cx, BlobKind::Tree, &id, |copy| {
            let len = copy.blob.content_len().map_or(u64::MAX, u64::from);
            if len > HELD_TREE || u64::from(copy.blob.len) > HELD_TREE {
                return Ok(None);
            }
            let mut json = Vec::new();
            self.read_copy(copy, &mut json)?;
            Ok(Some(json))
        })?;
        Ok(json.map(|json| TreeText::new(id, json, Arc::clone(&self.texts_held))))
    }

    pub(crate) fn benches(&self) -> &Pool<Bench> {
        &self.benches
    }

    pub(crate) fn index(&self) -> &SharedIndex {
        &self.index
    }

    /// Does `read` with one copy of a blob after the other until it succeeds.
    fn try_copies<T>(
        &self,
        cx: &Cx,
        kind: BlobKind,
        id: &BlobId,
        mut read: impl FnMut(&Found) -> Result<T>,
    ) -> Result<T> {
        cx.check()?;
        let first = self.index.read().find(kind, id);
        let first =
            first.ok_or_else(|| Error::NotFound { what: format!("{} {id}", noun(kind)) })?;
        let mut error = match read(&first) {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        if matches!(error, Error::Damaged { .. }) {
            // It may have been damaged on the way.
            error = match read(&first) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
        }
        let others = self.index.read().copies_of(kind, id);
        for copy in others.iter().filter(|copy| copy.ordinal != first.ordinal) {
            if let Ok(done) = read(copy) {
                return Ok(done);
            }
        }
        Err(error)
    }

    fn read_copy(&self, copy: &Found, buf: &mut Vec<u8>) -> Result<()> {
        let blob = &copy.blob;
        let len = blob.content_len().map_or(usize::MAX, |len| len as usize);
        if len > MAX_BLOB || blob.len as usize > MAX_BLOB + OVERHEAD {
            return Err(damaged(copy, "its length in the index is impossible or above 128 MiB"));
        }
        self.benches.with(Bench::new, |bench| {
            let Bench { decompressor, sealed } = bench;
            sealed.resize(blob.len as usize, 0);
            let pack = copy.pack.to_string();
            let at = u64::from(blob.offset);
            self.repository
                .store()
                .read_at(FileKind::Pack, &pack, at, sealed)
                .map_err(|error| missing(copy, error))?;
            let opened = self.repository.files().key().open_in_place(sealed);
            let payload = opened.map_err(|error| damaged(copy, error.to_string()))?;
            if blob.plain_len.is_some() {
                decompress(decompressor, payload, len, buf)
                    .map_err(|error| damaged(copy, error.to_string()))?;
            } else {
                buf.clear();
                buf.extend_from_slice(payload);
            }
            if BlobId::of(buf) != blob.id {
                return Err(damaged(copy, "its content has another hash"));
            }
            Ok(())
        })
    }

    fn stream_copy(&self, copy: &Found) -> Result<PlainReader<PackRange>> {
        let store = Arc::clone(self.repository.store());
        let sealed_len = u64::from(copy.blob.len);
        let range = PackRange::new(store, copy.pack, u64::from(copy.blob.offset), sealed_len);
        let plain_len = copy.blob.plain_len.map(u64::from);
        let expected = Expected { id: copy.blob.id, sealed_len, plain_len };
        PlainReader::new(self.repository.files().key(), range, expected)
            .map_err(|error| damage(copy, &error))
    }
}

impl Bench {
    pub(crate) fn new() -> Result<Self> {
        let decompressor = Decompressor::new().map_err(no_zstd)?;
        Ok(Self { decompressor, sealed: Vec::new() })
    }
}

/// The nodes of a tree in its order. A node that makes no sense is an error in its place, and the
/// next one follows; when no more can be read, that error comes last. All is well when it ends
/// without an error.
pub struct TreeReader {
    id: BlobId,
    nodes: TreeDecoder<Box<dyn Read + Send>>,
}

impl std::fmt::Debug for TreeReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeReader").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Iterator for TreeReader {
    type Item = Result<Node>;

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.nodes.next()?;
        Some(node.map_err(|error| error.of(format!("tree {}", self.id))))
    }
}

/// What is told about an index file: its packs, and then its end.
enum Told<'a> {
    /// A pack that it names.
    Pack(&'a PackInIndex),
    /// There are no more, or it is damaged or gone.
    End(Result<()>),
}

/// Reads index files and tells `each` about them, one after the other. What `each` fails with ends it.
fn read_each(
    repository: &Repository,
    cx: &Cx,
    files: &[(FileId, u64)],
    each: &mut dyn FnMut(FileId, Told<'_>) -> Result<()>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let decoders: Vec<_> = (0..DECODERS.min(files.len()))
            .map(|first| {
                let (sender, decoded) = crossbeam_channel::bounded(2);
                let files = files.iter().skip(first).step_by(DECODERS);
                let mine = files.filter(|(_, len)| *len <= TOGETHER);
                scope.spawn(move || decode_all(repository, mine, &sender));
                Decoder(decoded)
            })
            .collect();
        for (number, (file, len)) in files.iter().enumerate() {
            let mut take = |packs: Vec<PackInIndex>| {
                packs.iter().try_for_each(|pack| {
                    cx.check()?;
                    each(*file, Told::Pack(pack))
                })
            };
            let end = if *len > TOGETHER {
                decode(repository, file, &mut take)
            } else {
                decoders[number % DECODERS].file(&mut take)
            };
            match end {
                Ok(()) | Err(Error::Damaged { .. } | Error::NotFound { .. }) => {
                    each(*file, Told::End(end))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })
}

/// What comes of an index file.
enum Decoded {
    /// The next packs it names.
    Packs(Vec<PackInIndex>),
    /// There are no more, or no more can be read.
    End(Result<()>),
}

/// Decodes one file after the other, until nobody listens.
fn decode_all<'f>(
    repository: &Repository,
    files: impl Iterator<Item = &'f (FileId, u64)>,
    sender: &crossbeam_channel::Sender<Decoded>,
) {
    for (file, _) in files {
        let gone = || Error::Cancelled;
        let end = decode(repository, file, &mut |packs| {
            sender.send(Decoded::Packs(packs)).map_err(|_nobody| gone())
        });
        if sender.send(Decoded::End(end)).is_err() {
            return;
        }
    }
}

pub(crate) fn decode(
    repository: &Repository,
    file: &FileId,
    each: &mut dyn FnMut(Vec<PackInIndex>) -> Result<()>,
) -> Result<()> {
    let json = open_index(repository, file)?;
    let (mut packs, mut blobs) = (Vec::new(), 0);
    let mut failed = None;
    let decoded = envelope::Unpacked::of(&json).and_then(|json| {
        index_file::decode(json, |pack| {
            blobs += pack.blobs.len();
            packs.push(pack.clone());
            if blobs < SENT {
                return Ok(());
            }
            blobs = 0;
            each(std::mem::take(&mut packs)).map_err(|error| failed.get_or_insert(error).clone())
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    // What was said before it broke off counts.
    each(packs)?;
    decoded.map_err(|error| error.of(format!("index {file}")))
}

/// A thread that decodes.
struct Decoder(crossbeam_channel::Receiver<Decoded>);

impl Decoder {
    /// Takes in what its next file says.
    fn file(&self, take: &mut dyn FnMut(Vec<PackInIndex>) -> Result<()>) -> Result<()> {
        loop {
            match self.0.recv() {
                Ok(Decoded::Packs(packs)) => take(packs)?,
                Ok(Decoded::End(end)) => return end,
                Err(_died) => {
                    return Err(Error::System { attempt: "decode an index file".to_owned() });
                }
            }
        }
    }
}

/// What is in the envelope of an index file, still compressed.
fn open_index(repository: &Repository, file: &FileId) -> Result<Vec<u8>> {
    let name = file.to_string();
    let store = repository.store();
    let mut sealed = files::read_named(&**store, FileKind::Index, &name, MAX_INDEX)?;
    let opened = repository.files().key().open_in_place(&mut sealed);
    let len = opened.map_err(|error| error.of(format!("index {file}")))?.len();
    sealed.truncate(IV_LEN + len);
    sealed.drain(..IV_LEN);
    Ok(sealed)
}

fn add(table: &mut Table, pack: &PackInIndex) -> Result<()> {
    let number = table.pack(pack.id)?;
    pack.blobs.iter().try_for_each(|blob| table.add(number, blob))
}

/// What a blob is called in messages.
pub(crate) fn noun(kind: BlobKind) -> &'static str {
    match kind {
        BlobKind::Data => "blob",
        BlobKind::Tree => "tree",
    }
}

fn damaged(copy: &Found, why: impl Into<String>) -> Error {
    let (noun, id, pack) = (noun(copy.blob.kind), copy.blob.id, copy.pack);
    Error::damaged(format!("{noun} {id} in pack {pack}"), why)
}

/// A pack that is not there is damage: the index names it.
fn missing(copy: &Found, error: Error) -> Error {
    match error {
        Error::NotFound { .. } => damaged(copy, "the pack is missing"),
        Error::Damaged { why, .. } => damaged(copy, why),
        other => other,
    }
}

/// What a reader failed with: an error of ours that travelled through it, or damage.
fn damage(copy: &Found, error: &std::io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(ours) => missing(copy, ours.clone()),
        None => damaged(copy, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use alidade_entity::Cancel;

    use super::*;
    use crate::pack_header::HeaderEntry;
    use crate::{
        Compression, Kdf, KeyOptions, LocalStore, LockMode, LockOptions, Password, Writer,
        WriterOptions,
    };

    /// What a reader says when an index lies about a blob: `lie` changes the truth.
    fn told(lie: impl FnOnce(&mut HeaderEntry)) -> Result<Vec<u8>> {
        let root = tempfile::tempdir().unwrap();
        let cx = Cx::system(Cancel::default());
        let store = Arc::new(LocalStore::new(root.path().join("repository")));
        let key = KeyOptions { kdf: Kdf::LIGHT, host: "h".into(), username: "u".into() };
        let repository = Repository::init(&cx, store, &Password::new("p"), &key).unwrap();
        let mut options = LockOptions::new("h", "u");
        options.wait = Duration::ZERO;
        let lock = repository.lock(&cx, LockMode::Shared, &options).unwrap();
        let honest = Indexed::load(Arc::clone(&repository), &cx).unwrap();
        let mut options = WriterOptions::new(root.path());
        options.compression = Compression::Off;
        let writer = Writer::new(Arc::clone(&honest), &lock, options).unwrap();
        let id = writer.save_data(&cx, b"one content").unwrap().id;
        writer.abandon(&cx).unwrap();
        let found = honest.index.read().find(BlobKind::Data, &id).unwrap();

        let fooled = Indexed::load_each(repository, &cx, &mut |_, _| Ok(())).unwrap();
        let fooled = Indexed { index: SharedIndex::default(), ..fooled };
        let mut blob = found.blob;
        lie(&mut blob);
        fooled.index.stored(found.pack, &[blob]).unwrap();
        let mut buf = Vec::new();
        let read = fooled.read_blob(&cx, blob.kind, &blob.id, &mut buf);
        assert!(buf.capacity() < 1 << 20);
        if blob.kind == BlobKind::Tree {
            return fooled.tree(&cx, blob.id).map(|_| buf);
        }
        read.map(|()| buf)
    }

    #[test]
    fn an_index_that_lies_is_damage_and_costs_no_memory() {
        assert_eq!(told(|_| {}).unwrap(), b"one content");
        let lies: [fn(&mut HeaderEntry); 9] = [
            |blob| blob.id = BlobId::of(b"another one"),
            |blob| blob.offset += 1,
            |blob| blob.len -= 1,
            |blob| blob.len = 31,
            |blob| blob.len = u32::MAX,
            |blob| blob.plain_len = Some(11),
            |blob| blob.plain_len = Some(u32::MAX),
            |blob| blob.kind = BlobKind::Tree,
            |blob| (blob.kind, blob.len) = (BlobKind::Tree, u32::MAX),
        ];
        for (at, lie) in lies.into_iter().enumerate() {
            match told(lie) {
                Err(Error::Damaged { .. }) => {}
                // The bytes are those of a blob of that id; that they are no tree shows later.
                Ok(_) if at == 7 => {}
                other => panic!("lie {at}: {other:?}"),
            }
        }
    }
}
