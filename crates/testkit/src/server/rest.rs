//! restic's own server of its REST protocol.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{free, listens, stop};
use crate::peer::peer;

/// The one who may come in, and the password: with everything an address has to escape.
const LOGIN: (&str, &str) = ("anna", "p@ss:w/1");
/// The same as the server keeps it.
const HTPASSWD: &str = "anna:{SHA}iUzsFnDxGkOevODpmpYApEUXk6I=\n";

/// What the server is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct RestOptions<'a> {
    /// It removes nothing but locks.
    pub append_only: bool,
    /// It wants to know who asks.
    pub login: bool,
    /// The certificate and the key behind which it speaks, PEM files.
    pub tls: Option<(&'a Path, &'a Path)>,
}

/// A server on the loopback, with an empty directory.
#[derive(Debug)]
pub struct RestServer {
    child: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl RestServer {
    /// Starts a server.
    ///
    /// # Panics
    /// When it does not listen in time.
    #[must_use]
    pub fn start(options: RestOptions<'_>) -> Self {
        let directory = tempfile::Builder::new().prefix("alidade-rest-").tempdir();
        let directory = directory.expect("there is room for temporary files");
        fs::write(directory.path().join("htpasswd"), HTPASSWD).expect("it is ours");
        fs::create_dir(directory.path().join("data")).expect("it is ours");
        for _ in 0..3 {
            let address = free();
            let mut child = command(options, address, directory.path());
            if listens(&mut child, address) {
                return Self { child, address, directory };
            }
            stop(&mut child);
        }
        let said = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        panic!("rest-server does not listen: {said}");
    }

    /// Starts it again on the same directory and address, with other options.
    ///
    /// # Panics
    /// When it does not listen in time.
    pub fn restart(&mut self, options: RestOptions<'_>) {
        stop(&mut self.child);
        self.child = command(options, self.address, self.directory.path());
        assert!(listens(&mut self.child, self.address), "rest-server does not listen again");
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The user and the password.
    #[must_use]
    pub fn login() -> (&'static str, &'static str) {
        LOGIN
    }

    /// Where its repositories lie on this machine's disk.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

fn command(options: RestOptions<'_>, address: SocketAddr, directory: &Path) -> Child {
    let mut command = Command::new(peer("rest-server"));
    command.arg("--listen").arg(address.to_string());
    command.arg("--path").arg(directory.join("data"));
    if options.login {
        command.arg("--htpasswd-file").arg(directory.join("htpasswd"));
    } else {
        command.arg("--no-auth");
    }
    if options.append_only {
        command.arg("--append-only");
    }
    if let Some((certificate, key)) = options.tls {
        command.arg("--tls").arg("--tls-cert").arg(certificate).arg("--tls-key").arg(key);
    }
    let log = fs::File::create(directory.join("log")).expect("it is ours");
    let errors = log.try_clone().expect("there is a descriptor left");
    command.env_clear().env("HOME", directory);
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    command.spawn().expect("a peer starts")
}
