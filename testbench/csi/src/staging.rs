//! Volumes on a node: staged once, published at any number of places.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use rustix::mount::MountFlags;
use tonic::Status;

use crate::answer::{Answer, required, trouble};
use crate::driver::Driver;
use crate::loops::{self, Held};
use crate::records::{Attachment, Kind, Volume};
use crate::wire::csi::volume_capability::access_mode::Mode;
use crate::wire::csi::{NodePublishVolumeRequest, NodeStageVolumeRequest};
use crate::{mounts, usage};

/// How kubelet says that a volume is of one pod only.
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";

/// One node as it serves volumes.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) driver: Arc<Driver>,
    pub(crate) id: String,
    pub(crate) zone: Option<String>,
    /// The loop devices of staged raw volumes, by the volume's id.
    held: Mutex<HashMap<String, Held>>,
}

impl Host {
    /// A node that goes on where a killed process of it stopped.
    pub(crate) fn resume(driver: Arc<Driver>, id: String, zone: Option<String>) -> Result<Self> {
        let host = Self { driver, id, zone, held: Mutex::default() };
        let _locked = host.driver.pool.lock()?;
        for attachment in host.driver.pool.records.all::<Attachment>()? {
            if attachment.node == host.id {
                host.resume_one(attachment)?;
            }
        }
        drop(_locked);
        Ok(host)
    }

    /// Mounts are gone when the node was started anew, and there when only this process was.
    fn resume_one(&self, mut attachment: Attachment) -> Result<()> {
        let records = &self.driver.pool.records;
        let Some(volume) = records.get::<Volume>(&attachment.volume)? else {
            return records.remove::<Attachment>(&attachment_id(&attachment));
        };
        let mut targets = Vec::new();
        for target in attachment.targets {
            if mounts::at(&target)?.is_some() {
                targets.push(target);
            }
        }
        attachment.targets = targets;
        let staging = attachment.staging.take();
        attachment.staging = match (staging, volume.kind) {
            (Some(path), Kind::Mount) if mounts::at(&path)?.is_some() => Some(path),
            (Some(path), Kind::Block) if path.exists() => {
                let before = attachment.device.clone();
                let device = self.hold(&volume, before.as_deref())?;
                if before.as_ref() != Some(&device) {
                    for target in &attachment.targets {
                        mounts::unmount(target)?;
                        mounts::bind(&device, target, MountFlags::empty())?;
                    }
                }
                attachment.device = Some(device);
                Some(path)
            }
            _ => None,
        };
        self.keep(&attachment)
    }

    /// Writes an attachment down, or removes it when nothing is left of it.
    fn keep(&self, attachment: &Attachment) -> Result<()> {
        let records = &self.driver.pool.records;
        if attachment.staging.is_none() && attachment.targets.is_empty() {
            return records.remove::<Attachment>(&attachment_id(attachment));
        }
        records.put(attachment)
    }

    fn attachment(&self, volume: &Volume) -> Answer<Attachment> {
        let id = Attachment::id_of(&volume.id, &self.id);
        let found = self.driver.pool.records.get::<Attachment>(&id).map_err(trouble)?;
        Ok(found.unwrap_or_else(|| Attachment {
            volume: volume.id.clone(),
            node: self.id.clone(),
            staging: None,
            device: None,
            targets: Vec::new(),
        }))
    }

