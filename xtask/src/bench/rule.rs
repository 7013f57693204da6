//! How a data set is made, changed and changed back: the same bytes on every machine.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::chance::Chance;
use super::image;
use super::million;
use super::tree;

/// The rule that a data set is made by.
pub(super) enum Rule {
    Tree(&'static tree::Shape),
    /// One file of so many bytes.
    Image(u64),
    Million(million::Shape),
}

/// The name of the image's one file.
pub(super) const IMAGE: &str = "disk.img";

/// Bytes that a change of a file overwrites.
const EDIT: usize = 16;

impl Rule {
    /// Makes every file below `root` that is not there yet.
    pub(super) fn make(&self, root: &Path) -> Result<()> {
        match self {
            Self::Tree(shape) => {
                let files = tree::files(shape);
                make_folders(root, files.iter().map(|file| file.path.as_str()))?;
                each(files.len(), &|at, bytes| {
                    let file = &files[at];
                    write(root, &file.path, file.len, bytes, &|bytes| file.bytes(bytes))
                })
            }
            Self::Image(size) => {
                let extents = image::extents(*size);
                let file = open(&root.join(IMAGE))?;
                each(extents.len(), &|at, bytes| {
                    extents[at].bytes(bytes);
                    file.write_all_at(bytes, extents[at].at).context("write the image")
                })?;
                set_time(&file)
            }
            Self::Million(shape) => {
                let all: Vec<String> = (0..shape.count()).map(|at| shape.path(at)).collect();
                make_folders(root, all.iter().map(String::as_str))?;
                each(all.len(), &|at, bytes| {
                    write(root, &all[at], million::LEN, bytes, &|bytes| million::bytes(at, bytes))
                })
            }
        }
    }

    /// Changes 1 %.
    pub(super) fn change(&self, root: &Path) -> Result<()> {
        match self {
            Self::Tree(shape) => TreeChange::of(shape).apply(root),
            Self::Image(size) => {
                let file = open(&root.join(IMAGE))?;
                for at in image::writes(*size) {
                    file.write_all_at(&image::written(at), at).context("write the image")?;
                }
                Ok(())
            }
            Self::Million(_) => Ok(()),
        }
    }

    /// Makes the content again what [`Self::make`] made, however far a change had come.
    pub(super) fn undo(&self, root: &Path) -> Result<()> {
        match self {
            Self::Tree(shape) => TreeChange::of(shape).undo(root),
            Self::Image(size) => {
                let writes = image::writes(*size);
                let touched = |extent: &image::Extent| {
                    let end = extent.at + extent.len;
                    writes.iter().any(|at| *at < end && at + image::WRITE > extent.at)
                };
                let extents: Vec<_> = image::extents(*size).into_iter().filter(touched).collect();
                let file = open(&root.join(IMAGE))?;
                each(extents.len(), &|at, bytes| {
                    extents[at].bytes(bytes);
                    file.write_all_at(bytes, extents[at].at).context("write the image")
                })?;
                set_time(&file)
            }
            Self::Million(_) => Ok(()),
        }
    }
}

/// What is done to the tree: all of it follows from the files that there are.
struct TreeChange {
    files: Vec<tree::File>,
    edited: Vec<usize>,
    removed: Vec<usize>,
    renamed: Vec<usize>,
    new: Vec<tree::File>,
}

impl TreeChange {
    fn of(shape: &tree::Shape) -> Self {
        let files = tree::files(shape);
        let mut order: Vec<usize> = (0..files.len()).collect();
        Chance::of("tree change", 0).shuffle(&mut order);
        let [new, removed, renamed] = shape.changes;
        let mut order = order.into_iter();
        let removed: Vec<usize> = order.by_ref().take(removed).collect();
        let renamed: Vec<usize> = order.by_ref().take(renamed).collect();
        let one_per_cent = files.iter().map(|file| file.len).sum::<u64>() / 100;
        let (mut edited, mut bytes) = (Vec::new(), 0);
        for at in order {
            // A file that alone is more than the whole change is left out.
            let len = files[at].len;
            if len >= EDIT as u64 && bytes + len <= one_per_cent {
                edited.push(at);
                bytes += len;
            }
            if bytes * 1_000 >= one_per_cent * 995 {
                break;
            }
        }
        let folders: Vec<usize> = edited.iter().copied().cycle().take(new).collect();
        let new = folders
            .iter()
            .enumerate()
            .map(|(number, at)| tree::new_file(number, &files[*at].path))
            .collect();
        Self { files, edited, removed, renamed, new }
    }

