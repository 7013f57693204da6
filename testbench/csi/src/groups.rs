//! Group snapshots.
//!
//! The raw volumes of a group are frozen in one instant. Volumes with a file system are frozen one
//! after the other, directly after them: btrfs freezes one subvolume at a time.

use std::path::Path;

use anyhow::Result;
use tonic::Status;

use crate::answer::{Answer, required, trouble};
use crate::driver::Driver;
use crate::records::{Group, Kind, Snapshot, Volume, new_id};
use crate::snapshots::{new_snapshot, now, told_time};
use crate::wire::csi::{CreateVolumeGroupSnapshotRequest, VolumeGroupSnapshot};
use crate::{btrfs, disk};

impl Driver {
    /// Takes a group of snapshots, or gives the one that an equal call has taken.
    pub(crate) fn create_group(&self, request: CreateVolumeGroupSnapshotRequest) -> Answer<Group> {
        required("name", &request.name)?;
        let mut ids = request.source_volume_ids;
        ids.sort();
        ids.dedup();
        if ids.is_empty() {
            return Err(Status::invalid_argument("source_volume_ids are missing"));
        }
        let _locked = self.pool.lock().map_err(trouble)?;
        let groups = self.all::<Group>()?;
        if let Some(group) = groups.into_iter().find(|group| group.name == request.name) {
            if group.volumes != ids {
                let text = format!("group `{}` is there, of other volumes", group.name);
                return Err(Status::already_exists(text));
            }
            return Ok(group);
        }
        let volumes = ids.iter().map(|id| self.volume(id)).collect::<Answer<Vec<_>>>()?;
        let id = new_id("group").map_err(trouble)?;
        let snapshots = volumes.iter().map(|volume| new_snapshot(volume, "", Some(&id)));
        let snapshots = snapshots.collect::<Result<Vec<_>>>().map_err(trouble)?;
        let group = Group {
            id,
            name: request.name,
            volumes: ids,
            snapshots: snapshots.iter().map(|snapshot| snapshot.id.clone()).collect(),
            created: now(),
        };
        let pairs: Vec<_> = volumes.iter().zip(&snapshots).collect();
        if let Err(error) =
            self.take_group(&pairs).and_then(|()| self.keep_group(&group, &snapshots))
        {
            for snapshot in &snapshots {
                self.remove_snapshot(snapshot).map_err(trouble)?;
            }
            return Err(trouble(error));
        }
        Ok(group)
    }

    fn take_group(&self, pairs: &[(&Volume, &Snapshot)]) -> Result<()> {
        let is_raw = |(volume, _): &&(&Volume, &Snapshot)| volume.kind == Kind::Block;
        let raw: Vec<_> = pairs.iter().filter(is_raw).collect();
        if !raw.is_empty() {
            self.pool.with_frozen_disks(|frozen: &Path| {
                raw.iter().try_for_each(|(volume, snapshot)| {
                    let from = frozen.join(&volume.id);
                    disk::copy(&from, &self.pool.snapshot(snapshot), volume.capacity)
                })
            })?;
        }
        let trees = pairs.iter().filter(|pair| !is_raw(pair));
        trees.into_iter().try_for_each(|(volume, snapshot)| {
            btrfs::freeze(&self.pool.volume(volume), &self.pool.snapshot(snapshot))
        })
    }

    /// The members first: a group that is on record is whole.
    fn keep_group(&self, group: &Group, snapshots: &[Snapshot]) -> Result<()> {
        snapshots.iter().try_for_each(|snapshot| self.pool.records.put(snapshot))?;
        self.pool.records.put(group)
    }

    /// Deletes a group with its snapshots; one that is not there is deleted already.
    pub(crate) fn delete_group(&self, id: &str, snapshots: &[String]) -> Answer<()> {
        required("group_snapshot_id", id)?;
        let _locked = self.pool.lock().map_err(trouble)?;
        let Some(group) = self.pool.records.get::<Group>(id).map_err(trouble)? else {
            return Ok(());
        };
        check_members(&group, snapshots)?;
        // Members without their group are rubbish, which the next start removes.
        self.pool.records.remove::<Group>(id).map_err(trouble)?;
        for id in &group.snapshots {
            if let Some(snapshot) = self.pool.records.get::<Snapshot>(id).map_err(trouble)? {
                self.remove_snapshot(&snapshot).map_err(trouble)?;
            }
        }
        Ok(())
    }

    /// The group with this id and, if they are named, these snapshots.
    pub(crate) fn group(&self, id: &str, snapshots: &[String]) -> Answer<Group> {
        required("group_snapshot_id", id)?;
        let found = self.pool.records.get::<Group>(id).map_err(trouble)?;
        let group = found.ok_or_else(|| Status::not_found(format!("there is no group `{id}`")))?;
        check_members(&group, snapshots)?;
        Ok(group)
    }

    /// A group as the protocol has it.
    pub(crate) fn told_group(&self, group: &Group) -> Answer<VolumeGroupSnapshot> {
        let member = |id: &String| self.told_snapshot(&self.snapshot(id)?);
        let snapshots = group.snapshots.iter().map(member).collect::<Answer<Vec<_>>>()?;
        Ok(VolumeGroupSnapshot {
            group_snapshot_id: group.id.clone(),
            ready_to_use: snapshots.iter().all(|snapshot| snapshot.ready_to_use),
            snapshots,
            creation_time: Some(told_time(group.created)),
        })
    }
}

fn check_members(group: &Group, named: &[String]) -> Answer<()> {
    if let Some(stranger) = named.iter().find(|id| !group.snapshots.contains(id)) {
        let text = format!("snapshot `{stranger}` does not belong to group `{}`", group.id);
        return Err(Status::invalid_argument(text));
    }
    Ok(())
}
