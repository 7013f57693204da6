//! Serving: the sockets of one process.
//!
//! One process is the controller, a node, or both. All processes of a driver open the same image.

use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::changes::Changes;
use crate::driver::Driver;
use crate::faults::Faults;
use crate::identity::Named;
use crate::pool::Pool;
use crate::registration::Card;
use crate::staging::Host;
use crate::wire::csi::controller_server::ControllerServer;
use crate::wire::csi::group_controller_server::GroupControllerServer;
use crate::wire::csi::identity_server::IdentityServer;
use crate::wire::csi::node_server::NodeServer;
use crate::wire::csi::snapshot_metadata_server::SnapshotMetadataServer;
use crate::wire::registration::registration_server::RegistrationServer;
use crate::{controller, node};

/// What a process serves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The driver's name, such as `btrfs.alidade.test`.
    pub name: String,
    /// The socket.
    pub endpoint: PathBuf,
    /// The file that holds everything.
    pub image: PathBuf,
    /// How long the image becomes if there is none.
    pub bytes: u64,
    /// Where it is mounted.
    pub root: PathBuf,
    /// Where the switches for faults are.
    pub faults: Option<PathBuf>,
    /// Whether it makes volumes and snapshots.
    pub is_controller: bool,
    /// The node it serves, if any.
    pub node: Option<NodeSettings>,
}

/// The node that a process serves.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// What it calls itself.
    pub id: String,
    /// Where it is; a volume of another zone cannot be used on it.
    pub zone: Option<String>,
    /// The folder in which kubelet looks for drivers.
    pub registry: Option<PathBuf>,
}

/// Serves until `stop` ends; says so by `ready` once it can be called.
///
/// # Errors
/// When the pool cannot be opened or a socket cannot be had.
pub async fn serve(
    settings: Settings,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()> + Send,
) -> Result<()> {
    let pool = Pool::open(&settings.image, settings.bytes, &settings.root)?;
    if settings.is_controller {
        let _locked = pool.lock()?;
        pool.sweep()?;
    }
    let faults = Faults::new(settings.faults.clone());
    let name = settings.name.clone();
    let driver = Arc::new(Driver { name, pool, faults: faults.clone() });
    let host = match &settings.node {
        None => None,
        Some(node) => {
            let host = Host::resume(Arc::clone(&driver), node.id.clone(), node.zone.clone())?;
            Some(Arc::new(host))
        }
    };

    let (stopper, stopped) = watch::channel(());
    let wait = |mut stopped: watch::Receiver<()>| async move {
        // It ends with an error when the sender is dropped: that is the sign.
        while stopped.changed().await.is_ok() {}
    };
    let made = |made: bool| made.then(|| controller::Served(Arc::clone(&driver)));
    let main = Server::builder()
        .layer(faults)
        .add_service(IdentityServer::new(Named(settings.name.clone())))
        .add_optional_service(made(settings.is_controller).map(ControllerServer::new))
        .add_optional_service(made(settings.is_controller).map(GroupControllerServer::new))
        .add_optional_service(
            settings
                .is_controller
                .then(|| SnapshotMetadataServer::new(Changes(Arc::clone(&driver)))),
        )
        .add_optional_service(host.map(|host| NodeServer::new(node::Served(host))))
        .serve_with_incoming_shutdown(listen(&settings.endpoint)?, wait(stopped.clone()));
    let main = tokio::spawn(main);

    let registry = settings.node.as_ref().and_then(|node| node.registry.as_ref());
    let card = match registry {
        None => None,
        Some(folder) => {
            let socket = folder.join(format!("{}-reg.sock", settings.name));
            let endpoint = settings.endpoint.to_string_lossy().into_owned();
            let card = RegistrationServer::new(Card { driver: settings.name.clone(), endpoint });
            let server = Server::builder().add_service(card);
            Some((
                tokio::spawn(server.serve_with_incoming_shutdown(listen(&socket)?, wait(stopped))),
                socket,
            ))
        }
    };

    ready();
    stop.await;
    drop(stopper);
    main.await.context("wait for the server")?.context("serve")?;
    if let Some((server, socket)) = card {
        server.await.context("wait for the registration")?.context("serve the registration")?;
        remove(&socket)?;
    }
    remove(&settings.endpoint)?;
    driver.pool.close()
}

/// Listens at a socket; one that a killed process left is replaced.
fn listen(socket: &Path) -> Result<UnixListenerStream> {
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    remove(socket)?;
    let listener = UnixListener::bind(socket);
    let listener = listener.with_context(|| format!("listen at {}", socket.display()))?;
    Ok(UnixListenerStream::new(listener))
}

fn remove(socket: &Path) -> Result<()> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("remove {}", socket.display())),
    }
}
