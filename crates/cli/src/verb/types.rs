//! `alidade types`: its options, and what it prints.

use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::exit::Code;
use crate::failure::Result;

/// Lists the types of entities this program knows.
#[derive(Debug, Args)]
pub struct Types {}

#[derive(Serialize)]
struct Doc {
    types: Vec<TypeDoc>,
}

#[derive(Serialize)]
struct TypeDoc {
    name: String,
    create: bool,
    snapshot: bool,
    changed_blocks: bool,
}

impl Types {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let kinds = app.parts.registry.iter();
        let types: Vec<TypeDoc> = kinds
            .map(|kind| {
                let can = kind.capability();
                TypeDoc {
                    name: kind.name().to_string(),
                    create: can.create,
                    snapshot: can.snapshot,
                    changed_blocks: can.changed_blocks,
                }
            })
            .collect();
        if app.out.is_json() {
            app.out.document(&Doc { types })?;
            return Ok(Code::Done);
        }
        for kind in types {
            let can = [
                (true, "protect"),
                (kind.create, "restore"),
                (kind.snapshot, "native snapshots"),
                (kind.changed_blocks, "changed blocks"),
            ];
            let can: Vec<&str> =
                can.iter().filter(|(can, _)| *can).map(|(_, word)| *word).collect();
            app.out.line(&format!("{}  {}", kind.name, can.join(", ")))?;
        }
        Ok(Code::Done)
    }
}
