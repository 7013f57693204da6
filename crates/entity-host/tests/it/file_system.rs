//! File systems that keep less than others do, mounted for real.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use alidade_entity::CopyOptions;
use alidade_model::{OmissionKind, Version};

use crate::copy::{copy, options};
use crate::support::{need_root, run, scratch, walk};

/// A mount that is undone when the test ends, however it ends.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let undone = std::process::Command::new("umount").arg(&self.0).status();
        assert!(undone.is_ok_and(|status| status.success()), "unmount {}", self.0.display());
    }
}

/// A directory seen through a FUSE daemon.
fn mirrored(top: &Path, arguments: &[&str]) -> (Mounted, PathBuf) {
    need_root();
    let (below, mount) = (top.join("below"), top.join("mount"));
    fs::create_dir_all(&below).expect("mkdir");
    fs::create_dir_all(&mount).expect("mkdir");
    let paths = [below.to_string_lossy().into_owned(), mount.to_string_lossy().into_owned()];
    let arguments: Vec<&str> =
        arguments.iter().copied().chain(paths.iter().map(String::as_str)).collect();
    run("bindfs", &arguments);
    (Mounted(mount.clone()), mount)
}

#[test]
fn inode_numbers_of_a_fuse_mount_are_not_vouched_for() {
    let (_temp, top) = scratch();
    let (mounted, mount) = mirrored(&top, &[]);
    fs::write(mount.join("f"), b"x").expect("write");
    let on_fuse = walk(&top)
        .entry(&format!("{}/mount/f", top.file_name().unwrap().to_string_lossy()))
        .version
        .clone();
    drop(mounted);
    let on_disk = walk(&top.join("below/f")).entry("f").version.clone();
    let inode = |version: &Version| match version {
        Version::Stat { inode, .. } => *inode,
        other => panic!("{other:?}"),
    };
    assert_eq!(inode(&on_fuse), None);
    assert!(inode(&on_disk).is_some());
    assert!(on_disk.matches(&on_fuse), "the rest is compared");
}

#[test]
fn reading_back_finds_metadata_that_the_file_system_ignored() {
    let (_temp, top) = scratch();
    let (_mounted, mount) = mirrored(&top, &["--chown-ignore", "--chgrp-ignore", "--chmod-ignore"]);
    let from = top.join("f");
    fs::write(&from, b"x").expect("write");
    fs::set_permissions(&from, PermissionsExt::from_mode(0o751)).expect("chmod");
    std::os::unix::fs::chown(&from, Some(1234), Some(5678)).expect("chown");
    let target = mount.join("t");
    let ending = copy(&from, &options(&target)).expect("copy");
    assert!(ending.omissions.is_empty(), "who does not read back does not know");
    let target = mount.join("u");
    let options = CopyOptions { read_back: true, ..options(&target) };
    let ending = copy(&from, &options).expect("copy");
    let path = from.as_os_str().as_encoded_bytes();
    let about: Vec<_> = ending.omissions.named().iter().filter(|o| o.path == path).collect();
    let reasons: Vec<&str> = about.iter().map(|o| o.reason.as_str()).collect();
    let expected = [
        "owner and group are 0:0, not 1234:5678 when read back",
        "mode is 600, not 751 when read back",
    ];
    assert_eq!(reasons, expected);
    assert!(about.iter().all(|omission| omission.kind == OmissionKind::Unwritable));
}

#[test]
fn attributes_that_a_file_system_refuses_are_omitted_by_name() {
    let (_temp, top) = scratch();
    let (_mounted, mount) = mirrored(&top, &["--xattr-ro"]);
    let from = top.join("f");
    fs::write(&from, b"x").expect("write");
    run("setfattr", &["-n", "user.a", "-v", "1", &from.to_string_lossy()]);
    let ending = copy(&from, &options(&mount.join("t"))).expect("copy");
    let reasons: Vec<&str> = ending.omissions.named().iter().map(|o| o.reason.as_str()).collect();
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].starts_with("set extended attribute user.a: "), "{reasons:?}");
    let restored = mount.join("t").join(from.strip_prefix("/").expect("absolute"));
    assert_eq!(fs::read(restored).expect("the file is kept"), b"x");
}
