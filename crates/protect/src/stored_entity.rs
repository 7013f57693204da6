//! A stored snapshot is a Protected Entity too: what was copied in is copied out by the same verb.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use alidade_entity::{
    Base, Basis, Class, Cx, Delete, Error, Lease, ProtectedEntity, ReadOptions, Reading, Result,
    Source,
};
use alidade_model::{Component, ContentName, EntityId, EntityInfo, Selection, Shape, SnapshotId};
use alidade_repository::{BlobId, BlobKind, Content, Indexed, Node, NodeKind};
use async_trait::async_trait;

use crate::error::as_entity;
use crate::filter::Filter;
use crate::holes::HoleMap;
use crate::identity::{OWN_DIR, StoredSnapshot, components, stored_path};
use crate::record::{ContentDoc, EntityDoc};
use crate::stored_disk::StoredDisk;
use crate::stored_file::StoredFile;
use crate::stored_source::{Findings, StoredSource, Walk};
use crate::stored_stream::{StoredStream, StoredStreamLease};

/// A snapshot in a repository, as an entity that can be read.
pub struct StoredEntity {
    id: EntityId,
    stored: StoredSnapshot,
    indexed: Arc<Indexed>,
    sparse_zeros: bool,
}

impl StoredEntity {
    /// The entity that this snapshot is.
    #[must_use]
    pub fn new(stored: StoredSnapshot, indexed: Arc<Indexed>) -> Self {
        Self { id: stored.entity_id(), stored, indexed, sparse_zeros: false }
    }

    /// The snapshot.
    pub(crate) fn stored(&self) -> &StoredSnapshot {
        &self.stored
    }

    /// Reads blocks of zeros as holes, too: for snapshots whose writer did not note holes.
    #[must_use]
    pub fn with_sparse_zeros(mut self, on: bool) -> Self {
        self.sparse_zeros = on;
        self
    }

