//! Storage of a cluster: claims, snapshots, clones, groups, expansion, changed blocks, faults.
//!
//! Two clusters are made, one after the other, as root: `./test cluster`. What is proved in each of
//! them is a function of its own, with namespaces of its own.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]
#![allow(clippy::disallowed_methods, reason = "a test measures real time")]

mod rig;

use std::path::Path;
use std::time::{Duration, Instant};

use rig::{Cluster, Ended, Traces, ended, pod, xtask};
use serde_json::{Value, json};

const DRIVER: &str = "btrfs.alidade.test";
const CLASS: &str = "btrfs-alidade-test";
const OTHER: &str = "other.alidade.test";
const OTHER_CLASS: &str = "other-alidade-test";

/// How long anything may take.
const SHORT: Duration = Duration::from_secs(90);

/// A namespace of a cluster, and what tests do in it.
struct Space<'a> {
    cluster: &'a Cluster,
    name: &'static str,
}

impl<'a> Space<'a> {
    fn new(cluster: &'a Cluster, name: &'static str) -> Self {
        cluster.kubectl(&["create", "namespace", name]);
        let space = Self { cluster, name };
        cluster.until("the account of pods", SHORT, || {
            space.get("serviceaccount", "default", "{.metadata.name}").map(drop)
        });
        space
    }

    fn apply(&self, mut object: Value) {
        object["metadata"]["namespace"] = self.name.into();
        self.cluster.apply(&object);
    }

    /// A field of an object, or why there is none.
    fn get(&self, kind: &str, name: &str, path: &str) -> Result<String, String> {
        let output = format!("--output=jsonpath={path}");
        let words = ["kubectl", "get", kind, name, "--namespace", self.name, &output];
        let ended = self.cluster.run(&words);
        if ended.status.success() { Ok(ended.said) } else { Err(ended.errors) }
    }

    /// Waits until a field of an object has this value.
    #[track_caller]
    fn until(&self, kind: &str, name: &str, path: &str, value: &str) {
        self.cluster.until(&format!("{kind} {name} {path} {value}"), SHORT, || {
            match self.get(kind, name, path)? {
                said if said == value => Ok(()),
                said => Err(said),
            }
        });
    }

    /// Asks for a volume: of a class, in a mode, of a source.
    fn claim(&self, name: &str, class: &str, mode: &str, source: Option<(&str, &str)>) {
        let mut claim = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "labels": {"group": name}},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "volumeMode": mode,
                "storageClassName": class,
                "resources": {"requests": {"storage": "64Mi"}},
            },
        });
        if let Some((kind, of)) = source {
            let group = (kind == "VolumeSnapshot").then_some("snapshot.storage.k8s.io");
            claim["spec"]["dataSource"] = json!({"kind": kind, "name": of, "apiGroup": group});
        }
        self.apply(claim);
    }

    /// A pod that has claims: trees at /NAME, devices at /dev/NAME.
    #[track_caller]
    fn pod(&self, name: &str, claims: &[&str]) {
        self.pod_on(name, claims, None);
        self.ready(name);
    }

    fn pod_on(&self, name: &str, claims: &[&str], zone: Option<&str>) {
        let mut object = pod(name, None, "sleep 3600");
        if let Some(zone) = zone {
            let label = format!("topology.{OTHER}/zone");
            object["spec"]["nodeSelector"] = json!({label: zone});
        }
        let is_raw =
            |claim: &&&str| self.get("pvc", claim, "{.spec.volumeMode}").unwrap() == "Block";
        let (raw, trees): (Vec<_>, Vec<_>) = claims.iter().partition(is_raw);
        let volume =
            |claim: &&str| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
        let mount = |claim: &&str| json!({"name": claim, "mountPath": format!("/{claim}")});
        let device = |claim: &&str| json!({"name": claim, "devicePath": format!("/dev/{claim}")});
        object["spec"]["volumes"] = claims.iter().map(volume).collect();
        let main = &mut object["spec"]["containers"][0];
        main["volumeMounts"] = trees.iter().map(mount).collect();
        main["volumeDevices"] = raw.iter().map(device).collect();
        self.apply(object);
    }

    #[track_caller]
    fn ready(&self, pod: &str) {
        self.until("pod", pod, "{.status.conditions[?(@.type==\"Ready\")].status}", "True");
    }

    fn try_inside(&self, pod: &str, line: &str) -> Ended {
        let words = ["kubectl", "exec", pod, "--namespace", self.name, "--", "sh", "-c", line];
        self.cluster.run(&words)
    }

    #[track_caller]
    fn inside(&self, pod: &str, line: &str) -> String {
        self.try_inside(pod, line).good()
    }

    fn remove(&self, kind: &str, name: &str) {
        let words = ["delete", kind, name, "--namespace", self.name, "--timeout=90s"];
        self.cluster.kubectl(&words);
    }

    fn snapshot(&self, name: &str, claim: &str, class: &str) {
        self.apply(json!({
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshot",
            "metadata": {"name": name},
            "spec": {
                "volumeSnapshotClassName": class,
                "source": {"persistentVolumeClaimName": claim},
            },
        }));
    }

    #[track_caller]
    fn snapshot_ready(&self, name: &str) {
        self.until("volumesnapshot", name, "{.status.readyToUse}", "true");
    }
}

