//! Emulators of the clouds that have no open server: Azurite for Azure, fake-gcs-server for Google.

mod held_parts;
mod json_put;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use self::json_put::JsonPut;
use crate::peer::peer;
use crate::server::{free, listens, stop};

/// The account of every Azurite, and its key; a real one would not stand here.
const ACCOUNT: &str = "testbench";
const KEY: &[u8; 64] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A program that listens on the loopback, with a directory of its own.
#[derive(Debug)]
struct Emulator {
    child: Child,
    address: SocketAddr,
    /// What it writes to, for as long as it is there.
    _directory: tempfile::TempDir,
}

impl Emulator {
    /// Starts what `command` says for an address and a directory; another address where it is taken.
    fn start(name: &str, command: impl Fn(SocketAddr, &std::path::Path) -> Command) -> Self {
        let directory = tempfile::Builder::new().prefix("alidade-cloud-").tempdir_in("/var/tmp");
        let directory = directory.expect("there is room on /var/tmp");
        let log = directory.path().join("log");
        for _ in 0..3 {
            let address = free();
            let mut command = command(address, directory.path());
            let out = fs::File::create(&log).expect("it is ours");
            let errors = out.try_clone().expect("there is a descriptor left");
            command
                .env_clear()
                .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
                .env("HOME", directory.path())
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(errors);
            if name == "azurite" {
                command.env("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{}", STANDARD.encode(KEY)));
            }
            let mut child = command.spawn().expect("a peer starts");
            if listens(&mut child, address) {
                return Self { child, address, _directory: directory };
            }
            stop(&mut child);
        }
        panic!("{name} does not listen: {}", fs::read_to_string(log).unwrap_or_default());
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// Azurite on the loopback, with one container named `bucket`.
#[derive(Debug)]
pub struct AzureServer {
    emulator: Emulator,
}

impl AzureServer {
    /// Starts it on an empty directory.
    ///
    /// # Panics
    /// When it does not listen in time, or makes no container.
    #[must_use]
    pub fn start() -> Self {
        let emulator = Emulator::start("azurite", |address, directory| {
            let mut command = Command::new(peer("azurite"));
            command.arg("--location").arg(directory.join("data"));
            command.arg("--blobHost").arg(address.ip().to_string());
            command.arg("--blobPort").arg(address.port().to_string());
            command.args(["--silent", "--disableTelemetry"]);
            command
        });
        let server = Self { emulator };
        let signature = server.signature("rwdlacup", "2099-01-01T00:00:00Z");
        let target = format!("/{ACCOUNT}/bucket?restype=container&{signature}");
        let said = ask(server.address(), "PUT", &target, "");
        assert!(said.starts_with("HTTP/1.1 201"), "no container was made: {said}");
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.emulator.address
    }

    /// The account's name and its key.
    #[must_use]
    pub fn key(&self) -> (&'static str, String) {
        (ACCOUNT, STANDARD.encode(KEY))
    }

    /// A shared access signature of the account: what its letters allow, until then.
    ///
    /// # Panics
    /// Never: a key may have any length.
    #[must_use]
    pub fn signature(&self, allowed: &str, until: &str) -> String {
        // Version, blobs, all kinds of resources, with or without TLS.
        const VERSION: &str = "2019-12-12";
        let text = format!("{ACCOUNT}\n{allowed}\nb\nsco\n\n{until}\n\nhttps,http\n{VERSION}\n");
        let mut keyed =
            <Hmac<Sha256> as KeyInit>::new_from_slice(KEY).expect("a key may have any length");
        keyed.update(text.as_bytes());
        let signed = STANDARD.encode(keyed.finalize().into_bytes());
        let signed = signed.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let until = until.replace(':', "%3A");
        format!("sv={VERSION}&ss=b&srt=sco&sp={allowed}&se={until}&spr=https%2Chttp&sig={signed}")
    }
}

/// fake-gcs-server on the loopback, with one bucket named `bucket`. It asks for no credentials, and takes puts of
/// the XML API by a translator that stands before it.
#[derive(Debug)]
pub struct GoogleServer {
    put: JsonPut,
    emulator: Emulator,
}

impl GoogleServer {
    /// Starts it on an empty bucket.
    ///
    /// # Panics
    /// When it does not listen in time.
    #[must_use]
    pub fn start() -> Self {
        let emulator = Emulator::start("fake-gcs-server", |address, directory| {
            let data = directory.join("data");
            fs::create_dir_all(data.join("bucket")).expect("it is ours");
            let mut command = Command::new(peer("fake-gcs-server"));
            command.args(["-scheme", "http", "-backend", "memory", "-log-level", "warn"]);
            command.args(["-host", &address.ip().to_string()]);
            command.args(["-port", &address.port().to_string()]);
            // Whatever stands before it asks for this host, and a port of its own.
            command.args(["-public-host", &address.ip().to_string()]);
            command.arg("-data").arg(data);
            command
        });
        Self { put: JsonPut::before(emulator.address), emulator }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.put.address()
    }

    /// Where it listens for those that speak the JSON API themselves.
    #[must_use]
    pub fn json_address(&self) -> SocketAddr {
        self.emulator.address
    }
}

/// One request, and the whole answer.
fn ask(server: SocketAddr, method: &str, target: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(server).expect("it listens");
    let len = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {server}\r\nContent-Length: {len}\r\n\
         x-ms-version: 2019-12-12\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}
