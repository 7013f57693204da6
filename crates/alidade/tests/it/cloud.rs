//! Repositories in the stores of Azure and Google, on emulators of them.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use alidade_testkit::emulator::{AzureServer, GoogleServer};
use alidade_testkit::proxy::{Fault, Proxy, Seen};
use alidade_testkit::server::free;
use alidade_testkit::tree::Listing;
use serde_json::Value;

use crate::bucket::noise;
use crate::world::{Run, World};

const PASSWORD: &str = "secret";

enum Server {
    Azure(AzureServer),
    Google(GoogleServer),
}

/// A world whose repository is in a cloud. All requests go by a proxy.
struct Cloud {
    world: World,
    server: Server,
    proxy: Proxy,
}

impl Cloud {
    fn azure() -> Self {
        let server = AzureServer::start();
        let proxy = Proxy::before(server.address());
        Self { world: World::new(), server: Server::Azure(server), proxy }.made()
    }

    fn google() -> Self {
        let server = GoogleServer::start();
        let proxy = Proxy::before(server.address());
        Self { world: World::new(), server: Server::Google(server), proxy }.made()
    }

    fn all() -> [Self; 2] {
        [Self::azure(), Self::google()]
    }

    fn made(self) -> Self {
        self.ok(&["init"]);
        self
    }

    fn name(&self) -> &'static str {
        match self.server {
            Server::Azure(_) => "azure",
            Server::Google(_) => "gs",
        }
    }

    fn place(&self) -> String {
        format!("{}:bucket:/backups/one", self.name())
    }

    /// What must be set to reach it.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let address = self.proxy.address();
        match &self.server {
            Server::Azure(server) => {
                let (account, key) = server.key();
                vec![
                    ("AZURE_ACCOUNT_NAME", account.to_owned()),
                    ("AZURE_ACCOUNT_KEY", key),
                    ("AZURE_STORAGE_ENDPOINT", format!("http://{address}/{account}")),
                ]
            }
            Server::Google(_) => vec![
                ("GOOGLE_ACCESS_TOKEN", "token".to_owned()),
                ("GOOGLE_BASE_URL", format!("http://{address}")),
            ],
        }
    }

    /// A command with nothing in its environment but the place and this.
    fn bare(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        let mut command = self.world.command(arguments);
        command.env("ALIDADE_REPOSITORY", self.place()).env("ALIDADE_PASSWORD", PASSWORD);
        World::of(command.envs(environment.iter().copied()).output().unwrap())
    }

    fn run(&self, arguments: &[&str]) -> Run {
        let environment = self.environment();
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (*name, &**value)).collect();
        self.bare(arguments, &environment)
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, Some(0), "{} {arguments:?}: {run}", self.name());
        run.out
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[arguments, &["-o", "json"]].concat())).unwrap()
    }

    fn comes_back(&self, target: &str) {
        self.ok(&["restore", "src", "--target", target, "-q"]);
        let source = self.world.path("src");
        let back = self.world.path(target).join(source.strip_prefix("/").unwrap());
        Listing::of(&source).assert_equals(&Listing::of(&back), target);
    }
}

/// Stock restic on a repository.
fn restic(world: &World, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(alidade_testkit::peer("restic"));
    command
        .arg("--no-cache")
        .args(arguments)
        .env_clear()
        .env("HOME", world.path("home"))
        .env("RESTIC_PASSWORD", PASSWORD)
        .envs(environment.iter().copied());
    let run = World::of(command.output().unwrap());
    assert_eq!(run.code, Some(0), "restic {arguments:?}: {run}");
    run.out
}

#[test]
fn a_repository_in_a_cloud_is_as_good_as_one_in_a_directory() {
    for cloud in Cloud::all() {
        for seed in 0..6 {
            cloud.world.write(&format!("src/noise-{seed}"), &noise(seed));
        }
        let first = cloud.json(&["protect", "src", "--pack-size", "4"]);
        assert_eq!(first["status"], "done", "{}", cloud.name());
        assert!(first["traffic"]["requests"]["list"].as_u64().unwrap() <= 5, "{first}");
        assert!(first["traffic"]["requests"]["delete"].as_u64().unwrap() >= 1, "{first}");
        assert_eq!(cloud.json(&["protect", "src"])["bytes"]["read"], 0, "{}", cloud.name());
        cloud.comes_back("out");
        cloud.ok(&["check", "--read-data"]);
        let again = cloud.run(&["init"]);
        assert_eq!(again.code, Some(21), "{}: {again}", cloud.name());
    }
}

