//! A root directory as one tar archive, the same bytes each time.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// No file of an image is younger: 2026-01-01. What a build writes has this time.
pub(super) const EPOCH: u64 = 1_767_225_600;

/// Whose the files of a layer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owners {
    /// As they are in the root directory.
    Kept,
    /// All root's, whoever builds.
    Root,
}

/// Writes everything below `root` to the tar archive `out`: sorted, by number, no time that a build
/// left behind, and with the capabilities that programs have.
pub(super) fn write(root: &Path, owners: Owners, out: &Path) -> Result<()> {
    let mut tar = tar(out);
    tar.args(["--xattrs", "--xattrs-include=security.capability"]);
    if owners == Owners::Root {
        tar.args(["--owner=0", "--group=0"]);
    }
    tar.arg("--directory").arg(root).arg(".");
    run(&mut tar)
}

/// Writes some files of `folder` to the tar archive `out`.
pub(super) fn pack(folder: &Path, names: &[&str], out: &Path) -> Result<()> {
    let mut tar = tar(out);
    tar.args(["--owner=0", "--group=0", "--mode=0644", "--directory"]).arg(folder).args(names);
    run(&mut tar)
}

fn tar(out: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--numeric-owner", "--format=posix", "--clamp-mtime"])
        .arg(format!("--mtime=@{EPOCH}"))
        .arg("--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime")
        .arg("--file")
        .arg(out)
        .env("LC_ALL", "C")
        .env_remove("TAR_OPTIONS")
        .stdin(Stdio::null());
    tar
}

fn run(tar: &mut Command) -> Result<()> {
    let out = tar.output().context("run tar")?;
    if !out.status.success() {
        bail!("tar ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A small root, made in the given order.
    fn root(names: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in names {
            fs::write(root.path().join(name), name).unwrap();
        }
        fs::create_dir(root.path().join("folder")).unwrap();
        symlink("a", root.path().join("folder/link")).unwrap();
        root
    }

    fn layer(root: &Path) -> Vec<u8> {
        let out = tempfile::NamedTempFile::new().unwrap();
        write(root, Owners::Root, out.path()).unwrap();
        fs::read(out.path()).unwrap()
    }

    /// What tar itself says is in it.
    fn listing(layer: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), layer).unwrap();
        let out = Command::new("tar")
            .args(["--list", "--verbose", "--utc", "--full-time", "--numeric-owner", "--file"])
            .arg(file.path())
            .output()
            .unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stdout).unwrap()
    }

    #[test]
    fn the_order_and_the_time_of_making_do_not_show() {
        let one = root(&["a", "b", "c"]);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let other = root(&["c", "a", "b"]);
        assert_eq!(layer(one.path()), layer(other.path()));
        fs::write(other.path().join("b"), "B").unwrap();
        assert_ne!(layer(one.path()), layer(other.path()));
    }

    #[test]
    fn names_are_sorted_owners_are_root_and_nothing_is_younger_than_the_epoch() {
        let listing = listing(&layer(root(&["b", "a"]).path()));
        let names: Vec<_> =
            listing.lines().filter_map(|line| line.split(' ').next_back()).collect();
        assert_eq!(names, ["./", "./a", "./b", "./folder/", "a"]);
        for line in listing.lines() {
            assert!(line.contains(" 0/0 "), "{line}");
            assert!(line.contains(" 2026-01-01 00:00:00 "), "{line}");
        }
    }

    #[test]
    fn an_older_file_keeps_its_time_and_a_root_that_is_missing_is_an_error() {
        let old = root(&["a"]);
        let file = fs::File::open(old.path().join("a")).unwrap();
        let time =
            std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        file.set_modified(time).unwrap();
        assert!(listing(&layer(old.path())).contains("2001-09-09 01:46:40 ./a"));

        let out = tempfile::NamedTempFile::new().unwrap();
        let error = write(Path::new("/nowhere"), Owners::Root, out.path()).unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
    }
}
