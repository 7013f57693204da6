//! Servers of stores, started for a test and ended with it.

mod rest;
mod sftp;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::key_giver::Keys;
use crate::peer::peer;

pub use rest::{RestOptions, RestServer};
pub use sftp::SftpServer;

/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(20);
/// The key of every server; a real one would not stand here.
const KEY: (&str, &str) = ("testbench", "testbench-secret");
/// How many sessions are begun before somebody asks for their keys.
const AHEAD: usize = 3;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brand {
    /// versitygw on a directory.
    Versity,
    /// MinIO on a directory.
    Minio,
}

/// A server of S3 on the loopback, with one bucket named `bucket`.
#[derive(Debug)]
pub struct S3Server {
    child: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
    is_waited: bool,
}

impl S3Server {
    /// Both servers that there are.
    pub const BRANDS: [Brand; 2] = [Brand::Versity, Brand::Minio];

    /// Starts a server on an empty directory.
    ///
    /// # Panics
    /// When it does not listen in time.
    #[must_use]
    pub fn start(brand: Brand) -> Self {
        Self::start_with(brand, None)
    }

    /// The same behind TLS, with the certificate and key in these PEM files.
    ///
    /// # Panics
    /// When it does not listen in time.
    #[must_use]
    pub fn start_with(brand: Brand, tls: Option<(&Path, &Path)>) -> Self {
        // On a disk: the servers need extended attributes and unbuffered writes.
        let directory = tempfile::Builder::new().prefix("alidade-s3-").tempdir_in("/var/tmp");
        let directory = directory.expect("there is room on /var/tmp");
        fs::create_dir_all(directory.path().join("data/bucket")).expect("it is ours");
        for _ in 0..3 {
            let address = free();
            let mut child = command(brand, address, directory.path(), tls);
            if listens(&mut child, address) {
                return Self { child, address, directory, is_waited: true };
            }
            stop(&mut child);
        }
        let said = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        panic!("{brand:?} does not listen: {said}");
    }

    /// Is not waited for when it is ended: the system counts what a process took with its parent's children
    /// when it is waited for.
    #[must_use]
    pub fn unwaited(self) -> Self {
        let mut server = self;
        server.is_waited = false;
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key's id and the key.
    #[must_use]
    pub fn key(&self) -> (&'static str, &'static str) {
        KEY
    }

    /// Gives keys of a new session each time, by this server's own token service. Some are there before they are
    /// asked for: who asks waits five seconds at most, and a busy machine may take longer for one.
    ///
    /// # Panics
    /// When it gives none, as versitygw does.
    pub fn sessions(&self) -> impl FnMut() -> Keys + Send + 'static {
        let server = format!("http://{}/", self.address);
        let (ahead, keys) = sync_channel(AHEAD);
        // Until the server has ended, or nobody asks any more.
        std::thread::spawn(move || {
            while let Some(keys) = session(&server)
                && ahead.send(keys).is_ok()
            {}
        });
        move || keys.recv().expect("the server gives keys of sessions")
    }

    /// Its bucket on this machine's disk, in a form of its own.
    #[must_use]
    pub fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data/bucket")
    }
}

/// A new session of the server at that address, if it gives any.
fn session(server: &str) -> Option<Keys> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--aws-sigv4", "aws:amz:us-east-1:sts"]);
    curl.args(["--user", &format!("{}:{}", KEY.0, KEY.1)]);
    curl.args(["--data", "Action=AssumeRole&Version=2011-06-15&DurationSeconds=900"]);
    let said = curl.arg(server).output().expect("curl starts");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let field = |name: &str| {
        let text = said.split(&format!("<{name}>")).nth(1)?;
        text.split("</").next().map(str::to_owned)
    };
    Some(Keys {
        id: field("AccessKeyId")?,
        key: field("SecretAccessKey")?,
        token: field("SessionToken")?,
    })
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if self.is_waited {
            stop(&mut self.child);
        } else {
            drop(self.child.kill());
        }
    }
}

fn command(
    brand: Brand,
    address: SocketAddr,
    directory: &Path,
    tls: Option<(&Path, &Path)>,
) -> Child {
    let (data, address) = (directory.join("data"), address.to_string());
    let mut command = match brand {
        Brand::Versity => {
            let mut command = Command::new(peer("versitygw"));
            command.args(["--access", KEY.0, "--secret", KEY.1, "--port", &address, "--quiet"]);
            if let Some((certificate, key)) = tls {
                command.arg("--cert").arg(certificate).arg("--key").arg(key);
            }
            command.arg("posix").arg(&data);
            command
        }
        Brand::Minio => {
            let mut command = Command::new(peer("minio"));
            command.args(["server", "--quiet", "--address", &address]).arg(&data);
            let certificates = directory.join("certificates");
            if let Some((certificate, key)) = tls {
                fs::create_dir_all(&certificates).expect("it is ours");
                fs::copy(certificate, certificates.join("public.crt")).expect("it is a file");
                fs::copy(key, certificates.join("private.key")).expect("it is a file");
            }
            command.arg("--certs-dir").arg(&certificates);
            command
        }
    };
    let log = fs::File::create(directory.join("log")).expect("it is ours");
    let errors = log.try_clone().expect("there is a descriptor left");
    command
        .env_clear()
        .env("HOME", directory)
        .env("MINIO_ROOT_USER", KEY.0)
        .env("MINIO_ROOT_PASSWORD", KEY.1)
        .env("MINIO_BROWSER", "off")
        .env("MINIO_UPDATE", "off")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    command.spawn().expect("a peer starts")
}

/// An address of the loopback where nobody listens.
#[must_use]
pub fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it listens")
}

/// Waits until a program listens there; false when it ends before, or never does.
pub(crate) fn listens(child: &mut Child, address: SocketAddr) -> bool {
    let mut waited = Duration::ZERO;
    while waited < PATIENCE && child.try_wait().is_ok_and(|ended| ended.is_none()) {
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        std::thread::sleep(STEP);
        waited += STEP;
    }
    false
}

/// A server that is there no more cannot be stopped, and need not be.
pub(crate) fn stop(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}