#[test]
fn a_large_pack_goes_into_a_cloud_in_parts() {
    for cloud in Cloud::all() {
        for seed in 0..70 {
            cloud.world.write(&format!("src/noise-{seed}"), &noise(seed));
        }
        cloud.proxy.forget();
        cloud.ok(&["protect", "src", "-q", "--pack-size", "128"]);
        let seen = cloud.proxy.seen();
        let is_part = |request: &&Seen| {
            ["partNumber=", "comp=block&"].iter().any(|word| request.target.contains(word))
        };
        let parts = seen.iter().filter(is_part).count();
        assert!(parts >= 5, "{} {parts} parts", cloud.name());
        assert!(seen.iter().all(|request| request.len <= 64 << 20), "no request is larger");
        cloud.comes_back("out");
        cloud.ok(&["check", "--read-data"]);
    }
}

/// restic cannot be told of another server for Azure, so that it reads what was copied from there.
#[test]
fn stock_restic_reads_what_lies_in_azure_from_a_copy() {
    let cloud = Cloud::azure();
    cloud.world.write("src/noise", &noise(1));
    cloud.ok(&["protect", "src", "-q"]);
    let copy = cloud.world.path("copy");
    let copy = copy.to_str().unwrap();
    let init = cloud.run(&["-r", copy, "init"]);
    assert_eq!(init.code, Some(0), "{init}");
    let mut environment = cloud.environment();
    environment.push(("ALIDADE_TO_PASSWORD", PASSWORD.to_owned()));
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, &**value)).collect();
    let copied = cloud.bare(&["copy", "--to", copy], &environment);
    assert_eq!(copied.code, Some(0), "{copied}");
    restic(&cloud.world, &["-r", copy, "check", "--read-data"], &[]);
    let target = cloud.world.path("by-restic");
    restic(
        &cloud.world,
        &["-r", copy, "restore", "latest", "--target", target.to_str().unwrap()],
        &[],
    );
    let source = cloud.world.path("src");
    let back = target.join(source.strip_prefix("/").unwrap());
    assert_eq!(fs::read(back.join("noise")).unwrap(), noise(1));
}

#[test]
fn stock_restic_and_we_read_and_continue_each_others_bucket_of_google() {
    let cloud = Cloud::google();
    cloud.world.write("src/noise", &noise(1));
    cloud.ok(&["protect", "src", "-q"]);
    let Server::Google(server) = &cloud.server else { panic!("it is Google's") };
    // By the JSON API, which is what restic speaks.
    let address = server.json_address().to_string();
    let environment = [("STORAGE_EMULATOR_HOST", &*address), ("GOOGLE_ACCESS_TOKEN", "token")];
    let place = cloud.place();
    let restic =
        |words: &[&str]| restic(&cloud.world, &[&["-r", &place], words].concat(), &environment);
    restic(&["check", "--read-data"]);
    let (target, source) = (cloud.world.path("by-restic"), cloud.world.path("src"));
    restic(&["restore", "latest", "--target", target.to_str().unwrap()]);
    let back = target.join(source.strip_prefix("/").unwrap());
    assert_eq!(fs::read(back.join("noise")).unwrap(), noise(1));
    cloud.world.write("src/more", &noise(2));
    restic(&["backup", source.to_str().unwrap()]);
    cloud.comes_back("of-restic");
    cloud.ok(&["check", "--read-data"]);
}

#[test]
fn a_local_repository_is_copied_into_a_cloud() {
    for cloud in Cloud::all() {
        let local = cloud.world.path("local");
        let local = local.to_str().unwrap();
        for verb in [&["init"][..], &["protect", "src", "-q"]] {
            let run = cloud.bare(&[verb, &["-r", local]].concat(), &[]);
            assert_eq!(run.code, Some(0), "{run}");
        }
        let mut environment = cloud.environment();
        environment.push(("ALIDADE_TO_PASSWORD", PASSWORD.to_owned()));
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (*name, &**value)).collect();
        let place = cloud.place();
        let copied = cloud.bare(&["-r", local, "copy", "--to", &place], &environment);
        assert_eq!(copied.code, Some(0), "{}: {copied}", cloud.name());
        cloud.comes_back("out");
        cloud.ok(&["check", "--read-data"]);
    }
}

