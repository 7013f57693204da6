//! The addresses of a cluster, and the links between its machines.
//!
//! A cluster has one network of its own, 10.N.0.0/16, and no other cluster or link of this host has
//! addresses in it. The host has one link into it, to the control machine, which holds the bridge
//! that joins the nodes. So all of it goes with that machine. Nothing leads on to another network.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{advise, wait};

/// The networks that clusters can have: 10.N.0.0/16.
const NUMBERS: Range<u8> = 200..250;

/// How long another run may take to choose.
const PATIENCE: Duration = Duration::from_secs(60);

/// The network of one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Network {
    number: u8,
}

impl Network {
    fn address(self, third: u8, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.number, third, last)
    }

    /// The host's own address in it: what pods call when they mean a server on the host.
    pub(crate) fn host(self) -> Ipv4Addr {
        self.address(0, 1)
    }

    /// The control machine: the API server, at port 6443, and the DNS.
    pub(crate) fn control(self) -> Ipv4Addr {
        self.address(0, 2)
    }

    /// A node, from 1.
    pub(crate) fn node(self, number: u8) -> Ipv4Addr {
        self.address(0, 10 + number)
    }

    /// The addresses of the pods of one node.
    pub(super) fn pods(self, number: u8) -> String {
        format!("{}/24", self.address(64 + number, 0))
    }

    /// The addresses of all pods.
    pub(super) fn all_pods(self) -> String {
        format!("{}/18", self.address(64, 0))
    }

    /// The addresses of services.
    pub(super) fn services(self) -> String {
        format!("{}/20", self.address(128, 0))
    }

    /// The service that is the API server.
    pub(super) fn api_service(self) -> Ipv4Addr {
        self.address(128, 1)
    }

    /// Where the API server is.
    pub(crate) fn api(self) -> String {
        format!("https://{}:6443", self.control())
    }

    /// Joins the control machine, whose first process is `control`, to the host by this link.
    pub(super) fn join_host(self, link: &str, control: i32, nodes: u8) -> Result<()> {
        let host = self.host();
        let mut lines = format!(
            "link add {link} type veth peer name uplink netns {control}\n\
             addr add {host}/24 dev {link}\nlink set dev {link} up\n"
        );
        for node in 1..=nodes {
            writeln!(lines, "route add {} via {}", self.pods(node), self.node(node))?;
        }
        writeln!(lines, "route add {} via {}", self.services(), self.node(1))?;
        let mut inner = format!(
            "link set dev lo up\nlink add nodes type bridge\nlink set dev uplink master nodes up\n\
             addr add {}/24 dev nodes\nlink set dev nodes up\n",
            self.control()
        );
        for node in 1..=nodes {
            writeln!(inner, "route add {} via {}", self.pods(node), self.node(node))?;
        }
        writeln!(inner, "route add {} via {}", self.services(), self.node(1))?;
        // The link has its peer first; addresses and routes need both ends up.
        let (first, rest) = lines.split_once('\n').unwrap_or((&lines, ""));
        ip(None, first)?;
        ip(Some(control), &inner)?;
        ip(None, rest)
    }

    /// Joins a node, whose first process is `pid`, to the control machine.
    pub(super) fn join_node(self, control: i32, number: u8, pid: i32, nodes: u8) -> Result<()> {
        ip(
            None,
            &format!("link add node{number} netns {control} type veth peer name eth0 netns {pid}"),
        )?;
        ip(Some(control), &format!("link set dev node{number} master nodes up"))?;
        let own = self.node(number);
        let mut lines =
            format!("link set dev lo up\naddr add {own}/24 dev eth0\nlink set dev eth0 up\n");
        for other in (1..=nodes).filter(|other| *other != number) {
            writeln!(lines, "route add {} via {}", self.pods(other), self.node(other))?;
        }
        // A service has an address on no link; without a way there the kernel refuses it before
        // kube-proxy's rules can change it.
        writeln!(lines, "route add {} dev eth0 src {own}", self.services())?;
        ip(Some(pid), &lines)
    }
}

/// Removes a link of this host, which takes its addresses and routes along.
pub(super) fn leave(link: &str) -> Result<()> {
    if Path::new("/sys/class/net").join(link).exists() {
        ip(None, &format!("link del {link}"))?;
    }
    Ok(())
}

