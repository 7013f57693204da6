//! Where images are kept, and how one gets there whole or not at all.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

use super::recipe::{Recipe, short};
use super::source::{Source, Versions};
use super::{Wishes, advise, docker};
use crate::peers;

/// Gives the archive of an image: the one in the cache, or a new one.
pub(super) fn get(root: &Path, recipe: &Recipe, wishes: Wishes) -> Result<PathBuf> {
    let cache = peers::cache(root, |key| env::var_os(key));
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let source = Source::of(root, &cache, recipe, wishes)?;
    let key = recipe.key(&source.material()?)?;
    let place = Place { cache, name: recipe.name(), key };
    if let Some(found) = place.newest()?
        && !wishes.update
    {
        return Ok(found);
    }
    let lock = place.lock()?;
    // Another process may have made it while we waited for the lock.
    if let Some(found) = place.newest()?
        && !wishes.update
    {
        return Ok(found);
    }
    place.clear_leftovers()?;
    place.check_room(source.needs())?;
    let made = place.make(recipe, &source);
    drop(lock);
    made
}

/// An image's place in the cache.
struct Place {
    cache: PathBuf,
    name: String,
    key: String,
}

impl Place {
    /// The youngest archive of what the recipe says; there are several when packages were updated.
    fn newest(&self) -> Result<Option<PathBuf>> {
        let prefix = format!("image-{}-{}", self.name, self.key);
        let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
        for (name, path) in self.entries()? {
            let archive = path.join(docker::ARCHIVE);
            if name.starts_with(&prefix) && archive.is_file() {
                let read = || format!("read {}", archive.display());
                let made = fs::metadata(&archive).and_then(|file| file.modified());
                found.push((made.with_context(read)?, archive));
            }
        }
        Ok(found.into_iter().max().map(|(_, archive)| archive))
    }

    /// Waits until no other process makes this image.
    fn lock(&self) -> Result<fs::File> {
        let path = self.cache.join(format!(".image-{}.lock", self.name));
        let lock = || format!("lock {}", path.display());
        let file = fs::File::create(&path).with_context(lock)?;
        file.lock().with_context(lock)?;
        Ok(file)
    }

    fn scratch_prefix(&self) -> String {
        format!(".image-{}-", self.name)
    }

