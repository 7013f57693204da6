//! Our own program, on a real cluster: it protects and restores claims while everything goes on.
//!
//! A claim is protected the way a user without an operator does it: a CSI snapshot, a claim made of
//! it, and a pod of ours that has it mounted, or has it as a device.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]
#![allow(clippy::disallowed_methods, reason = "a test measures real time")]

mod rig;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rig::{Beside, Cluster, ended, xtask};
use serde_json::{Value, json};

const IMAGES: [&str; 3] = ["alidade", "postgres", "tools"];

/// The class that `cluster storage up` makes.
const CLASS: &str = "btrfs-alidade-test";

const SHORT: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(180);

/// An S3 server on this host, which pods reach.
struct Store {
    _process: Beside,
    folder: tempfile::TempDir,
    address: String,
}

impl Store {
    /// Starts versitygw at an address of this host that the cluster knows.
    fn start(host: &str) -> Self {
        let built = ended(xtask().args(["peers", "versitygw"]), "", Duration::from_secs(1200));
        let program = built.good().trim().to_owned();
        let folder = tempfile::Builder::new().prefix("alidade-s3-").tempdir_in("/var/tmp").unwrap();
        fs::create_dir_all(folder.path().join("data/bucket")).unwrap();
        let port = TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().port();
        let address = format!("{host}:{port}");
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new(program)
            .args(["--access", "testbench", "--secret", "testbench-secret", "--quiet"])
            .args(["--port", &address, "posix"])
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let store = Self { _process: Beside(process), folder, address };
        let begun = Instant::now();
        while TcpStream::connect(&store.address).is_err() {
            assert!(begun.elapsed() < SHORT, "{}", store.log());
            thread::sleep(Duration::from_millis(50));
        }
        store
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// What our program is told in the environment.
    fn environment(&self) -> Value {
        let pair = |name: &str, value: &str| json!({"name": name, "value": value});
        json!([
            pair("AWS_ACCESS_KEY_ID", "testbench"),
            pair("AWS_SECRET_ACCESS_KEY", "testbench-secret"),
            pair("ALIDADE_REPOSITORY", &format!("s3:http://{}/bucket/first", self.address)),
            pair("ALIDADE_PASSWORD", "password"),
        ])
    }
}

/// A cluster of two nodes with storage and images.
fn cluster(name: &str) -> Cluster {
    ended(xtask().arg("image").args(IMAGES), "", Duration::from_secs(1200)).good();
    let cluster = Cluster::up(name, 2);
    let up = ended(&mut cluster.command(&["storage", "up"]), "", Duration::from_secs(1200));
    up.good();
    cluster.run(&[&["image"][..], &IMAGES].concat()).good();
    cluster
}

/// A claim; `source` is the snapshot that it is made of.
fn claim(name: &str, mode: &str, source: Option<&str>) -> Value {
    let mut claim = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": CLASS,
            "volumeMode": mode,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    if let Some(snapshot) = source {
        claim["spec"]["dataSource"] = json!({
            "apiGroup": "snapshot.storage.k8s.io",
            "kind": "VolumeSnapshot",
            "name": snapshot,
        });
    }
    claim
}

/// How a pod has a claim.
enum Has<'a> {
    /// Its file system, there.
    Mounted(&'a str, &'a str),
    /// Its device, as `/dev/claim`.
    Raw(&'a str),
}

/// A pod on a node with one claim.
fn pod(name: &str, node: &str, image: &str, words: &[&str], has: &Has) -> Value {
    let mut container = json!({
        "name": "main",
        "image": format!("alidade.test/{image}:bench"),
        "imagePullPolicy": "IfNotPresent",
        "args": words,
    });
    let claim = match has {
        Has::Mounted(claim, place) => {
            container["volumeMounts"] = json!([{"name": "claim", "mountPath": place}]);
            claim
        }
        Has::Raw(claim) => {
            container["volumeDevices"] = json!([{"name": "claim", "devicePath": "/dev/claim"}]);
            claim
        }
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [container],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}],
        },
    })
}

fn postgres(name: &str, node: &str, claim: &str) -> Value {
    let has = Has::Mounted(claim, "/var/lib/postgresql/data");
    let mut pod = pod(name, node, "postgres", &["postgres"], &has);
    pod["spec"]["containers"][0]["env"] = json!([
        {"name": "POSTGRES_PASSWORD", "value": "secret"},
        // Not the mount itself: a file system may have files of its own there.
        {"name": "PGDATA", "value": "/var/lib/postgresql/data/db"},
    ]);
    pod["spec"]["containers"][0]["readinessProbe"] =
        json!({"tcpSocket": {"port": 5432}, "periodSeconds": 1});
    pod
}

