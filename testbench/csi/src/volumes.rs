//! Volumes: made, from nothing, a snapshot or another volume; expanded; deleted.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tonic::Status;

use crate::answer::{Answer, required, trouble};
use crate::driver::Driver;
use crate::pool::discard;
use crate::records::{Kind, Source, Volume, new_id};
use crate::wire::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use crate::wire::csi::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, CreateVolumeRequest,
    VolumeContentSource,
};
use crate::{btrfs, capacity, disk, topology, usage, wire};

/// What a new volume is made of.
struct Origin {
    path: PathBuf,
    kind: Kind,
    size: u64,
    zone: Option<String>,
}

impl Driver {
    /// Makes a volume, or gives the one that an equal call has made.
    pub(crate) fn create_volume(&self, request: CreateVolumeRequest) -> Answer<Volume> {
        required("name", &request.name)?;
        let kind = usage::kind(&request.volume_capabilities)?;
        capacity::asked(request.capacity_range.as_ref())?;
        let source = asked_source(request.volume_content_source.as_ref())?;
        let _locked = self.pool.lock().map_err(trouble)?;
        let volumes = self.all::<Volume>()?;
        if let Some(volume) = volumes.into_iter().find(|volume| volume.name == request.name) {
            return match self.difference(&volume, &request, kind, source.as_ref())? {
                None => Ok(volume),
                Some(what) => {
                    let text = format!("volume `{}` is there, with another {what}", volume.name);
                    Err(Status::already_exists(text))
                }
            };
        }
        let origin = source.as_ref().map(|source| self.origin(source)).transpose()?;
        if origin.as_ref().is_some_and(|origin| origin.kind != kind) {
            let text = "the source is of another kind: mounted and raw volumes do not mix";
            return Err(Status::invalid_argument(text));
        }
        let (pool, _) = self.pool.space().map_err(trouble)?;
        let content = origin.as_ref().map_or(0, |origin| origin.size);
        let zone = origin.as_ref().and_then(|origin| origin.zone.as_deref());
        let requirements = request.accessibility_requirements.as_ref();
        let volume = Volume {
            id: new_id("vol").map_err(trouble)?,
            name: request.name,
            kind,
            capacity: capacity::choose(request.capacity_range.as_ref(), content, pool)?,
            zone: topology::choose(&self.name, requirements, zone)?,
            source,
            parameters: request.parameters.into_iter().collect(),
        };
        let path = self.pool.volume(&volume);
        let made =
            make(&path, &volume, origin.as_ref()).and_then(|()| self.pool.records.put(&volume));
        if let Err(error) = made {
            discard(&path).map_err(trouble)?;
            return Err(trouble(error));
        }
        Ok(volume)
    }