/// Builds what storage is made of, so that no limit is for that.
fn build() {
    let mut command = xtask();
    command.args(["peers", "csi-provisioner", "csi-snapshotter", "snapshot-controller"]);
    command.args(["csi-snapshot-metadata", "snapshot-metadata-lister"]);
    ended(&mut command, "", Duration::from_secs(40 * 60)).good();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    command.args(["build", "--locked", "--package", "alidade-csi"]);
    ended(&mut command, "", Duration::from_secs(40 * 60)).good();
}

fn says(what: &str, begun: Instant) {
    println!("{:>6.1} s  {what}", begun.elapsed().as_secs_f64());
}

#[test]
fn claims_snapshots_clones_groups_expansion_and_changed_blocks() {
    build();
    let cluster = Cluster::up("t-storage", 1);
    let begun = Instant::now();
    let up = cluster.run(&["storage", "up"]);
    assert!(up.good().contains(CLASS));
    says("storage", begun);
    // Again changes nothing.
    let parts = cluster.status()["parts"].clone();
    cluster.run(&["storage", "up"]).good();
    assert_eq!(cluster.status()["parts"], parts);
    type Proof = fn(&Cluster);
    let proofs: [(&str, Proof); 8] = [
        ("a tree is restored and cloned", a_tree_is_restored_and_cloned),
        ("a raw volume is restored, and its changes are known", a_raw_volume_and_its_changes),
        ("a group", a_group_is_taken_whole),
        ("expansion", volumes_grow_while_they_are_used),
        ("local and hostPath volumes", local_and_host_volumes),
        ("an ephemeral volume is refused", an_ephemeral_volume_is_refused),
        ("a driver that was killed goes on", a_killed_driver_goes_on),
        ("deletion", what_is_deleted_is_gone),
    ];
    for (what, proof) in proofs {
        let begun = Instant::now();
        proof(&cluster);
        says(what, begun);
    }
    let traces = Traces::of(&cluster);
    cluster.run(&["down"]).good();
    traces.gone();
}

fn a_tree_is_restored_and_cloned(cluster: &Cluster) {
    let space = Space::new(cluster, "tree");
    space.claim("data", CLASS, "Filesystem", None);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(space.get("pvc", "data", "{.status.phase}").unwrap(), "Pending", "it waits");
    space.pod("writer", &["data"]);
    assert_eq!(space.get("pvc", "data", "{.status.phase}").unwrap(), "Bound");
    space.inside("writer", "echo before >/data/a && sync");
    space.snapshot("s", "data", CLASS);
    space.snapshot_ready("s");
    space.inside("writer", "echo after >/data/a && sync");
    space.claim("restored", CLASS, "Filesystem", Some(("VolumeSnapshot", "s")));
    space.claim("clone", CLASS, "Filesystem", Some(("PersistentVolumeClaim", "data")));
    space.pod("reader", &["restored", "clone"]);
    assert_eq!(space.inside("reader", "cat /restored/a /clone/a"), "before\nafter\n");
    // It is as large as was asked for.
    let full = space.try_inside("writer", "dd if=/dev/zero of=/data/big bs=1M count=80");
    assert!(!full.status.success(), "80 MiB fit 64 MiB");
}