fn psql<'a>(pod: &'a str, sql: &'a str) -> [&'a str; 13] {
    let client = ["kubectl", "exec", pod, "--", "psql", "-X", "-v", "ON_ERROR_STOP=1"];
    let mut words = [""; 13];
    words[..8].copy_from_slice(&client);
    words[8..].copy_from_slice(&["-U", "postgres", "-At", "-c", sql]);
    words
}

/// Waits until a pod has done its work, and gives what it said; only then it may be removed.
fn done(cluster: &Cluster, name: &str) -> String {
    let path = "jsonpath={.status.phase}";
    cluster.until(&format!("the pod {name}"), LONG, || {
        let got = cluster.run(&["kubectl", "get", "pod", name, "--output", path]);
        match got.said.as_str() {
            "Succeeded" => Ok(()),
            "Failed" => panic!("{}", cluster.run(&["kubectl", "logs", name]).said),
            _ => Err(got.said + &got.errors),
        }
    });
    cluster.kubectl(&["logs", name])
}

/// Runs our program in a pod to its end.
fn alidade(cluster: &Cluster, store: &Store, name: &str, node: &str, words: &[&str], has: &Has) {
    let said = start_alidade(cluster, store, name, node, words, has);
    eprintln!("{}\n{}", words.join(" "), said());
}

/// Starts our program in a pod; what comes back waits for its end.
fn start_alidade<'a>(
    cluster: &'a Cluster,
    store: &Store,
    name: &'a str,
    node: &str,
    words: &[&str],
    has: &Has,
) -> impl Fn() -> String + use<'a> {
    let mut pod = pod(name, node, "alidade", words, has);
    pod["spec"]["containers"][0]["env"] = store.environment();
    cluster.apply(&pod);
    move || done(cluster, name)
}

fn snapshot(cluster: &Cluster, name: &str, claim: &str) {
    cluster.apply(&json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {
            "volumeSnapshotClassName": CLASS,
            "source": {"persistentVolumeClaimName": claim},
        },
    }));
    let path = "jsonpath={.status.readyToUse}";
    cluster.until(&format!("the snapshot {name}"), LONG, || {
        let got = cluster.run(&["kubectl", "get", "volumesnapshot", name, "--output", path]);
        if got.said == "true" { Ok(()) } else { Err(got.said + &got.errors) }
    });
}

/// Somebody who writes rows, one a transaction, until told to end; counts what was committed.
struct Writer {
    process: Beside,
    committed: Arc<AtomicU64>,
}

