//! OpenSSH's server, for the user who runs the test, with keys of its own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{free, listens, stop};

const SSHD: &str = "/usr/sbin/sshd";
const SSH: &str = "/usr/bin/ssh";

/// A server on the loopback that knows nothing but SFTP.
#[derive(Debug)]
pub struct SftpServer {
    child: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl SftpServer {
    /// Starts a server.
    ///
    /// # Panics
    /// When it does not listen in time, or OpenSSH is not installed.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("internal-sftp")
    }

    /// Starts one that changes nothing.
    ///
    /// # Panics
    /// As for [`Self::start`].
    #[must_use]
    pub fn start_read_only() -> Self {
        Self::start_with("internal-sftp -R")
    }

    /// Starts one that makes no hard links.
    ///
    /// # Panics
    /// As for [`Self::start`].
    #[must_use]
    pub fn start_without_links() -> Self {
        Self::start_with("internal-sftp -P hardlink")
    }

    fn start_with(program: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("alidade-sftp-").tempdir();
        let directory = directory.expect("there is room for temporary files");
        let at = directory.path();
        for key in ["host", "other", "user"] {
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(at.join(key)));
        }
        if rustix::process::getuid().is_root() {
            // Without it the server of a root does not begin.
            fs::create_dir_all("/run/sshd").expect("root makes directories");
        }
        fs::create_dir(at.join("data")).expect("it is ours");
        for _ in 0..3 {
            let address = free();
            configure(at, address, program);
            let mut child = spawn(at);
            if listens(&mut child, address) {
                let server = Self { child, address, directory };
                server.is_known_by("host");
                return server;
            }
            stop(&mut child);
        }
        let said = fs::read_to_string(at.join("log")).unwrap_or_default();
        panic!("sshd does not listen: {said}");
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A directory there, which is one of this machine's.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The command that reaches it.
    #[must_use]
    pub fn ssh(&self) -> String {
        format!("{SSH} -F {} store -s sftp", self.directory.path().join("config").display())
    }

    /// A directory with a program `ssh` that knows this server and is called like any other.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    /// From now on clients expect another key of it.
    ///
    /// # Panics
    /// When the disk is full.
    pub fn is_taken_for_another(&self) {
        self.is_known_by("other");
    }

    fn is_known_by(&self, key: &str) {
        let at = self.directory.path();
        let key = fs::read_to_string(at.join(format!("{key}.pub"))).expect("it was made");
        let line = format!("[127.0.0.1]:{} {key}", self.address.port());
        fs::write(at.join("known_hosts"), line).expect("it is ours");
    }

    /// How often somebody was let in.
    ///
    /// # Panics
    /// When its log cannot be read.
    #[must_use]
    pub fn logins(&self) -> usize {
        let log = fs::read_to_string(self.directory.path().join("log")).expect("it is ours");
        log.matches("Accepted publickey").count()
    }

    /// Ends all connections, as a network does that breaks; how many processes served them.
    ///
    /// # Panics
    /// When this machine has no `/proc`.
    pub fn cut(&self) -> usize {
        let found = below(self.child.id());
        for process in &found {
            // It may have ended by now.
            kill_process(*process, Signal::KILL).unwrap_or(());
        }
        found.len()
    }

    /// Nobody can reach it from now on.
    pub fn end(&mut self) {
        let served = below(self.child.id());
        // The listener first, so that nobody comes back meanwhile.
        stop(&mut self.child);
        for process in served {
            kill_process(process, Signal::KILL).unwrap_or(());
        }
    }

    /// It listens again where it did.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn begin_again(&mut self) {
        self.child = spawn(self.directory.path());
        assert!(listens(&mut self.child, self.address), "sshd does not listen again");
    }
}

impl Drop for SftpServer {
    fn drop(&mut self) {
        self.end();
    }
}

fn configure(at: &Path, address: SocketAddr, program: &str) {
    let (port, place) = (address.port(), at.display());
    let server = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {place}/host\nPidFile none\nUsePAM no\n\
         AuthorizedKeysFile {place}/user.pub\nStrictModes no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin yes\nMaxStartups 100\nMaxSessions 100\n\
         Subsystem sftp {program}\n"
    );
    let user = Command::new("id").arg("-un").output().expect("`id` starts").stdout;
    let user = String::from_utf8_lossy(&user).trim().to_owned();
    let client = format!(
        "Host store\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\nHost *\n  IdentityFile {place}/user\n  \
         IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {place}/known_hosts\n  \
         GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  BatchMode yes\n"
    );
    let write = |name: &str, text: &str| fs::write(at.join(name), text).expect("it is ours");
    write("sshd_config", &server);
    write("config", &client);
    fs::create_dir_all(at.join("bin")).expect("it is ours");
    write("bin/ssh", &format!("#!/bin/sh\nexec {SSH} -F {place}/config \"$@\"\n"));
    fs::set_permissions(at.join("bin/ssh"), fs::Permissions::from_mode(0o755)).expect("it is ours");
}

fn spawn(at: &Path) -> Child {
    let log = fs::File::create(at.join("log")).expect("it is ours");
    Command::new(SSHD)
        .args(["-D", "-e", "-f"])
        .arg(at.join("sshd_config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("sshd starts: the package openssh-server has it")
}

fn run(command: &mut Command) {
    let ended = command.stdin(Stdio::null()).output().expect("the package openssh-client has it");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

/// The processes that a process began, and those that they began.
fn below(process: u32) -> Vec<Pid> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").expect("this machine has /proc") {
        let Ok(entry) = entry else { continue };
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // It may have ended by now.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse::<u32>().ok()) {
            parents.push((number, parent));
        }
    }
    let mut found = vec![process];
    let mut next = 0;
    while let Some(above) = found.get(next).copied() {
        found
            .extend(parents.iter().filter(|(_, parent)| *parent == above).map(|(child, _)| *child));
        next += 1;
    }
    let raw = found[1..].iter().filter_map(|process| i32::try_from(*process).ok());
    raw.filter_map(Pid::from_raw).collect()
}
