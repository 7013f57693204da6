//! Whether a cluster does what it is for.

use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::network::Network;
use super::part::{Part, State};
use super::place::Place;
use super::{dns, kubectl, logs, wait};

/// A part that has ended never answers.
pub(super) fn none_ended(place: &Place) -> Result<()> {
    for (name, part) in Part::all(place)? {
        if part.state() == State::Ended {
            bail!("{name} has ended; the end of its log:\n{}", logs::tail(place, &name, 12));
        }
    }
    Ok(())
}

/// Waits until the API server says that it is ready.
pub(super) fn api(kubernetes: &Path, place: &Place, within: Duration) -> Result<()> {
    wait::until("the API server", within, || {
        none_ended(place)?;
        Ok(match kubectl::ask(kubernetes, place, &["get", "--raw=/readyz"]) {
            Ok(_) => ControlFlow::Break(()),
            Err(error) => ControlFlow::Continue(format!("{error:#}")),
        })
    })
}

/// Waits until pods can run on every node: all are Ready, the controllers have seen it, and the
/// account that pods run under is there.
pub(super) fn nodes(kubernetes: &Path, place: &Place, nodes: u8, within: Duration) -> Result<()> {
    wait::until("the nodes", within, || {
        none_ended(place)?;
        Ok(match unready(kubernetes, place, nodes) {
            Ok(None) => ControlFlow::Break(()),
            Ok(Some(why)) => ControlFlow::Continue(why),
            Err(error) => ControlFlow::Continue(format!("{error:#}")),
        })
    })
}

fn unready(kubernetes: &Path, place: &Place, nodes: u8) -> Result<Option<String>> {
    let words = ["get", "nodes", "--output=json"];
    let list: Nodes = serde_json::from_str(&kubectl::ask(kubernetes, place, &words)?)
        .context("read the list of nodes")?;
    let ready = list.items.iter().filter(|node| node.is_ready()).count();
    if ready < usize::from(nodes) {
        let why: Vec<String> = list.items.iter().map(Node::why).collect();
        return Ok(Some(format!("{ready} of {nodes} are Ready {}", why.join("; "))));
    }
    kubectl::ask(kubernetes, place, &["get", "serviceaccount", "default", "--output=name"])?;
    Ok(None)
}

/// Waits until the DNS knows the API server's name.
pub(super) fn names(place: &Place, network: Network, within: Duration) -> Result<()> {
    let name = "kubernetes.default.svc.cluster.local";
    let right: Option<Ipv4Addr> = Some(network.api_service());
    wait::until("the DNS", within, || {
        none_ended(place)?;
        Ok(match dns::ask(network.control(), name)? {
            answer if answer == right => ControlFlow::Break(()),
            answer => ControlFlow::Continue(format!("{name} is {answer:?}")),
        })
    })
}

#[derive(Deserialize)]
struct Nodes {
    items: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    #[serde(default)]
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default)]
    taints: Vec<Taint>,
}

#[derive(Deserialize)]
struct Taint {
    key: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
    #[serde(default)]
    message: String,
}

impl Node {
    fn is_ready(&self) -> bool {
        let says =
            |condition: &Condition| condition.r#type == "Ready" && condition.status == "True";
        let is_kept_free = |taint: &Taint| taint.key.starts_with("node.kubernetes.io/");
        self.status.conditions.iter().any(says) && !self.spec.taints.iter().any(is_kept_free)
    }

    fn why(&self) -> String {
        let ready = self.status.conditions.iter().find(|condition| condition.r#type == "Ready");
        let taints: Vec<&str> = self.spec.taints.iter().map(|taint| taint.key.as_str()).collect();
        let message = ready.map_or("", |condition| condition.message.as_str());
        format!("({message} {})", taints.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_when_it_says_so_and_is_not_kept_free() {
        let node = |status: &str, taints: &str| -> Node {
            let text = format!(
                r#"{{"spec": {{"taints": {taints}}}, "status": {{"conditions": [
                    {{"type": "MemoryPressure", "status": "False"}},
                    {{"type": "Ready", "status": "{status}", "message": "why"}}]}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let taint = r#"[{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]"#;
        assert!(node("True", "[]").is_ready());
        assert!(!node("True", taint).is_ready());
        assert!(!node("False", "[]").is_ready());
        assert_eq!(node("False", taint).why(), "(why node.kubernetes.io/not-ready)");
    }
}
