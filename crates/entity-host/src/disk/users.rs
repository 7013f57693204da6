//! Who on this system writes to a block device, or to an image file through a loop device.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use alidade_entity::{Error, Result};
use rustix::fs::{Stat, fstat, fsync, stat};
use rustix::io::Errno;

use super::image::{DeviceNo, Image, Nature, nature_of};

/// Says who may write to the disk while it is read, such as `/dev/vda1 is mounted read-write at /`; `None`
/// when this system knows of nobody.
///
/// Looks at mounts and swap on the device, on its partitions, and on what is built of them (LVM, RAID,
/// encryption), and on loop devices of an image file. Mounts in other mount namespaces are not seen.
///
/// # Errors
/// When the system does not say what is mounted.
pub(crate) fn who_writes(image: &Image) -> Result<Option<String>> {
    found(&devices_of(image)?, |mount| !mount.is_read_only)
}

/// Says who uses the disk at all, be it only to read, or that it is attached as a loop device.
///
/// # Errors
/// As [`who_writes`].
pub(crate) fn who_uses(image: &Image) -> Result<Option<String>> {
    let devices = devices_of(image)?;
    let user = found(&devices, |_| true)?;
    let attached = (image.nature == Nature::File && !devices.is_empty())
        .then(|| "it is attached as a loop device".to_owned());
    Ok(user.or(attached))
}

/// The device, or the loop devices of a file, and what is built on them.
fn devices_of(image: &Image) -> Result<BTreeSet<DeviceNo>> {
    let devices = match image.nature {
        Nature::Device(device) => vec![device],
        Nature::File => loops_of(image)?,
    };
    let mut all = BTreeSet::new();
    devices.into_iter().try_for_each(|device| built_on(device, &mut all))?;
    Ok(all)
}

fn found(devices: &BTreeSet<DeviceNo>, counts: impl Fn(&Mount) -> bool) -> Result<Option<String>> {
    if devices.is_empty() {
        return Ok(None);
    }
    Ok(match mounted(devices, counts)? {
        None => swapped(devices)?,
        mounted => mounted,
    })
}

/// The loop devices whose content is this file. What they hold back is written to it first.
fn loops_of(image: &Image) -> Result<Vec<DeviceNo>> {
    let look = |errno| Error::io(format!("look at {}", image.shown()), errno);
    let of_image = fstat(&image.fd).map_err(look)?;
    let mut found = Vec::new();
    for directory in entries(Path::new("/sys/block"))? {
        let path = directory.join("loop/backing_file");
        let backing = match fs::read(&path) {
            Err(error) if is_gone(&error) => continue,
            backing => backing.map_err(|error| failed(&path, error))?,
        };
        let is_same = stat(backing.trim_ascii_end()).is_ok_and(|it| same_file(&it, &of_image));
        if let (true, Some(device)) = (is_same, number_in(&directory)?) {
            if let Some(name) = directory.file_name() {
                flush(&Path::new("/dev").join(name))?;
            }
            found.push(device);
        }
    }
    Ok(found)
}

/// Has the system write what it holds back of a device.
fn flush(path: &Path) -> Result<()> {
    let flushed = fs::File::open(path).and_then(|device| Ok(fsync(device)?));
    flushed.map_err(|error| Error::io(format!("flush {}", path.display()), error))
}

fn same_file(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

/// Adds the device, its partitions, and what is built of them.
fn built_on(device: DeviceNo, all: &mut BTreeSet<DeviceNo>) -> Result<()> {
    if !all.insert(device) {
        return Ok(());
    }
    let directory = directory_of(device);
    let mut above = entries(&directory)?;
    above.retain(|entry| entry.join("partition").exists());
    above.extend(entries(&directory.join("holders"))?);
    for entry in above {
        if let Some(device) = number_in(&entry)? {
            built_on(device, all)?;
        }
    }
    Ok(())
}

/// Where the system tells of a device.
pub(crate) fn directory_of((major, minor): DeviceNo) -> PathBuf {
    PathBuf::from(format!("/sys/dev/block/{major}:{minor}"))
}

/// What lies in a directory of the system's; one that is not there has nothing in it.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = || fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect();
    match read() {
        Err(error) if is_gone(&error) => Ok(Vec::new()),
        entries => entries.map_err(|error| failed(directory, error)),
    }
}

/// True when a device is not there, or not any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound)
        || error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::io(format!("read {}", path.display()), error)
}