fn a_raw_volume_and_its_changes(cluster: &Cluster) {
    let space = Space::new(cluster, "raw");
    space.claim("disk", CLASS, "Block", None);
    space.pod("writer", &["disk"]);
    let write = |text: &str, mib: u32| {
        let line = format!(
            "yes {text} | head -c 65536 | dd of=/dev/disk bs=64k seek={} conv=notrunc,fsync",
            mib * 16
        );
        space.inside("writer", &line);
    };
    write("first", 1);
    write("second", 5);
    space.snapshot("base", "disk", CLASS);
    space.snapshot_ready("base");
    write("third", 5);
    write("fourth", 9);
    space.snapshot("later", "disk", CLASS);
    space.snapshot_ready("later");
    space.claim("restored", CLASS, "Block", Some(("VolumeSnapshot", "base")));
    space.claim("clone", CLASS, "Block", Some(("PersistentVolumeClaim", "disk")));
    space.pod("reader", &["restored", "clone"]);
    let read = |device: &str, mib: u32| {
        let line =
            format!("dd if=/dev/{device} bs=64k skip={} count=1 2>/dev/null | head -n 1", mib * 16);
        space.inside("reader", &line)
    };
    assert_eq!((read("restored", 1), read("restored", 5)), ("first\n".into(), "second\n".into()));
    assert_eq!((read("clone", 5), read("clone", 9)), ("third\n".into(), "fourth\n".into()));
    changes_are_told_in_the_cluster(&space);
}

/// The official client, in a pod, asks the official sidecar, with a token for its audience.
fn changes_are_told_in_the_cluster(space: &Space<'_>) {
    let mut command = xtask();
    command.args(["peers", "snapshot-metadata-lister"]);
    let lister = ended(&mut command, "", SHORT).good();
    let lister = Path::new(lister.trim());
    space.apply(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "reader"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "snapshot-metadata-reader",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": space.name}],
    }));
    // Who vouches for the service is written where everybody may read it.
    space.cluster.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("reader-of-{}", space.name)},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": "snapshot-metadata-reader",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": space.name}],
    }));
    space.apply(json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"},
    }));
    // By a hostPath volume: that is one more kind of volume.
    let mut object = pod("lister", None, "sleep 3600");
    object["spec"]["serviceAccountName"] = "reader".into();
    object["spec"]["volumes"] =
        json!([{"name": "tool", "hostPath": {"path": lister.parent(), "type": "Directory"}}]);
    object["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "tool", "mountPath": "/tool", "readOnly": true}]);
    space.apply(object);
    space.ready("lister");
    let ask = |words: &str| {
        let line = format!(
            "/tool/snapshot-metadata-lister -namespace {} {words} -output-format json",
            space.name
        );
        space.inside("lister", &line)
    };
    let offsets = |said: &str| -> Vec<u64> {
        let mut found = Vec::new();
        for piece in said.split("\"byte_offset\":").skip(1) {
            let digits: String =
                piece.trim_start().chars().take_while(char::is_ascii_digit).collect();
            found.push(digits.parse::<u64>().unwrap() >> 20);
        }
        found
    };
    let said = ask("-snapshot base");
    assert_eq!(offsets(&said), [1, 5], "{said}");
    let said = ask("-snapshot later -previous-snapshot base");
    assert_eq!(offsets(&said), [5, 9], "{said}");
    let said = ask("-snapshot later -previous-snapshot base -starting-offset 6291456");
    assert_eq!(offsets(&said), [9], "{said}");
}