impl Writer {
    fn start(cluster: &Cluster, pod: &str) -> Self {
        // Said only after the database has said that it is committed.
        let line = "i=0; while :; do i=$((i+1)); \
                    echo \"insert into ledger values ($i, md5('$i'));\"; echo \"\\\\echo $i\"; \
                    sleep 0.01; done | psql -X -q -v ON_ERROR_STOP=1 -U postgres";
        let mut process = cluster
            .command(&["kubectl", "exec", pod, "--", "bash", "-c", line])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let committed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&committed);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                count.store(line.parse().unwrap(), Ordering::SeqCst);
            }
        });
        Self { process: Beside(process), committed }
    }

    fn committed(&self) -> u64 {
        self.committed.load(Ordering::SeqCst)
    }

    /// Waits until so many rows more are there.
    fn more(&self, rows: u64) {
        let (before, begun) = (self.committed(), Instant::now());
        while self.committed() < before + rows {
            assert!(begun.elapsed() < SHORT, "the writer is at {}", self.committed());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn end(self) -> u64 {
        drop(self.process);
        self.committed.load(Ordering::SeqCst)
    }
}

/// Rows in a database: all that were committed, none left out, none wrong. Gives how many.
fn rows(cluster: &Cluster, pod: &str, committed: u64) -> u64 {
    let sql = "select count(*), coalesce(max(id), 0), \
               count(*) filter (where sum <> md5(id::text)) from ledger";
    let told = cluster.run(&psql(pod, sql)).good();
    let numbers: Vec<u64> = told.trim().split('|').map(|n| n.parse().unwrap()).collect();
    let [count, last, wrong] = numbers[..] else { panic!("{told}") };
    assert_eq!((count, wrong), (last, 0), "rows are left out or wrong");
    assert!(count >= committed, "{committed} rows were committed, {count} are there");
    count
}

#[test]
fn a_database_that_is_written_to_is_restored_on_the_other_node_and_the_api_server_may_die() {
    let cluster = cluster("t-use");
    let host = cluster.status()["host"].as_str().unwrap().to_owned();
    let store = Store::start(&host);

    cluster.apply(&claim("data", "Filesystem", None));
    cluster.apply(&postgres("before", "node1", "data"));
    cluster.pod_ready("before");
    let table = "create table ledger (id bigint primary key, sum text not null)";
    cluster.run(&psql("before", table)).good();
    let writer = Writer::start(&cluster, "before");
    writer.more(100);

    let init = Has::Mounted("scratch", "/scratch");
    cluster.apply(&claim("scratch", "Filesystem", None));
    alidade(&cluster, &store, "init", "node1", &["init"], &init);

    // Three times, while rows are written; each is one moment of the database.
    let mut committed = 0;
    for index in 1..=3 {
        let name = format!("moment{index}");
        committed = writer.committed();
        snapshot(&cluster, &name, "data");
        writer.more(50);
        cluster.apply(&claim(&name, "Filesystem", Some(&name)));
        let has = Has::Mounted(&name, "/data");
        let pod = format!("protect{index}");
        let said = start_alidade(&cluster, &store, &pod, "node1", &["protect", "/data"], &has);
        if index == 3 {
            // In the middle of it: the pod goes on without the API server.
            cluster.run(&["kill", "apiserver"]).good();
            thread::sleep(Duration::from_secs(3));
            cluster.run(&["start", "apiserver"]).good();
        }
        eprintln!("protect {name}, {committed} rows\n{}", said());
    }
    let all = writer.end();
    assert!(all > committed);

    cluster.apply(&claim("restored", "Filesystem", None));
    let words = ["restore", "fs:/data", "--target", "/restored"];
    let has = Has::Mounted("restored", "/restored");
    alidade(&cluster, &store, "restore", "node2", &words, &has);
    cluster.kubectl(&["delete", "pod", "restore", "--wait"]);

    let mut after = postgres("after", "node2", "restored");
    after["spec"]["containers"][0]["volumeMounts"][0]["subPath"] = "data".into();
    cluster.apply(&after);
    cluster.pod_ready("after");
    let restored = rows(&cluster, "after", committed);
    eprintln!("{committed} committed before, {restored} restored, {all} at the end");
    assert!(restored <= all + 1);
    let path = "jsonpath={.spec.nodeName}";
    assert_eq!(cluster.kubectl(&["get", "pod", "after", "--output", path]), "node2");
}

#[test]
fn a_raw_claim_is_restored_on_the_other_node() {
    let cluster = cluster("t-raw");
    let host = cluster.status()["host"].as_str().unwrap().to_owned();
    let store = Store::start(&host);
    cluster.apply(&claim("raw", "Block", None));
    let has = Has::Raw("raw");
    alidade(&cluster, &store, "init", "node1", &["init"], &has);

    // Numbers at the beginning and far behind it, and nothing between.
    let write = "seq 1 3000000 | dd of=/dev/claim bs=1M iflag=fullblock conv=notrunc status=none && \
                 seq 7 900000 | dd of=/dev/claim bs=1M seek=700 iflag=fullblock conv=notrunc,fsync \
                 status=none && sha256sum </dev/claim";
    cluster.apply(&pod("write", "node1", "tools", &["bash", "-c", write], &has));
    let sum = done(&cluster, "write");
    snapshot(&cluster, "moment", "raw");
    cluster.apply(&claim("copy", "Block", Some("moment")));
    let words = ["protect", "disk:/dev/claim"];
    alidade(&cluster, &store, "protect", "node1", &words, &Has::Raw("copy"));

    cluster.apply(&claim("restored", "Block", None));
    let words = ["restore", "disk:/dev/claim", "--target", "/dev/claim", "--in-place"];
    let has = Has::Raw("restored");
    alidade(&cluster, &store, "restore", "node2", &words, &has);
    let read = ["bash", "-c", "sha256sum </dev/claim"];
    cluster.apply(&pod("read", "node2", "tools", &read, &has));
    assert_eq!(done(&cluster, "read"), sum);
}
