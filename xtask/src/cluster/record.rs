//! What is known of a cluster as a whole.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::advise;
use super::network::Network;
use super::place::{self, Place};

/// How far a cluster has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Being made; when nobody is at work on it, a leftover.
    Making,
    /// It was Ready.
    Ready,
}

/// A cluster as it is recorded; what it has besides is in files of their own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) network: Network,
    pub(crate) nodes: u8,
    pub(crate) phase: Phase,
    /// This host's link into the cluster.
    pub(super) link: String,
    /// The control groups that hold those of its machines.
    pub(super) groups: Vec<PathBuf>,
}

impl Record {
    /// The record of a cluster, if it has one.
    pub(super) fn find(place: &Place) -> Result<Option<Self>> {
        place::kept(&place.at("cluster.json"))
    }

    /// The record of a cluster that is up.
    pub(crate) fn of(place: &Place) -> Result<Self> {
        let name = place.name();
        let hint = format!("cargo xtask cluster up --name {name}");
        match Self::find(place)? {
            Some(record) if record.phase == Phase::Ready => Ok(record),
            Some(_) => Err(advise(&format!("the cluster {name} was never Ready"), &hint)),
            None => Err(advise(&format!("there is no cluster {name}"), &hint)),
        }
    }

    pub(super) fn keep(&self, place: &Place) -> Result<()> {
        place::keep(&place.at("cluster.json"), self)
    }

    /// The names of its nodes.
    pub(crate) fn node_names(&self) -> Vec<String> {
        (1..=self.nodes).map(|number| format!("node{number}")).collect()
    }
}