fn a_group_is_taken_whole(cluster: &Cluster) {
    let space = Space::new(cluster, "group");
    for (name, mode) in [("one", "Filesystem"), ("two", "Block"), ("three", "Block")] {
        space.claim(name, CLASS, mode, None);
        cluster.kubectl(&["label", "pvc", name, "--namespace", "group", "whole=yes"]);
    }
    space.pod("writer", &["one", "two", "three"]);
    space.inside(
        "writer",
        "echo one >/one/a; sync; for d in two three; do echo $d | dd of=/dev/$d conv=notrunc,fsync; done",
    );
    space.apply(json!({
        "apiVersion": "groupsnapshot.storage.k8s.io/v1",
        "kind": "VolumeGroupSnapshot",
        "metadata": {"name": "g"},
        "spec": {
            "volumeGroupSnapshotClassName": CLASS,
            "source": {"selector": {"matchLabels": {"whole": "yes"}}},
        },
    }));
    space.until("volumegroupsnapshot", "g", "{.status.readyToUse}", "true");
    space.inside(
        "writer",
        "echo later >/one/a; sync; echo later | dd of=/dev/two conv=notrunc,fsync",
    );
    let all = cluster.kubectl(&["get", "volumesnapshots", "--namespace", "group", "--output=json"]);
    let all: Value = serde_json::from_str(&all).unwrap();
    let items = all["items"].as_array().unwrap();
    assert_eq!(items.len(), 3, "{all:#}");
    let of = |claim: &str| {
        let is_it = |item: &&Value| item["spec"]["source"]["persistentVolumeClaimName"] == claim;
        items.iter().find(is_it).unwrap()["metadata"]["name"].as_str().unwrap()
    };
    space.claim("one-again", CLASS, "Filesystem", Some(("VolumeSnapshot", of("one"))));
    space.claim("two-again", CLASS, "Block", Some(("VolumeSnapshot", of("two"))));
    space.pod("reader", &["one-again", "two-again"]);
    assert_eq!(space.inside("reader", "cat /one-again/a; head -n 1 /dev/two-again"), "one\ntwo\n");
    space.remove("volumegroupsnapshot", "g");
    cluster.until("the members go with their group", SHORT, || {
        let words = ["get", "volumesnapshots", "--namespace", "group", "--output=name"];
        let left = cluster.kubectl(&words);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

fn volumes_grow_while_they_are_used(cluster: &Cluster) {
    let space = Space::new(cluster, "grow");
    space.claim("tree", CLASS, "Filesystem", None);
    space.claim("disk", CLASS, "Block", None);
    space.pod("user", &["tree", "disk"]);
    let size = || space.inside("user", "blockdev --getsize64 /dev/disk");
    assert_eq!(size(), "67108864\n");
    for claim in ["tree", "disk"] {
        let words = ["storage", "expand", claim, "134217728", "--namespace", "grow"];
        cluster.run(&words).good();
        cluster.until(&format!("{claim} is larger"), SHORT, || {
            match space.get("pvc", claim, "{.status.capacity.storage}")?.as_str() {
                "134217728" | "128Mi" => Ok(()),
                said => Err(said.to_owned()),
            }
        });
    }
    assert_eq!(size(), "134217728\n");
    space.inside("user", "dd if=/dev/zero of=/tree/big bs=1M count=100 && sync");
}

fn local_and_host_volumes(cluster: &Cluster) {
    let space = Space::new(cluster, "local");
    let mut object = pod("host", Some("node1"), "echo local >/there/a; sleep 3600");
    let folder = "/srv/bench/local";
    object["spec"]["volumes"] =
        json!([{"name": "there", "hostPath": {"path": folder, "type": "DirectoryOrCreate"}}]);
    object["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "there", "mountPath": "/there"}]);
    space.apply(object);
    space.ready("host");
    assert!(!Path::new(folder).exists(), "what a node writes is not the host's");
    let term = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["node1"]});
    cluster.apply(&json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "local-volume"},
        "spec": {
            "capacity": {"storage": "64Mi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "local",
            "local": {"path": folder},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
        },
    }));
    cluster.apply(&json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "local"},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }));
    space.claim("here", "local", "Filesystem", None);
    space.pod("reader", &["here"]);
    assert_eq!(space.inside("reader", "cat /here/a"), "local\n");
}

