//! Repositories in buckets, on real servers of S3.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use alidade_testkit::proxy::Proxy;
use alidade_testkit::server::{Brand, S3Server, free};
use alidade_testkit::tree::Listing;
use serde_json::Value;

use crate::world::{Run, World};

const PASSWORD: &str = "secret";

/// A world whose repository is in a bucket.
pub(crate) struct Bucket {
    pub(crate) world: World,
    pub(crate) server: S3Server,
    /// Where requests go: the server, or who stands before it.
    pub(crate) address: SocketAddr,
}

impl Bucket {
    /// A new repository on a server of that brand.
    pub(crate) fn new(brand: Brand) -> Self {
        let server = S3Server::start(brand);
        let bucket = Self { world: World::new(), address: server.address(), server };
        bucket.ok(&["init"]);
        bucket
    }

    /// The same repository, by a proxy that notes what passes.
    pub(crate) fn proxied(brand: Brand) -> (Self, Proxy) {
        let bucket = Self::new(brand);
        let proxy = Proxy::before(bucket.address);
        (Self { address: proxy.address(), ..bucket }, proxy)
    }

    /// The place as it is written after `-r`.
    pub(crate) fn place(&self) -> String {
        format!("s3:http://{}/bucket/backups/one", self.address)
    }

    /// A command on the repository, with keys in the environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.command(arguments);
        let (id, key) = self.server.key();
        command
            .env("ALIDADE_REPOSITORY", self.place())
            .env("ALIDADE_PASSWORD", PASSWORD)
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", key);
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        World::of(self.command(arguments).output().unwrap())
    }

    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(run.code, Some(0), "{arguments:?}: {run}");
        run.out
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let run = self.run(&[arguments, &["-o", "json"]].concat());
        assert!(matches!(run.code, Some(0 | 3)), "{arguments:?}: {run}");
        serde_json::from_str(&run.out).unwrap()
    }

    /// Restores the source and compares.
    pub(crate) fn comes_back(&self, target: &str) {
        self.ok(&["restore", "src", "--target", target, "-q"]);
        let source = self.world.path("src");
        let back = self.world.path(target).join(source.strip_prefix("/").unwrap());
        Listing::of(&source).assert_equals(&Listing::of(&back), target);
    }

    /// Stock restic on the same repository.
    fn restic(&self, arguments: &[&str]) -> String {
        let (id, key) = self.server.key();
        let mut command = Command::new(alidade_testkit::peer("restic"));
        command
            .args(["--no-cache", "-r", &self.place()])
            .args(arguments)
            .env_clear()
            .env("HOME", self.world.path("home"))
            .env("RESTIC_PASSWORD", PASSWORD)
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", key);
        let run = World::of(command.output().unwrap());
        assert_eq!(run.code, Some(0), "restic {arguments:?}: {run}");
        run.out
    }
}

/// A MiB that does not compress, another for each seed.
pub(crate) fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..1 << 17).flat_map(step).collect()
}

#[test]
fn a_repository_in_a_bucket_is_as_good_as_one_in_a_directory() {
    for brand in S3Server::BRANDS {
        let bucket = Bucket::new(brand);
        for seed in 0..6 {
            bucket.world.write(&format!("src/noise-{seed}"), &noise(seed));
        }
        let first = bucket.json(&["protect", "src", "--pack-size", "4"]);
        assert_eq!(first["status"], "done", "{brand:?}");
        assert_eq!(bucket.json(&["protect", "src"])["bytes"]["read"], 0, "{brand:?}");
        bucket.comes_back("out");
        bucket.ok(&["check", "--read-data"]);
        let again = bucket.run(&["init"]);
        assert_eq!(again.code, Some(21), "{brand:?}: {again}");
        bucket.restic(&["check", "--read-data"]);
        let source = bucket.world.path("src");
        let source = source.to_str().unwrap();
        bucket.restic(&[
            "restore",
            "latest",
            "--target",
            bucket.world.path("by-restic").to_str().unwrap(),
        ]);
        let back = bucket.world.path("by-restic").join(source.trim_start_matches('/'));
        assert_eq!(fs::read(back.join("noise-3")).unwrap(), noise(3), "{brand:?}");
        bucket.restic(&["backup", source]);
        bucket.comes_back("of-restic");
    }
}

