//! Names that sort by time and do not meet: for runs and snapshots.

use alidade_entity::Cx;
use alidade_model::{RunId, SnapshotId};

use crate::Result;
use crate::record::timestamp;

/// A name for a run: `run-20261121T120646Z-1a2b3c4d`.
pub(crate) fn run(cx: &Cx) -> Result<RunId> {
    Ok(format!("run-{}", dated(cx)?).parse()?)
}

/// A name for a snapshot: `20261121T120646Z-1a2b3c4d`.
pub(crate) fn snapshot(cx: &Cx) -> Result<SnapshotId> {
    Ok(dated(cx)?.parse()?)
}

fn dated(cx: &Cx) -> Result<String> {
    let mut random = [0; 4];
    cx.fill(&mut random)?;
    let now = timestamp(cx.now()).strftime("%Y%m%dT%H%M%SZ").to_string();
    Ok(format!("{now}-{:08x}", u32::from_be_bytes(random)))
}
