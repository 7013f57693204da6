//! The calls of the controller service and of the one for groups.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::answer::{Answer, blocking, required, trouble};
use crate::driver::Driver;
use crate::records::Volume;
use crate::wire::csi::controller_server::Controller;
use crate::wire::csi::controller_service_capability::rpc::Type as Can;
use crate::wire::csi::controller_service_capability::{Rpc, Type};
use crate::wire::csi::group_controller_server::GroupController;
use crate::wire::csi::group_controller_service_capability as group_capability;
use crate::wire::csi::*;
use crate::{capacity, listing, topology, usage};

/// Answers for a driver.
#[derive(Clone)]
pub(crate) struct Served(pub(crate) Arc<Driver>);

impl Served {
    /// Runs one call to its end.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Driver) -> Answer<T> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let driver = Arc::clone(&self.0);
        blocking(move || work(&driver)).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl Controller for Served {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let request = request.into_inner();
        self.run(move |driver| {
            let volume = driver.create_volume(request)?;
            Ok(CreateVolumeResponse { volume: Some(driver.told_volume(&volume)) })
        })
        .await
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let id = request.into_inner().volume_id;
        self.run(move |driver| driver.delete_volume(&id).map(|()| DeleteVolumeResponse {})).await
    }

    async fn controller_publish_volume(
        &self,
        _: Request<ControllerPublishVolumeRequest>,
    ) -> Result<Response<ControllerPublishVolumeResponse>, Status> {
        Err(Status::unimplemented("volumes need no attaching"))
    }

    async fn controller_unpublish_volume(
        &self,
        _: Request<ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<ControllerUnpublishVolumeResponse>, Status> {
        Err(Status::unimplemented("volumes need no attaching"))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        let request = request.into_inner();
        self.run(move |driver| validate(driver, request)).await
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let request = request.into_inner();
        self.run(move |driver| list(driver, &request)).await
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let request = request.into_inner();
        self.run(move |driver| free(driver, &request)).await
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let can = [
            Can::CreateDeleteVolume,
            Can::ListVolumes,
            Can::GetCapacity,
            Can::CreateDeleteSnapshot,
            Can::ListSnapshots,
            Can::CloneVolume,
            Can::ExpandVolume,
            Can::GetVolume,
            Can::SingleNodeMultiWriter,
            Can::GetSnapshot,
        ];
        let told = can.map(|can| ControllerServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: can.into() })),
        });
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities: told.into() }))
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.run(move |driver| {
            let snapshot = driver.create_snapshot(&request.name, &request.source_volume_id)?;
            Ok(CreateSnapshotResponse { snapshot: Some(driver.told_snapshot(&snapshot)?) })
        })
        .await
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let id = request.into_inner().snapshot_id;
        let deleted = |()| DeleteSnapshotResponse {};
        self.run(move |driver| driver.delete_snapshot(&id).map(deleted)).await
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        let request = request.into_inner();
        self.run(move |driver| driver.list_snapshots(&request)).await
    }

    async fn get_snapshot(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        let id = request.into_inner().snapshot_id;
        self.run(move |driver| {
            let snapshot = driver.snapshot(required("snapshot_id", &id)?)?;
            Ok(GetSnapshotResponse { snapshot: Some(driver.told_snapshot(&snapshot)?) })
        })
        .await
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        self.run(move |driver| driver.expand_volume(&request)).await
    }

    async fn controller_get_volume(
        &self,
        request: Request<ControllerGetVolumeRequest>,
    ) -> Result<Response<ControllerGetVolumeResponse>, Status> {
        let id = request.into_inner().volume_id;
        self.run(move |driver| {
            let volume = driver.volume(required("volume_id", &id)?)?;
            let nodes = driver.pool.records.attachments(&id).map_err(trouble)?;
            let status = controller_get_volume_response::VolumeStatus {
                published_node_ids: nodes.into_iter().map(|one| one.node).collect(),
                volume_condition: None,
            };
            let volume = Some(driver.told_volume(&volume));
            Ok(ControllerGetVolumeResponse { volume, status: Some(status) })
        })
        .await
    }

    async fn controller_modify_volume(
        &self,
        _: Request<ControllerModifyVolumeRequest>,
    ) -> Result<Response<ControllerModifyVolumeResponse>, Status> {
        Err(Status::unimplemented("volumes have nothing that can be modified"))
    }
}