#[test]
fn requests_are_counted_are_few_and_carry_checksums() {
    for brand in S3Server::BRANDS {
        let (bucket, proxy) = Bucket::proxied(brand);
        bucket.world.write("src/noise", &noise(1));
        for (round, arguments) in [["protect", "src"], ["protect", "src"], ["check", "--read-data"]]
            .into_iter()
            .enumerate()
        {
            proxy.forget();
            let doc = bucket.json(&arguments);
            let seen = proxy.seen();
            let doc = doc.get("outcome").unwrap_or(&doc);
            let requests = doc["traffic"]["requests"].as_object().unwrap();
            let counted: u64 = requests.values().map(|count| count.as_u64().unwrap()).sum();
            assert_eq!(
                counted,
                seen.len() as u64,
                "{brand:?} {round}: {requests:?} {:?}",
                seen.iter().map(|seen| (&seen.method, &seen.target)).collect::<Vec<_>>()
            );
            let lists = requests.get("list").and_then(Value::as_u64).unwrap_or(0);
            let of =
                |seen: &alidade_testkit::proxy::Seen| (seen.method.clone(), seen.target.clone());
            let all: Vec<_> = seen.iter().map(of).collect();
            assert!(
                lists <= 5 || arguments[0] == "check",
                "{brand:?} {round}: {lists} listings: {all:#?}"
            );
            let sent: u64 = seen.iter().map(|request| request.len).sum();
            assert_eq!(doc["traffic"]["sent"].as_u64(), Some(sent), "{brand:?} {round}");
            for put in seen.iter().filter(|request| request.method == "PUT") {
                assert!(put.has("x-amz-checksum-sha256"), "{brand:?}: {put:?}");
                assert!(put.has("if-none-match"), "{brand:?}: {put:?}");
            }
        }
    }
}

/// As in a small container.
#[test]
fn a_machine_without_certificates_needs_none_for_what_speaks_no_tls() {
    let bucket = Bucket::new(Brand::Versity);
    let bare = |place: &str| {
        let mut command = bucket.command(&["-r", place, "snapshots", "--retry-store", "2s"]);
        command.env("SSL_CERT_FILE", "/no/such/file").env("SSL_CERT_DIR", "/no/such/directory");
        World::of(command.output().unwrap())
    };
    let run = bare(&bucket.place());
    assert_eq!(run.code, Some(0), "{run}");
    let run = bare("s3:https://127.0.0.1:1/bucket/one");
    assert_eq!(run.code, Some(14), "{run}");
}

#[test]
fn a_large_pack_goes_in_parts() {
    let (bucket, proxy) = Bucket::proxied(Brand::Minio);
    for seed in 0..70 {
        bucket.world.write(&format!("src/noise-{seed}"), &noise(seed));
    }
    bucket.ok(&["protect", "src", "-q", "--pack-size", "128"]);
    let seen = proxy.seen();
    let parts = seen.iter().filter(|request| request.target.contains("partNumber=")).count();
    assert!(parts >= 5, "{parts} parts");
    assert!(seen.iter().all(|request| request.len <= 64 << 20), "no request is larger");
    bucket.comes_back("out");
    bucket.restic(&["check", "--read-data"]);
}

