//! Trees while they are written: a directory of millions takes a few MiB.
//!
//! The JSON of a tree is held up to 1 MiB. Beyond that each MiB becomes a zstd frame of its own
//! (frames one behind the other are one content to every reader) and goes, encrypted, to the scratch
//! file. All unfinished trees together hold a bounded amount: when it is passed, the largest spills
//! early.

mod streams;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use alidade_entity::Cx;
use sha2::{Digest, Sha256};

use crate::compress::append_frame;
use crate::crypto::{MasterKey, OVERHEAD, Sealer, Tag};
use crate::index::Claim;
use crate::pack_header::HeaderEntry;
use crate::packer::{self, Sealed, length};
use crate::scratch::Extents;
use crate::sealed::{Expected, PlainReader};
use crate::writer::{Bench, held, no_zstd, too_large};
use crate::{
    BlobId, BlobKind, Body, Error, FileId, FileKind, Node, Result, SameNode, Saved, TreeText,
    Writer, tree_codec,
};
use streams::{Deciphered, HashSink, Hashing, SameAs};

/// JSON that one tree holds before it spills.
const FRAME: usize = 1 << 20;
/// JSON that all unfinished trees hold before the largest spills.
const HELD: usize = 16 << 20;
/// A sealed tree up to this length shares a pack with others.
const SHARED_PACK: u64 = 4 << 20;
/// The format counts the bytes of a blob in 32 bits.
const MAX_TREE: u64 = u32::MAX as u64;

/// The trees that are being written.
#[derive(Default)]
pub(crate) struct Spools {
    open: Mutex<BTreeMap<u64, Arc<Spool>>>,
    next: AtomicU64,
    held: AtomicUsize,
}

/// One of them.
#[derive(Default)]
struct Spool {
    /// The length of `Growing::json`, to be seen without its lock.
    held: AtomicUsize,
    growing: Mutex<Growing>,
}

#[derive(Default)]
struct Growing {
    /// The nodes so far are those of this text up to here, and nothing else is held.
    same: Option<(Arc<TreeText>, usize)>,
    /// What has not been spilled yet.
    json: Vec<u8>,
    /// Hash and length of what has.
    hash: Sha256,
    spilled: u64,
    sealing: Option<(Sealer, [u8; 16])>,
    extents: Extents,
    /// The name of the last node.
    last: Vec<u8>,
    has_nodes: bool,
    end: Option<Lost>,
}

/// Why a tree can never be finished.
#[derive(Clone, Copy)]
enum Lost {
    TooLarge,
    /// A node could not be encoded, and the part of it that was is in the JSON.
    HalfANode,
}

impl Lost {
    fn error(self) -> Error {
        match self {
            Self::TooLarge => too_large("a directory", "4 GiB"),
            Self::HalfANode => Error::Usage("go on with a tree after a node failed".to_owned()),
        }
    }
}

impl Writer {
    /// Stores a tree as another repository has it, byte by byte, unless this one knows it.
    ///
    /// # Errors
    /// As [`TreeWriter::finish`]; [`Error::SelfCheck`] when it is not the tree of that id.
    pub(crate) fn save_tree_json(&self, cx: &Cx, id: BlobId, json: &mut dyn Read) -> Result<Saved> {
        let mut growing = Growing::default();
        let mut sink = Sink { cx, writer: self, growing: &mut growing };
        io::copy(json, &mut sink).map_err(|error| of_io(error, "read a tree"))?;
        growing.not_lost()?;
        if growing.sealing.is_none() {
            is_the_same(id, BlobId::of(&growing.json))?;
            return self.guarded(|| self.save(cx, BlobKind::Tree, id, &growing.json));
        }
        if !growing.json.is_empty() {
            growing.spill(cx, self)?;
            growing.not_lost()?;
        }
        let spilled = Spilled::of(growing)?;
        is_the_same(id, spilled.id)?;
        self.guarded(|| spilled.save(cx, self))
    }
}

