//! The list of what is in a data set: a line "SHA-256  size  path" for each file, in order.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// All files below a folder.
pub(super) struct Manifest {
    lines: Vec<String>,
    pub(super) bytes: u64,
}

/// How many files there are below a folder, and how many bytes they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl Manifest {
    /// Reads and hashes every file below `root`.
    pub(super) fn of(root: &Path) -> Result<Self> {
        let paths = files(root)?;
        let workers = thread::available_parallelism().map_or(1, usize::from);
        // A large file is no longer than all the rest, so that every n-th file is fair enough.
        let found: Vec<Result<Vec<(String, u64)>>> = thread::scope(|scope| {
            let hashing: Vec<_> = (0..workers)
                .map(|worker| {
                    let mine = paths.iter().skip(worker).step_by(workers);
                    scope.spawn(move || mine.map(|path| line(root, path)).collect())
                })
                .collect();
            hashing.into_iter().map(|one| one.join().expect("hashing does not panic")).collect()
        });
        let mut manifest = Self { lines: Vec::with_capacity(paths.len()), bytes: 0 };
        for part in found {
            for (line, len) in part? {
                manifest.lines.push(line);
                manifest.bytes += len;
            }
        }
        // By path, which begins behind the hash and the size.
        manifest.lines.sort_by(|a, b| path_of(a).cmp(path_of(b)));
        Ok(manifest)
    }

    pub(super) fn files(&self) -> u64 {
        self.lines.len() as u64
    }

    /// The whole list as text.
    pub(super) fn text(&self) -> String {
        let mut text = self.lines.join("\n");
        text.push('\n');
        text
    }

    /// SHA-256 of the list, in hex: what a data set is known by.
    pub(super) fn digest(&self) -> String {
        hex(&Sha256::digest(self.text()))
    }

    /// Refuses any list but the one that `expected` stands for.
    pub(super) fn check(&self, name: &str, expected: &str) -> Result<()> {
        let found = self.digest();
        if found != expected {
            bail!(
                "the data set {name} is not the one that is measured with: its manifest has the \
                 digest {found}, not {expected}; remove its folder, and it is made again"
            );
        }
        Ok(())
    }

    /// Bytes in files that no other file before them repeats.
    pub(super) fn unique_bytes(&self) -> u64 {
        let mut seen = std::collections::BTreeSet::new();
        self.lines
            .iter()
            .filter_map(|line| line.split_once("  "))
            .filter(|(hash, _)| seen.insert(*hash))
            .filter_map(|(_, rest)| rest.split_once("  "))
            .filter_map(|(len, _)| len.parse::<u64>().ok())
            .sum()
    }
}

/// Counts what is below `root` without reading it.
pub(super) fn count(root: &Path) -> Result<Count> {
    let mut count = Count { files: 0, bytes: 0 };
    each(root, &mut |path| {
        count.files += 1;
        count.bytes +=
            path.symlink_metadata().with_context(|| format!("stat {}", path.display()))?.len();
        Ok(())
    })?;
    Ok(count)
}

/// Reads everything below `root` and counts it.
pub(super) fn read_all(root: &Path) -> Result<Count> {
    let paths = files(root)?;
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let read: Vec<Result<u64>> = thread::scope(|scope| {
        let reading: Vec<_> = (0..workers)
            .map(|worker| {
                let mine = paths.iter().skip(worker).step_by(workers);
                scope.spawn(move || {
                    let mut buffer = vec![0; 256 << 10];
                    mine.map(|path| read(path, &mut buffer, &mut |_| {})).sum()
                })
            })
            .collect();
        reading.into_iter().map(|one| one.join().expect("reading does not panic")).collect()
    });
    let bytes = read.into_iter().sum::<Result<u64>>()?;
    Ok(Count { files: paths.len() as u64, bytes })
}

/// All files below `root`, in no order.
pub(super) fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    each(root, &mut |path| {
        paths.push(path);
        Ok(())
    })?;
    Ok(paths)
}

fn each(root: &Path, visit: &mut dyn FnMut(PathBuf) -> Result<()>) -> Result<()> {
    let list = || format!("list {}", root.display());
    for entry in fs::read_dir(root).with_context(list)? {
        let entry = entry.with_context(list)?;
        let kind = entry.file_type().with_context(list)?;
        if kind.is_dir() {
            each(&entry.path(), visit)?;
        } else {
            visit(entry.path())?;
        }
    }
    Ok(())
}

/// The bytes of a file in lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file in hex, and its length.
pub(super) fn hash(path: &Path) -> Result<(String, u64)> {
    let mut hash = Sha256::new();
    let len = read(path, &mut vec![0; 256 << 10], &mut |piece| hash.update(piece))?;
    Ok((hex(&hash.finalize()), len))
}

/// Gives a file piece by piece to `each`, and says how long it is.
fn read(path: &Path, buffer: &mut [u8], each: &mut dyn FnMut(&[u8])) -> Result<u64> {
    let say = || format!("read {}", path.display());
    let mut file = File::open(path).with_context(say)?;
    let mut len = 0;
    loop {
        let got = file.read(buffer).with_context(say)?;
        if got == 0 {
            return Ok(len);
        }
        each(&buffer[..got]);
        len += got as u64;
    }
}

fn line(root: &Path, path: &Path) -> Result<(String, u64)> {
    let (hash, len) = hash(path)?;
    let name = path.strip_prefix(root).unwrap_or(path);
    Ok((format!("{hash}  {len}  {}", name.display()), len))
}

fn path_of(line: &str) -> &str {
    line.splitn(3, "  ").nth(2).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_files() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        fs::write(folder.path().join("b/two"), "2").unwrap();
        fs::write(folder.path().join("one"), "").unwrap();
        folder
    }

    #[test]
    fn a_manifest_lists_hash_size_and_path_in_order() {
        let folder = two_files();
        let manifest = Manifest::of(folder.path()).unwrap();
        assert_eq!(
            manifest.text(),
            "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35  1  b/two\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  0  one\n"
        );
        assert_eq!((manifest.files(), manifest.bytes), (2, 1));
        assert_eq!(count(folder.path()).unwrap(), Count { files: 2, bytes: 1 });
    }

    #[test]
    fn another_digest_is_refused_and_named() {
        let folder = two_files();
        let expected = Manifest::of(folder.path()).unwrap().digest();
        fs::write(folder.path().join("one"), "1").unwrap();
        let changed = Manifest::of(folder.path()).unwrap();
        let error = changed.check("tree", &expected).unwrap_err().to_string();
        assert!(error.contains("tree") && error.contains(&expected), "{error}");
        assert!(error.contains(&changed.digest()), "{error}");
        assert!(Manifest::of(&two_files().path().join("none")).is_err());
    }

    #[test]
    fn copies_count_once() {
        let folder = two_files();
        fs::write(folder.path().join("again"), "2").unwrap();
        let manifest = Manifest::of(folder.path()).unwrap();
        assert_eq!((manifest.bytes, manifest.unique_bytes()), (2, 1));
    }
}
