//! `alidade list`: its options, and what it prints.

use std::collections::BTreeMap;

use alidade_model::{EntityName, Host};
use alidade_protect::{Listing, StoredSnapshot};
use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::document::DamagedDoc;
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::open::Need;
use crate::printer::columns;
use crate::size::{counted, grouped, human};
use crate::when::rfc3339;

/// Lists the entities that the repository holds.
#[derive(Debug, Args)]
pub struct List {
    /// Only entities of this type
    #[arg(value_name = "TYPE")]
    pub type_name: Option<String>,
}

#[derive(Serialize)]
struct Doc {
    entities: Vec<EntityDoc>,
    damaged: Vec<DamagedDoc>,
}

#[derive(Serialize)]
struct EntityDoc {
    entity: String,
    host: String,
    snapshots: u64,
    first: String,
    latest: String,
    latest_snapshot: String,
    bytes: Option<u64>,
}

/// The snapshots of one entity.
struct Group<'a> {
    first: &'a StoredSnapshot,
    latest: &'a StoredSnapshot,
    count: u64,
}

impl List {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let host = app.host()?;
        let opened = app.open(Need::Read)?;
        let listing = opened.engine.snapshots().map_err(|error| app.explain(&error))?;
        let mut groups: BTreeMap<(&EntityName, &Host), Group<'_>> = BTreeMap::new();
        let wanted = |stored: &&StoredSnapshot| {
            stored.origin.is_state()
                && host.as_ref().is_none_or(|host| stored.host == *host)
                && self
                    .type_name
                    .as_ref()
                    .is_none_or(|name| stored.entity.type_name.as_str() == name.as_str())
        };
        for stored in listing.snapshots.iter().filter(wanted) {
            groups
                .entry((&stored.entity, &stored.host))
                .and_modify(|group| (group.latest, group.count) = (stored, group.count + 1))
                .or_insert(Group { first: stored, latest: stored, count: 1 });
        }
        if app.out.is_json() {
            let entities = groups.values().map(Group::document).collect();
            app.out.document(&Doc { entities, damaged: damaged_docs(&listing) })?;
        } else {
            let mut rows = Vec::new();
            if !groups.is_empty() {
                let head = ["ENTITY", "HOST", "SNAPSHOTS", "LATEST", "SIZE"];
                rows.push(head.map(str::to_owned).to_vec());
            }
            rows.extend(groups.values().map(|group| group.cells(app)));
            columns(&rows).iter().try_for_each(|line| app.out.line(line))?;
        }
        tell_damaged(app, &listing)
    }
}

impl Group<'_> {
    fn bytes(&self) -> Option<u64> {
        self.latest.snapshot.summary.as_ref().map(|summary| summary.total_bytes_processed)
    }

    fn document(&self) -> EntityDoc {
        EntityDoc {
            entity: self.latest.entity.to_string(),
            host: self.latest.host.to_string(),
            snapshots: self.count,
            first: rfc3339(self.first.time),
            latest: rfc3339(self.latest.time),
            latest_snapshot: self.latest.file.to_string(),
            bytes: self.bytes(),
        }
    }

    fn cells(&self, app: &App) -> Vec<String> {
        vec![
            self.latest.entity.to_string(),
            self.latest.host.to_string(),
            grouped(self.count),
            app.calendar.show(self.latest.time),
            self.bytes().map_or_else(|| "-".to_owned(), human),
        ]
    }
}

/// The files that should be snapshots and do not read, as documents.
pub(crate) fn damaged_docs(listing: &Listing) -> Vec<DamagedDoc> {
    let doc =
        |(file, why): &(String, String)| DamagedDoc { snapshot: file.clone(), why: why.clone() };
    listing.damaged.iter().map(doc).collect()
}

/// What a list means for the exit code: a snapshot that does not read is damage.
pub(crate) fn tell_damaged(app: &App, listing: &Listing) -> Result<Code> {
    let Some((file, why)) = listing.damaged.first() else { return Ok(Code::Done) };
    app.out.finish()?;
    let count = listing.damaged.len() as u64;
    let many = counted(count, "snapshot cannot be read", "snapshots cannot be read");
    let failure = Failure::new(Code::Damaged, format!("{many}, such as {file}: {why}"));
    app.out.failure(&failure.hint(app.check_hint()));
    Ok(Code::Damaged)
}
