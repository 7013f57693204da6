//! Who the driver is and what it can.

use std::collections::HashMap;

use tonic::{Request, Response, Status};

use crate::VERSION;
use crate::wire::csi::identity_server::Identity;
use crate::wire::csi::plugin_capability::service::Type as Service;
use crate::wire::csi::plugin_capability::volume_expansion::Type as Expansion;
use crate::wire::csi::plugin_capability::{self, Type};
use crate::wire::csi::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest,
    GetPluginInfoResponse, PluginCapability, ProbeRequest, ProbeResponse,
};

/// Answers for the driver of this name.
pub(crate) struct Named(pub(crate) String);

#[tonic::async_trait]
impl Identity for Named {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: self.0.clone(),
            vendor_version: VERSION.to_owned(),
            manifest: HashMap::new(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let services = [
            Service::ControllerService,
            Service::VolumeAccessibilityConstraints,
            Service::GroupControllerService,
            Service::SnapshotMetadataService,
        ];
        let service =
            |service: Service| Type::Service(plugin_capability::Service { r#type: service.into() });
        let expansion = plugin_capability::VolumeExpansion { r#type: Expansion::Online.into() };
        let all = services.map(service).into_iter().chain([Type::VolumeExpansion(expansion)]);
        let capabilities = all.map(|one| PluginCapability { r#type: Some(one) }).collect();
        Ok(Response::new(GetPluginCapabilitiesResponse { capabilities }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: Some(true) }))
    }
}