    /// The loop device of a raw volume, held open from now on.
    fn hold(&self, volume: &Volume, wanted: Option<&Path>) -> Result<PathBuf> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = held.get(&volume.id) {
            return Ok(one.device.clone());
        }
        let one = loops::hold(&self.driver.pool.volume(volume), wanted)?;
        let device = one.device.clone();
        held.insert(volume.id.clone(), one);
        Ok(device)
    }

    /// The loop device that is held for a volume.
    pub(crate) fn held(&self, volume: &str) -> Option<PathBuf> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(volume).map(|one| one.device.clone())
    }

    /// Makes a volume ready on this node.
    pub(crate) fn stage(&self, request: &NodeStageVolumeRequest) -> Answer<()> {
        required("volume_id", &request.volume_id)?;
        let path = PathBuf::from(required("staging_target_path", &request.staging_target_path)?);
        let (kind, _) = usage::checked(request.volume_capability.as_ref())?;
        let flags = self.flags(usage::flags(request.volume_capability.as_ref()))?;
        let _locked = self.driver.pool.lock().map_err(trouble)?;
        let volume = self.driver.volume(&request.volume_id)?;
        self.check(&volume, kind)?;
        let mut attachment = self.attachment(&volume)?;
        if let Some(other) = attachment.staging.as_ref().filter(|other| **other != path) {
            let text = format!("the volume is staged at {} already", other.display());
            return Err(Status::already_exists(text));
        }
        // The record comes first: a volume that is mounted is never without one.
        attachment.staging = Some(path.clone());
        self.keep(&attachment).map_err(trouble)?;
        match kind {
            Kind::Block => {
                let wanted = attachment.device.take();
                let device = self.hold(&volume, wanted.as_deref()).map_err(trouble)?;
                attachment.device = Some(device);
                self.keep(&attachment).map_err(trouble)
            }
            Kind::Mount => {
                fs::create_dir_all(&path)
                    .with_context(|| format!("create {}", path.display()))
                    .map_err(trouble)?;
                self.show(&self.driver.pool.volume(&volume), &path, flags)
            }
        }
    }

    fn flags(&self, words: &[String]) -> Answer<MountFlags> {
        mounts::flags(words)
            .map_err(|flag| Status::invalid_argument(format!("{}: mount flag `{flag}`", self.id)))
    }

    /// Whether a volume can be used here, and so.
    fn check(&self, volume: &Volume, kind: Kind) -> Answer<()> {
        if volume.kind != kind {
            return Err(Status::invalid_argument("the volume is of the other kind"));
        }
        if volume.zone.is_some() && volume.zone != self.zone {
            let text = format!("the volume is in {:?}, this node in {:?}", volume.zone, self.zone);
            return Err(Status::failed_precondition(text));
        }
        Ok(())
    }

    /// Mounts `from` at `to`, if it is not there already.
    fn show(&self, from: &Path, to: &Path, flags: MountFlags) -> Answer<()> {
        let Some(mount) = mounts::at(to).map_err(trouble)? else {
            return mounts::bind(from, to, flags).map_err(trouble);
        };
        if !mounts::same(from, to).map_err(trouble)? {
            let text = format!("something else is mounted at {}", to.display());
            return Err(Status::already_exists(text));
        }
        if mount.is_read_only != flags.contains(MountFlags::RDONLY) {
            let text = format!("{} is mounted with another mode", to.display());
            return Err(Status::already_exists(text));
        }
        Ok(())
    }

    /// Takes a volume off this node.
    pub(crate) fn unstage(&self, id: &str, path: &str) -> Answer<()> {
        required("volume_id", id)?;
        let path = PathBuf::from(required("staging_target_path", path)?);
        let _locked = self.driver.pool.lock().map_err(trouble)?;
        let volume = self.driver.volume(id)?;
        let mut attachment = self.attachment(&volume)?;
        if attachment.staging.as_ref() != Some(&path) {
            return Ok(());
        }
        if !attachment.targets.is_empty() {
            let text = format!("volume `{id}` is still published on this node");
            return Err(Status::failed_precondition(text));
        }
        if volume.kind == Kind::Mount {
            mounts::unmount(&path).map_err(trouble)?;
        }
        attachment.staging = None;
        attachment.device = None;
        self.keep(&attachment).map_err(trouble)?;
        // Closed by this; the device goes when the last who has it open closes it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    /// Shows a staged volume at a place for a pod.
    pub(crate) fn publish(&self, request: &NodePublishVolumeRequest) -> Answer<()> {
        required("volume_id", &request.volume_id)?;
        let target = PathBuf::from(required("target_path", &request.target_path)?);
        if request.volume_context.get(EPHEMERAL).is_some_and(|value| value == "true") {
            let text = "this driver has no ephemeral volumes: make a claim";
            return Err(Status::invalid_argument(text));
        }
        let staging = PathBuf::from(required("staging_target_path", &request.staging_target_path)?);
        let (kind, mode) = usage::checked(request.volume_capability.as_ref())?;
        let flags = self.flags(usage::flags(request.volume_capability.as_ref()))?;
        let _locked = self.driver.pool.lock().map_err(trouble)?;
        let volume = self.driver.volume(&request.volume_id)?;
        self.check(&volume, kind)?;
        let mut attachment = self.attachment(&volume)?;
        let from = self.staged(&volume, &attachment, &staging)?;
        let is_elsewhere = attachment.targets.iter().any(|other| *other != target);
        if mode == Mode::SingleNodeSingleWriter && is_elsewhere {
            let text = "the volume is for one pod, and another one has it";
            return Err(Status::failed_precondition(text));
        }
        let is_read_only = request.readonly || usage::is_read_only(mode);
        let flags = match kind {
            Kind::Mount if is_read_only => flags | MountFlags::RDONLY,
            Kind::Mount => flags,
            // Who may write to a device is not a matter of the mount.
            Kind::Block => MountFlags::empty(),
        };
        if !attachment.targets.contains(&target) {
            attachment.targets.push(target.clone());
            self.keep(&attachment).map_err(trouble)?;
        }
        make_place(kind, &target)
            .with_context(|| format!("create {}", target.display()))
            .map_err(trouble)?;
        self.show(&from, &target, flags)
    }

    /// What is mounted for pods: the staged tree, or the device.
    fn staged(&self, volume: &Volume, attachment: &Attachment, staging: &Path) -> Answer<PathBuf> {
        let missing = || {
            let text = format!("volume `{}` is not staged at {}", volume.id, staging.display());
            Status::failed_precondition(text)
        };
        if attachment.staging.as_deref() != Some(staging) {
            return Err(missing());
        }
        match volume.kind {
            Kind::Block => self.held(&volume.id).ok_or_else(missing),
            Kind::Mount => {
                let is_there = mounts::same(&self.driver.pool.volume(volume), staging);
                let is_there = is_there.map_err(trouble)?;
                if is_there { Ok(staging.to_owned()) } else { Err(missing()) }
            }
        }
    }

    /// Takes a volume away from a place; the place itself goes too.
    pub(crate) fn unpublish(&self, id: &str, target: &str) -> Answer<()> {
        required("volume_id", id)?;
        let target = PathBuf::from(required("target_path", target)?);
        let _locked = self.driver.pool.lock().map_err(trouble)?;
        let volume = self.driver.volume(id)?;
        mounts::unmount(&target).map_err(trouble)?;
        remove_place(&target)
            .with_context(|| format!("remove {}", target.display()))
            .map_err(trouble)?;
        let mut attachment = self.attachment(&volume)?;
        attachment.targets.retain(|other| *other != target);
        self.keep(&attachment).map_err(trouble)
    }
}

fn attachment_id(attachment: &Attachment) -> String {
    Attachment::id_of(&attachment.volume, &attachment.node)
}

/// A folder to mount a tree on, or a file to mount a device on.
fn make_place(kind: Kind, target: &Path) -> io::Result<()> {
    if kind == Kind::Mount {
        return fs::create_dir_all(target);
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    File::options().create(true).append(true).open(target).map(drop)
}

/// Removes an empty folder or an empty file: never anything that has content.
fn remove_place(target: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta?,
    };
    if meta.is_dir() {
        fs::remove_dir(target)
    } else if meta.is_file() && meta.len() == 0 {
        fs::remove_file(target)
    } else {
        Err(io::Error::other("it has content of its own"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_with_content_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        make_place(Kind::Mount, &place("a/tree")).unwrap();
        make_place(Kind::Block, &place("b/device")).unwrap();
        make_place(Kind::Block, &place("b/device")).unwrap();
        assert!(remove_place(&place("a")).is_err());
        fs::write(place("full"), "x").unwrap();
        assert!(remove_place(&place("full")).is_err());
        for name in ["a/tree", "b/device", "absent"] {
            remove_place(&place(name)).unwrap();
            assert!(!place(name).exists(), "{name}");
        }
    }
}