fn validate(
    driver: &Driver,
    request: ValidateVolumeCapabilitiesRequest,
) -> Answer<ValidateVolumeCapabilitiesResponse> {
    let volume = driver.volume(required("volume_id", &request.volume_id)?)?;
    if request.volume_capabilities.is_empty() {
        return Err(Status::invalid_argument("volume_capabilities are missing"));
    }
    let refused = match usage::kind(&request.volume_capabilities) {
        Ok(kind) if kind == volume.kind => None,
        Ok(_) => Some("the volume is of the other kind".to_owned()),
        Err(refusal) => Some(refusal.message().to_owned()),
    };
    Ok(match refused {
        Some(message) => ValidateVolumeCapabilitiesResponse { confirmed: None, message },
        None => ValidateVolumeCapabilitiesResponse {
            confirmed: Some(validate_volume_capabilities_response::Confirmed {
                volume_context: request.volume_context,
                volume_capabilities: request.volume_capabilities,
                parameters: request.parameters,
                mutable_parameters: request.mutable_parameters,
            }),
            message: String::new(),
        },
    })
}

fn list(driver: &Driver, request: &ListVolumesRequest) -> Answer<ListVolumesResponse> {
    let id = |volume: &Volume| volume.id.clone();
    let volumes = driver.all::<Volume>()?;
    let (page, next_token) =
        listing::page(volumes, id, request.max_entries, &request.starting_token)?;
    let told = page.iter().map(|volume| list_volumes_response::Entry {
        volume: Some(driver.told_volume(volume)),
        status: None,
    });
    Ok(ListVolumesResponse { entries: told.collect(), next_token })
}

fn free(driver: &Driver, request: &GetCapacityRequest) -> Answer<GetCapacityResponse> {
    if !request.volume_capabilities.is_empty() && usage::kind(&request.volume_capabilities).is_err()
    {
        return Ok(GetCapacityResponse::default());
    }
    // Every zone has the same pool; nodes without a zone of this driver have none.
    let key = topology::key(&driver.name);
    let asked = request.accessible_topology.as_ref();
    if asked.is_some_and(|asked| !asked.segments.is_empty() && !asked.segments.contains_key(&key)) {
        return Ok(GetCapacityResponse::default());
    }
    let (all, free) = driver.pool.space().map_err(trouble)?;
    Ok(GetCapacityResponse {
        available_capacity: capacity::told(free),
        maximum_volume_size: Some(capacity::told(all)),
        minimum_volume_size: None,
    })
}

#[tonic::async_trait]
impl GroupController for Served {
    async fn group_controller_get_capabilities(
        &self,
        _: Request<GroupControllerGetCapabilitiesRequest>,
    ) -> Result<Response<GroupControllerGetCapabilitiesResponse>, Status> {
        let can = group_capability::rpc::Type::CreateDeleteGetVolumeGroupSnapshot;
        let rpc = group_capability::Rpc { r#type: can.into() };
        let told =
            GroupControllerServiceCapability { r#type: Some(group_capability::Type::Rpc(rpc)) };
        Ok(Response::new(GroupControllerGetCapabilitiesResponse { capabilities: vec![told] }))
    }

    async fn create_volume_group_snapshot(
        &self,
        request: Request<CreateVolumeGroupSnapshotRequest>,
    ) -> Result<Response<CreateVolumeGroupSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.run(move |driver| {
            let group = driver.create_group(request)?;
            let group_snapshot = Some(driver.told_group(&group)?);
            Ok(CreateVolumeGroupSnapshotResponse { group_snapshot })
        })
        .await
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: Request<DeleteVolumeGroupSnapshotRequest>,
    ) -> Result<Response<DeleteVolumeGroupSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.run(move |driver| {
            driver.delete_group(&request.group_snapshot_id, &request.snapshot_ids)?;
            Ok(DeleteVolumeGroupSnapshotResponse {})
        })
        .await
    }

    async fn get_volume_group_snapshot(
        &self,
        request: Request<GetVolumeGroupSnapshotRequest>,
    ) -> Result<Response<GetVolumeGroupSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.run(move |driver| {
            let group = driver.group(&request.group_snapshot_id, &request.snapshot_ids)?;
            let group_snapshot = Some(driver.told_group(&group)?);
            Ok(GetVolumeGroupSnapshotResponse { group_snapshot })
        })
        .await
    }
}
