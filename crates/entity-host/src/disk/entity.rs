//! A disk of this host.

use std::ops::Range;
use std::sync::Arc;

use alidade_entity::{
    Basis, Class, Cx, Delete, DiskSource, Error, Extent, ProtectedEntity, ReadOptions, Reading,
    Result, Source,
};
use alidade_model::{Component, ContentName, EntityId, EntityInfo, Selection, Shape, SnapshotId};
use async_trait::async_trait;
use rustix::fs::OFlags;

use super::changes::{MAP, Stamp, known, read_map};
use super::clone::{CLONE, Reflink, changed_since};
use super::extents::{BATCH, Extents};
use super::image::{Image, shown, size_at};
use super::kind::LIVE;
use super::lease::{CloneLease, DiskLease};
use super::users::who_writes;
use crate::path::must_be_shortest;

/// An image file or a block device.
pub(crate) struct DiskEntity {
    id: EntityId,
    path: Vec<u8>,
}

impl DiskEntity {
    /// The entity of that id.
    ///
    /// # Errors
    /// [`Class::NotFound`] when nothing is there or the path is not absolute; [`Class::Unsupported`] when
    /// it is no disk.
    pub(crate) fn open(id: &EntityId) -> Result<Self> {
        let path = id.name.object.decode();
        if id.snapshot.is_some() {
            let attempt = format!("find {id}: a disk of this host has no native snapshots");
            return Err(Error::new(Class::NotFound, attempt));
        }
        must_be_shortest(&path)?;
        size_at(&path)?;
        Ok(Self { id: id.clone(), path })
    }
}

#[async_trait]
impl ProtectedEntity for DiskEntity {
    fn id(&self) -> &EntityId {
        &self.id
    }

    async fn info(&self, _cx: &Cx) -> Result<EntityInfo> {
        Ok(EntityInfo {
            id: self.id.clone(),
            name: shown(&self.path),
            size: Some(size_at(&self.path)?),
            contents: vec![(ContentName::data(), Shape::Disk)],
        })
    }

    async fn components(&self, _cx: &Cx) -> Result<Vec<Component>> {
        Ok(Vec::new())
    }

    async fn snapshots(&self, _cx: &Cx) -> Result<Vec<SnapshotId>> {
        Ok(Vec::new())
    }

    async fn delete(&self, _cx: &Cx, _what: Delete) -> Result<()> {
        let attempt = format!("delete {}, which is not ours to delete", self.id);
        Err(Error::new(Class::Unsupported, attempt))
    }

    async fn read(&self, cx: &Cx, what: &ContentName, how: &ReadOptions) -> Result<Reading> {
        if *what != ContentName::data() {
            let attempt =
                format!("read the content `{what}` of {}, which has only `data`", self.id);
            return Err(Error::new(Class::NotFound, attempt));
        }
        if how.selection != Selection::default() {
            let attempt = format!("read a part of {}: a disk has no paths", self.id);
            return Err(Error::new(Class::Unsupported, attempt));
        }
        known(&how.params)?;
        let image = Arc::new(Image::open(&self.path, OFlags::RDONLY)?);
        if how.params.get(CLONE).is_some_and(|clone| clone == "true") {
            return read_clone(cx, &image, how);
        }
        let writer = who_writes(&image)?;
        let is_live = how.params.get(LIVE).is_some_and(|live| live == "true");
        if let (Some(writer), false) = (&writer, is_live) {
            let attempt = format!("read {} while {writer}", image.shown());
            return Err(Error::new(Class::Conflict, attempt));
        }
        let extents = Extents::of(&image)?;
        // It is watched from before it is compared with the base.
        let lease = DiskLease::new(cx, Arc::clone(&image), writer.is_some())?;
        let (basis, changed) = changes(cx, &image, how)?;
        Ok(Reading {
            source: Source::Disk(Box::new(HostSource::new(image, extents, changed))),
            basis,
            lease: Box::new(lease),
        })
    }
}

/// Reads a clone that is made now: nobody writes to it, whoever writes to the image.
fn read_clone(cx: &Cx, image: &Image, how: &ReadOptions) -> Result<Reading> {
    let (clone, fd) = Reflink::make(cx, image, how.base.as_ref())?;
    let (basis, changed) = match (&how.base, how.params.contains_key(MAP)) {
        (_, true) => changes(cx, image, how)?,
        (None, _) => (Basis::Full { why: "no base was given".to_owned() }, None),
        (Some(base), _) => match changed_since(cx, image, &fd, base)? {
            Some(ranges) => (Basis::Since(base.clone()), Some(ranges)),
            None => (Basis::Full { why: "the clone of that time is gone".to_owned() }, None),
        },
    };
    let image =
        Arc::new(Image { fd, path: image.path.clone(), size: image.size, nature: image.nature });
    let lease = CloneLease { clone, image: Arc::clone(&image) };
    let source = HostSource::new(image, Extents::File, changed);
    Ok(Reading { source: Source::Disk(Box::new(source)), basis, lease: Box::new(lease) })
}

/// What a reading covers, and the ranges when that is not everything.
fn changes(cx: &Cx, image: &Image, how: &ReadOptions) -> Result<(Basis, Option<Vec<Range<u64>>>)> {
    let full = |why: &str| Ok((Basis::Full { why: why.to_owned() }, None));
    let since = |base, ranges| Ok((Basis::Since(base), Some(ranges)));
    match (&how.base, how.params.get(MAP)) {
        (Some(base), Some(map)) => since(base.clone(), read_map(cx, map, image.size)?),
        (None, Some(map)) => {
            let attempt = format!("use the map of changed blocks {map} without a base");
            Err(Error::new(Class::Conflict, attempt))
        }
        (None, None) => full("no base was given"),
        (Some(base), None) => match Stamp::of(image)? {
            Some(stamp) if stamp.is(base) => since(base.clone(), Vec::new()),
            Some(_) => full("the image file changed, and it does not say where"),
            None => full("a block device does not say what changed in it"),
        },
    }
}

/// A disk of this host, open for reading.
struct HostSource {
    image: Arc<Image>,
    extents: Extents,
    /// All of it.
    whole: Range<u64>,
    /// Only these ranges.
    changed: Option<Vec<Range<u64>>>,
}

impl HostSource {
    fn new(image: Arc<Image>, extents: Extents, changed: Option<Vec<Range<u64>>>) -> Self {
        let whole = 0..image.size;
        Self { image, extents, whole, changed }
    }
}

impl DiskSource for HostSource {
    fn size(&self) -> u64 {
        self.image.size
    }

    fn extents(&self, cx: &Cx, from: u64, out: &mut Vec<Extent>) -> Result<()> {
        cx.check()?;
        let whole = std::slice::from_ref(&self.whole);
        let ranges = self.changed.as_deref().unwrap_or(whole);
        let first = ranges.partition_point(|range| range.end <= from);
        let full = out.len() + BATCH;
        for range in &ranges[first..] {
            let part = range.start.max(from)..range.end;
            let end = part.end;
            if self.extents.list(cx, &self.image, part, (out, full))? < end || out.len() >= full {
                break;
            }
        }
        Ok(())
    }

    fn read_at(&self, cx: &Cx, at: u64, buf: &mut [u8]) -> Result<()> {
        self.image.read_at(cx, at, buf)
    }
}
