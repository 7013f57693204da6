//! A cluster is what it says it is, takes what is done to it, and leaves nothing.
//!
//! These run one after the other, as root: `./test cluster`.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]
#![allow(clippy::disallowed_methods, reason = "a test measures real time")]

mod rig;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rig::{Beside, Cluster, Traces, ended, pod, xtask};
use serde_json::{Value, json};

/// What the issue promises, from built binaries.
const PROMISED: Duration = Duration::from_secs(30);

const SHORT: Duration = Duration::from_secs(60);

#[test]
fn up_is_ready_in_time_again_changes_nothing_and_down_leaves_nothing() {
    let before = rig::host();
    let cluster = Cluster::up("t-one", 1);
    assert!(cluster.took < PROMISED, "it took {:?}", cluster.took);
    let versions: Value =
        serde_json::from_str(&cluster.kubectl(&["version", "--output=json"])).unwrap();
    for side in ["clientVersion", "serverVersion"] {
        assert_eq!(versions[side]["gitVersion"], "v1.36.3", "{versions:#}");
    }
    let nodes = cluster.kubectl(&[
        "get",
        "nodes",
        "--output=jsonpath={.items[*].status.nodeInfo.kubeletVersion}",
    ]);
    assert_eq!(nodes, "v1.36.3");

    cluster.apply(&pod("speaks", None, "echo it said this; sleep 3600"));
    cluster.pod_ready("speaks");
    assert_eq!(cluster.kubectl(&["logs", "speaks"]), "it said this\n");
    assert_eq!(cluster.inside("speaks", "cat /proc/1/comm").good(), "sh\n");
    // What kubectl fails with is what we fail with.
    assert_eq!(cluster.inside("speaks", "exit 7").status.code(), Some(7));

    let parts = cluster.status()["parts"].clone();
    let again = cluster.run(&["up"]);
    assert!(again.took < PROMISED, "it took {:?}", again.took);
    assert!(again.good().contains("was up already"));
    assert_eq!(cluster.status()["parts"], parts, "a second up starts nothing");
    let more = cluster.run(&["up", "--nodes", "2"]).bad();
    assert!(more.contains("is up with 1 nodes, not 2") && more.contains("hint:"), "{more}");

    let traces = Traces::of(&cluster);
    cluster.run(&["down"]).good();
    traces.gone();
    assert_eq!(rig::host(), before);
    cluster.run(&["down"]).good();
}