/// The number of the device that a directory of the system's tells of.
fn number_in(directory: &Path) -> Result<Option<DeviceNo>> {
    let path = directory.join("dev");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(number(text.trim_end())),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(failed(&path, error)),
    }
}

fn number(text: &str) -> Option<DeviceNo> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The number of the block device at that path.
fn device_at(path: &[u8]) -> Option<DeviceNo> {
    match nature_of(&stat(path).ok()?) {
        Some(Nature::Device(device)) => Some(device),
        _ => None,
    }
}

fn mounted(
    devices: &BTreeSet<DeviceNo>,
    counts: impl Fn(&Mount) -> bool,
) -> Result<Option<String>> {
    let table = read("/proc/self/mountinfo")?;
    let mut mounts = table.split(|&byte| byte == b'\n').filter_map(Mount::read);
    Ok(mounts.find(|mount| counts(mount) && mount.is_on(devices)).map(|mount| {
        let (source, at) = (OsStr::from_bytes(&mount.source), OsStr::from_bytes(&mount.at));
        let how = if mount.is_read_only { "read-only" } else { "read-write" };
        format!("{} is mounted {how} at {}", source.display(), at.display())
    }))
}

/// A line of the system's table of mounts.
struct Mount {
    device: DeviceNo,
    at: Vec<u8>,
    source: Vec<u8>,
    is_read_only: bool,
}

impl Mount {
    /// `ID PARENT MAJOR:MINOR ROOT AT OPTIONS [FIELD]... - TYPE SOURCE OPTIONS`.
    fn read(line: &[u8]) -> Option<Self> {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let dash = fields.iter().position(|field| *field == b"-")?;
        // A file system that is read-only, not only seen so here.
        let options = fields.get(dash + 3)?;
        Some(Self {
            device: number(std::str::from_utf8(fields.get(2)?).ok()?)?,
            at: unescaped(fields.get(4)?),
            source: unescaped(fields.get(dash + 2)?),
            is_read_only: options.split(|&byte| byte == b',').next() == Some(b"ro"),
        })
    }

    /// Some file systems (btrfs) have a number of their own, and are known by their source.
    fn is_on(&self, devices: &BTreeSet<DeviceNo>) -> bool {
        let by_source = || device_at(&self.source).is_some_and(|source| devices.contains(&source));
        devices.contains(&self.device) || by_source()
    }
}

/// The table writes blanks as `\040`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::new(), field);
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\');
        let code = octal.and_then(|text| std::str::from_utf8(text).ok());
        match code.and_then(|text| u8::from_str_radix(text, 8).ok()) {
            Some(code) => {
                plain.push(code);
                rest = &after[3..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

fn swapped(devices: &BTreeSet<DeviceNo>) -> Result<Option<String>> {
    let table = match read("/proc/swaps") {
        Err(error) if error.class() == alidade_entity::Class::NotFound => return Ok(None),
        table => table?,
    };
    let paths = table.split(|&byte| byte == b'\n').skip(1);
    let paths = paths.filter_map(|line| line.split(|&byte| byte == b' ').next());
    let mut used = paths
        .map(unescaped)
        .filter(|path| device_at(path).is_some_and(|device| devices.contains(&device)));
    Ok(used.next().map(|path| format!("{} is used as swap", OsStr::from_bytes(&path).display())))
}

fn read(path: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::io(format!("read {path}"), error))
}

/// Sectors that were written to the device so far, as the system counts; `None` where it does not.
pub(crate) fn writes_to(device: DeviceNo) -> Option<u64> {
    let text = fs::read_to_string(directory_of(device).join("stat")).ok()?;
    text.split_ascii_whitespace().nth(6)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_of_mounts_is_read() {
        let line = br"36 35 98:1 /mnt1 /my\040disk rw,noatime master:1 - ext3 /dev/ro\134ot rw,errors=continue";
        let mount = Mount::read(line).unwrap();
        assert_eq!((mount.device, mount.is_read_only), ((98, 1), false));
        assert_eq!(
            (mount.at.as_slice(), mount.source.as_slice()),
            (&b"/my disk"[..], &br"/dev/ro\ot"[..])
        );
        let line = b"36 35 98:1 / /a ro - ext4 /dev/b ro,x";
        assert!(Mount::read(line).unwrap().is_read_only);
        assert!(Mount::read(b"36 35 98:1 / /a rw").is_none());
        assert_eq!(unescaped(br"a\04"), br"a\04");
    }
}
