//! One driver in a cluster: its processes and its sidecars.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::part::{Part, Program, State};
use super::super::place::{self, Place};
use super::super::record::Record;
use super::super::{control, kubeconfig, kubectl, logs, ready, wait};
use super::{objects, programs};

/// How long anything may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first port for changed blocks; each driver of a cluster has one.
const FIRST_PORT: u16 = 50051;

/// Where kubelet looks for drivers, and where drivers have their sockets, in every node.
const REGISTRY: &str = "/var/lib/kubelet/plugins_registry";
const PLUGINS: &str = "/var/lib/kubelet/plugins";

/// The controller of snapshots, which is one for all drivers.
const SNAPSHOTS: &str = "snapshot-controller";

/// A driver of one cluster.
pub(super) struct Driver<'a> {
    pub(super) root: &'a Path,
    pub(super) place: &'a Place,
    pub(super) record: &'a Record,
    pub(super) kubernetes: &'a Path,
    pub(super) name: &'a str,
}

impl Driver<'_> {
    fn at(&self, below: &str) -> PathBuf {
        self.place.at("storage").join(self.name).join(below)
    }

    /// Where its switches for faults are.
    pub(super) fn faults(&self) -> PathBuf {
        self.at("faults.json")
    }

    fn endpoint(&self) -> PathBuf {
        self.at("csi.sock")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.place.at("storage/kubeconfig")
    }

    /// Starts all of it, and waits until every node has it.
    pub(super) fn up(&self, zones: &[String]) -> Result<()> {
        programs::provide(self.root, self.place)?;
        let network = self.record.network;
        kubeconfig::make(self.place, network, "storage", &self.kubeconfig())?;
        place::folder(&self.at("nodes"))?;
        self.definitions()?;
        self.part(SNAPSHOTS, &self.sidecar(SNAPSHOTS, &[]))?;
        self.part(&self.called("controller"), &self.controller())?;
        for (index, node) in self.record.node_names().iter().enumerate() {
            let zone = zones.get(index).or(zones.last()).map_or("one", String::as_str);
            self.part(&format!("{node}-{}", self.name), &self.node(node, zone))?;
        }
        self.served()?;
        for (part, program) in self.sidecars()? {
            self.part(&part, &program)?;
        }
        let address = format!("{}:{}", network.control(), self.port()?);
        let authority = self.place.at("pki/ca.crt");
        let authority =
            std::fs::read(&authority).with_context(|| format!("read {}", authority.display()))?;
        self.apply(&objects::all(self.name, &address, &STANDARD.encode(&authority)))?;
        self.apply(&objects::reader())?;
        for node in self.record.node_names() {
            self.known_to(&node)?;
        }
        ready::none_ended(self.place)?;
        println!(
            "{}: classes {class} and {class}-immediate",
            self.name,
            class = objects::class(self.name)
        );
        Ok(())
    }

    fn called(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    /// Starts a part, or starts it again if it has ended.
    fn part(&self, name: &str, program: &Program) -> Result<()> {
        let there = Part::all(self.place)?.into_iter().find(|(other, _)| other == name);
        match there {
            Some((_, part)) => part.restart(self.place, name),
            None => Part::start(self.place, name, program.clone()).map(drop),
        }
    }

    fn program(&self, machine: &str, program: &str, words: Vec<String>) -> Program {
        let mut argv = vec![programs::path(self.place, program).display().to_string()];
        argv.extend(words);
        Program { machine: machine.to_owned(), called: program.to_owned(), argv }
    }

    /// What all processes of the driver are told.
    fn process(&self, machine: &str, endpoint: &Path) -> Vec<String> {
        let path = |flag: &str, path: PathBuf| format!("--{flag}={}", path.display());
        vec![
            "serve".into(),
            format!("--name={}", self.name),
            path("endpoint", endpoint.to_owned()),
            path("image", self.at("pool.img")),
            path("root", self.at("nodes").join(machine)),
            path("faults", self.faults()),
        ]
    }

    fn controller(&self) -> Program {
        let mut words = self.process(control::MACHINE, &self.endpoint());
        words.push("--controller".into());
        self.program(control::MACHINE, programs::DRIVER, words)
    }

    fn node(&self, node: &str, zone: &str) -> Program {
        let endpoint = Path::new(PLUGINS).join(self.name).join("csi.sock");
        let mut words = self.process(node, &endpoint);
        words.push(format!("--node={node}"));
        words.push(format!("--zone={zone}"));
        words.push(format!("--registry={REGISTRY}"));
        self.program(node, programs::DRIVER, words)
    }

    /// A sidecar with what all of them are told.
    fn sidecar(&self, peer: &str, words: &[String]) -> Program {
        let mut all = vec![format!("--kubeconfig={}", self.kubeconfig().display()), "--v=3".into()];
        all.extend_from_slice(words);
        self.program(control::MACHINE, peer, all)
    }

    fn sidecars(&self) -> Result<Vec<(String, Program)>> {
        let address = format!("--csi-address={}", self.endpoint().display());
        let common = [
            address.clone(),
            "--leader-election=false".into(),
            "--timeout=30s".into(),
            // So that what failed is tried again within the patience of a test.
            "--retry-interval-start=500ms".into(),
            "--retry-interval-max=5s".into(),
            "--kube-api-qps=50".into(),
            "--kube-api-burst=100".into(),
            "--extra-create-metadata".into(),
        ];
        let pki = |file: &str| self.place.at("pki").join(file).display().to_string();
        let changes = [
            address,
            format!("--port={}", self.port()?),
            format!("--tls-cert={}", pki("storage.crt")),
            format!("--tls-key={}", pki("storage.key")),
        ];
        Ok(vec![
            (self.called("provisioner"), self.sidecar("csi-provisioner", &common)),
            (self.called("snapshotter"), self.sidecar("csi-snapshotter", &common)),
            (self.called("changes"), self.sidecar("csi-snapshot-metadata", &changes)),
        ])
    }

    /// The port of its service for changed blocks: chosen once, and written down.
    fn port(&self) -> Result<u16> {
        let file = self.at("port.json");
        if let Some(port) = place::kept(&file)? {
            return Ok(port);
        }
        let folder = self.place.at("storage");
        let mut taken = Vec::new();
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?
        {
            let entry = entry.with_context(|| format!("list {}", folder.display()))?;
            taken.extend(place::kept::<u16>(&entry.path().join("port.json")).unwrap_or_default());
        }
        let port = (FIRST_PORT..).find(|port| !taken.contains(port)).context("find a free port")?;
        place::keep(&file, &port)?;
        Ok(port)
    }

    /// The kinds of object that sidecars watch: they end when one is missing.
    fn definitions(&self) -> Result<()> {
        let folder = self.root.join("testbench/csi/crds").display().to_string();
        self.ask(&["apply", "--server-side", "--force-conflicts", "--filename", &folder])?;
        let wait = ["wait", "--for=condition=Established", "--timeout=30s", "--filename", &folder];
        let waited = kubectl::command(self.kubernetes, self.place).args(wait).output();
        let waited = waited.context("run kubectl wait")?;
        if !waited.status.success() {
            bail!("kubectl wait: {}", String::from_utf8_lossy(&waited.stderr).trim());
        }
        Ok(())
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        kubectl::ask(self.kubernetes, self.place, words)
    }

    fn apply(&self, objects: &Value) -> Result<()> {
        let file = self.at("objects.json");
        place::keep(&file, objects)?;
        let file = file.display().to_string();
        self.ask(&["apply", "--server-side", "--force-conflicts", "--filename", &file]).map(drop)
    }

    /// A part that has ended never answers. Others may have: they are started after it.
    fn lives(&self, part: &str) -> Result<()> {
        if Part::named(self.place, part)?.state() == State::Ended {
            bail!("{part} has ended; the end of its log:\n{}", logs::tail(self.place, part, 12));
        }
        Ok(())
    }

    /// Waits until the controller listens: sidecars give up when it does not.
    fn served(&self) -> Result<()> {
        wait::until(&format!("the driver {}", self.name), PATIENCE, || {
            self.lives(&self.called("controller"))?;
            Ok(match self.endpoint().exists() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue("it does not listen".to_owned()),
            })
        })
    }

    /// Waits until kubelet of a node has said that it knows the driver.
    fn known_to(&self, node: &str) -> Result<()> {
        wait::until(&format!("the driver {} on {node}", self.name), PATIENCE, || {
            self.lives(&format!("{node}-{}", self.name))?;
            let words = ["get", "csinode", node, "--output=jsonpath={.spec.drivers[*].name}"];
            Ok(match self.ask(&words) {
                Ok(said) if said.split(' ').any(|name| name == self.name) => ControlFlow::Break(()),
                Ok(said) => ControlFlow::Continue(format!("kubelet knows: {said}")),
                Err(error) => ControlFlow::Continue(format!("{error:#}")),
            })
        })
    }

    /// Makes the volume of a claim larger, and tells the API server what the resizer tells it.
    pub(super) fn expand(&self, namespace: &str, claim: &str, bytes: u64) -> Result<()> {
        let of_claim = ["get", "pvc", "--namespace", namespace, claim];
        let volume =
            self.ask(&[&of_claim[..], &["--output=jsonpath={.spec.volumeName}"]].concat())?;
        if volume.is_empty() {
            bail!("the claim {namespace}/{claim} has no volume");
        }
        let handle = "--output=jsonpath={.spec.csi.volumeHandle}";
        let handle = self.ask(&["get", "pv", &volume, handle])?;
        let expanded = self.call_expand(&handle, bytes)?;
        let size = expanded.bytes.to_string();
        let wish = json!({"spec": {"resources": {"requests": {"storage": size}}}});
        self.patch(&["pvc", "--namespace", namespace, claim], &wish)?;
        self.patch(&["pv", &volume], &json!({"spec": {"capacity": {"storage": size}}}))?;
        // Kubelet does what is left where the node has a part in it.
        let status = match expanded.node_expansion_required {
            true => json!({
                "allocatedResources": {"storage": size},
                "allocatedResourceStatuses": {"storage": "NodeResizePending"},
            }),
            false => json!({"capacity": {"storage": size}}),
        };
        let of_claim = ["pvc", "--namespace", namespace, claim, "--subresource=status"];
        self.patch(&of_claim, &json!({"status": status}))?;
        println!("{namespace}/{claim}: {size} bytes");
        Ok(())
    }

    fn patch(&self, object: &[&str], change: &Value) -> Result<()> {
        let change = change.to_string();
        let words = [&["patch"], object, &["--type=merge", "--patch", &change]].concat();
        self.ask(&words).map(drop)
    }

    fn call_expand(&self, handle: &str, bytes: u64) -> Result<Expanded> {
        let expanded = Command::new(programs::path(self.place, programs::DRIVER))
            .arg("expand")
            .arg("--endpoint")
            .arg(self.endpoint())
            .args([handle, &bytes.to_string()])
            .stdin(Stdio::null())
            .output()
            .context("call the driver")?;
        if !expanded.status.success() {
            bail!("the driver: {}", String::from_utf8_lossy(&expanded.stderr).trim());
        }
        serde_json::from_slice(&expanded.stdout).context("read what the driver says")
    }
}

/// What the driver says of a volume that it has made larger.
#[derive(Deserialize)]
struct Expanded {
    bytes: i64,
    node_expansion_required: bool,
}
