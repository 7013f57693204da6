//! The calls of the node service.

use std::path::Path;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::answer::{Answer, blocking, required, trouble};
use crate::records::{Kind, Volume};
use crate::staging::Host;
use crate::wire::csi::node_server::Node;
use crate::wire::csi::node_service_capability::rpc::Type as Can;
use crate::wire::csi::node_service_capability::{Rpc, Type};
use crate::wire::csi::volume_usage::Unit;
use crate::wire::csi::*;
use crate::{btrfs, capacity, loops, mounts, topology};

/// Answers for a node.
#[derive(Clone)]
pub(crate) struct Served(pub(crate) Arc<Host>);

impl Served {
    /// Runs one call to its end.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Host) -> Answer<T> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let host = Arc::clone(&self.0);
        blocking(move || work(&host)).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl Node for Served {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        self.run(move |host| host.stage(&request).map(|()| NodeStageVolumeResponse {})).await
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        self.run(move |host| {
            host.unstage(&request.volume_id, &request.staging_target_path)?;
            Ok(NodeUnstageVolumeResponse {})
        })
        .await
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.run(move |host| host.publish(&request).map(|()| NodePublishVolumeResponse {})).await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.run(move |host| {
            host.unpublish(&request.volume_id, &request.target_path)?;
            Ok(NodeUnpublishVolumeResponse {})
        })
        .await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let request = request.into_inner();
        self.run(move |host| stats(host, &request)).await
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        self.run(move |host| expand(host, &request)).await
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let can = [
            Can::StageUnstageVolume,
            Can::GetVolumeStats,
            Can::ExpandVolume,
            Can::SingleNodeMultiWriter,
        ];
        let told = can.map(|can| NodeServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: can.into() })),
        });
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities: told.into() }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        let told = topology::told(&self.0.driver.name, self.0.zone.as_deref());
        Ok(Response::new(NodeGetInfoResponse {
            node_id: self.0.id.clone(),
            max_volumes_per_node: 0,
            accessible_topology: told.into_iter().next(),
        }))
    }
}

/// The volume that is at a place.
fn volume_at(host: &Host, id: &str, path: &str) -> Answer<Volume> {
    let (id, path) = (required("volume_id", id)?, required("volume_path", path)?);
    let (volume, path) = (host.driver.volume(id)?, Path::new(path));
    let content = match volume.kind {
        Kind::Mount => Some(host.driver.pool.volume(&volume)),
        Kind::Block => host.held(&volume.id),
    };
    let is_there = match content.filter(|_| path.exists()) {
        None => false,
        // Kubelet names a raw volume by the folder in which its device is.
        Some(_) if volume.kind == Kind::Block && path.is_dir() => true,
        Some(content) => mounts::same(&content, path).map_err(trouble)?,
    };
    if !is_there {
        let text = format!("volume `{id}` is not at {}", path.display());
        return Err(Status::not_found(text));
    }
    Ok(volume)
}

fn stats(host: &Host, request: &NodeGetVolumeStatsRequest) -> Answer<NodeGetVolumeStatsResponse> {
    let volume = volume_at(host, &request.volume_id, &request.volume_path)?;
    let usage = match volume.kind {
        Kind::Mount => {
            let used = btrfs::used(&host.driver.pool.volume(&volume)).map_err(trouble)?;
            VolumeUsage {
                total: capacity::told(volume.capacity),
                used: capacity::told(used),
                available: capacity::told(volume.capacity.saturating_sub(used)),
                unit: Unit::Bytes.into(),
            }
        }
        // How much of a raw device is used its user alone knows.
        Kind::Block => VolumeUsage {
            total: capacity::told(volume.capacity),
            unit: Unit::Bytes.into(),
            ..VolumeUsage::default()
        },
    };
    Ok(NodeGetVolumeStatsResponse { usage: vec![usage], volume_condition: None })
}

fn expand(host: &Host, request: &NodeExpandVolumeRequest) -> Answer<NodeExpandVolumeResponse> {
    capacity::asked(request.capacity_range.as_ref())?;
    let volume = volume_at(host, &request.volume_id, &request.volume_path)?;
    if let Some(device) = host.held(&volume.id) {
        loops::grow(&device).map_err(trouble)?;
    }
    Ok(NodeExpandVolumeResponse { capacity_bytes: capacity::told(volume.capacity) })
}
