//! How a cluster and its parts are.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::json;

use super::advise;
use super::machine::Machine;
use super::part::{Part, State};
use super::place::Place;
use super::record::Record;

#[derive(Serialize)]
struct Line {
    part: String,
    machine: String,
    pid: i32,
    state: &'static str,
}

/// Prints it; an error if a part does not run.
pub(super) fn run(place: &Place, json: bool) -> Result<()> {
    let record = Record::of(place)?;
    let network = record.network;
    let mut lines = Vec::new();
    for (name, machine) in Machine::all(place)? {
        let state = if machine.init.is_alive() { State::Running } else { State::Ended };
        let (part, pid) = (name.clone(), machine.init.pid);
        lines.push(Line { part, machine: name, pid, state: state.word() });
    }
    for (part, running) in Part::all(place)? {
        let (machine, pid) = (running.machine().to_owned(), running.pid());
        lines.push(Line { part, machine, pid, state: running.state().word() });
    }
    if json {
        let document = json!({
            "name": place.name(),
            "api": network.api(),
            "host": network.host(),
            "kubeconfig": place.kubeconfig(),
            "folder": place.folder(),
            "link": record.link,
            "nodes": record.node_names(),
            "parts": lines,
        });
        println!("{}", serde_json::to_string_pretty(&document).context("write the state")?);
    } else {
        println!("cluster     {}", place.name());
        println!("API server  {}", network.api());
        println!("this host   {}", network.host());
        println!("kubeconfig  {}", place.kubeconfig().display());
        for Line { part, machine, pid, state } in &lines {
            println!("{part:<20} {machine:<8} {pid:>8}  {state}");
        }
    }
    let ended: Vec<&str> = lines
        .iter()
        .filter(|line| line.state == State::Ended.word())
        .map(|line| line.part.as_str())
        .collect();
    if ended.is_empty() {
        return Ok(());
    }
    let hint = format!("cargo xtask cluster start {} --name {}", ended.join(" "), place.name());
    Err(advise(&format!("these have ended: {}", ended.join(", ")), &hint))
}