    fn apply(&self, root: &Path) -> Result<()> {
        for at in &self.edited {
            let mut chance = Chance::of("edit", *at as u64);
            let mut bytes = [0; EDIT];
            chance.fill(&mut bytes);
            let place = chance.below(self.files[*at].len - EDIT as u64 + 1);
            let path = root.join(&self.files[*at].path);
            let file = File::options().write(true).open(&path);
            file.and_then(|file| file.write_all_at(&bytes, place))
                .with_context(|| format!("write {}", path.display()))?;
        }
        for at in &self.removed {
            let path = root.join(&self.files[*at].path);
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        for at in &self.renamed {
            let path = root.join(&self.files[*at].path);
            fs::rename(&path, renamed(&path))
                .with_context(|| format!("rename {}", path.display()))?;
        }
        let mut bytes = Vec::new();
        for file in &self.new {
            write(root, &file.path, file.len, &mut bytes, &|bytes| file.bytes(bytes))?;
        }
        Ok(())
    }

    fn undo(&self, root: &Path) -> Result<()> {
        for file in &self.new {
            remove_if_there(&root.join(&file.path))?;
        }
        for at in &self.renamed {
            let path = root.join(&self.files[*at].path);
            if !path.exists() {
                fs::rename(renamed(&path), &path)
                    .with_context(|| format!("rename {}", path.display()))?;
            }
        }
        let mut bytes = Vec::new();
        for at in self.edited.iter().chain(&self.removed) {
            let file = &self.files[*at];
            // In place: an edited file keeps its inode.
            file.bytes(&mut bytes);
            let opened = open(&root.join(&file.path))?;
            opened.write_all_at(&bytes, 0).with_context(|| format!("write {}", file.path))?;
            set_time(&opened)?;
        }
        Ok(())
    }
}

fn renamed(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-renamed");
    name.into()
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn open(path: &Path) -> Result<File> {
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// Runs `one` for every number below `count`, on all cores, and says how far it is.
fn each(count: usize, one: &(dyn Fn(usize, &mut Vec<u8>) -> Result<()> + Sync)) -> Result<()> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let working: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || -> Result<()> {
                    let mut bytes = Vec::new();
                    for at in (worker..count).step_by(workers) {
                        one(at, &mut bytes)?;
                        if worker == 0 && count > 10_000 && at % (count / 10) < workers {
                            eprintln!("  {} %", at * 100 / count);
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        working.into_iter().try_for_each(|one| one.join().expect("making files does not panic"))
    })
}

fn make_folders<'a>(root: &Path, paths: impl Iterator<Item = &'a str>) -> Result<()> {
    let folders: BTreeSet<&str> =
        paths.filter_map(|path| path.rsplit_once('/')).map(|(folder, _)| folder).collect();
    for folder in folders {
        let path = root.join(folder);
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    }
    Ok(())
}

/// Writes a file unless it is there whole: its time is set last.
fn write(
    root: &Path,
    path: &str,
    len: u64,
    bytes: &mut Vec<u8>,
    fill: &dyn Fn(&mut Vec<u8>),
) -> Result<()> {
    let path = root.join(path);
    let whole = |found: fs::Metadata| {
        found.len() == len && found.modified().is_ok_and(|found| found == time())
    };
    if path.metadata().is_ok_and(whole) {
        return Ok(());
    }
    fill(bytes);
    let say = || format!("write {}", path.display());
    let mut file = File::create(&path).with_context(say)?;
    file.write_all(bytes).with_context(say)?;
    set_time(&file).with_context(say)
}

/// The time of all files as made: 1 January 2025.
fn time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_735_689_600)
}

fn set_time(file: &File) -> Result<()> {
    file.set_modified(time()).context("set the time of a file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_change_is_one_per_cent_of_the_bytes() {
        let change = TreeChange::of(&tree::FULL);
        let all: u64 = change.files.iter().map(|file| file.len).sum();
        let edited: u64 = change.edited.iter().map(|at| change.files[*at].len).sum();
        assert!((980..=1_000).contains(&(edited * 100_000 / all)), "{edited} of {all}");
        assert_eq!((change.new.len(), change.removed.len(), change.renamed.len()), (300, 300, 100));
    }
}
