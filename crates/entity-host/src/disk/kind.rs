//! The type `disk`.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use alidade_entity::{
    Capability, Class, CopyMode, CopyOptions, Cursor, Cx, Error, Page, Params, ProtectedEntity,
    ProtectedEntityType, RestorePlan, Result, Sink,
};
use alidade_model::{
    ContentName, EntityId, EntityName, ObjectId, RunId, Shape, SnapshotId, TypeName,
};
use async_trait::async_trait;

use super::entity::DiskEntity;
use super::sink::HostDisk;
use super::target::Target;
use crate::page::page;

/// The setting by which a disk is read although somebody may write to it.
pub(crate) const LIVE: &str = "live";

/// In a plan, the size of the disk in bytes.
const SIZE: &str = "size";
/// The setting by which only a part of a disk is restored: where it begins and ends, in bytes.
const RANGE: &str = "range";

/// The type `disk`: an image file or a block device of this host, by its absolute path.
///
/// [`ProtectedEntityType::list`] names the block devices that have a size. Reading knows these settings
/// ([`alidade_entity::ReadOptions::params`]):
/// - `live`: `true` reads a disk that others may write to; what was read is then torn.
/// - `clone`: `true` reads an image file from a clone that is made at that instant and kept beside it, so
///   that the next reading can tell what changed.
/// - `changed-blocks`: the path of a file that says which ranges changed since the base.
///
/// Restoring knows one ([`CopyOptions::params`]): `range`, where the part that is restored begins and ends,
/// two numbers of bytes; what else lies in the target is left.
#[derive(Debug)]
pub struct DiskType {
    name: TypeName,
}

impl Default for DiskType {
    fn default() -> Self {
        Self::new()
    }
}

impl DiskType {
    /// The type.
    #[must_use]
    pub fn new() -> Self {
        Self { name: "disk".parse().expect("`disk` is in the alphabet of type names") }
    }

    /// The block devices of this host, ascending by id.
    fn devices(&self) -> Result<Vec<EntityId>> {
        let failed = |error| Error::io("list the block devices in /sys/block", error);
        let entries = match fs::read_dir("/sys/block") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let size = fs::read_to_string(entry.path().join("size")).map_err(failed)?;
            let has_size = size.trim_end() != "0";
            if let (true, Some(name)) = (has_size, entry.file_name().to_str()) {
                // The system writes `/` in a device's name as `!`.
                let path = Path::new("/dev").join(name.replace('!', "/"));
                ids.extend(self.id(path.as_os_str().as_encoded_bytes()));
            }
        }
        ids.sort();
        Ok(ids)
    }

    fn id(&self, path: &[u8]) -> Option<EntityId> {
        let object = ObjectId::encode(path).ok()?;
        Some(EntityName { type_name: self.name.clone(), object }.live())
    }
}

#[async_trait]
impl ProtectedEntityType for DiskType {
    fn name(&self) -> &TypeName {
        &self.name
    }

    fn capability(&self) -> Capability {
        Capability { in_place: true, create: true, ..Capability::default() }
    }

    async fn list(&self, cx: &Cx, after: Option<&Cursor>, limit: usize) -> Result<Page<EntityId>> {
        cx.check()?;
        Ok(page(&self.devices()?, after, limit))
    }

    async fn open(&self, _cx: &Cx, id: &EntityId) -> Result<Arc<dyn ProtectedEntity>> {
        Ok(Arc::new(DiskEntity::open(id)?))
    }

    async fn freeze(
        &self,
        _cx: &Cx,
        _ids: &[EntityId],
        _run: &RunId,
        _params: &Params,
    ) -> Result<Vec<SnapshotId>> {
        let attempt = "freeze entities of the type `disk`, which cannot be frozen";
        Err(Error::new(Class::Unsupported, attempt))
    }

    async fn release(&self, _cx: &Cx, _run: &RunId) -> Result<()> {
        Ok(())
    }

    async fn plan(
        &self,
        cx: &Cx,
        from: &dyn ProtectedEntity,
        how: &CopyOptions,
    ) -> Result<RestorePlan> {
        let unsupported = |why: String| Error::new(Class::Unsupported, why);
        let info = from.info(cx).await?;
        let has_disk = info.contents.contains(&(ContentName::data(), Shape::Disk));
        let (true, Some(size)) = (has_disk, info.size) else {
            return Err(unsupported(format!("restore {} as a disk, as it is none", info.id)));
        };
        if let Some(name) = how.params.keys().find(|name| *name != RANGE) {
            return Err(unsupported(format!("restore a disk with the setting `{name}`")));
        }
        let mut steps = target(how, size)?.steps();
        if how.read_back {
            steps.push("read the disk back and compare".to_owned());
        }
        let mut options = how.clone();
        options.params.insert(SIZE.to_owned(), size.to_string());
        Ok(RestorePlan { from: info.id, options, steps })
    }

    async fn sink(&self, _cx: &Cx, plan: &RestorePlan) -> Result<Sink> {
        let how = &plan.options;
        let size = how.params.get(SIZE).and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| {
            Error::new(Class::Unsupported, "restore a disk by a plan that is none of this type's")
        })?;
        Ok(Sink::Disk(Box::new(HostDisk::open(&target(how, size)?)?)))
    }
}

fn target(how: &CopyOptions, size: u64) -> Result<Target> {
    let path = how.target.as_deref().filter(|path| path.starts_with(b"/"));
    let path = path.ok_or_else(|| {
        Error::new(Class::Unsupported, "restore a disk without an absolute target path")
    })?;
    let part = how.params.get(RANGE).map(|text| range(text, size)).transpose()?;
    Target::look(path, (size, part), how.mode == CopyMode::Update)
}

fn range(text: &str, size: u64) -> Result<Range<u64>> {
    let ends = text.split_once(' ').map(|(from, to)| (from.parse(), to.parse()));
    match ends {
        Some((Ok(from), Ok(to))) if from < to && to <= size => Ok(from..to),
        _ => {
            let attempt = format!("restore the bytes `{text}` of a disk of {size}");
            Err(Error::new(Class::Conflict, attempt))
        }
    }
}