    /// Removes what a build left that was killed. Whoever has the lock knows that none is going on.
    fn clear_leftovers(&self) -> Result<()> {
        for (name, path) in self.entries()? {
            if name.starts_with(&self.scratch_prefix()) && path.is_dir() {
                fs::remove_dir_all(&path)
                    .with_context(|| format!("remove what is left of {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<(String, PathBuf)>> {
        let list = || format!("list {}", self.cache.display());
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.cache).with_context(list)? {
            let entry = entry.with_context(list)?;
            entries.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
        Ok(entries)
    }

    fn check_room(&self, needed: u64) -> Result<()> {
        let room = rustix::fs::statvfs(&self.cache)
            .with_context(|| format!("ask how much room {} has", self.cache.display()))?;
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        if free >= needed {
            return Ok(());
        }
        Err(advise(
            &format!(
                "{} has {} MiB left, and the build needs {} MiB",
                self.cache.display(),
                free >> 20,
                needed >> 20
            ),
            "remove old folders from there, or set ALIDADE_TESTBENCH to a folder with more room",
        ))
    }

    /// Builds it beside its place and renames it: an interrupted build is never taken for an image.
    fn make(&self, recipe: &Recipe, source: &Source) -> Result<PathBuf> {
        eprintln!("making the image {}", self.name);
        let scratch = tempfile::Builder::new()
            .prefix(&self.scratch_prefix())
            .tempdir_in(&self.cache)
            .with_context(|| format!("create a folder in {}", self.cache.display()))?;
        let root = scratch.path().join("root");
        folder(&root, 0o755)?;
        let versions = source.fill(recipe, &root)?;
        if let Some(overlay) = recipe.overlay() {
            lay(&overlay, &root)?;
        }
        docker::write(scratch.path(), recipe, &versions.labels(recipe))?;
        let home = self.home(&versions);
        let archive = home.join(docker::ARCHIVE);
        if archive.is_file() {
            eprintln!("what it is made of has not changed: {} stays", home.display());
            return same(&scratch.path().join(docker::ARCHIVE), archive);
        }
        versions.write(scratch.path())?;
        fs::rename(scratch.path(), &home).with_context(|| format!("create {}", home.display()))?;
        drop(scratch.keep());
        Ok(archive)
    }

    /// Its folder: named by what it is made of, and by the versions that were found.
    fn home(&self, versions: &Versions) -> PathBuf {
        let found = versions.hash().map_or_else(String::new, |hash| format!("-{}", short(&hash)));
        self.cache.join(format!("image-{}-{}{found}", self.name, self.key))
    }
}

/// The archive that is kept, if the new one of the same things has the same bytes.
fn same(new: &Path, kept: PathBuf) -> Result<PathBuf> {
    if docker::digest(new)? == docker::digest(&kept)? {
        return Ok(kept);
    }
    Err(advise(
        "two builds of the same packages differ, and must not",
        &format!("compare the layers; {} is the older build, and stays", kept.display()),
    ))
}

/// Makes a folder with exactly this mode, whatever the mask of the process is.
pub(super) fn folder(path: &Path, mode: u32) -> Result<()> {
    let create = || format!("create {}", path.display());
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.with_context(create)?,
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(create)
}

/// Makes a folder and those above it, each for everyone to read.
pub(super) fn folders(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent() {
        folders(above)?;
    }
    folder(path, 0o755)
}

/// Copies a file; it runs when the original runs.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let copy = || format!("copy {} to {}", from.display(), to.display());
    if let Some(above) = to.parent() {
        folders(above)?;
    }
    fs::copy(from, to).with_context(copy)?;
    let runs = fs::metadata(from).with_context(copy)?.permissions().mode() & 0o100 != 0;
    let mode = if runs { 0o755 } else { 0o644 };
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).with_context(copy)
}

/// Lays the files below `from` over those below `to`.
fn lay(from: &Path, to: &Path) -> Result<()> {
    let list = || format!("list {}", from.display());
    for entry in fs::read_dir(from).with_context(list)? {
        let entry = entry.with_context(list)?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            folders(&target)?;
            lay(&entry.path(), &target)?;
        } else {
            copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(cache: &Path) -> Place {
        Place { cache: cache.to_owned(), name: "x".into(), key: "0123".into() }
    }

    fn kept(cache: &Path, name: &str) -> PathBuf {
        let home = cache.join(name);
        fs::create_dir(&home).unwrap();
        fs::write(home.join(docker::ARCHIVE), name).unwrap();
        home.join(docker::ARCHIVE)
    }

    #[test]
    fn the_youngest_of_what_the_recipe_says_is_taken() {
        let cache = tempfile::tempdir().unwrap();
        kept(cache.path(), "image-x-ffff");
        kept(cache.path(), ".image-x-0123");
        fs::create_dir(cache.path().join("image-x-0123-half")).unwrap();
        assert_eq!(place(cache.path()).newest().unwrap(), None);
        let old = kept(cache.path(), "image-x-0123-b");
        assert_eq!(place(cache.path()).newest().unwrap(), Some(old.clone()));
        let new = kept(cache.path(), "image-x-0123-a");
        let earlier = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(60);
        fs::File::open(&old).unwrap().set_modified(earlier).unwrap();
        assert_eq!(place(cache.path()).newest().unwrap(), Some(new));
    }

    #[test]
    fn a_build_of_the_same_that_differs_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let [kept, new] = ["kept", "new"].map(|name| folder.path().join(name));
        fs::write(&kept, "bytes").unwrap();
        fs::write(&new, "bytes").unwrap();
        assert_eq!(same(&new, kept.clone()).unwrap(), kept);
        fs::write(&new, "Bytes").unwrap();
        assert!(same(&new, kept).unwrap_err().to_string().contains("\n\nhint: "));
    }

    #[test]
    fn what_a_killed_build_left_is_removed_and_nothing_else() {
        let cache = tempfile::tempdir().unwrap();
        let left = kept(cache.path(), ".image-x-AbC");
        let stays =
            [".image-xy-AbC", "image-x-0123", ".restic-AbC"].map(|name| kept(cache.path(), name));
        place(cache.path()).clear_leftovers().unwrap();
        assert!(!left.exists());
        assert!(stays.iter().all(|path| path.exists()));
    }

    #[test]
    fn too_little_room_is_said_before_anything_is_built() {
        let cache = tempfile::tempdir().unwrap();
        place(cache.path()).check_room(1).unwrap();
        let error = place(cache.path()).check_room(u64::MAX).unwrap_err().to_string();
        assert!(error.contains("MiB left") && error.contains("\n\nhint: "), "{error}");
    }

    #[test]
    fn files_laid_over_a_root_run_when_the_originals_run() {
        let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("usr/bin")).unwrap();
        for (name, mode) in [("usr/bin/entry", 0o700), ("usr/notes", 0o600)] {
            fs::write(from.path().join(name), name).unwrap();
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(from.path().join(name), mode).unwrap();
        }
        lay(from.path(), to.path()).unwrap();
        for (name, mode) in [("usr", 0o755), ("usr/bin/entry", 0o755), ("usr/notes", 0o644)] {
            let found = fs::metadata(to.path().join(name)).unwrap().permissions().mode();
            assert_eq!(found & 0o7777, mode, "{name}");
        }
    }
}
