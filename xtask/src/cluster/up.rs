//! Makes a cluster.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::cgroup::{self, Hierarchy};
use super::control::{self, Control};
use super::lock::Lock;
use super::machine::{Machine, Plan, Unborn, this_program};
use super::network::{Choice, Network};
use super::node::{CONTAINERD, Node};
use super::part::{Part, Program};
use super::place::Place;
use super::record::{Phase, Record};
use super::wait::{self, Phases};
use super::{advise, down, images, kubectl, logs, pki, preflight, ready};
use crate::peers;

/// How long anything may take to become ready; on an idle machine it is a third of this at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// What clusters are made from.
struct Makings {
    kubernetes: PathBuf,
    coredns: PathBuf,
    images: Vec<PathBuf>,
    hierarchies: Vec<Hierarchy>,
}

/// Makes the cluster, or sees to it that all parts of the one that is there run.
pub(super) fn run(root: &Path, place: &Place, nodes: u8) -> Result<()> {
    let hierarchies = preflight::check(place)?;
    let lock = Lock::take(place)?;
    let makings = Makings {
        kubernetes: peers::path(root, kubectl::PEER)?,
        coredns: peers::path(root, "coredns")?,
        images: images::first(root)?,
        hierarchies,
    };
    let phases = Phases::begin();
    if let Some(record) = Record::find(place)?.filter(|record| is_whole(place, record)) {
        return again(place, &record, nodes, &makings);
    }
    if place.folder().exists() {
        eprintln!("removing what is left of an earlier cluster {}", place.name());
        down::sweep(place)?;
    }
    let made = make(place, nodes, &makings, &phases);
    if let Err(error) = made {
        tell(place);
        eprintln!("removing what was made");
        down::sweep(place).context("remove a cluster that did not become Ready")?;
        lock.remove()?;
        return Err(error.context(format!("make the cluster {}", place.name())));
    }
    println!("the cluster {} is Ready: {}", place.name(), place.kubeconfig().display());
    Ok(())
}

/// Ends the cluster and makes it anew with as many nodes.
pub(super) fn reset(root: &Path, place: &Place) -> Result<()> {
    let record = Record::of(place)?;
    {
        let _lock = Lock::take(place)?;
        down::sweep(place)?;
    }
    run(root, place, record.nodes)
}

/// Whether it was Ready once and all its machines live.
fn is_whole(place: &Place, record: &Record) -> bool {
    let machines = Machine::all(place).unwrap_or_default();
    record.phase == Phase::Ready
        && machines.len() == usize::from(record.nodes) + 1
        && machines.iter().all(|(_, machine)| machine.init.is_alive())
}

/// A cluster that is there keeps what is in it; what has ended in it is started.
fn again(place: &Place, record: &Record, nodes: u8, makings: &Makings) -> Result<()> {
    if record.nodes != nodes {
        return Err(advise(
            &format!("the cluster {} is up with {} nodes, not {nodes}", place.name(), record.nodes),
            "end it first with `cargo xtask cluster down`, or choose another --name",
        ));
    }
    for (name, part) in Part::all(place)? {
        part.restart(place, &name)?;
    }
    ready::api(&makings.kubernetes, place, PATIENCE)?;
    ready::nodes(&makings.kubernetes, place, nodes, PATIENCE)?;
    ready::names(place, record.network, PATIENCE)?;
    println!("the cluster {} was up already: {}", place.name(), place.kubeconfig().display());
    Ok(())
}

/// Makes it from nothing.
fn make(place: &Place, nodes: u8, makings: &Makings, phases: &Phases) -> Result<()> {
    let record = machines(place, nodes, makings)?;
    let network = record.network;
    phases.done("machines, network and certificates");
    let control =
        Control { place, network, kubernetes: &makings.kubernetes, coredns: &makings.coredns };
    let members: Vec<Node> = numbered(place, network, nodes, &makings.kubernetes).collect();
    let mut later = Vec::new();
    for (name, program) in control.parts() {
        // The others give up when nothing answers them.
        match name {
            "etcd" | "apiserver" => drop(Part::start(place, name, program)?),
            _ => later.push((name.to_owned(), program)),
        }
    }
    for node in &members {
        for (name, program) in node.parts() {
            match program.called.as_str() {
                "containerd" => drop(Part::start(place, &name, program)?),
                _ => later.push((name, program)),
            }
        }
    }
    for node in &members {
        give_images(place, &node.name(), makings)?;
    }
    phases.done("images");
    ready::api(&makings.kubernetes, place, PATIENCE)?;
    phases.done("API server");
    start(place, later)?;
    ready::nodes(&makings.kubernetes, place, nodes, PATIENCE)?;
    phases.done("nodes");
    ready::names(place, network, PATIENCE)?;
    phases.done("DNS");
    Record { phase: Phase::Ready, ..record }.keep(place)
}

