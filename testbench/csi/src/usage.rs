//! How callers want to use a volume.

use tonic::Status;

use crate::answer::Answer;
use crate::mounts;
use crate::records::Kind;
use crate::wire::csi::VolumeCapability;
use crate::wire::csi::volume_capability::AccessType;
use crate::wire::csi::volume_capability::access_mode::Mode;

/// The one file system there is.
const FILE_SYSTEM: &str = "btrfs";

/// The kind of volume that all these want.
pub(crate) fn kind(capabilities: &[VolumeCapability]) -> Answer<Kind> {
    let mut kinds = capabilities.iter().map(|one| checked(Some(one)).map(|(kind, _)| kind));
    let Some(first) = kinds.next().transpose()? else {
        return Err(Status::invalid_argument("volume_capabilities are missing"));
    };
    for kind in kinds {
        if kind? != first {
            let text = "a volume is for mounting or raw, not both";
            return Err(Status::invalid_argument(text));
        }
    }
    Ok(first)
}

/// The kind of volume and the access mode that is wanted, if both can be.
pub(crate) fn checked(capability: Option<&VolumeCapability>) -> Answer<(Kind, Mode)> {
    let missing = |what: &str| Status::invalid_argument(format!("{what} is missing"));
    let capability = capability.ok_or_else(|| missing("volume_capability"))?;
    let mode = capability.access_mode.as_ref().map_or(Mode::Unknown, |access| access.mode());
    if mode == Mode::Unknown {
        return Err(missing("access_mode"));
    }
    let kind = match capability.access_type.as_ref() {
        None => return Err(missing("access_type")),
        Some(AccessType::Block(_)) => Kind::Block,
        Some(AccessType::Mount(mount)) => {
            if !matches!(mount.fs_type.as_str(), "" | FILE_SYSTEM) {
                let text = format!("there is {FILE_SYSTEM} only, not `{}`", mount.fs_type);
                return Err(Status::invalid_argument(text));
            }
            let unknown = |flag| Status::invalid_argument(format!("mount flag `{flag}`"));
            mounts::flags(&mount.mount_flags).map_err(unknown)?;
            Kind::Mount
        }
    };
    Ok((kind, mode))
}

/// Whether nothing may be written in this mode.
pub(crate) const fn is_read_only(mode: Mode) -> bool {
    matches!(mode, Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly)
}

/// The mount flags that were asked for.
pub(crate) fn flags(capability: Option<&VolumeCapability>) -> &[String] {
    match capability.and_then(|capability| capability.access_type.as_ref()) {
        Some(AccessType::Mount(mount)) => &mount.mount_flags,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::csi::volume_capability::{AccessMode, BlockVolume, MountVolume};

    fn wanted(access_type: Option<AccessType>, mode: Mode) -> VolumeCapability {
        VolumeCapability { access_type, access_mode: Some(AccessMode { mode: mode.into() }) }
    }

    fn mount(fs_type: &str, flags: &[&str]) -> Option<AccessType> {
        let mount_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let volume_mount_group = String::new();
        Some(AccessType::Mount(MountVolume {
            fs_type: fs_type.into(),
            mount_flags,
            volume_mount_group,
        }))
    }

    #[test]
    fn a_volume_has_one_kind() {
        let raw = wanted(Some(AccessType::Block(BlockVolume {})), Mode::SingleNodeWriter);
        let tree = wanted(mount("", &[]), Mode::MultiNodeMultiWriter);
        assert_eq!(kind(std::slice::from_ref(&raw)).unwrap(), Kind::Block);
        assert_eq!(kind(std::slice::from_ref(&tree)).unwrap(), Kind::Mount);
        assert!(kind(&[raw, tree]).unwrap_err().message().ends_with("not both"));
        assert!(kind(&[]).is_err());
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let writer = Mode::SingleNodeWriter;
        for (capability, said) in [
            (wanted(mount("ext4", &[]), writer), "there is btrfs only, not `ext4`"),
            (wanted(mount("", &["data=journal"]), writer), "mount flag `data=journal`"),
            (wanted(mount("", &[]), Mode::Unknown), "access_mode is missing"),
            (wanted(None, writer), "access_type is missing"),
        ] {
            assert_eq!(checked(Some(&capability)).unwrap_err().message(), said);
        }
        assert_eq!(checked(None).unwrap_err().message(), "volume_capability is missing");
    }
}