    /// What the snapshot says about the run that made it; `None` for a foreign one.
    ///
    /// # Errors
    /// When it is there and does not read.
    pub fn record(&self, cx: &Cx) -> crate::Result<Option<EntityDoc>> {
        let Some(content) = own_file(cx, &self.indexed, self.stored.snapshot.tree, "entity.json")?
        else {
            return Ok(None);
        };
        let mut text = Vec::new();
        let mut blobs = Blobs::new(cx.clone(), Arc::clone(&self.indexed), content);
        blobs
            .by_ref()
            .take(64 << 20)
            .read_to_end(&mut text)
            .map_err(|error| blobs.explain(&error))?;
        let what = format!("entity.json of snapshot {}", self.stored.file);
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| crate::Error::Record { what, source })
    }

    /// What the snapshot says about its content. A file system's is known without looking.
    fn content(&self, cx: &Cx) -> crate::Result<Option<ContentDoc>> {
        if self.is_fs() {
            return Ok(None);
        }
        let name = ContentName::data();
        let record = self.record(cx)?;
        Ok(record.and_then(|record| {
            record.contents.into_iter().find(|content| content.name == name.as_str())
        }))
    }

    /// The same, for who reads the entity.
    fn content_or_damage(&self, cx: &Cx) -> Result<Option<ContentDoc>> {
        self.content(cx).map_err(|error| match error {
            crate::Error::Repository(error) => as_entity("read the record of a snapshot", error),
            error => Error::with_source(Class::Damaged, "read what a snapshot is of", error),
        })
    }

    fn shape(&self, cx: &Cx) -> Result<Shape> {
        let content = self.content_or_damage(cx)?;
        let Some(content) = content else { return Ok(self.shape_of_type()) };
        Shape::from_word(&content.shape).ok_or_else(|| {
            let attempt = format!("read a content of the unknown shape `{}`", content.shape);
            Error::new(Class::Unsupported, attempt)
        })
    }

    /// What its source can tell changes since, for a disk; a source that cannot tell is given one, too: it
    /// may be told by others.
    pub(crate) fn base(&self, cx: &Cx) -> crate::Result<Option<Base>> {
        let disk = self.content(cx)?.filter(|content| content.shape == Shape::Disk.word());
        let Some(disk) = disk else { return Ok(None) };
        let text = disk.base.unwrap_or_default();
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes = pairs.iter().map(|pair| {
            let text = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(text, 16).ok()
        });
        // What does not read is no base of any source.
        let bytes: Option<Vec<u8>> = bytes.collect();
        Ok(Some(Base(bytes.filter(|_| rest.is_empty()).unwrap_or_default())))
    }

    fn is_fs(&self) -> bool {
        self.stored.entity.type_name.as_str() == "fs"
    }

    /// Bytes of content, as its writer counted them.
    fn size(&self) -> Option<u64> {
        self.stored.snapshot.summary.as_ref().map(|summary| summary.total_bytes_processed)
    }

    /// The shape of an entity whose record is lost, and of a foreign one.
    fn shape_of_type(&self) -> Shape {
        match self.stored.entity.type_name.as_str() {
            "disk" => Shape::Disk,
            "stream" => Shape::Stream,
            _ => Shape::Tree,
        }
    }

    /// True when it is a disk; one whose record is lost is judged by its type.
    pub(crate) fn is_disk(&self, cx: &Cx) -> bool {
        self.shape(cx).unwrap_or_else(|_| self.shape_of_type()) == Shape::Disk
    }

    /// The disk that it is, if it is one.
    pub(crate) fn disk(&self, cx: &Cx) -> Result<Option<StoredDisk>> {
        if self.shape(cx)? != Shape::Disk {
            return Ok(None);
        }
        self.open_disk(cx).map(Some)
    }

    fn open_disk(&self, cx: &Cx) -> Result<StoredDisk> {
        let tree = self.placed_tree(cx, &stored_path(&self.stored.entity))?;
        let size = self.size().ok_or_else(|| {
            Error::new(Class::Damaged, format!("find the size of {} in its snapshot", self.id))
        })?;
        let indexed = Arc::clone(&self.indexed);
        StoredDisk::open(cx, indexed, tree, &ContentName::data(), size)
    }

    fn open_stream(&self, cx: &Cx) -> Result<(StoredStream, StoredStreamLease)> {
        let damaged = || Error::new(Class::Damaged, format!("find the content of {}", self.id));
        let find = |error| as_entity("find a stored stream", error);
        let tree = self.placed_tree(cx, &stored_path(&self.stored.entity))?;
        let name = ContentName::data();
        let node = child(cx, &self.indexed, tree, name.as_str().as_bytes()).map_err(find)?;
        let findings = Arc::<Findings>::default();
        let file = node.and_then(|node| StoredFile::of(&self.indexed, &findings, node));
        let content = self.content_or_damage(cx)?;
        let is_vouched = content.is_some_and(|content| !content.unverified);
        StoredStream::open(cx, &file.ok_or_else(damaged)?, findings, is_vouched)
    }

    /// The holes of its files, in visit order; `None` when it has none or its writer did not note them.
    pub(crate) fn hole_map(
        &self,
        cx: &Cx,
    ) -> alidade_repository::Result<Option<HoleMap<Box<dyn BufRead + Send>>>> {
        let content = own_file(cx, &self.indexed, self.stored.snapshot.tree, "holes")?;
        Ok(content.map(|content| {
            let blobs = Blobs::new(cx.clone(), Arc::clone(&self.indexed), content);
            HoleMap::new(Box::new(BufReader::new(blobs)) as Box<dyn BufRead + Send>)
        }))
    }

    fn placed_tree(&self, cx: &Cx, path: &[u8]) -> Result<BlobId> {
        let mut tree = self.stored.snapshot.tree;
        for name in components(path) {
            let node = child(cx, &self.indexed, tree, name)
                .map_err(|error| as_entity("find the entity in its snapshot", error))?;
            tree = node.and_then(|node| node.subtree).ok_or_else(|| {
                Error::new(Class::Damaged, format!("find {} in its snapshot", self.id))
            })?;
        }
        Ok(tree)
    }

    /// The directory that paths in the entity begin at: of a file system the top of the snapshot.
    pub(crate) fn top(&self, cx: &Cx) -> Result<BlobId> {
        if self.is_fs() {
            return Ok(self.stored.snapshot.tree);
        }
        self.placed_tree(cx, &stored_path(&self.stored.entity))
    }

    /// How many directories a walk visits that lie above the entity.
    pub(crate) fn above(&self) -> usize {
        if !self.is_fs() {
            return 0;
        }
        components(&stored_path(&self.stored.entity)).len().saturating_sub(1)
    }

    /// Opens a walk through what the filter chooses.
    pub(crate) fn walk(&self, cx: &Cx, filter: Filter) -> Result<Reading> {
        let holes = self
            .hole_map(cx)
            .map_err(|error| as_entity("find the hole map of a snapshot", error))?;
        let path = stored_path(&self.stored.entity);
        let depth = components(&path).len();
        // A file system's tree is read from the top, so that a restore makes its path again; any other
        // from where it was placed.
        let (root, top, trail) = if self.is_fs() {
            (self.stored.snapshot.tree, Vec::new(), depth.saturating_sub(1))
        } else {
            (self.placed_tree(cx, &path)?, path, depth)
        };
        let (source, lease) = StoredSource::new(Walk {
            indexed: Arc::clone(&self.indexed),
            root,
            top,
            trail,
            filter,
            holes,
            sparse_zeros: self.sparse_zeros,
        });
        Ok(Reading {
            source: Source::Tree(Box::new(source)),
            basis: Basis::Full { why: "a stored snapshot is whole".to_owned() },
            lease: Box::new(lease),
        })
    }
}

#[async_trait]
impl ProtectedEntity for StoredEntity {
    fn id(&self) -> &EntityId {
        &self.id
    }