fn start(place: &Place, programs: Vec<(String, Program)>) -> Result<()> {
    for (name, program) in programs {
        Part::start(place, &name, program)?;
    }
    Ok(())
}

fn numbered<'a>(
    place: &'a Place,
    network: Network,
    nodes: u8,
    kubernetes: &'a Path,
) -> impl Iterator<Item = Node<'a>> {
    (1..=nodes).map(move |number| Node { place, network, number, kubernetes })
}

/// Makes the machines, joined to each other, with the files their parts need; records the cluster.
fn machines(place: &Place, nodes: u8, makings: &Makings) -> Result<Record> {
    let (choice, network) = Choice::make()?;
    let (link, mark) = (format!("alidade{}", place.mark()), format!("alidade-{}", place.mark()));
    let groups = cgroup::paths(&makings.hierarchies, &mark);
    let record = Record { network, nodes, phase: Phase::Making, link, groups };
    record.keep(place)?;
    let unborn = |name: &str| {
        let groups = cgroup::make(&makings.hierarchies, &format!("{mark}/{name}"))?;
        Unborn::make(place, name, groups)
    };
    let control = unborn(control::MACHINE)?;
    let pid = control.machine.init.pid;
    network.join_host(&record.link, pid, nodes)?;
    // From here on the network is seen to be taken.
    drop(choice);
    pki::make(&place.at("pki"), network, nodes)?;
    let whole =
        Control { place, network, kubernetes: &makings.kubernetes, coredns: &makings.coredns };
    whole.prepare()?;
    let mut plan = plan(place, makings)?;
    plan.hostname = control::MACHINE.to_owned();
    let mut born = vec![(control, plan)];
    for node in numbered(place, network, nodes, &makings.kubernetes) {
        node.prepare()?;
        let unborn = unborn(&node.name())?;
        network.join_node(pid, node.number, unborn.machine.init.pid, nodes)?;
        let mut plan = self::plan(place, makings)?;
        node.plan(&mut plan)?;
        born.push((unborn, plan));
    }
    for (unborn, plan) in born {
        unborn.born(&plan)?;
    }
    Ok(record)
}

/// What every machine sees: the cluster's folder, and the programs that run in it.
fn plan(place: &Place, makings: &Makings) -> Result<Plan> {
    let mut visible = vec![place.folder(), makings.kubernetes.clone(), makings.coredns.clone()];
    visible.extend(makings.images.iter().cloned());
    visible.push(this_program()?);
    let (state, hierarchies) = (place.folder(), makings.hierarchies.clone());
    Ok(Plan { state, visible, hierarchies, ..Plan::default() })
}

/// Gives a node what it needs for the first pod, as soon as its containerd listens.
fn give_images(place: &Place, node: &str, makings: &Makings) -> Result<()> {
    let machine = Machine::named(place, node)?;
    let socket = format!("/proc/{}/root{CONTAINERD}", machine.init.pid);
    wait::until(&format!("containerd of {node}"), PATIENCE, || {
        ready::none_ended(place)?;
        Ok(match Path::new(&socket).exists() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue("it does not listen".to_owned()),
        })
    })?;
    for archive in &makings.images {
        images::import(&machine, archive)?;
    }
    Ok(())
}

/// Says what the parts of a cluster that fails have said last.
fn tell(place: &Place) {
    for (name, part) in Part::all(place).unwrap_or_default() {
        eprintln!("--- {name}: {}", part.state().word());
        eprintln!("{}", logs::tail(place, &name, 5));
    }
}
