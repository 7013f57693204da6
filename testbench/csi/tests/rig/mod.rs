//! A driver in a mount namespace of its own: whatever happens to a test, nothing stays mounted.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alidade_csi::wire::csi::controller_client::ControllerClient;
use alidade_csi::wire::csi::group_controller_client::GroupControllerClient;
use alidade_csi::wire::csi::node_client::NodeClient;
use alidade_csi::wire::csi::snapshot_metadata_client::SnapshotMetadataClient;
use alidade_csi::wire::csi::volume_capability::access_mode::Mode;
use alidade_csi::wire::csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use alidade_csi::wire::csi::*;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

pub(crate) const MIB: i64 = 1 << 20;

/// A namespace with drivers in it.
pub(crate) struct Rig {
    pub(crate) folder: tempfile::TempDir,
    keeper: Child,
    runtime: tokio::runtime::Runtime,
}

/// A driver that runs.
pub(crate) struct Driver {
    process: Child,
    pub(crate) endpoint: PathBuf,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut keeper = Command::new("unshare")
            .args(["--mount", "--propagation", "private"])
            .args(["sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(keeper.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "these tests need root");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        Self { folder, keeper, runtime }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A path as it is seen from the namespace.
    pub(crate) fn inside(&self, path: &Path) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.keeper.id())).join(path.strip_prefix("/").unwrap())
    }

    /// A command that runs in the namespace, and ends with the test.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id()))
            .args(["setpriv", "--pdeathsig", "KILL"])
            .arg(program);
        command
    }

    /// Starts a driver on the image `image`, with more arguments.
    pub(crate) fn start(&self, image: &str, more: &[&str]) -> Driver {
        self.start_as(image, "driver", more)
    }

    pub(crate) fn start_as(&self, image: &str, socket: &str, more: &[&str]) -> Driver {
        let endpoint = self.path(&format!("{socket}.sock"));
        let mut process = self
            .command(env!("CARGO_BIN_EXE_alidade-csi"))
            .arg("serve")
            .arg("--endpoint")
            .arg(&endpoint)
            .arg("--image")
            .arg(self.path(&format!("{image}.img")))
            .arg("--root")
            .arg(self.path(&format!("{socket}-pool")))
            .arg("--faults")
            .arg(self.path("faults.json"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("serving "), "the driver did not start: {line}");
        Driver { process, endpoint }
    }

    /// A driver that is controller and node `n1`.
    pub(crate) fn whole(&self) -> Driver {
        self.start("pool", &["--controller", "--node", "n1", "--zone", "z1"])
    }

    /// Sets the switches for faults.
    pub(crate) fn faults(&self, text: &str) {
        fs::write(self.path("faults.new"), text).unwrap();
        fs::rename(self.path("faults.new"), self.path("faults.json")).unwrap();
    }

    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(crate) fn channel(&self, driver: &Driver) -> Channel {
        let address = format!("unix:{}", driver.endpoint.display());
        self.wait(Endpoint::try_from(address).unwrap().connect()).unwrap()
    }

    pub(crate) fn client(&self, driver: &Driver) -> Client<'_> {
        Client { rig: self, channel: self.channel(driver) }
    }

    /// The loop devices of an image and of everything in it.
    pub(crate) fn loops(&self) -> Vec<String> {
        let said = Command::new("losetup").args(["--list", "-n", "-O", "NAME,BACK-FILE"]).output();
        let said = String::from_utf8(said.unwrap().stdout).unwrap();
        let ours = self.folder.path().to_str().unwrap();
        said.lines().filter(|line| line.contains(ours)).map(str::to_owned).collect()
    }

    /// Waits until no loop device is left.
    pub(crate) fn no_loops(&self) {
        for _ in 0..100 {
            if self.loops().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("loop devices are left: {:?}", self.loops());
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

impl Driver {
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks it to stop, and sees it end well.
    pub(crate) fn stop(mut self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").arg(&id).status().unwrap().success());
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How a volume is wanted.
pub(crate) fn wanted(kind: &str, mode: Mode) -> VolumeCapability {
    let access_type = match kind {
        "block" => AccessType::Block(BlockVolume {}),
        _ => AccessType::Mount(MountVolume::default()),
    };
    let access_mode = Some(AccessMode { mode: mode.into() });
    VolumeCapability { access_type: Some(access_type), access_mode }
}

pub(crate) fn creation(name: &str, kind: &str, bytes: i64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        volume_capabilities: vec![wanted(kind, Mode::SingleNodeWriter)],
        ..CreateVolumeRequest::default()
    }
}

pub(crate) fn from_snapshot(id: &str) -> Option<VolumeContentSource> {
    let source = volume_content_source::SnapshotSource { snapshot_id: id.into() };
    Some(VolumeContentSource { r#type: Some(volume_content_source::Type::Snapshot(source)) })
}

pub(crate) fn from_volume(id: &str) -> Option<VolumeContentSource> {
    let source = volume_content_source::VolumeSource { volume_id: id.into() };
    Some(VolumeContentSource { r#type: Some(volume_content_source::Type::Volume(source)) })
}

/// Calls of one driver, in short.
#[derive(Clone)]
pub(crate) struct Client<'a> {
    pub(crate) rig: &'a Rig,
    pub(crate) channel: Channel,
}

impl Client<'_> {
    pub(crate) fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel.clone())
    }

    pub(crate) fn groups(&self) -> GroupControllerClient<Channel> {
        GroupControllerClient::new(self.channel.clone())
    }

    pub(crate) fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel.clone())
    }

    pub(crate) fn changes(&self) -> SnapshotMetadataClient<Channel> {
        SnapshotMetadataClient::new(self.channel.clone())
    }

    pub(crate) fn create(&self, request: CreateVolumeRequest) -> Result<Volume, Code> {
        let made = self.rig.wait(self.controller().create_volume(request));
        made.map(|made| made.into_inner().volume.unwrap()).map_err(|status| code(&status))
    }

    pub(crate) fn volume(&self, name: &str, kind: &str, bytes: i64) -> String {
        self.create(creation(name, kind, bytes)).unwrap().volume_id
    }

    pub(crate) fn copy(
        &self,
        name: &str,
        kind: &str,
        source: Option<VolumeContentSource>,
    ) -> String {
        let mut request = creation(name, kind, 0);
        request.volume_content_source = source;
        self.create(request).unwrap().volume_id
    }

    pub(crate) fn delete(&self, volume: &str) -> Result<(), Code> {
        let request = DeleteVolumeRequest { volume_id: volume.into(), ..Default::default() };
        let deleted = self.rig.wait(self.controller().delete_volume(request));
        deleted.map(drop).map_err(|status| code(&status))
    }

    pub(crate) fn snapshot(&self, name: &str, volume: &str) -> Result<Snapshot, Code> {
        let request = CreateSnapshotRequest {
            name: name.into(),
            source_volume_id: volume.into(),
            ..Default::default()
        };
        let taken = self.rig.wait(self.controller().create_snapshot(request));
        taken.map(|taken| taken.into_inner().snapshot.unwrap()).map_err(|status| code(&status))
    }

    pub(crate) fn delete_snapshot(&self, id: &str) -> Result<(), Code> {
        let request = DeleteSnapshotRequest { snapshot_id: id.into(), ..Default::default() };
        let deleted = self.rig.wait(self.controller().delete_snapshot(request));
        deleted.map(drop).map_err(|status| code(&status))
    }

    pub(crate) fn volumes(&self) -> Vec<String> {
        let listed = self.rig.wait(self.controller().list_volumes(ListVolumesRequest::default()));
        let entries = listed.unwrap().into_inner().entries;
        entries.into_iter().map(|entry| entry.volume.unwrap().volume_id).collect()
    }

    pub(crate) fn snapshots(&self) -> Vec<Snapshot> {
        let request = ListSnapshotsRequest::default();
        let listed = self.rig.wait(self.controller().list_snapshots(request)).unwrap();
        listed.into_inner().entries.into_iter().map(|entry| entry.snapshot.unwrap()).collect()
    }

    fn staging(&self, volume: &str) -> String {
        self.rig.path(&format!("staging-{volume}")).to_str().unwrap().to_owned()
    }

    pub(crate) fn target(&self, volume: &str) -> PathBuf {
        self.rig.path(&format!("target-{volume}"))
    }

    pub(crate) fn stage(&self, volume: &str, kind: &str) -> Result<(), Code> {
        let staging = self.staging(volume);
        fs::create_dir_all(&staging).unwrap();
        let request = NodeStageVolumeRequest {
            volume_id: volume.into(),
            staging_target_path: staging,
            volume_capability: Some(wanted(kind, Mode::SingleNodeWriter)),
            ..Default::default()
        };
        let staged = self.rig.wait(self.node().node_stage_volume(request));
        staged.map(drop).map_err(|status| code(&status))
    }

    pub(crate) fn publication(&self, volume: &str, kind: &str) -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: volume.into(),
            staging_target_path: self.staging(volume),
            target_path: self.target(volume).to_str().unwrap().to_owned(),
            volume_capability: Some(wanted(kind, Mode::SingleNodeWriter)),
            ..Default::default()
        }
    }

    pub(crate) fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), Code> {
        let published = self.rig.wait(self.node().node_publish_volume(request));
        published.map(drop).map_err(|status| code(&status))
    }

    /// Stages and publishes, and gives the place as it can be reached from here.
    pub(crate) fn mount(&self, volume: &str, kind: &str) -> PathBuf {
        self.stage(volume, kind).unwrap();
        self.publish(self.publication(volume, kind)).unwrap();
        self.rig.inside(&self.target(volume))
    }

    pub(crate) fn unmount(&self, volume: &str) {
        let request = NodeUnpublishVolumeRequest {
            volume_id: volume.into(),
            target_path: self.target(volume).to_str().unwrap().to_owned(),
        };
        self.rig.wait(self.node().node_unpublish_volume(request)).unwrap();
        let request = NodeUnstageVolumeRequest {
            volume_id: volume.into(),
            staging_target_path: self.staging(volume),
        };
        self.rig.wait(self.node().node_unstage_volume(request)).unwrap();
    }

    pub(crate) fn expand(&self, volume: &str, bytes: i64) -> ControllerExpandVolumeResponse {
        let request = ControllerExpandVolumeRequest {
            volume_id: volume.into(),
            capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            ..Default::default()
        };
        self.rig.wait(self.controller().controller_expand_volume(request)).unwrap().into_inner()
    }
}

pub(crate) fn code(status: &Status) -> Code {
    status.code()
}
