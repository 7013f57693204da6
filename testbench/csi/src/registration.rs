//! How kubelet finds the driver: a second socket, which says where the first one is.

use tonic::{Request, Response, Status};

use crate::wire::registration::registration_server::Registration;
use crate::wire::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};

/// What kubelet is told.
pub(crate) struct Card {
    pub(crate) driver: String,
    /// The socket of the driver.
    pub(crate) endpoint: String,
}

#[tonic::async_trait]
impl Registration for Card {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".into(),
            name: self.driver.clone(),
            endpoint: self.endpoint.clone(),
            supported_versions: vec!["1.0.0".into()],
        }))
    }

    #[allow(clippy::print_stderr, reason = "it is the log of a test tool")]
    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let told = request.into_inner();
        if told.plugin_registered {
            eprintln!("{}: kubelet knows the driver", self.driver);
        } else {
            eprintln!("{}: kubelet refuses the driver: {}", self.driver, told.error);
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