#[test]
fn pods_of_two_nodes_reach_each_other_and_services_by_name() {
    let cluster = Cluster::up("t-two", 2);
    let serves = |text: &str| {
        format!("mkdir /tmp/w; echo {text} >/tmp/w/index.html; httpd -f -p 8080 -h /tmp/w")
    };
    cluster.apply(&pod("first", Some("node1"), &serves("from-first")));
    cluster.apply(&pod("second", Some("node2"), &serves("from-second")));
    for name in ["first", "second"] {
        cluster.apply(&json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
        }));
    }
    for (name, node) in [("first", "node1"), ("second", "node2")] {
        cluster.pod_ready(name);
        let path = "jsonpath={.spec.nodeName}";
        assert_eq!(cluster.kubectl(&["get", "pod", name, "--output", path]), node);
    }
    let address = |name: &str, kind: &str, path: &str| {
        cluster.kubectl(&["get", kind, name, &format!("--output=jsonpath={path}")])
    };
    for (from, to) in [("first", "second"), ("second", "first"), ("first", "first")] {
        let says = format!("from-{to}\n");
        let direct = format!("http://{}:8080/", address(to, "pod", "{.status.podIP}"));
        let named = format!("http://{to}/");
        let whole = format!("http://{to}.default.svc.cluster.local/");
        for url in [direct, named, whole] {
            cluster.until(&format!("{from} reaches {url}"), SHORT, || {
                let got = cluster.inside(from, &format!("wget -q -T 3 -O - {url}"));
                if got.said == says { Ok(()) } else { Err(got.said + &got.errors) }
            });
        }
    }
    // This host reaches pods and services, and pods reach this host.
    for name in ["first", "second"] {
        let service = address(name, "service", "{.spec.clusterIP}");
        let pod = address(name, "pod", "{.status.podIP}");
        for url in [format!("http://{service}/"), format!("http://{pod}:8080/")] {
            cluster.until(&format!("this host reaches {url}"), SHORT, || {
                let got = ended(Command::new("curl").args(["-s", "-m", "3", &url]), "", SHORT);
                if got.said == format!("from-{name}\n") { Ok(()) } else { Err(got.said) }
            });
        }
    }
    let host = cluster.status()["host"].as_str().unwrap().to_owned();
    let listener = std::net::TcpListener::bind((host.as_str(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = thread::spawn(move || listener.accept().unwrap().1.ip().to_string());
    cluster.inside("second", &format!("nc -w 3 {host} {port} </dev/null")).good();
    assert_eq!(answer.join().unwrap(), address("second", "pod", "{.status.podIP}"));
    // Nothing leads outside, and a name from outside is not there.
    assert!(!cluster.inside("first", "nslookup example.org").status.success());
    assert!(!cluster.inside("first", "nc -w 3 192.0.2.1 80 </dev/null").status.success());
}

#[test]
fn two_clusters_are_side_by_side_and_one_ends_without_the_other() {
    let one = Cluster::up("t-left", 1);
    let other = Cluster::up("t-right", 1);
    assert_ne!(one.number(), other.number());
    one.kubectl(&["create", "configmap", "mine"]);
    let names = other.kubectl(&["get", "configmaps", "--output=name"]);
    assert!(!names.contains("mine"), "{names}");
    for cluster in [&one, &other] {
        cluster.apply(&pod("lives", None, "sleep 3600"));
        cluster.pod_ready("lives");
    }
    let traces = Traces::of(&one);
    one.run(&["down"]).good();
    traces.gone();
    assert_eq!(other.inside("lives", "echo still").good(), "still\n");
    assert!(other.run(&["status"]).good().contains("running"));
}

#[test]
fn a_killed_up_is_cleaned_by_the_next_up_and_by_down() {
    rig::build();
    let cluster = Cluster::none("t-killed");
    cluster.run(&["down"]).good();
    for milliseconds in [100, 400, 1000, 3000, 6000] {
        let up = cluster.command(&["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut up = Beside(up.unwrap());
        thread::sleep(Duration::from_millis(milliseconds));
        up.0.kill().unwrap();
        up.0.wait().unwrap();
        // Half of a cluster is none.
        let error = cluster.run(&["kubectl", "get", "nodes"]).bad();
        assert!(error.contains("was never Ready") || error.contains("there is no"), "{error}");
        let folder = place(&cluster);
        let traces = rig::half_made(&folder);
        cluster.run(&["down"]).good();
        assert!(!folder.exists(), "{} is left", folder.display());
        assert_eq!(processes_of(&folder), Vec::<String>::new(), "after {milliseconds} ms");
        if let Some(traces) = traces {
            traces.gone();
        }
    }
    let up = cluster.command(&["up"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut up = Beside(up.unwrap());
    thread::sleep(Duration::from_secs(4));
    up.0.kill().unwrap();
    up.0.wait().unwrap();
    let whole = cluster.run(&["up"]);
    assert!(
        whole.errors.contains("removing what is left of an earlier cluster"),
        "{}",
        whole.errors
    );
    whole.good();
    let traces = Traces::of(&cluster);
    cluster.run(&["down"]).good();
    traces.gone();
}

#[test]
fn parts_are_killed_started_paused_and_slowed() {
    let cluster = Cluster::up("t-faults", 1);
    cluster.apply(&pod("lives", None, "sleep 3600"));
    cluster.pod_ready("lives");

    cluster.run(&["kill", "apiserver"]).good();
    let error = cluster.run(&["kubectl", "get", "nodes"]).bad();
    assert!(error.contains("refused") && !error.contains("x509"), "{error}");
    let error = cluster.run(&["status"]).bad();
    assert!(error.contains("these have ended: apiserver") && error.contains("hint:"), "{error}");
    cluster.run(&["start", "apiserver"]).good();
    // From the first moment on it is refused or right, and never another's certificate.
    cluster.until("the API server is back", SHORT, || {
        let got = cluster.run(&["kubectl", "get", "nodes"]);
        assert!(!got.errors.contains("x509"), "{}", got.errors);
        if got.status.success() { Ok(()) } else { Err(got.errors) }
    });
    assert_eq!(cluster.inside("lives", "echo still").good(), "still\n");

    cluster.run(&["pause", "etcd"]).good();
    let error = cluster.run(&["kubectl", "--request-timeout=3s", "create", "configmap", "late"]);
    error.bad();
    assert!(cluster.run(&["status"]).good().contains("paused"));
    cluster.run(&["resume", "etcd"]).good();
    cluster.until("the store is back", SHORT, || {
        let got = cluster.run(&["kubectl", "create", "configmap", "after"]);
        if got.status.success() { Ok(()) } else { Err(got.errors) }
    });

    let get = || {
        let begun = Instant::now();
        cluster.kubectl(&["get", "--raw=/api/v1/namespaces/default/configmaps"]);
        begun.elapsed()
    };
    let quick = (0..5).map(|_| get()).min().unwrap();
    cluster.run(&["slow", "apiserver", "1000"]).good();
    let slow = (0..3).map(|_| get()).min().unwrap();
    assert!(cluster.run(&["status"]).good().contains("slowed"));
    cluster.run(&["slow", "apiserver", "0"]).good();
    let again = (0..5).map(|_| get()).min().unwrap();
    assert!(slow > quick + Duration::from_millis(500), "{quick:?}, slowed {slow:?}");
    assert!(again < quick + Duration::from_millis(500), "{quick:?}, again {again:?}");

    let error = cluster.run(&["kill", "apisrever"]).bad();
    assert!(error.contains("no part `apisrever`") && error.contains("hint: its parts"), "{error}");
}

#[test]
fn a_machine_that_died_is_made_anew() {
    let cluster = Cluster::up("t-died", 1);
    let traces = Traces::of(&cluster);
    let node = cluster.pid("node1").to_string();
    ended(Command::new("kill").args(["-9", &node]), "", SHORT).good();
    cluster.until("the node is gone", SHORT, || {
        let error = cluster.run(&["status"]).errors;
        if error.contains("node1-kubelet") { Ok(()) } else { Err(error) }
    });
    cluster.run(&["up"]).good();
    cluster.apply(&pod("lives", None, "sleep 3600"));
    cluster.pod_ready("lives");
    cluster.run(&["down"]).good();
    traces.gone();
}

#[test]
fn requests_are_counted_by_user_verb_and_resource() {
    let cluster = Cluster::up("t-counts", 1);
    let count = |verb: &str, resource: &str| {
        let said = cluster.run(&["requests", "--user", "admin", "--json"]).good();
        let all: Vec<Value> = serde_json::from_str(&said).unwrap();
        assert!(all.iter().all(|line| line["user"] == "admin"), "{said}");
        let found = all.iter().find(|line| line["verb"] == verb && line["resource"] == resource);
        found.map_or(0, |line| line["count"].as_u64().unwrap())
    };
    let kinds = [("list", "configmaps"), ("create", "configmaps"), ("delete", "secrets")];
    let before = kinds.map(|(verb, resource)| count(verb, resource));
    for _ in 0..4 {
        cluster.kubectl(&["get", "configmaps"]);
    }
    cluster.kubectl(&["create", "configmap", "counted"]);
    let after = kinds.map(|(verb, resource)| count(verb, resource));
    assert_eq!([0, 1, 2].map(|at| after[at] - before[at]), [4, 1, 0]);
    let table = cluster.run(&["requests"]).good();
    assert!(
        table.contains("system:kube-scheduler") && table.contains("system:node:node1"),
        "{table}"
    );
    let metrics = cluster.kubectl(&["get", "--raw=/metrics"]);
    assert!(metrics.contains("apiserver_request_total{"), "the API server's own counts");
}

#[test]
fn reset_gives_an_empty_cluster_of_the_same_size() {
    let cluster = Cluster::up("t-reset", 1);
    cluster.kubectl(&["create", "configmap", "old"]);
    cluster.run(&["reset"]).good();
    let names = cluster.kubectl(&["get", "configmaps", "--output=name"]);
    assert!(!names.contains("old"), "{names}");
    assert!(cluster.run(&["logs", "apiserver"]).good().contains("Serving securely"));
    let error = cluster.run(&["logs", "nothing"]).bad();
    assert!(error.contains("no log of `nothing`") && error.contains("apiserver"), "{error}");

    // The new nodes are given images too, by a public name if one is wanted.
    let public = "registry.example/library/shell:1";
    assert_eq!(cluster.run(&["image", "busybox", "--as", public]).good(), format!("{public}\n"));
    let mut named = pod("named", None, "sleep 3600");
    named["spec"]["containers"][0]["image"] = public.into();
    cluster.apply(&named);
    cluster.pod_ready("named");
    let error = cluster.run(&["image", "nothing"]).bad();
    assert!(error.contains("nothing"), "{error}");
}

#[test]
fn a_loop_device_that_a_pod_made_goes_with_the_cluster() {
    let cluster = Cluster::up("t-loops", 1);
    let mut maker = pod(
        "maker",
        None,
        "dd if=/dev/zero of=/data/disk-of-t-loops bs=1M count=4 && \
         losetup -f /data/disk-of-t-loops && touch /tmp/done && sleep 3600",
    );
    let spec = &mut maker["spec"];
    spec["volumes"] = json!([
        {"name": "data", "hostPath": {"path": "/var/lib/kubelet/t-loops", "type": "DirectoryOrCreate"}},
        {"name": "dev", "hostPath": {"path": "/dev"}},
    ]);
    spec["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}, {"name": "dev", "mountPath": "/dev"}]);
    spec["containers"][0]["securityContext"] = json!({"privileged": true});
    cluster.apply(&maker);
    cluster.pod_ready("maker");
    cluster.until("the loop device", SHORT, || {
        let done = cluster.inside("maker", "test -e /tmp/done");
        if done.status.success() {
            Ok(())
        } else {
            Err(cluster.run(&["kubectl", "logs", "maker"]).said)
        }
    });
    let attached = || {
        let devices = fs::read_dir("/sys/block").unwrap().flatten();
        let file = |device: fs::DirEntry| {
            fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default()
        };
        devices.map(file).filter(|file| file.contains("disk-of-t-loops")).count()
    };
    assert_eq!(attached(), 1);
    cluster.run(&["down"]).good();
    assert_eq!(attached(), 0);
}

#[test]
fn what_is_asked_of_a_cluster_that_is_not_there_is_refused() {
    let cluster = Cluster::none("t-nobody");
    for words in [
        &["status"][..],
        &["kubectl", "get", "nodes"],
        &["logs", "apiserver"],
        &["requests"],
        &["reset"],
        &["kill", "apiserver"],
        &["image", "busybox"],
    ] {
        let error = cluster.run(words).bad();
        assert!(error.starts_with("error: there is no cluster t-nobody"), "{words:?}: {error}");
        assert!(error.contains("hint: cargo xtask cluster up --name t-nobody"), "{error}");
    }
    assert!(!place(&cluster).with_file_name(".t-nobody.lock").exists());
    let error = Cluster::none("../x").run(&["up"]).bad();
    assert!(
        error.contains("`../x` is no name for a cluster") && error.contains("hint:"),
        "{error}"
    );
}

#[test]
fn an_environment_that_will_not_do_is_named_with_a_hint() {
    rig::build();
    let folder = tempfile::tempdir().unwrap();
    let small = folder.path().join("small");
    fs::create_dir(&small).unwrap();
    let up = format!("{} cluster --name t-bad up", xtask().get_program().to_string_lossy());
    let mounts = |line: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &format!("{line} && exec {up}")]);
        command
    };
    let mut poor = Command::new("setpriv");
    poor.args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", &up]);
    poor.env("ALIDADE_TESTBENCH", folder.path());
    let mut taken = Command::new("unshare");
    let links = "ip link set lo up; ip addr add 10.192.0.1/10 dev lo";
    taken.args(["--net", "sh", "-c", &format!("{links}; exec {up}")]);
    let mount = format!("mount -t tmpfs -o size=16m tmpfs {}", small.display());
    let mut full = mounts(&mount);
    full.env("ALIDADE_TESTBENCH", &small);
    for (mut command, said, hint) in [
        (poor, "only root may make them", "sudo"),
        (taken, "no network is free", "ip route"),
        (mounts("umount --recursive --lazy /sys/fs/cgroup"), "no control groups", "/sys/fs/cgroup"),
        (full, "and a cluster needs 2048 MiB", "ALIDADE_TESTBENCH"),
    ] {
        let error = ended(&mut command, "", SHORT).bad();
        assert!(error.contains(said), "{said}: {error}");
        let advice = error.split_once("hint: ").unwrap_or_else(|| panic!("no hint: {error}")).1;
        assert!(advice.contains(hint), "{hint}: {error}");
        assert!(!place(&Cluster::none("t-bad")).exists(), "{said}: something is left");
    }
}

#[test]
fn an_up_that_fails_says_what_its_parts_said_and_leaves_nothing() {
    rig::build();
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path();
    // The same peers, but for a Kubernetes that ends at once.
    let mut peers = xtask();
    peers.args(["peers", "kubernetes", "coredns"]);
    for path in ended(&mut peers, "", SHORT).good().lines() {
        let home = Path::new(path).parent().unwrap();
        fs::create_dir(cache.join(home.file_name().unwrap())).unwrap();
        let own = cache.join(home.file_name().unwrap()).join(Path::new(path).file_name().unwrap());
        fs::write(&own, "#!/bin/sh\necho this peer is broken >&2\nexit 1\n").unwrap();
        fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    share_images(cache);
    let cluster = Cluster::none("t-broken");
    let before = own_links();
    let mut up = cluster.command(&["up"]);
    let error = ended(up.env("ALIDADE_TESTBENCH", cache), "", rig::PATIENCE).bad();
    for said in ["has ended; the end of its log", "this peer is broken", "removing what was made"] {
        assert!(error.contains(said), "{said}: {error}");
    }
    assert!(!cache.join("clusters/t-broken").exists());
    assert!(!cache.join("clusters/.t-broken.lock").exists());
    assert_eq!(own_links(), before);
    assert_eq!(processes_of(&cache.join("clusters/t-broken")), Vec::<String>::new());
}

/// Makes what is in the cache besides peers and clusters available to another.
fn share_images(cache: &Path) {
    for entry in fs::read_dir(place(&Cluster::none("x")).ancestors().nth(2).unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let own = cache.join(path.file_name().unwrap());
        let is_cluster = path.file_name().unwrap() == "clusters";
        if path.is_dir() && !is_cluster && !own.exists() {
            std::os::unix::fs::symlink(&path, &own).unwrap();
        }
    }
}

#[test]
fn a_process_that_has_another_ones_id_is_not_touched() {
    let cluster = Cluster::up("t-reuse", 1);
    let stranger = Beside(Command::new("sleep").arg("600").spawn().unwrap());
    // As if the machine had ended and its id had been given to somebody else.
    let path = place(&cluster).join("parts/scheduler.json");
    let mut part: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    part["running"]["pid"] = stranger.0.id().into();
    fs::write(&path, part.to_string()).unwrap();
    cluster.run(&["kill", "scheduler"]).good();
    cluster.run(&["pause", "scheduler"]).bad();
    cluster.run(&["down"]).good();
    let stat = fs::read_to_string(format!("/proc/{}/stat", stranger.0.id())).unwrap();
    assert!(stat.contains(") S "), "{stat}");
}

/// The folder of a cluster, which may not be there.
fn place(cluster: &Cluster) -> std::path::PathBuf {
    let set = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty());
    let cache = match (set("ALIDADE_TESTBENCH"), set("XDG_CACHE_HOME"), set("HOME")) {
        (Some(own), ..) => own.into(),
        (None, Some(caches), _) => Path::new(&caches).join("alidade-testbench"),
        (None, None, Some(home)) => Path::new(&home).join(".cache/alidade-testbench"),
        (None, None, None) => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/testbench"),
    };
    cache.join("clusters").join(cluster.name())
}

/// The links of this host into clusters.
fn own_links() -> Vec<String> {
    let names = fs::read_dir("/sys/class/net").unwrap().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("alidade")).collect()
}

/// Processes that were started with a path of this folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let words = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        text.replace('\0', " ")
    };
    let all = fs::read_dir("/proc").unwrap().flatten().map(words);
    all.filter(|words| words.contains(&folder)).collect()
}