    /// In what a volume differs from the one that is asked for.
    fn difference(
        &self,
        volume: &Volume,
        request: &CreateVolumeRequest,
        kind: Kind,
        source: Option<&Source>,
    ) -> Answer<Option<&'static str>> {
        let (least, most) = capacity::asked(request.capacity_range.as_ref())?;
        let parameters = request.parameters.clone().into_iter().collect();
        let requirements = request.accessibility_requirements.as_ref();
        let zone = topology::choose(&self.name, requirements, volume.zone.as_deref());
        Ok(if volume.kind != kind {
            Some("kind")
        } else if !(least..=most).contains(&volume.capacity) {
            Some("capacity")
        } else if volume.source.as_ref() != source {
            Some("source")
        } else if volume.parameters != parameters {
            Some("parameters")
        } else if zone.is_err() {
            Some("topology")
        } else {
            None
        })
    }

    fn origin(&self, source: &Source) -> Answer<Origin> {
        match source {
            Source::Volume(id) => {
                let from = self.volume(id)?;
                let path = self.pool.volume(&from);
                Ok(Origin { path, kind: from.kind, size: from.capacity, zone: from.zone })
            }
            Source::Snapshot(id) => {
                let from = self.snapshot(id)?;
                if !self.faults.is_ready(from.created)? {
                    return Err(Status::unavailable(format!("snapshot `{id}` is not ready")));
                }
                let path = self.pool.snapshot(&from);
                Ok(Origin { path, kind: from.kind, size: from.size, zone: from.zone })
            }
        }
    }

    /// Deletes a volume; one that is not there is deleted already.
    pub(crate) fn delete_volume(&self, id: &str) -> Answer<()> {
        required("volume_id", id)?;
        let _locked = self.pool.lock().map_err(trouble)?;
        let Some(volume) = self.pool.records.get::<Volume>(id).map_err(trouble)? else {
            return Ok(());
        };
        let used = self.pool.records.attachments(id).map_err(trouble)?;
        if let Some(attachment) = used.first() {
            let text = format!("volume `{id}` is in use on node {}", attachment.node);
            return Err(Status::failed_precondition(text));
        }
        // Without its record the content is rubbish, which the next start removes.
        let removed = self.pool.records.remove::<Volume>(id);
        removed.and_then(|()| discard(&self.pool.volume(&volume))).map_err(trouble)
    }

    /// Makes a volume larger; one that is large enough stays as it is.
    pub(crate) fn expand_volume(
        &self,
        request: &ControllerExpandVolumeRequest,
    ) -> Answer<ControllerExpandVolumeResponse> {
        required("volume_id", &request.volume_id)?;
        let Some(range) = &request.capacity_range else {
            return Err(Status::invalid_argument("capacity_range is missing"));
        };
        let (least, most) = capacity::asked(Some(range))?;
        let _locked = self.pool.lock().map_err(trouble)?;
        let mut volume = self.volume(&request.volume_id)?;
        if volume.capacity > most {
            let text = format!("the volume has {} bytes, more than the limit", volume.capacity);
            return Err(Status::out_of_range(text));
        }
        let path = self.pool.volume(&volume);
        if volume.capacity < least {
            let (pool, _) = self.pool.space().map_err(trouble)?;
            volume.capacity = capacity::choose(Some(range), 0, pool)?;
            let grown = match volume.kind {
                Kind::Mount => btrfs::limit(&path, volume.capacity),
                Kind::Block => disk::grow(&path, volume.capacity),
            };
            grown.and_then(|()| self.pool.records.put(&volume)).map_err(trouble)?;
        }
        Ok(ControllerExpandVolumeResponse {
            capacity_bytes: capacity::told(volume.capacity),
            // The loop device of a raw volume must be told.
            node_expansion_required: volume.kind == Kind::Block,
        })
    }

    /// A volume as the protocol has it.
    pub(crate) fn told_volume(&self, volume: &Volume) -> wire::csi::Volume {
        wire::csi::Volume {
            capacity_bytes: capacity::told(volume.capacity),
            volume_id: volume.id.clone(),
            volume_context: [].into(),
            content_source: volume.source.clone().map(told_source),
            accessible_topology: topology::told(&self.name, volume.zone.as_deref()),
        }
    }
}

/// Makes the content of a new volume.
fn make(path: &Path, volume: &Volume, origin: Option<&Origin>) -> Result<()> {
    match (volume.kind, origin) {
        (Kind::Mount, None) => btrfs::create(path)?,
        (Kind::Mount, Some(origin)) => btrfs::copy(&origin.path, path)?,
        (Kind::Block, None) => disk::create(path, volume.capacity)?,
        (Kind::Block, Some(origin)) => disk::copy(&origin.path, path, volume.capacity)?,
    }
    match volume.kind {
        Kind::Mount => btrfs::limit(path, volume.capacity),
        Kind::Block => Ok(()),
    }
}

fn asked_source(source: Option<&VolumeContentSource>) -> Answer<Option<Source>> {
    let Some(source) = source else { return Ok(None) };
    match &source.r#type {
        Some(Type::Snapshot(SnapshotSource { snapshot_id: id })) => {
            required("snapshot_id", id).map(|id| Some(Source::Snapshot(id.to_owned())))
        }
        Some(Type::Volume(VolumeSource { volume_id: id })) => {
            required("volume_id of the source", id).map(|id| Some(Source::Volume(id.to_owned())))
        }
        None => Err(Status::invalid_argument("volume_content_source says neither kind of source")),
    }
}

fn told_source(source: Source) -> VolumeContentSource {
    let source = match source {
        Source::Snapshot(snapshot_id) => Type::Snapshot(SnapshotSource { snapshot_id }),
        Source::Volume(volume_id) => Type::Volume(VolumeSource { volume_id }),
    };
    VolumeContentSource { r#type: Some(source) }
}
