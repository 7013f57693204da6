//! What is mounted where, and bind mounts.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount as unmount_path};

/// One line of the kernel's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) place: PathBuf,
    pub(crate) is_read_only: bool,
}

/// What is mounted on top at a place, if it is a mount point.
pub(crate) fn at(place: &Path) -> Result<Option<Mount>> {
    let list = "/proc/self/mountinfo";
    let said = fs::read(list).with_context(|| format!("read {list}"))?;
    let Ok(place) = place.canonicalize() else { return Ok(None) };
    Ok(said.split(|byte| *byte == b'\n').filter_map(parse).rfind(|mount| mount.place == place))
}

/// The fifth field is the place, the sixth the options; blanks and such stand as `\040`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ').skip(4);
    let place = PathBuf::from(std::ffi::OsString::from_vec(unescape(fields.next()?)));
    let options = fields.next()?;
    let is_read_only = options.split(|byte| *byte == b',').any(|option| option == b"ro");
    Some(Mount { place, is_read_only })
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| first == b'\\');
        let code = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &after[3..];
            }
            None => {
                plain.push(first);
                rest = after;
            }
        }
    }
    plain
}

/// Whether two paths are the same file or device.
pub(crate) fn same(one: &Path, other: &Path) -> Result<bool> {
    let meta =
        |path: &Path| fs::metadata(path).with_context(|| format!("look at {}", path.display()));
    let (one, other) = (meta(one)?, meta(other)?);
    let is_device = one.rdev() != 0 && one.rdev() == other.rdev();
    Ok(is_device || (one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Shows `from` at `to` as well, with these flags.
pub(crate) fn bind(from: &Path, to: &Path, flags: MountFlags) -> Result<()> {
    let show = || format!("mount {} at {}", from.display(), to.display());
    mount_bind(from, to).with_context(show)?;
    if flags.is_empty() {
        return Ok(());
    }
    let told = mount_remount(to, MountFlags::BIND | flags, c"");
    if told.is_err() {
        unmount(to).with_context(show)?;
    }
    told.with_context(show)
}

/// Takes away every mount at a place; none is no error.
pub(crate) fn unmount(place: &Path) -> Result<()> {
    while at(place)?.is_some() {
        unmount_path(place, UnmountFlags::empty())
            .with_context(|| format!("unmount {}", place.display()))?;
    }
    Ok(())
}

/// The flags that words such as `noatime` stand for; the first that is not known is the error.
pub(crate) fn flags(words: &[String]) -> Result<MountFlags, String> {
    words.iter().try_fold(MountFlags::empty(), |flags, word| {
        Ok(flags
            | match word.as_str() {
                "ro" => MountFlags::RDONLY,
                "rw" => MountFlags::empty(),
                "noatime" => MountFlags::NOATIME,
                "nodiratime" => MountFlags::NODIRATIME,
                "relatime" => MountFlags::RELATIME,
                "nodev" => MountFlags::NODEV,
                "nosuid" => MountFlags::NOSUID,
                "noexec" => MountFlags::NOEXEC,
                _ => return Err(word.clone()),
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_with_blanks_and_read_only_ones_are_read() {
        let line = b"36 35 98:0 /a /mnt/with\\040blank ro,noatime master:1 - btrfs /dev/loop0 rw";
        let mount = Mount { place: "/mnt/with blank".into(), is_read_only: true };
        assert_eq!(parse(line), Some(mount));
        let line = b"36 35 98:0 / /mnt\\x rw,nodev shared:1 - btrfs /dev/loop0 ro";
        assert_eq!(parse(line), Some(Mount { place: "/mnt\\x".into(), is_read_only: false }));
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn an_unknown_mount_flag_is_named() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let both = MountFlags::RDONLY | MountFlags::NOATIME;
        assert_eq!(flags(&words("ro noatime")), Ok(both));
        assert_eq!(flags(&words("ro compress=zstd")), Err("compress=zstd".to_owned()));
    }

    #[test]
    fn what_is_not_mounted_is_not_found_and_not_unmounted() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(at(folder.path()).unwrap(), None);
        assert_eq!(at(&folder.path().join("absent")).unwrap(), None);
        unmount(folder.path()).unwrap();
        assert!(at(Path::new("/proc")).unwrap().is_some());
    }
}