#[test]
fn keys_come_from_where_the_clouds_tools_look_for_them() {
    let bucket = Bucket::new(Brand::Versity);
    let (id, key) = bucket.server.key();
    let bare = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = bucket.world.command(arguments);
        command.env("ALIDADE_REPOSITORY", bucket.place()).env("ALIDADE_PASSWORD", PASSWORD);
        World::of(command.envs(variables.iter().copied()).output().unwrap())
    };
    fs::create_dir(bucket.world.path("home/.aws")).unwrap();
    let text = format!("[work]\naws_access_key_id = {id}\naws_secret_access_key = {key}\n");
    fs::write(bucket.world.path("home/.aws/credentials"), text).unwrap();
    let by_profile = bare(&["snapshots"], &[("AWS_PROFILE", "work")]);
    assert_eq!(by_profile.code, Some(0), "{by_profile}");
    let no_profile = bare(&["snapshots"], &[("AWS_PROFILE", "play")]);
    assert_eq!(no_profile.code, Some(2), "{no_profile}");
    // Without keys the machine's own role is asked for, here where nobody answers.
    let nobody = format!("http://{}", free());
    let none = bare(&["snapshots", "--retry-store", "2s"], &[("AWS_METADATA_ENDPOINT", &nobody)]);
    assert_eq!(none.code, Some(14), "{none}");
    let wrong = [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", "wrong")];
    let wrong = bare(&["snapshots"], &wrong);
    assert_eq!(wrong.code, Some(1), "{wrong}");
    assert!(wrong.err.contains("hint: the store refuses these credentials"), "{wrong}");
}

/// A certificate for the loopback that nobody vouches for, and its key.
pub(crate) fn certificate(directory: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=test"]);
    for extension in ["subjectAltName=IP:127.0.0.1", "basicConstraints=critical,CA:FALSE"] {
        openssl.args(["-addext", extension]);
    }
    openssl.arg("-keyout").arg(&key).arg("-out");
    let made = openssl.arg(&certificate).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (certificate, key)
}

#[test]
fn a_server_behind_tls_is_trusted_by_its_certificate() {
    let world = World::new();
    let (certificate, key) = certificate(&world.path("home"));
    let server = S3Server::start_with(Brand::Minio, Some((&certificate, &key)));
    let run = |arguments: &[&str]| {
        let (id, key) = server.key();
        let mut command = world.command(arguments);
        command
            .env("ALIDADE_REPOSITORY", format!("s3:https://{}/bucket", server.address()))
            .env("ALIDADE_PASSWORD", PASSWORD)
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", key);
        World::of(command.output().unwrap())
    };
    let unknown = run(&["init"]);
    assert_eq!(unknown.code, Some(14), "{unknown}");
    assert!(unknown.err.contains("--cacert"), "{unknown}");
    let trusted = ["--cacert", certificate.to_str().unwrap()];
    for verb in [&["init"][..], &["protect", "src"], &["restore", "src", "--target", "out"]] {
        let run = run(&[verb, &trusted].concat());
        assert_eq!(run.code, Some(0), "{run}");
    }
    let absent = run(&["snapshots", "--cacert", "/no/such/file"]);
    assert_eq!(absent.code, Some(2), "{absent}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how long it takes at least is what is tested")]
fn what_goes_over_the_wire_is_limited() {
    let bucket = Bucket::new(Brand::Versity);
    for seed in 0..4 {
        bucket.world.write(&format!("src/noise-{seed}"), &noise(seed));
    }
    let begun = Instant::now();
    bucket.ok(&["protect", "src", "-q", "--limit-upload", "2M", "--pack-size", "4"]);
    // The last request is not waited for.
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    let begun = Instant::now();
    bucket.ok(&["restore", "src", "--target", "out", "-q", "--limit-download", "2M"]);
    assert!(begun.elapsed() > Duration::from_millis(1500), "{:?}", begun.elapsed());
    let none = bucket.run(&["snapshots", "--limit-upload", "0"]);
    assert_eq!(none.code, Some(2), "{none}");
}

#[test]
fn a_store_that_is_not_there_is_14() {
    let world = World::new();
    let place = format!("s3:http://{}/bucket", free());
    for verb in [&["init"][..], &["snapshots"], &["protect", "src"]] {
        let mut command = world.command(&[verb, &["--retry-store", "1s"]].concat());
        command.env("ALIDADE_REPOSITORY", &place).env("ALIDADE_PASSWORD", PASSWORD);
        command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
        let run = World::of(command.output().unwrap());
        assert_eq!(run.code, Some(14), "{run}");
        assert!(run.err.contains("error: ") && run.err.contains("hint: "), "{run}");
    }
}