fn is_the_same(id: BlobId, found: BlobId) -> Result<()> {
    if found == id {
        return Ok(());
    }
    let why = format!("what was read as it has the hash {found}");
    Err(Error::SelfCheck { blob: id.to_string(), why })
}

/// Writes one tree, node by node, in ascending order of names.
pub struct TreeWriter<'w> {
    writer: &'w Writer,
    number: u64,
    spool: Arc<Spool>,
}

impl std::fmt::Debug for TreeWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeWriter").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<'w> TreeWriter<'w> {
    pub(crate) fn new(writer: &'w Writer) -> Self {
        let spools = writer.spools();
        let number = spools.next.fetch_add(1, Ordering::Relaxed);
        let spool = Arc::new(Spool::default());
        held(&spools.open).insert(number, Arc::clone(&spool));
        Self { writer, number, spool }
    }

    /// Adds a node; its name comes after those before it, compared as bytes.
    ///
    /// # Errors
    /// [`Error::Unrepresentable`] when the tree passes 4 GiB or the node cannot be said in the
    /// format: only this tree is lost then. [`Error::Usage`] when the name is out of order. When
    /// the scratch space fails.
    pub fn add(&mut self, cx: &Cx, node: &Node) -> Result<()> {
        self.append(cx, &node.name, |sink| tree_codec::encode_node(node, sink))
    }

    /// Adds a node of a stored tree that is known to be the same now; `name` is its name. A tree all
    /// of whose nodes come so from one tree, in its order and none left out, is that tree.
    ///
    /// # Errors
    /// As [`TreeWriter::add`].
    pub fn add_same(&mut self, cx: &Cx, name: &[u8], node: &SameNode) -> Result<()> {
        let mut growing = held(&self.spool.growing);
        if growing.goes_on_same(node) {
            growing.not_lost()?;
            growing.follow(name)?;
            growing.same = Some((Arc::clone(node.text()), node.place().1));
            return Ok(());
        }
        drop(growing);
        self.append(cx, name, |sink| sink.write_all(node.json()))
    }

    fn append(
        &mut self,
        cx: &Cx,
        name: &[u8],
        write: impl FnOnce(&mut Sink<'_>) -> io::Result<()>,
    ) -> Result<()> {
        let mut growing = held(&self.spool.growing);
        growing.add(cx, self.writer, name, write)?;
        self.account(&growing);
        drop(growing);
        self.writer.spools().relieve(cx, self.writer)
    }

    /// Stores the tree, unless the repository knows it.
    ///
    /// # Errors
    /// As [`Writer::save_data`].
    pub fn finish(self, cx: &Cx) -> Result<Saved> {
        let growing = std::mem::take(&mut *held(&self.spool.growing));
        self.account(&growing);
        growing.store(cx, self.writer)
    }

    /// Stores the tree as if it ended here, with one more node at its end, perhaps. It can go on. What it has in
    /// the scratch file is read and written once more.
    ///
    /// # Errors
    /// As [`TreeWriter::finish`].
    pub fn store_so_far(&self, cx: &Cx, last: Option<&Node>) -> Result<Saved> {
        let mut copy = held(&self.spool.growing).copied(cx, self.writer)?;
        if let Some(node) = last {
            copy.add(cx, self.writer, &node.name, |sink| tree_codec::encode_node(node, sink))?;
        }
        copy.store(cx, self.writer)
    }

    /// Tells how much this tree holds.
    fn account(&self, growing: &Growing) {
        self.spool.tell(self.writer.spools(), growing.json.len());
    }
}

impl Drop for TreeWriter<'_> {
    /// What a tree that is given up had in the scratch file stays there until all are finished.
    fn drop(&mut self) {
        let spools = self.writer.spools();
        held(&spools.open).remove(&self.number);
        self.spool.tell(spools, 0);
    }
}

impl Spool {
    fn tell(&self, spools: &Spools, now: usize) {
        let before = self.held.swap(now, Ordering::Relaxed);
        spools.held.fetch_add(now, Ordering::Relaxed);
        spools.held.fetch_sub(before, Ordering::Relaxed);
    }
}

