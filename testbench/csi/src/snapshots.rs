//! Snapshots: taken, listed, deleted.

use anyhow::Result;
use jiff::Timestamp;
use tonic::Status;

use crate::answer::{Answer, required, trouble};
use crate::driver::Driver;
use crate::pool::discard;
use crate::records::{Kind, Snapshot, Volume, new_id};
use crate::wire::csi::{ListSnapshotsRequest, ListSnapshotsResponse, list_snapshots_response};
use crate::{btrfs, capacity, disk, listing, wire};

/// Now, in nanoseconds since 1970.
pub(crate) fn now() -> i128 {
    Timestamp::now().as_nanosecond()
}

/// A time as the protocol has it.
pub(crate) fn told_time(nanoseconds: i128) -> prost_types::Timestamp {
    const SECOND: i128 = 1_000_000_000;
    let seconds = i64::try_from(nanoseconds.div_euclid(SECOND)).unwrap_or(i64::MAX);
    let nanos = i32::try_from(nanoseconds.rem_euclid(SECOND)).unwrap_or(0);
    prost_types::Timestamp { seconds, nanos }
}

impl Driver {
    /// Takes a snapshot, or gives the one that an equal call has taken.
    pub(crate) fn create_snapshot(&self, name: &str, volume: &str) -> Answer<Snapshot> {
        required("name", name)?;
        required("source_volume_id", volume)?;
        let _locked = self.pool.lock().map_err(trouble)?;
        let snapshots = self.all::<Snapshot>()?;
        if let Some(snapshot) = snapshots.into_iter().find(|snapshot| snapshot.name == name) {
            if snapshot.volume != volume {
                let text = format!("snapshot `{name}` is there, of volume `{}`", snapshot.volume);
                return Err(Status::already_exists(text));
            }
            return Ok(snapshot);
        }
        let volume = self.volume(volume)?;
        let snapshot = new_snapshot(&volume, name, None).map_err(trouble)?;
        let path = self.pool.snapshot(&snapshot);
        let from = self.pool.volume(&volume);
        let taken = match volume.kind {
            Kind::Mount => btrfs::freeze(&from, &path),
            Kind::Block => disk::copy(&from, &path, volume.capacity),
        };
        if let Err(error) = taken.and_then(|()| self.pool.records.put(&snapshot)) {
            discard(&path).map_err(trouble)?;
            return Err(trouble(error));
        }
        Ok(snapshot)
    }

    /// Deletes a snapshot; one that is not there is deleted already.
    pub(crate) fn delete_snapshot(&self, id: &str) -> Answer<()> {
        required("snapshot_id", id)?;
        let _locked = self.pool.lock().map_err(trouble)?;
        let Some(snapshot) = self.pool.records.get::<Snapshot>(id).map_err(trouble)? else {
            return Ok(());
        };
        if let Some(group) = &snapshot.group {
            let text = format!("snapshot `{id}` belongs to group `{group}` and goes with it");
            return Err(Status::invalid_argument(text));
        }
        self.remove_snapshot(&snapshot).map_err(trouble)
    }

    /// Removes a snapshot. The caller holds the lock.
    pub(crate) fn remove_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        // Without its record the content is rubbish, which the next start removes.
        self.pool.records.remove::<Snapshot>(&snapshot.id)?;
        discard(&self.pool.snapshot(snapshot))
    }

    /// Lists snapshots, all or those that are asked for.
    pub(crate) fn list_snapshots(
        &self,
        request: &ListSnapshotsRequest,
    ) -> Answer<ListSnapshotsResponse> {
        let fits = |wanted: &str, has: &str| wanted.is_empty() || wanted == has;
        let mut snapshots = self.all::<Snapshot>()?;
        snapshots.retain(|snapshot| {
            fits(&request.snapshot_id, &snapshot.id)
                && fits(&request.source_volume_id, &snapshot.volume)
        });
        let id = |snapshot: &Snapshot| snapshot.id.clone();
        let (page, next_token) =
            listing::page(snapshots, id, request.max_entries, &request.starting_token)?;
        let mut entries = Vec::new();
        for snapshot in page {
            let snapshot = Some(self.told_snapshot(&snapshot)?);
            entries.push(list_snapshots_response::Entry { snapshot });
        }
        Ok(ListSnapshotsResponse { entries, next_token })
    }

    /// A snapshot as the protocol has it.
    pub(crate) fn told_snapshot(&self, snapshot: &Snapshot) -> Answer<wire::csi::Snapshot> {
        Ok(wire::csi::Snapshot {
            size_bytes: capacity::told(snapshot.size),
            snapshot_id: snapshot.id.clone(),
            source_volume_id: snapshot.volume.clone(),
            creation_time: Some(told_time(snapshot.created)),
            ready_to_use: self.faults.is_ready(snapshot.created)?,
            group_snapshot_id: snapshot.group.clone().unwrap_or_default(),
        })
    }
}

/// What is to be known of a snapshot of `volume` that is taken now.
pub(crate) fn new_snapshot(volume: &Volume, name: &str, group: Option<&str>) -> Result<Snapshot> {
    Ok(Snapshot {
        id: new_id("snap")?,
        name: name.to_owned(),
        volume: volume.id.clone(),
        kind: volume.kind,
        size: volume.capacity,
        created: now(),
        zone: volume.zone.clone(),
        group: group.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_split_into_seconds_and_the_rest() {
        let told = told_time(1_700_000_000_000_000_007);
        assert_eq!((told.seconds, told.nanos), (1_700_000_000, 7));
        assert!(now() > 1_700_000_000_000_000_000);
    }
}
