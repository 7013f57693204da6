//! The images do their work in pods: databases serve, tools reach them by name, alidade protects.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]
#![allow(clippy::disallowed_methods, reason = "a test measures real time")]

mod rig;

use std::time::Duration;

use rig::{Cluster, ended, xtask};
use serde_json::{Value, json};

/// What is given to the nodes; building them may take long where the cache is cold.
const IMAGES: [&str; 5] = ["alidade", "mariadb", "postgres", "redis", "tools"];

/// How long a database may take to make its first files.
const LONG: Duration = Duration::from_secs(120);

/// A pod with one container, and a service of its name.
fn server(image: &str, name: &str, port: u16, settings: &[(&str, &str)]) -> Value {
    let env: Vec<Value> =
        settings.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {
                "terminationGracePeriodSeconds": 5,
                "containers": [{
                    "name": "main",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "env": env,
                    "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
                }],
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
        },
    ]})
}

fn cluster(name: &str) -> Cluster {
    let mut images = xtask();
    images.arg("image").args(IMAGES);
    ended(&mut images, "", Duration::from_secs(20 * 60)).good();
    let cluster = Cluster::up(name, 1);
    let words = [&["image"][..], &IMAGES].concat();
    let given = cluster.run(&words);
    eprintln!("{} images given in {:?}", IMAGES.len(), given.took);
    given.good();
    cluster
}

#[test]
fn databases_serve_and_tools_reach_them_by_name() {
    let cluster = cluster("t-pods");
    let secret = "se'cr$et";
    let postgres = [("POSTGRES_PASSWORD", secret), ("POSTGRES_DB", "shop")];
    cluster.apply(&server("docker.io/library/postgres:15", "pg", 5432, &postgres));
    let mariadb = [("MARIADB_ROOT_PASSWORD", secret), ("MARIADB_DATABASE", "shop")];
    cluster.apply(&server("docker.io/library/mariadb:10.11", "my", 3306, &mariadb));
    let redis = [("REDIS_PASSWORD", secret)];
    cluster.apply(&server("docker.io/bitnami/redis:7.0", "re", 6379, &redis));
    let mut tools = rig::pod("tools", None, "sleep 3600");
    tools["spec"]["containers"][0]["image"] = "ghcr.io/kanisterio/kanister-tools:0.119.0".into();
    tools["spec"]["containers"][0]["env"] = json!([{"name": "SECRET", "value": secret}]);
    cluster.apply(&tools);
    cluster.pod_ready("tools");

    for (what, line, told) in [
        (
            "PostgreSQL",
            "PGPASSWORD=$SECRET psql -h pg -U postgres -d shop -Atc \
             'select sum(n) from generate_series(1, 1000) n'",
            "500500\n",
        ),
        (
            "MariaDB",
            "MYSQL_PWD=$SECRET mysql -h my -u root -N -e 'select sum(seq) from seq_1_to_1000' shop",
            "500500\n",
        ),
        (
            "Redis",
            "export REDISCLI_AUTH=$SECRET; redis-cli -h re set key value >/dev/null && \
             redis-cli -h re get key",
            "value\n",
        ),
    ] {
        cluster.until(what, LONG, || {
            let got = cluster.inside("tools", line);
            if got.said == told { Ok(()) } else { Err(got.said + &got.errors) }
        });
    }
    // What a blueprint does: a dump through a pipe, and back.
    let dump = "export PGPASSWORD=$SECRET; \
                psql -h pg -U postgres -d shop -qc 'create table t as select 7 as n' && \
                pg_dumpall --clean -h pg -U postgres | gzip >/tmp/dump.gz && \
                psql -h pg -U postgres -d shop -qc 'drop table t' && \
                gunzip -c /tmp/dump.gz | psql -q -h pg -U postgres >/dev/null 2>&1; \
                psql -h pg -U postgres -d shop -Atc 'select n from t'";
    assert_eq!(cluster.inside("tools", dump).good(), "7\n");
}

#[test]
fn alidade_protects_and_restores_a_volume_of_its_pod() {
    let cluster = cluster("t-alidade");
    let volume = |name: &str| json!({"name": name, "mountPath": format!("/{name}")});
    let names = ["data", "repository", "back"];
    let mounts = names.map(volume);
    let volumes = names.map(|name| json!({"name": name, "emptyDir": {}}));
    let container = |name: &str, image: &str, words: &[&str]| {
        json!({
            "name": name,
            "image": format!("alidade.test/{image}:bench"),
            "imagePullPolicy": "IfNotPresent",
            "args": words,
            "env": [{"name": "ALIDADE_PASSWORD", "value": "password"}],
            "volumeMounts": mounts,
        })
    };
    let fill = "mkdir -p /data/a && seq 1 100000 >/data/a/numbers && ln -s numbers /data/a/link";
    let compare = "cmp /data/a/numbers /back/data/a/numbers && readlink /back/data/a/link";
    cluster.apply(&json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "alidade"},
        "spec": {
            "restartPolicy": "Never",
            "initContainers": [
                container("fill", "busybox", &["sh", "-c", fill]),
                container("init", "alidade", &["-r", "/repository/r", "init"]),
                container("protect", "alidade", &["-r", "/repository/r", "protect", "/data"]),
                container(
                    "restore",
                    "alidade",
                    &["-r", "/repository/r", "restore", "fs:/data", "--target", "/back"],
                ),
            ],
            "containers": [container("compare", "busybox", &["sh", "-c", compare])],
            "volumes": volumes,
        },
    }));
    cluster.until("alidade", LONG, || {
        let path = "jsonpath={.status.phase}";
        let got = cluster.run(&["kubectl", "get", "pod", "alidade", "--output", path]);
        match got.said.as_str() {
            "Succeeded" => Ok(()),
            _ => Err(cluster.run(&["kubectl", "logs", "alidade", "--all-containers"]).said),
        }
    });
    assert_eq!(cluster.kubectl(&["logs", "alidade", "--container=compare"]), "numbers\n");
    let told = cluster.kubectl(&["logs", "alidade", "--container=protect"]);
    eprintln!("{told}");
}