impl Spools {
    /// Spills the largest trees while all hold too much together.
    fn relieve(&self, cx: &Cx, writer: &Writer) -> Result<()> {
        while self.held.load(Ordering::Relaxed) > HELD {
            let largest = {
                let open = held(&self.open);
                open.values().max_by_key(|spool| spool.held.load(Ordering::Relaxed)).cloned()
            };
            let Some(spool) = largest else { return Ok(()) };
            let mut growing = held(&spool.growing);
            if growing.json.is_empty() {
                // Another thread was faster; it has told so, or will in a moment.
                return Ok(());
            }
            growing.spill(cx, writer)?;
            spool.tell(self, 0);
        }
        Ok(())
    }
}

impl Growing {
    /// Adds a node behind the last one.
    fn add(
        &mut self,
        cx: &Cx,
        writer: &Writer,
        name: &[u8],
        write: impl FnOnce(&mut Sink<'_>) -> io::Result<()>,
    ) -> Result<()> {
        self.not_lost()?;
        let first = !self.has_nodes;
        self.follow(name)?;
        let same = self.same.take();
        let mut sink = Sink { cx, writer, growing: self };
        let so_far = match &same {
            Some((text, end)) => sink.write_all(&text.json()[..*end]),
            None => Ok(()),
        };
        let open: &[u8] = if first { tree_codec::PREFIX } else { tree_codec::SEPARATOR };
        let added = so_far.and_then(|()| sink.write_all(open)).and_then(|()| write(&mut sink));
        if let Err(error) = added {
            self.end = Some(Lost::HalfANode);
            return Err(of_io(error, "encode a node"));
        }
        self.not_lost()
    }

    /// The same nodes once more.
    fn copied(&self, cx: &Cx, writer: &Writer) -> Result<Self> {
        self.not_lost()?;
        let mut copy = Self {
            same: self.same.clone(),
            last: self.last.clone(),
            has_nodes: self.has_nodes,
            ..Self::default()
        };
        let mut sink = Sink { cx, writer, growing: &mut copy };
        if let Some((_, iv)) = &self.sealing {
            let spilled = writer.scratch().reader(&self.extents);
            let mut plain = Hashing { inner: &mut sink, hash: Sha256::new() };
            let opener = writer.key().opener(iv);
            let opener = opener.map_err(|error| Error::System { attempt: error.to_string() })?;
            let mut opened = Deciphered { inner: spilled, opener };
            let read = match writer.level(BlobKind::Tree) {
                None => io::copy(&mut opened, &mut plain),
                Some(_) => zstd::Decoder::new(opened)
                    .and_then(|mut frames| io::copy(&mut frames, &mut plain)),
            };
            read.map_err(|error| of_io(error, "read the scratch file"))?;
            if plain.hash.finalize() != self.hash.clone().finalize() {
                let attempt = "read the scratch file: it is not what was written".to_owned();
                return Err(Error::System { attempt });
            }
        }
        sink.write_all(&self.json).map_err(|error| of_io(error, "copy a tree"))?;
        copy.not_lost()?;
        Ok(copy)
    }

    /// Ends the tree and stores it, unless the repository knows it.
    fn store(mut self, cx: &Cx, writer: &Writer) -> Result<Saved> {
        self.not_lost()?;
        cx.check()?;
        if let Some((text, end)) = self.same.take() {
            if text.json()[end..] == *tree_codec::SUFFIX {
                // Its hash was right when it was read.
                return writer.guarded(|| writer.save(cx, BlobKind::Tree, text.id(), text.json()));
            }
            self.json.extend_from_slice(&text.json()[..end]);
        }
        if !self.has_nodes {
            self.json.extend_from_slice(tree_codec::PREFIX);
        }
        self.json.extend_from_slice(tree_codec::SUFFIX);
        if self.sealing.is_none() {
            let id = BlobId::of(&self.json);
            return writer.guarded(|| writer.save(cx, BlobKind::Tree, id, &self.json));
        }
        self.spill(cx, writer)?;
        self.not_lost()?;
        writer.guarded(|| Spilled::of(self)?.save(cx, writer))
    }

    fn not_lost(&self) -> Result<()> {
        self.end.map_or(Ok(()), |lost| Err(lost.error()))
    }

    /// Makes `name` the last one, behind all others.
    fn follow(&mut self, name: &[u8]) -> Result<()> {
        if self.has_nodes && *self.last >= *name {
            let name = name.escape_ascii();
            return Err(Error::Usage(format!("add node `{name}`: it is not behind the last one")));
        }
        self.has_nodes = true;
        self.last.clear();
        self.last.extend_from_slice(name);
        Ok(())
    }

    /// True when the text up to and with that node is what is held with it.
    fn goes_on_same(&self, node: &SameNode) -> bool {
        let (from, _) = node.place();
        match &self.same {
            None => !self.has_nodes && from == tree_codec::PREFIX.len(),
            Some((text, end)) => {
                let separator = tree_codec::SEPARATOR;
                Arc::ptr_eq(text, node.text())
                    && from == end + separator.len()
                    && text.json()[*end..from] == *separator
            }
        }
    }

    /// Makes what is held a frame at the end of the ciphertext. Who calls may be at work on another
    /// tree: that this one is too large is left to be found by its own writer.
    fn spill(&mut self, cx: &Cx, writer: &Writer) -> Result<()> {
        let json = std::mem::take(&mut self.json);
        self.spilled += json.len() as u64;
        // Not even incompressible JSON grows by as much as 1 MiB.
        if self.spilled + (1 << 20) > MAX_TREE {
            self.end = Some(Lost::TooLarge);
            return Ok(());
        }
        // What was held is gone when this fails, and so is the tree: the run must not go on.
        writer.guarded(|| self.append(cx, writer, &json))
    }

    fn append(&mut self, cx: &Cx, writer: &Writer, json: &[u8]) -> Result<()> {
        self.hash.update(json);
        let (sealer, _) = match &mut self.sealing {
            Some(sealing) => sealing,
            None => {
                let iv = MasterKey::random_iv(cx)?;
                self.sealing.insert((writer.key().sealer(iv)?, iv))
            }
        };
        let extents = &mut self.extents;
        writer.benches().with(Bench::new, |bench| {
            let Bench { compressor, sealed: frame, .. } = bench;
            frame.clear();
            match writer.level(BlobKind::Tree) {
                None => frame.extend_from_slice(json),
                Some(level) => compressor
                    .set_compression_level(level)
                    .and_then(|()| append_frame(compressor, json, frame))
                    .map_err(no_zstd)?,
            }
            sealer.update(frame);
            writer.scratch().append(extents, frame)
        })
    }
}

/// Takes the JSON of a node in, and spills in the midst of it when there is enough.
struct Sink<'a> {
    cx: &'a Cx,
    writer: &'a Writer,
    growing: &'a mut Growing,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = FRAME - self.growing.json.len();
        let taken = bytes.len().min(room);
        self.growing.json.extend_from_slice(&bytes[..taken]);
        if self.growing.json.len() == FRAME {
            self.cx.check().map_err(|error| io::Error::other(Error::from(error)))?;
            self.growing.spill(self.cx, self.writer).map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A finished tree whose ciphertext lies in the scratch file.
struct Spilled {
    id: BlobId,
    iv: [u8; 16],
    tag: Tag,
    extents: Extents,
    plain_len: u64,
}

impl Spilled {
    fn of(growing: Growing) -> Result<Self> {
        let Growing { hash, spilled, sealing, extents, .. } = growing;
        let (sealer, iv) = sealing.ok_or_else(|| Error::System {
            attempt: "finish a spilled tree that has not spilled".to_owned(),
        })?;
        let id = BlobId(hash.finalize().into());
        Ok(Self { id, iv, tag: sealer.finish(), extents, plain_len: spilled })
    }

    fn sealed_len(&self) -> u64 {
        self.extents.len() + OVERHEAD as u64
    }

    /// The whole envelope.
    fn reader<'a>(&'a self, writer: &'a Writer) -> impl Read + 'a {
        (&self.iv[..]).chain(writer.scratch().reader(&self.extents)).chain(&self.tag[..])
    }

    fn save(mut self, cx: &Cx, writer: &Writer) -> Result<Saved> {
        let (kind, id) = (BlobKind::Tree, self.id);
        let saved = if writer.indexed().index().claim(kind, id) == Claim::Mine {
            self.check(writer)?;
            let stored = self.sealed_len();
            if stored <= SHARED_PACK {
                self.save_with_others(cx, writer)?;
            } else {
                self.save_alone(cx, writer)?;
            }
            writer.counters().added(kind, self.plain_len, stored);
            Saved { id, new: true, stored }
        } else {
            writer.counters().known(kind);
            Saved { id, new: false, stored: 0 }
        };
        writer.scratch().free(&mut self.extents)?;
        Ok(saved)
    }

    /// The length before compression, as packs say it.
    fn packed_len(&self, writer: &Writer) -> Result<Option<u32>> {
        let len = writer.level(BlobKind::Tree).map(|_| u32::try_from(self.plain_len));
        len.transpose().map_err(|_too_long| too_large("a directory", "4 GiB"))
    }

    /// Opens, decompresses and hashes what lies in the scratch file.
    fn check(&self, writer: &Writer) -> Result<()> {
        if !writer.self_checks() {
            return Ok(());
        }
        let expected = Expected {
            id: self.id,
            sealed_len: self.sealed_len(),
            plain_len: self.packed_len(writer)?.map(u64::from),
        };
        PlainReader::new(writer.key(), self.reader(writer), expected)
            .and_then(PlainReader::verify)
            .map_err(|error| Error::SelfCheck {
                blob: self.id.to_string(),
                why: error.to_string(),
            })?;
        writer.counters().checked();
        Ok(())
    }

    fn save_with_others(&self, cx: &Cx, writer: &Writer) -> Result<()> {
        let mut bytes = Vec::new();
        self.reader(writer)
            .read_to_end(&mut bytes)
            .map_err(|error| of_io(error, "read the scratch file"))?;
        let plain_len = self.packed_len(writer)?;
        writer.append(cx, Sealed { kind: BlobKind::Tree, id: self.id, bytes: &bytes, plain_len })
    }

    /// A pack that holds nothing else. It is read twice: for its name, and to be stored; the second
    /// reading must give the same or nothing is stored.
    fn save_alone(&self, cx: &Cx, writer: &Writer) -> Result<()> {
        let len = usize::try_from(self.sealed_len()).unwrap_or(usize::MAX);
        let blob = HeaderEntry {
            kind: BlobKind::Tree,
            id: self.id,
            offset: 0,
            len: length(len)?,
            plain_len: self.packed_len(writer)?,
        };
        let trailer = packer::trailer(cx, writer.key(), &[blob])?;
        let pack_len = self.sealed_len() + trailer.len() as u64;
        let mut hash = Sha256::new();
        let mut first = self.reader(writer).chain(&trailer[..]);
        io::copy(&mut first, &mut HashSink(&mut hash))
            .map_err(|error| of_io(error, "read the scratch file"))?;
        let name = FileId(hash.finalize().into());
        let second = self.reader(writer).chain(&trailer[..]);
        let mut reader = SameAs { inner: second, hash: Sha256::new(), rest: pack_len, name };
        let body = Body::Reader { reader: &mut reader, len: pack_len };
        writer.store().put(FileKind::Pack, &name.to_string(), body)?;
        writer.pack_stored(cx, name, &[blob])
    }
}

/// Our own error when it travelled through `io`, else a failure of the system.
fn of_io(error: io::Error, attempt: &str) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(ours) => ours.clone(),
        None => Error::store(attempt, error),
    }
}
