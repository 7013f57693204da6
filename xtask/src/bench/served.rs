//! A repository in a bucket that is far away: versitygw on the repository's folder, behind a [`Delay`].

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alidade_entity::{Cancel, Cx};
use anyhow::{Context, Result, bail};

use super::delay::Delay;
use super::meter;
use super::place;

/// How much later each answer comes.
const LATENCY: Duration = Duration::from_millis(20);
/// The same for all runs: what a tool writes down about the place stays true.
const ADDRESS: &str = "127.0.0.1:19378";
/// The key of every server; a real one would not stand here.
pub(super) const KEY: (&str, &str) = ("bench", "bench-secret");
pub(super) const REGION: &str = "us-east-1";
/// Where versitygw keeps what is not complete yet, in the bucket.
const SCRATCH: &str = ".sgwtmp";
/// How long a server may take until it listens.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where a tool finds a repository that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The server, with scheme and port.
    pub(super) server: String,
    pub(super) bucket: String,
}

/// A server on a repository's folder, for as long as this lives.
pub(super) struct Served {
    server: Child,
    delay: Delay,
    repository: PathBuf,
}

impl Served {
    /// Serves a folder as the bucket of its name.
    pub(super) fn start(versitygw: &Path, repository: &Path) -> Result<Self> {
        let repository =
            repository.canonicalize().with_context(|| format!("find {}", repository.display()))?;
        let root = repository.parent().context("find what the repository lies in")?;
        let address = free()?;
        let server = Command::new(versitygw)
            .args(["--access", KEY.0, "--secret", KEY.1, "--region", REGION, "--quiet"])
            .arg("--port")
            .arg(address.to_string())
            .arg("posix")
            .arg(root)
            .env_clear()
            .env("HOME", root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start versitygw")?;
        let far: SocketAddr = ADDRESS.parse().context("read the address of the bucket")?;
        // From here on it is ended whatever happens.
        let mut starting = Starting(Some(server));
        starting.listens(address)?;
        let delay = Delay::before(far, address, LATENCY)?;
        let server = starting.0.take().context("keep the server")?;
        Ok(Self { server, delay, repository })
    }

    /// Where tools find it.
    pub(super) fn address(&self) -> Address {
        let bucket = self.repository.file_name().unwrap_or_default().to_string_lossy();
        let server = format!("http://{}", self.delay.address());
        Address { server, bucket: bucket.into_owned() }
    }

    /// CPU time that the server and this program, which is the line to it, took so far.
    pub(super) fn cpu_us(&self) -> Result<u64> {
        Ok(meter::process_us(self.server.id())? + meter::process_us(std::process::id())?)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        end(&mut self.server);
        if let Err(error) = place::remove(&self.repository.join(SCRATCH)) {
            eprintln!("warning: what a server left is still there: {error:#}");
        }
    }
}

/// A server that may never listen.
struct Starting(Option<Child>);

impl Starting {
    fn listens(&mut self, address: SocketAddr) -> Result<()> {
        let cx = Cx::system(Cancel::default());
        let begun = cx.clock().elapsed();
        while cx.clock().elapsed() - begun < PATIENCE {
            if TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            if let Some(server) = &mut self.0
                && let Some(ended) = server.try_wait().context("look at versitygw")?
            {
                bail!("versitygw ended with {ended}");
            }
            cx.clock().sleep(Duration::from_millis(20));
        }
        bail!("versitygw does not listen");
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(server) = &mut self.0 {
            end(server);
        }
    }
}

/// A server that has ended cannot be ended, and need not be.
fn end(server: &mut Child) {
    drop(server.kill());
    drop(server.wait());
}

fn free() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
    listener.local_addr().context("find a free port")
}