fn an_ephemeral_volume_is_refused(cluster: &Cluster) {
    let space = Space::new(cluster, "ephemeral");
    let mut object = pod("inline", Some("node1"), "sleep 3600");
    object["spec"]["volumes"] = json!([{"name": "v", "csi": {"driver": DRIVER}}]);
    object["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    space.apply(object);
    cluster.until("the refusal", SHORT, || {
        let said = cluster.kubectl(&["get", "events", "--namespace", "ephemeral", "--output=json"]);
        let refused = "volume mode \\\"Ephemeral\\\" not supported";
        if said.contains(refused) { Ok(()) } else { Err(said) }
    });
    space.remove("pod", "inline");
}

fn a_killed_driver_goes_on(cluster: &Cluster) {
    let space = Space::new(cluster, "killed");
    space.claim("tree", CLASS, "Filesystem", None);
    space.claim("disk", CLASS, "Block", None);
    space.pod("user", &["tree", "disk"]);
    space.inside("user", "echo kept >/tree/a; echo kept | dd of=/dev/disk conv=notrunc,fsync");
    let parts = [format!("node1-{DRIVER}"), format!("{DRIVER}-controller")];
    for part in &parts {
        cluster.run(&["kill", part]).good();
    }
    assert_eq!(space.inside("user", "cat /tree/a; head -n 1 /dev/disk"), "kept\nkept\n");
    // Sidecars end when their driver does; where they run in pods kubelet starts them again.
    for part in ["provisioner", "snapshotter"] {
        cluster.until(&format!("the end of the {part}"), SHORT, || {
            let status = cluster.status();
            let parts = status["parts"].as_array().unwrap();
            let is_it = |line: &&Value| line["part"] == format!("{DRIVER}-{part}");
            let state = parts.iter().find(is_it).unwrap()["state"].clone();
            if state == "ended" { Ok(()) } else { Err(state.to_string()) }
        });
    }
    cluster.run(&["storage", "up"]).good();
    space.inside(
        "user",
        "echo again >/tree/b; echo again | dd of=/dev/disk seek=8 conv=notrunc,fsync",
    );
    space.snapshot("s", "disk", CLASS);
    space.snapshot_ready("s");
    space.remove("pod", "user");
    space.pod("next", &["tree", "disk"]);
    let said = space.inside("next", "cat /tree/a /tree/b; head -n 1 /dev/disk");
    assert_eq!(said, "kept\nagain\nkept\n");
}

fn what_is_deleted_is_gone(cluster: &Cluster) {
    for name in ["tree", "raw", "group", "grow", "killed"] {
        cluster.kubectl(&["delete", "namespace", name, "--timeout=120s"]);
    }
    cluster.until("no volume and no snapshot is left", SHORT, || {
        let left = cluster.kubectl(&["get", "pv,volumesnapshotcontents", "--output=name"]);
        let left: Vec<&str> =
            left.lines().filter(|line| !line.ends_with("/local-volume")).collect();
        if left.is_empty() { Ok(()) } else { Err(left.join(" ")) }
    });
    let folder = cluster.status()["folder"].as_str().unwrap().to_owned();
    let pool = Path::new(&folder).join("storage").join(DRIVER).join("nodes/control");
    let pid = cluster.pid(&format!("{DRIVER}-controller"));
    let seen = Path::new("/proc").join(pid.to_string()).join("root");
    let pool = seen.join(pool.strip_prefix("/").unwrap());
    for place in ["trees", "disks", "frozen", "records/attachments"] {
        let left: Vec<_> = std::fs::read_dir(pool.join(place)).unwrap().flatten().collect();
        assert!(left.is_empty(), "{place}: {left:?}");
    }
}

#[test]
fn two_drivers_on_two_nodes_with_faults() {
    build();
    let cluster = Cluster::up("t-faults", 2);
    cluster.run(&["storage", "up"]).good();
    cluster.run(&["storage", "up", "--driver", OTHER, "--zones", "a,b"]).good();
    type Proof = fn(&Cluster);
    let proofs: [(&str, Proof); 4] = [
        ("two drivers", two_drivers_serve_one_pod),
        ("zones", a_volume_follows_its_pod_into_a_zone),
        ("faults of making", making_fails_and_succeeds_in_the_end),
        ("faults of snapshots", snapshots_wait_and_deletion_is_refused),
    ];
    for (what, proof) in proofs {
        let begun = Instant::now();
        proof(&cluster);
        says(what, begun);
    }
    let traces = Traces::of(&cluster);
    cluster.run(&["down"]).good();
    traces.gone();
}

fn two_drivers_serve_one_pod(cluster: &Cluster) {
    let space = Space::new(cluster, "both");
    space.claim("one", CLASS, "Filesystem", None);
    space.claim("two", OTHER_CLASS, "Filesystem", None);
    space.pod("user", &["one", "two"]);
    space.inside("user", "echo a >/one/a; ls /two");
    for (claim, driver) in [("one", DRIVER), ("two", OTHER)] {
        let volume = space.get("pvc", claim, "{.spec.volumeName}").unwrap();
        assert_eq!(space.get("pv", &volume, "{.spec.csi.driver}").unwrap(), driver);
    }
}

fn a_volume_follows_its_pod_into_a_zone(cluster: &Cluster) {
    let space = Space::new(cluster, "zones");
    for (zone, node) in [("a", "node1"), ("b", "node2")] {
        let claim = format!("in-{zone}");
        space.claim(&claim, OTHER_CLASS, "Filesystem", None);
        space.pod_on(zone, &[&claim], Some(zone));
        space.ready(zone);
        assert_eq!(space.get("pod", zone, "{.spec.nodeName}").unwrap(), node);
        let volume = space.get("pvc", &claim, "{.spec.volumeName}").unwrap();
        let terms =
            "{.spec.nodeAffinity.required.nodeSelectorTerms[*].matchExpressions[*].values[*]}";
        assert_eq!(space.get("pv", &volume, terms).unwrap(), zone);
    }
    // What was written in zone b is found there by a pod that may run anywhere.
    space.inside("b", "echo far >/in-b/a; sync");
    space.remove("pod", "b");
    space.pod("anywhere", &["in-b"]);
    assert_eq!(space.get("pod", "anywhere", "{.spec.nodeName}").unwrap(), "node2");
    assert_eq!(space.inside("anywhere", "cat /in-b/a"), "far\n");
}

fn faults(cluster: &Cluster, text: Option<&str>) {
    let words = ["storage", "fault", "--driver", OTHER];
    cluster.run(&[&words[..], text.as_slice()].concat()).good();
}

fn making_fails_and_succeeds_in_the_end(cluster: &Cluster) {
    let space = Space::new(cluster, "making");
    faults(
        cluster,
        Some(
            r#"{"rules": [
        {"method": "CreateVolume", "call": 1, "fail": "RESOURCE_EXHAUSTED"},
        {"method": "CreateVolume", "call": 2, "lose_answer": true},
        {"method": "NodePublishVolume", "call": 1, "fail": "INTERNAL"},
        {"method": "NodeStageVolume", "slow_ms": 3000}]}"#,
        ),
    );
    let begun = Instant::now();
    space.claim("one", OTHER_CLASS, "Filesystem", None);
    space.pod("user", &["one"]);
    assert!(begun.elapsed() > Duration::from_secs(3), "staging was slow");
    let said = cluster.kubectl(&["get", "events", "--namespace", "making", "--output=json"]);
    assert!(said.contains("a fault that was asked for"), "{said}");
    // Of the call whose answer was lost no second volume is left.
    let volumes =
        cluster.kubectl(&["get", "pv", "--output=jsonpath={.items[*].spec.claimRef.namespace}"]);
    assert_eq!(volumes.split(' ').filter(|name| *name == "making").count(), 1);
    faults(cluster, None);
}

