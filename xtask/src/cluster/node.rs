//! A node: containerd, kubelet and kube-proxy in a machine.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::kubeconfig;
use super::machine::Plan;
use super::network::Network;
use super::part::Program;
use super::place::{self, Place};

/// Where containerd listens, in every node.
pub(super) const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// Settings that kubelet sees to itself, and that are the whole host's.
const SHOWN: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// What a node is made of.
pub(super) struct Node<'a> {
    pub(super) place: &'a Place,
    pub(super) network: Network,
    /// From 1.
    pub(super) number: u8,
    pub(super) kubernetes: &'a Path,
}

impl Node<'_> {
    /// The node's name, and the machine's.
    pub(super) fn name(&self) -> String {
        format!("node{}", self.number)
    }

    /// The folders of the cluster that are at the usual places in the node.
    pub(super) fn binds(&self) -> Vec<(PathBuf, PathBuf)> {
        ["lib/containerd", "lib/kubelet", "log/pods", "log/containers"]
            .map(|below| (self.at(below), Path::new("/var").join(below)))
            .into()
    }

    /// Files that only this node has.
    pub(super) fn files(&self) -> Vec<(PathBuf, String)> {
        let resolver = format!("nameserver {}\n", self.network.control());
        let hosts = format!("127.0.0.1 localhost\n{} {}\n", self.address(), self.name());
        [
            ("/etc/cni/net.d/10-bench.conflist", self.links().to_string()),
            ("/etc/containerd/config.toml", containerd()),
            ("/etc/resolv.conf", resolver),
            ("/etc/hosts", hosts),
        ]
        .map(|(path, text)| (PathBuf::from(path), text))
        .into()
    }

    /// What the kernel must allow for pods and services.
    pub(super) fn settings() -> Vec<(String, String)> {
        vec![("net/ipv4/ip_forward".into(), "1".into())]
    }

    /// Adds what is the node's to the plan of its machine.
    pub(super) fn plan(&self, plan: &mut Plan) -> Result<()> {
        for (folder, _) in self.binds() {
            place::folder(&folder)?;
        }
        plan.hostname = self.name();
        plan.binds = self.binds();
        plan.files = self.files();
        plan.settings = Self::settings();
        plan.shown = SHOWN.map(|(path, value)| (path.to_owned(), value.to_owned())).into();
        Ok(())
    }

    /// Writes the files that its parts read.
    pub(super) fn prepare(&self) -> Result<()> {
        let name = self.name();
        kubeconfig::make(self.place, self.network, &name, &self.at("kubelet.kubeconfig"))?;
        kubeconfig::make(self.place, self.network, "proxy", &self.at("proxy.kubeconfig"))?;
        place::write(&self.at("kubelet.config"), &self.kubelet_configuration().to_string())?;
        place::write(&self.at("proxy.config"), &self.proxy_configuration().to_string())
    }

    /// Its parts, in the order in which they are started.
    pub(super) fn parts(&self) -> Vec<(String, Program)> {
        let name = |part: &str| format!("{}-{part}", self.name());
        let containerd = ["/usr/bin/containerd", "--config", "/etc/containerd/config.toml"];
        let kubelet = [
            format!("--config={}", self.at("kubelet.config").display()),
            format!("--kubeconfig={}", self.at("kubelet.kubeconfig").display()),
            format!("--hostname-override={}", self.name()),
            format!("--node-ip={}", self.address()),
        ];
        let proxy = [format!("--config={}", self.at("proxy.config").display())];
        vec![
            (name("containerd"), self.part("containerd", containerd.map(str::to_owned).into())),
            (name("kubelet"), self.kubernetes_part("kubelet", &kubelet)),
            (name("proxy"), self.kubernetes_part("kube-proxy", &proxy)),
        ]
    }

    fn kubernetes_part(&self, called: &str, words: &[String]) -> Program {
        let mut argv = vec![self.kubernetes.display().to_string()];
        argv.extend_from_slice(words);
        self.part(called, argv)
    }

    fn part(&self, called: &str, argv: Vec<String>) -> Program {
        Program { machine: self.name(), called: called.into(), argv }
    }

    fn address(&self) -> String {
        self.network.node(self.number).to_string()
    }

    fn at(&self, below: &str) -> PathBuf {
        self.place.at(&self.name()).join(below)
    }

    fn links(&self) -> serde_json::Value {
        json!({
            "cniVersion": "0.4.0",
            "name": "bench",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": true,
                    "hairpinMode": true,
                    "ipMasq": false,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": self.network.pods(self.number)}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        })
    }

    /// The groups of kubelet's own are off: there may be controllers that this host does not have.
    fn kubelet_configuration(&self) -> serde_json::Value {
        let pki = |file: String| self.place.at("pki").join(file);
        let socket = format!("unix://{CONTAINERD}");
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address(),
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": pki("ca.crt".into())},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": false,
            "clusterDNS": [self.network.control()],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": socket,
            "enforceNodeAllocatable": [],
            "evictionHard": {
                "imagefs.available": "1%",
                "memory.available": "50Mi",
                "nodefs.available": "1%",
                "nodefs.inodesFree": "1%",
            },
            "failCgroupV1": false,
            "failSwapOn": false,
            "imageGCHighThresholdPercent": 99,
            "imageGCLowThresholdPercent": 98,
            "registerNode": true,
            "resolvConf": "/etc/resolv.conf",
            "tlsCertFile": pki(format!("{}.crt", self.name())),
            "tlsPrivateKeyFile": pki(format!("{}.key", self.name())),
        })
    }

    /// What asks from outside the pods' network is told to answer by way of the node: this host
    /// and the control machine call services by way of the first node.
    fn proxy_configuration(&self) -> serde_json::Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": self.at("proxy.kubeconfig")},
            "clusterCIDR": self.network.all_pods(),
            "hostnameOverride": self.name(),
            "healthzBindAddress": "",
            "metricsBindAddress": "127.0.0.1:10249",
            // These are settings of the whole host, which are not ours to change.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpCloseWaitTimeout": "0s",
                "tcpEstablishedTimeout": "0s",
            },
        })
    }
}

fn containerd() -> String {
    let pause = super::images::reference("pause");
    format!(
        r#"version = 2
oom_score = 0

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# A lower value than our own is not for everyone to set.
restrict_oom_score_adj = true
disable_apparmor = true
device_ownership_from_security_context = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
"#
    )
}