/// A backup, a restore and a check, while every request that is meant fails once.
fn survives(cloud: &Cloud, fault: &Fault, is_meant: fn(&Seen) -> bool) {
    for seed in 0..6 {
        cloud.world.write(&format!("src/noise-{seed}"), &noise(seed));
    }
    let (fault, mut known) = (fault.clone(), BTreeSet::new());
    let said = format!("{} {fault:?}", cloud.name());
    cloud.proxy.decide(move |seen| {
        let is_first = known.insert((seen.method.clone(), seen.target.clone()));
        if is_first && is_meant(seen) { fault.clone() } else { Fault::None }
    });
    cloud.proxy.forget();
    assert_eq!(cloud.json(&["protect", "src", "--pack-size", "4"])["status"], "done", "{said}");
    cloud.comes_back("out");
    cloud.ok(&["check", "--read-data", "--no-cache"]);
    let seen = cloud.proxy.seen();
    let meant: Vec<_> = seen.iter().filter(|seen| is_meant(seen)).collect();
    let distinct: BTreeSet<_> = meant.iter().map(|seen| (&seen.method, &seen.target)).collect();
    assert!(meant.len() > distinct.len(), "{said}: nothing was sent again");
}

#[test]
fn a_cloud_that_is_busy_is_asked_again() {
    for cloud in Cloud::all() {
        survives(
            &cloud,
            &Fault::Answer(503, "<Error><Code>ServerBusy</Code></Error>".into()),
            |_| true,
        );
    }
}

#[test]
fn answers_of_a_cloud_that_are_lost_after_the_deed_change_nothing() {
    for cloud in Cloud::all() {
        let is_deed = |seen: &Seen| matches!(&*seen.method, "PUT" | "DELETE" | "POST");
        survives(&cloud, &Fault::LoseAnswer, is_deed);
    }
}

#[test]
fn answers_of_a_cloud_that_break_off_are_asked_for_again() {
    for cloud in Cloud::all() {
        survives(&cloud, &Fault::CutAnswer(100), |seen| seen.method == "GET");
    }
}

#[test]
fn files_are_put_in_a_cloud_only_where_none_is() {
    for cloud in Cloud::all() {
        cloud.proxy.forget();
        cloud.ok(&["protect", "src", "-q"]);
        let seen = cloud.proxy.seen();
        let puts: Vec<_> = seen.iter().filter(|seen| seen.method == "PUT").collect();
        assert!(puts.len() >= 4, "{}: {puts:?}", cloud.name());
        for put in puts {
            let (condition, value) = match cloud.server {
                Server::Azure(_) => ("if-none-match", "*"),
                Server::Google(_) => ("x-goog-if-generation-match", "0"),
            };
            assert_eq!(put.field(condition), Some(value), "{put:?}");
        }
    }
}

/// What is said when a store refuses, or cannot be asked for what is missing.
fn is_refused(cloud: &Cloud, environment: &[(&str, &str)], code: i32, hint: &str) {
    for verb in [&["snapshots"][..], &["protect", "src"], &["init"]] {
        let run = cloud.bare(verb, environment);
        assert_eq!(run.code, Some(code), "{} {verb:?} {environment:?}: {run}", cloud.name());
        assert!(run.err.starts_with("error: "), "{run}");
        assert!(run.err.contains(&format!("hint: {hint}")), "{run}");
    }
}

const REFUSED: &str = "the store refuses these credentials";

#[test]
fn wrong_keys_of_azure_are_refused_with_a_hint() {
    let cloud = Cloud::azure();
    let Server::Azure(server) = &cloud.server else { panic!("it is Azure's") };
    let (account, _) = server.key();
    let endpoint = format!("http://{}/{account}", server.address());
    let place = [("AZURE_ACCOUNT_NAME", account), ("AZURE_STORAGE_ENDPOINT", &*endpoint)];
    let old = server.signature("rwdlacup", "2020-01-01T00:00:00Z");
    let changed = server.signature("rl", "2099-01-01T00:00:00Z").replace("sp=rl", "sp=rwdlacup");
    for (name, value) in [
        ("AZURE_ACCOUNT_KEY", "d3Jvbmc="),
        ("AZURE_STORAGE_KEY", "d3Jvbmc="),
        ("AZURE_ACCOUNT_SAS", &*old),
        ("AZURE_STORAGE_SAS_TOKEN", &*changed),
    ] {
        is_refused(&cloud, &[&place[..], &[(name, value)]].concat(), 1, REFUSED);
    }
    let usage = "which credentials are used is said under `Environment`";
    is_refused(&cloud, &[&place[..], &[("AZURE_ACCOUNT_KEY", "no base64")]].concat(), 2, usage);
    is_refused(&cloud, &[("AZURE_ACCOUNT_KEY", "d3Jvbmc=")], 2, usage);
    // What may only be read is read, and nothing is put.
    let reading = server.signature("rl", "2099-01-01T00:00:00Z");
    let reading = [&place[..], &[("AZURE_ACCOUNT_SAS", &reading)]].concat();
    let read = cloud.bare(&["snapshots", "--no-lock"], &reading);
    assert_eq!(read.code, Some(0), "{read}");
    let put = cloud.bare(&["protect", "src"], &reading);
    assert_eq!(put.code, Some(1), "{put}");
    assert!(put.err.contains(&format!("hint: {REFUSED}")), "{put}");
    assert!(!put.err.contains("sig="), "the signature is a secret: {put}");
}