/// Nobody else on this host chooses a network while this is held.
pub(super) struct Choice {
    _held: File,
}

impl Choice {
    /// Chooses a network that nothing on this host has addresses in. It is taken once its link is
    /// there; hold the choice until then.
    pub(super) fn make() -> Result<(Self, Network)> {
        let held = File::open("/sys").context("open /sys")?;
        wait::until("the choice of a network", PATIENCE, || {
            Ok(match flock(&held, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => ControlFlow::Break(()),
                Err(error) => ControlFlow::Continue(format!("lock /sys: {error}")),
            })
        })?;
        let asked = Command::new("ip")
            .args(["-4", "route", "show", "table", "all"])
            .output()
            .context("run ip route")?;
        ensure!(asked.status.success(), "ip route ended with {}", asked.status);
        let taken = taken(&String::from_utf8_lossy(&asked.stdout));
        let is_free = |number: &u8| {
            let first = u32::from(Ipv4Addr::new(10, *number, 0, 0));
            taken.iter().all(|&(low, high)| high < first || low > first + 0xffff)
        };
        match NUMBERS.into_iter().find(is_free) {
            Some(number) => Ok((Self { _held: held }, Network { number })),
            None => Err(advise(
                "no network is free: all of 10.200.0.0/16 to 10.249.0.0/16 have addresses or routes of this host",
                "`ip route show table all` names them; `cargo xtask cluster down` ends clusters",
            )),
        }
    }
}

/// The ranges of addresses that routes lead to, local ones too; the default route is none.
fn taken(routes: &str) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| {
            matches!(
                *word,
                "local" | "broadcast" | "unreachable" | "blackhole" | "prohibit" | "unicast"
            )
        });
        let (address, length) = match words.next()?.split_once('/') {
            Some((address, length)) => (address, length.parse().ok().filter(|l| *l <= 32)?),
            None => (line.split_whitespace().find(|word| word.contains('.'))?, 32_u32),
        };
        let address: u32 = address.parse::<Ipv4Addr>().ok()?.into();
        let span = u32::MAX.checked_shr(length).unwrap_or(0);
        (length > 0).then_some((address & !span, address | span))
    };
    routes.lines().filter(|line| !line.starts_with("default")).filter_map(range).collect()
}

/// Runs `ip` with these lines, in the network of a process or in the host's.
fn ip(inside: Option<i32>, lines: &str) -> Result<()> {
    let mut command = match inside {
        Some(pid) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/proc/{pid}/ns/net")).arg("ip");
            command
        }
        None => Command::new("ip"),
    };
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("run ip")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes()).context("tell ip what to do")?;
        stdin.write_all(b"\n").context("tell ip what to do")?;
    }
    let ended = child.wait_with_output().context("wait for ip")?;
    if !ended.status.success() {
        bail!("ip: {}: {}", lines.trim(), String::from_utf8_lossy(&ended.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_network_do_not_overlap() {
        let network = Network { number: 200 };
        let parts = format!(
            "{}/24 dev x\n{}\n{}\n",
            network.host(),
            network.all_pods(),
            network.services()
        );
        let mut ranges = taken(&parts);
        ranges.sort_unstable();
        assert_eq!(ranges.len(), 3);
        assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?}");
        let pods = taken(&network.pods(32))[0];
        assert!(ranges[1].0 <= pods.0 && pods.1 <= ranges[1].1);
    }

    #[test]
    fn every_route_takes_addresses_but_the_default_one() {
        let routes = "default via 192.0.2.1 dev eth0\n10.200.0.0/24 dev br0 proto kernel\n\
                      local 10.201.0.1 dev br1 table local\nbroadcast 10.1.0.255 dev x\n\
                      unreachable 10.64.0.0/10\n10.3.0.7 via 10.1.0.1 dev x\n";
        let address = |text: &str| u32::from(text.parse::<Ipv4Addr>().unwrap());
        let seen = taken(routes);
        let one = |text: &str| (address(text), address(text));
        assert_eq!(
            seen,
            [
                (address("10.200.0.0"), address("10.200.0.255")),
                one("10.201.0.1"),
                one("10.1.0.255"),
                (address("10.64.0.0"), address("10.127.255.255")),
                one("10.3.0.7"),
            ]
        );
    }
}
