//! The driver as a program: `serve` it, or `expand` a volume of one that is served.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test tool speaks to the person who runs it"
)]

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use alidade_csi::serve::{NodeSettings, Settings, serve};
use alidade_csi::wire::csi::controller_client::ControllerClient;
use alidade_csi::wire::csi::{CapacityRange, ControllerExpandVolumeRequest};
use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tokio::io::AsyncReadExt;
use tonic::transport::Endpoint;

#[derive(Parser)]
#[command(name = "alidade-csi", about = "A CSI driver for tests: btrfs on a loop device")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve the controller, a node, or both, until a signal comes
    Serve(Serve),
    /// Make a volume larger, as the official resizer would ask for it; prints what the driver says
    Expand(Expand),
}

#[derive(clap::Args)]
struct Serve {
    /// The driver's name
    #[arg(long, default_value = "btrfs.alidade.test")]
    name: String,
    /// The socket
    #[arg(long)]
    endpoint: PathBuf,
    /// The file that holds all volumes; made where there is none
    #[arg(long)]
    image: PathBuf,
    /// How many bytes a new image has; they are used as they are written
    #[arg(long, default_value_t = 64 << 30)]
    bytes: u64,
    /// Where the image is mounted
    #[arg(long)]
    root: PathBuf,
    /// The file with switches for faults; it need not be there
    #[arg(long)]
    faults: Option<PathBuf>,
    /// Make volumes and snapshots
    #[arg(long)]
    controller: bool,
    /// Serve volumes on the node of this name
    #[arg(long)]
    node: Option<String>,
    /// The node's zone
    #[arg(long, requires = "node")]
    zone: Option<String>,
    /// The folder in which kubelet looks for drivers
    #[arg(long, requires = "node")]
    registry: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Expand {
    /// The socket of the controller
    #[arg(long)]
    endpoint: PathBuf,
    /// The volume's handle
    volume: String,
    /// How many bytes it will have at least
    bytes: i64,
}

fn main() -> ExitCode {
    let verb = Arguments::parse().verb;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.context("start a runtime").and_then(|runtime| match verb {
        Verb::Serve(arguments) => runtime.block_on(run(arguments)),
        Verb::Expand(arguments) => runtime.block_on(expand(arguments)),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Serve) -> Result<()> {
    if !arguments.controller && arguments.node.is_none() {
        bail!("there is nothing to serve: say --controller, --node NAME or both");
    }
    let (zone, registry) = (arguments.zone, arguments.registry);
    let settings = Settings {
        name: arguments.name,
        endpoint: arguments.endpoint,
        image: arguments.image,
        bytes: arguments.bytes,
        root: arguments.root,
        faults: arguments.faults,
        is_controller: arguments.controller,
        node: arguments.node.map(|id| NodeSettings { id, zone, registry }),
    };
    let (mut signals, writer) = UnixStream::pair()
        .and_then(|(reader, writer)| {
            reader.set_nonblocking(true)?;
            Ok((tokio::net::UnixStream::from_std(reader)?, writer))
        })
        .context("make a pipe for signals")?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        let writer = writer.try_clone().context("make a pipe for signals")?;
        signal_hook::low_level::pipe::register(signal, writer).context("wait for signals")?;
    }
    let said = format!("serving {} at {}", settings.name, settings.endpoint.display());
    serve(settings, || println!("{said}"), async move {
        // A byte, or an end, which cannot come: both mean to stop.
        drop(signals.read_u8().await);
    })
    .await
}

async fn expand(arguments: Expand) -> Result<()> {
    let address = format!("unix:{}", arguments.endpoint.display());
    let endpoint = Endpoint::try_from(address).context("read the address of the driver")?;
    let channel = endpoint.connect().await;
    let channel =
        channel.with_context(|| format!("connect to {}", arguments.endpoint.display()))?;
    let range = CapacityRange { required_bytes: arguments.bytes, limit_bytes: 0 };
    let request = ControllerExpandVolumeRequest {
        volume_id: arguments.volume,
        capacity_range: Some(range),
        ..ControllerExpandVolumeRequest::default()
    };
    let answer = ControllerClient::new(channel).controller_expand_volume(request).await;
    let answer =
        answer.map_err(|status| anyhow::anyhow!("{:?}: {}", status.code(), status.message()));
    let answer = answer.context("expand the volume")?.into_inner();
    let (bytes, node) = (answer.capacity_bytes, answer.node_expansion_required);
    println!("{}", serde_json::json!({"bytes": bytes, "node_expansion_required": node}));
    Ok(())
}