#[test]
fn a_shared_access_signature_is_as_good_as_a_key() {
    let cloud = Cloud::azure();
    let Server::Azure(server) = &cloud.server else { panic!("it is Azure's") };
    let (account, key) = server.key();
    let endpoint = format!("http://{}/{account}", server.address());
    let signature = server.signature("rwdlacup", "2099-01-01T00:00:00Z");
    let question = format!("?{signature}");
    for (target, said) in [
        ("one", [("AZURE_ACCOUNT_NAME", account), ("AZURE_ACCOUNT_SAS", &*signature)]),
        ("two", [("AZURE_STORAGE_ACCOUNT", account), ("AZURE_STORAGE_SAS_TOKEN", &*question)]),
        ("three", [("AZURE_STORAGE_ACCOUNT", account), ("AZURE_STORAGE_KEY", &*key)]),
    ] {
        let environment = [&said[..], &[("AZURE_STORAGE_ENDPOINT", &*endpoint)]].concat();
        for verb in [
            &["protect", "src", "-q"][..],
            &["restore", "src", "--target", target, "-q"],
            &["check", "--read-data"],
        ] {
            let run = cloud.bare(verb, &environment);
            assert_eq!(run.code, Some(0), "{verb:?} {said:?}: {run}");
        }
        cloud.comes_back(&format!("{target}-again"));
    }
}

#[test]
fn wrong_credentials_of_google_are_refused_with_a_hint() {
    let cloud = Cloud::google();
    let base = format!("http://{}", cloud.proxy.address());
    let body = "<Error><Code>AuthenticationRequired</Code></Error>";
    for status in [401, 403] {
        cloud.proxy.decide(move |_| Fault::Answer(status, body.to_owned()));
        is_refused(&cloud, &[("GOOGLE_ACCESS_TOKEN", "x"), ("GOOGLE_BASE_URL", &base)], 1, REFUSED);
    }
    cloud.world.write("odd.json", b"{}");
    let odd = cloud.world.path("odd.json");
    for path in [odd.to_str().unwrap(), "/no/such/file"] {
        let environment = [("GOOGLE_APPLICATION_CREDENTIALS", path), ("GOOGLE_BASE_URL", &base)];
        is_refused(
            &cloud,
            &environment,
            2,
            "which credentials are used is said under `Environment`",
        );
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "that it ends in time is what is tested")]
fn a_cloud_that_is_not_there_is_14() {
    let world = World::new();
    let nobody: SocketAddr = free();
    let url = format!("http://{nobody}");
    for (place, environment) in [
        (
            "azure:bucket:/a",
            vec![
                ("AZURE_ACCOUNT_NAME", "a"),
                ("AZURE_ACCOUNT_KEY", "d3Jvbmc="),
                ("AZURE_STORAGE_ENDPOINT", &*url),
            ],
        ),
        ("gs:bucket:/a", vec![("GOOGLE_ACCESS_TOKEN", "x"), ("GOOGLE_BASE_URL", &*url)]),
    ] {
        let mut command = world.command(&["snapshots", "-r", place, "--retry-store", "1s"]);
        command.env("ALIDADE_PASSWORD", PASSWORD).envs(environment);
        let begun = Instant::now();
        let run = World::of(command.output().unwrap());
        assert_eq!(run.code, Some(14), "{run}");
        assert!(run.err.contains("error: ") && run.err.contains("hint: "), "{run}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