    async fn info(&self, cx: &Cx) -> Result<EntityInfo> {
        Ok(EntityInfo {
            id: self.id.clone(),
            name: String::from_utf8_lossy(&stored_path(&self.stored.entity)).into_owned(),
            size: self.size(),
            contents: vec![(ContentName::data(), self.shape(cx)?)],
        })
    }

    async fn components(&self, _cx: &Cx) -> Result<Vec<Component>> {
        Ok(Vec::new())
    }

    async fn snapshots(&self, _cx: &Cx) -> Result<Vec<SnapshotId>> {
        Ok(Vec::new())
    }

    async fn delete(&self, _cx: &Cx, _what: Delete) -> Result<()> {
        Err(Error::new(Class::Unsupported, format!("delete the stored snapshot {}", self.id)))
    }

    async fn read(&self, cx: &Cx, what: &ContentName, how: &ReadOptions) -> Result<Reading> {
        if *what != ContentName::data() {
            return Err(Error::new(
                Class::NotFound,
                format!("find the content {what} of {}", self.id),
            ));
        }
        let shape = self.shape(cx)?;
        if shape != Shape::Tree && how.selection != Selection::default() {
            let attempt = format!("read a part of {}: a {} has no paths", self.id, shape.word());
            return Err(Error::new(Class::Unsupported, attempt));
        }
        let (source, lease): (_, Box<dyn Lease>) = match shape {
            Shape::Tree => return self.walk(cx, Filter::of(&how.selection)?),
            Shape::Disk => {
                let disk = self.open_disk(cx)?;
                let lease = Box::new(disk.lease());
                (Source::Disk(Box::new(disk)), lease)
            }
            Shape::Stream => {
                let (stream, lease) = self.open_stream(cx)?;
                (Source::Stream(Box::new(stream)), Box::new(lease))
            }
        };
        let basis = Basis::Full { why: "a stored snapshot is whole".to_owned() };
        Ok(Reading { source, basis, lease })
    }
}

/// One of our own nodes in a snapshot.
pub(crate) fn own_node(
    cx: &Cx,
    indexed: &Arc<Indexed>,
    root: BlobId,
    name: &str,
) -> alidade_repository::Result<Option<Node>> {
    let Some(own) = child(cx, indexed, root, OWN_DIR.as_bytes())? else { return Ok(None) };
    let Some(tree) = own.subtree.filter(|_| own.kind == NodeKind::Dir) else { return Ok(None) };
    child(cx, indexed, tree, name.as_bytes())
}

/// The content of one of our own files in a snapshot.
pub(crate) fn own_file(
    cx: &Cx,
    indexed: &Arc<Indexed>,
    root: BlobId,
    name: &str,
) -> alidade_repository::Result<Option<Content>> {
    let file = own_node(cx, indexed, root, name)?;
    Ok(file.filter(|node| node.kind == NodeKind::File).and_then(|node| node.content))
}

/// The node of that name in a stored directory. Reads the directory up to it.
pub(crate) fn child(
    cx: &Cx,
    indexed: &Arc<Indexed>,
    tree: BlobId,
    name: &[u8],
) -> alidade_repository::Result<Option<Node>> {
    for node in indexed.tree(cx, tree)? {
        let node = node?;
        if node.name == name {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

/// A stored file as a reader: verified blob after blob.
pub(crate) struct Blobs {
    cx: Cx,
    indexed: Arc<Indexed>,
    content: Content,
    run: usize,
    of_run: u32,
    blob: Vec<u8>,
    at: usize,
    failed: Option<alidade_repository::Error>,
}

impl Blobs {
    pub(crate) fn new(cx: Cx, indexed: Arc<Indexed>, content: Content) -> Self {
        Self { cx, indexed, content, run: 0, of_run: 0, blob: Vec::new(), at: 0, failed: None }
    }

    /// What was behind a failed read.
    pub(crate) fn explain(&mut self, error: &std::io::Error) -> alidade_repository::Error {
        self.failed.take().unwrap_or_else(|| {
            alidade_repository::Error::damaged("record in a snapshot", error.to_string())
        })
    }
}

impl Read for Blobs {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.blob.len() {
            let Some((id, count)) = self.content.runs().get(self.run).copied() else {
                return Ok(0);
            };
            self.blob.clear();
            self.at = 0;
            if let Err(error) =
                self.indexed.read_blob(&self.cx, BlobKind::Data, &id, &mut self.blob)
            {
                let text = error.to_string();
                self.failed = Some(error);
                return Err(std::io::Error::other(text));
            }
            self.of_run += 1;
            if self.of_run == count {
                self.run += 1;
                self.of_run = 0;
            }
        }
        let len = buf.len().min(self.blob.len() - self.at);
        buf[..len].copy_from_slice(&self.blob[self.at..self.at + len]);
        self.at += len;
        Ok(len)
    }
}