fn snapshots_wait_and_deletion_is_refused(cluster: &Cluster) {
    let space = Space::new(cluster, "waiting");
    space.claim("one", OTHER_CLASS, "Filesystem", None);
    space.pod("user", &["one"]);
    faults(cluster, Some(r#"{"snapshots_never_ready": true}"#));
    space.snapshot("s", "one", OTHER_CLASS);
    space.until("volumesnapshot", "s", "{.status.readyToUse}", "false");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(space.get("volumesnapshot", "s", "{.status.readyToUse}").unwrap(), "false");
    faults(cluster, None);
    space.snapshot_ready("s");
    faults(cluster, Some(r#"{"refuse_deletion": true}"#));
    let content =
        space.get("volumesnapshot", "s", "{.status.boundVolumeSnapshotContentName}").unwrap();
    let words = ["delete", "volumesnapshot", "s", "--namespace", "waiting", "--wait=false"];
    cluster.kubectl(&words);
    std::thread::sleep(Duration::from_secs(5));
    let words = ["get", "volumesnapshotcontent", &content, "--output=name"];
    assert!(!cluster.kubectl(&words).is_empty(), "it is refused");
    faults(cluster, None);
    cluster.until("the snapshot is gone", SHORT, || {
        let ended = cluster.run(&["kubectl", "get", "volumesnapshotcontent", &content]);
        if ended.status.success() { Err(ended.said) } else { Ok(()) }
    });
}
