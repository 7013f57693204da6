//! The control machine: the store, the API server, the controllers, the scheduler and the DNS.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use super::kubeconfig;
use super::network::Network;
use super::part::Program;
use super::place::{self, Place};

/// The name of the machine.
pub(super) const MACHINE: &str = "control";

/// Where the API server notes who asked what.
pub(super) const AUDIT: &str = "audit.log";

/// What the control machine is made of.
pub(super) struct Control<'a> {
    pub(super) place: &'a Place,
    pub(super) network: Network,
    /// Kubernetes and its store in one binary.
    pub(super) kubernetes: &'a Path,
    pub(super) coredns: &'a Path,
}

impl Control<'_> {
    /// Writes the files that its parts read.
    pub(super) fn prepare(&self) -> Result<()> {
        for who in ["controller-manager", "scheduler", "dns"] {
            kubeconfig::make(self.place, self.network, who, &self.kubeconfig(who))?;
        }
        kubeconfig::make(self.place, self.network, "admin", &self.place.kubeconfig())?;
        // One line for each answer, so that requests can be counted by user and verb.
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata"}],
        });
        place::write(&self.place.at("control/audit-policy"), &policy.to_string())?;
        place::write(&self.place.at("control/Corefile"), &self.corefile())
    }

    /// Its parts, in the order in which they are started.
    pub(super) fn parts(&self) -> Vec<(&'static str, Program)> {
        vec![
            ("etcd", self.part("etcd", self.etcd())),
            ("apiserver", self.part("kube-apiserver", self.apiserver())),
            ("controller-manager", self.part("kube-controller-manager", self.controllers())),
            ("scheduler", self.part("kube-scheduler", self.scheduler())),
            ("dns", self.dns()),
        ]
    }

    fn part(&self, called: &str, words: Vec<String>) -> Program {
        let mut argv = vec![self.kubernetes.display().to_string()];
        argv.extend(words);
        Program { machine: MACHINE.into(), called: called.into(), argv }
    }

    fn etcd(&self) -> Vec<String> {
        vec![
            format!("--data-dir={}", self.place.at("etcd").display()),
            "--listen-client-urls=http://127.0.0.1:2379".into(),
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            // What is in it lives no longer than this host does.
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
        ]
    }

    fn apiserver(&self) -> Vec<String> {
        let pki = |file: &str| self.pki(file);
        let address = self.network.control();
        vec![
            format!("--advertise-address={address}"),
            "--bind-address=0.0.0.0".into(),
            "--secure-port=6443".into(),
            "--allow-privileged=true".into(),
            "--authorization-mode=Node,RBAC".into(),
            "--etcd-servers=http://127.0.0.1:2379".into(),
            format!("--client-ca-file={}", pki("ca.crt")),
            format!("--tls-cert-file={}", pki("apiserver.crt")),
            format!("--tls-private-key-file={}", pki("apiserver.key")),
            "--kubelet-preferred-address-types=InternalIP".into(),
            format!("--kubelet-certificate-authority={}", pki("ca.crt")),
            format!("--kubelet-client-certificate={}", pki("apiserver-kubelet.crt")),
            format!("--kubelet-client-key={}", pki("apiserver-kubelet.key")),
            format!("--requestheader-client-ca-file={}", pki("ca.crt")),
            "--requestheader-allowed-names=front-proxy".into(),
            "--requestheader-username-headers=X-Remote-User".into(),
            "--requestheader-group-headers=X-Remote-Group".into(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
            format!("--proxy-client-cert-file={}", pki("front-proxy.crt")),
            format!("--proxy-client-key-file={}", pki("front-proxy.key")),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            format!("--service-account-key-file={}", pki("accounts.pub")),
            format!("--service-account-signing-key-file={}", pki("accounts.key")),
            format!("--service-cluster-ip-range={}", self.network.services()),
            format!("--audit-policy-file={}", self.place.at("control/audit-policy").display()),
            format!("--audit-log-path={}", self.place.at(AUDIT).display()),
            // The whole log stays in one file.
            "--audit-log-maxsize=10000".into(),
        ]
    }

    fn controllers(&self) -> Vec<String> {
        let kubeconfig = self.kubeconfig("controller-manager");
        vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            "--leader-elect=false".into(),
            "--use-service-account-credentials=true".into(),
            "--allocate-node-cidrs=false".into(),
            format!("--root-ca-file={}", self.pki("ca.crt")),
            format!("--service-account-private-key-file={}", self.pki("accounts.key")),
            "--bind-address=127.0.0.1".into(),
        ]
    }

    fn scheduler(&self) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", self.kubeconfig("scheduler").display()),
            "--leader-elect=false".into(),
            "--bind-address=127.0.0.1".into(),
        ]
    }

    fn dns(&self) -> Program {
        let file = self.place.at("control/Corefile");
        let argv = [self.coredns.display().to_string(), "-conf".into(), file.display().to_string()];
        Program { machine: MACHINE.into(), called: "coredns".into(), argv: argv.into() }
    }

    /// Names of the cluster are answered; all others are not there, for nothing leads outside.
    fn corefile(&self) -> String {
        let (address, kubeconfig) = (self.network.control(), self.kubeconfig("dns"));
        format!(
            "cluster.local in-addr.arpa {{
    bind {address}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {}
        ttl 5
    }}
}}
. {{
    bind {address}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
",
            kubeconfig.display()
        )
    }

    fn kubeconfig(&self, who: &str) -> std::path::PathBuf {
        self.place.at(&format!("control/{who}.kubeconfig"))
    }

    fn pki(&self, file: &str) -> String {
        self.place.at("pki").join(file).display().to_string()
    }
}
