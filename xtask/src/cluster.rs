//! A real Kubernetes on this machine, from pinned sources.
//!
//! A cluster is a *control machine*, in which the store, the API server, the controllers, the
//! scheduler and the DNS run, and nodes, in each of which containerd, kubelet and kube-proxy run.
//! A [`machine`] is a set of namespaces; what is in it ends with its first process. What is known of
//! a cluster is in its [`place`], a folder in the cache of the peers, in a file for each thing that
//! was started: written before or at once after, so that whoever comes later, even after a crash,
//! finds all of it and touches nothing else.
//!
//! One file per verb; start at [`up`].

mod cgroup;
mod control;
mod dns;
mod down;
mod images;
mod kubeconfig;
mod kubectl;
mod lock;
mod logs;
mod loops;
pub(crate) mod machine;
mod network;
mod node;
mod part;
mod pki;
mod place;
mod preflight;
mod process;
mod ready;
mod record;
mod requests;
mod status;
mod up;
mod wait;

use std::path::Path;

use anyhow::{Result, anyhow};
use clap::Subcommand;

use part::Deed;
use place::Place;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which cluster; several can be up at once
    #[arg(long, global = true, default_value = "default")]
    name: String,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make the cluster, or see to it that it is as it was made; returns when it is Ready
    Up {
        /// How many nodes
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
        nodes: u8,
    },
    /// End it and leave nothing
    Down,
    /// End it and make it anew, with as many nodes
    Reset,
    /// Say how it and its parts are
    Status {
        /// As a JSON document
        #[arg(long)]
        json: bool,
    },
    /// Run kubectl as its administrator
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Print the log of a part
    Logs {
        /// A part, as `status` names it
        part: String,
    },
    /// Count the requests that the API server has answered, by user, verb and resource
    Requests {
        /// Only those of this user
        #[arg(long)]
        user: Option<String>,
        /// As a JSON document
        #[arg(long)]
        json: bool,
    },
    /// Kill parts, as a crash would
    Kill { parts: Vec<String> },
    /// Start parts that have ended
    Start { parts: Vec<String> },
    /// Stop parts without ending them
    Pause { parts: Vec<String> },
    /// Let parts go on, at full speed
    Resume { parts: Vec<String> },
    /// Make everything a part answers come late
    Slow {
        part: String,
        /// By up to so much; 0 ends it
        milliseconds: u64,
    },
    /// Give images to every node
    Image {
        #[arg(required = true)]
        images: Vec<String>,
        /// Call it by this public name too
        #[arg(long = "as")]
        alias: Option<String>,
    },
}

pub(crate) fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let place = &Place::new(root, &arguments.name)?;
    match &arguments.verb {
        Verb::Up { nodes } => up::run(root, place, *nodes),
        Verb::Down => down::run(place),
        Verb::Reset => up::reset(root, place),
        Verb::Status { json } => status::run(place, *json),
        Verb::Kubectl { words } => kubectl::run(root, place, words),
        Verb::Logs { part } => logs::run(place, part),
        Verb::Requests { user, json } => requests::run(place, user.as_deref(), *json),
        Verb::Kill { parts } => part::run(place, parts, Deed::Kill),
        Verb::Start { parts } => part::run(place, parts, Deed::Start),
        Verb::Pause { parts } => part::run(place, parts, Deed::Pause),
        Verb::Resume { parts } => part::run(place, parts, Deed::Resume),
        Verb::Slow { part, milliseconds } => {
            part::run(place, std::slice::from_ref(part), Deed::Slow(*milliseconds))
        }
        Verb::Image { images, alias } => images::run(root, place, images, alias.as_deref()),
    }
}

/// An error that tells the person what to do.
fn advise(problem: &str, hint: &str) -> anyhow::Error {
    anyhow!("{problem}\n\nhint: {hint}")
}
