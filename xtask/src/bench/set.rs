//! A data set on disk: made by its rule, known by its digest, changed and changed back.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::image;
use super::manifest::{self, Count, Manifest};
use super::million;
use super::rule::{IMAGE, Rule};

/// Which data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Tree,
    Image,
    MillionFlat,
    MillionWide,
}

/// How large: for figures, or only to see that everything runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Full,
    Smoke,
}

impl Kind {
    #[cfg(test)]
    const ALL: [Self; 4] = [Self::Tree, Self::Image, Self::MillionFlat, Self::MillionWide];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Image => "image",
            Self::MillionFlat => "million-flat",
            Self::MillionWide => "million-wide",
        }
    }

    fn rule(self, scale: Scale) -> Rule {
        match (self, scale) {
            (Self::Tree, Scale::Full) => Rule::Tree(&super::tree::FULL),
            (Self::Tree, Scale::Smoke) => Rule::Tree(&super::tree::SMOKE),
            (Self::Image, Scale::Full) => Rule::Image(image::FULL),
            (Self::Image, Scale::Smoke) => Rule::Image(image::SMOKE),
            (Self::MillionFlat, Scale::Full) => {
                Rule::Million(million::Shape { folders: 1, files: 1_000_000 })
            }
            (Self::MillionFlat, Scale::Smoke) => {
                Rule::Million(million::Shape { folders: 1, files: 2_000 })
            }
            (Self::MillionWide, Scale::Full) => {
                Rule::Million(million::Shape { folders: 1_000, files: 1_000 })
            }
            (Self::MillionWide, Scale::Smoke) => {
                Rule::Million(million::Shape { folders: 40, files: 50 })
            }
        }
    }

    /// The digests that the manifests must have: as made, and with 1 % changed.
    fn digests(self, scale: Scale) -> (&'static str, &'static str) {
        match (self, scale) {
            (Self::Tree, Scale::Full) => (
                "a3dbafb3013c699e9f995e13a1d868037039a6c2c0c61f1e4d1f9b5f3fb21c88",
                "40c84e2720827f1152e7911796acb00b9eea2276d1d1af481e24b4cfaeb9978b",
            ),
            (Self::Tree, Scale::Smoke) => (
                "fd682678176826738e5bd3958ecbac5f4e44428aa8bf5c8e2f694818407a1642",
                "3836ebb0e594b8d7acd4a69aadebffd425e96f911b7009fddcaef100bf2d91d7",
            ),
            (Self::Image, Scale::Full) => (
                "b42c24a31cf18db6023f5d3d3e411f72f3b197795ffbbfbc359934f3c50cb2e9",
                "a4acd6bc1bc85a67f8cbacdb48273dd6e0472a38a70c48c39924915fc12f6f89",
            ),
            (Self::Image, Scale::Smoke) => (
                "3398f11c2b556824369de75c9787e208f3f133b15ae4506588c1e97fcc9c2055",
                "d3f9952928c95a2d5232400c30c5a67b3853d0d08cc3068a2fdf9425fa7e43e4",
            ),
            (Self::MillionFlat, Scale::Full) => {
                ("d52966e10b7121af2727090650789df644dc0ed4acb7a7fd1f6438350c54218c", "")
            }
            (Self::MillionFlat, Scale::Smoke) => {
                ("b8615ae83150d13d9114ac247020dab32011ec73739161d43a18a1218e61e92e", "")
            }
            (Self::MillionWide, Scale::Full) => {
                ("a1ac9cb53e5b785b57b2419d8e61890cb75e3248cd918a578edc2360acb5053f", "")
            }
            (Self::MillionWide, Scale::Smoke) => {
                ("bf01d020b1441777f05994d558ff0c2573752533ff895c00587514eab8454737", "")
            }
        }
    }
}

/// How far a change has come. What is neither is changed back first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    AsMade,
    Between,
    Changed,
}

/// Written beside the data set when it is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    state: State,
    /// Grows with every change: backups of an older generation saw other time stamps.
    generation: u64,
}

/// What is in a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// SHA-256 of the manifest as made.
    pub(super) digest: String,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Bytes that are no copy of others, and no zeros.
    pub(super) unique_bytes: u64,
}

/// A data set at its place.
pub(super) struct Set {
    pub(super) kind: Kind,
    scale: Scale,
    folder: PathBuf,
    stamp: PathBuf,
}

impl Set {
    /// The data set below `place`; nothing is made yet.
    pub(super) fn new(kind: Kind, scale: Scale, place: &Path) -> Self {
        let folder = place.join(kind.name());
        let stamp = place.join(format!("{}.json", kind.name()));
        Self { kind, scale, folder, stamp }
    }

    /// The folder that is backed up.
    pub(super) fn source(&self) -> &Path {
        &self.folder
    }

    /// The file that is the image of a disk.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.join(IMAGE)
    }

    /// Makes it where it is missing, changes it back where it is changed, and refuses it when it
    /// is another one.
    pub(super) fn ready(&self) -> Result<Facts> {
        let made = self.read_stamp()?.is_none();
        if made {
            self.make()?;
        } else {
            self.undo()?;
        }
        let manifest = Manifest::of(&self.folder)?;
        manifest.check(self.kind.name(), self.kind.digests(self.scale).0)?;
        let unique_bytes = match self.kind.rule(self.scale) {
            Rule::Image(size) => image::unique_bytes(size),
            Rule::Tree(_) | Rule::Million(_) => manifest.unique_bytes(),
        };
        let list = self.stamp.with_extension("manifest");
        fs::write(&list, manifest.text()).with_context(|| format!("write {}", list.display()))?;
        if made {
            self.write_stamp(&Stamp { state: State::AsMade, generation: 1 })?;
        }
        Ok(Facts {
            digest: manifest.digest(),
            files: manifest.files(),
            bytes: manifest.bytes,
            unique_bytes,
        })
    }

    /// Which state of time stamps and inodes this is.
    pub(super) fn generation(&self) -> Result<u64> {
        Ok(self.stamped()?.generation)
    }

    /// Changes 1 %, and refuses what came of it when it is not what it must be.
    pub(super) fn change(&self) -> Result<()> {
        let mut stamp = self.stamped()?;
        if stamp.state != State::AsMade {
            bail!("the data set {} is changed already", self.kind.name());
        }
        eprintln!("changing 1 % of {}", self.kind.name());
        stamp.state = State::Between;
        stamp.generation += 1;
        self.write_stamp(&stamp)?;
        self.kind.rule(self.scale).change(&self.folder)?;
        let name = format!("{}-1pct", self.kind.name());
        Manifest::of(&self.folder)?.check(&name, self.kind.digests(self.scale).1)?;
        stamp.state = State::Changed;
        self.write_stamp(&stamp)
    }

    /// Makes it again what it was before [`Self::change`], in content, not in time stamps.
    pub(super) fn undo(&self) -> Result<()> {
        let mut stamp = self.stamped()?;
        if stamp.state == State::AsMade {
            return Ok(());
        }
        eprintln!("changing {} back", self.kind.name());
        stamp.state = State::Between;
        stamp.generation += 1;
        self.write_stamp(&stamp)?;
        self.kind.rule(self.scale).undo(&self.folder)?;
        stamp.state = State::AsMade;
        self.write_stamp(&stamp)
    }

    /// The digest that a restored copy must have.
    pub(super) fn digest(&self) -> &'static str {
        self.kind.digests(self.scale).0
    }

    /// Reads everything once, so that it is in memory, and counts it.
    pub(super) fn warm(&self) -> Result<Count> {
        manifest::read_all(&self.folder)
    }

    fn make(&self) -> Result<()> {
        eprintln!("making the data set {} in {}", self.kind.name(), self.folder.display());
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("create {}", self.folder.display()))?;
        self.kind.rule(self.scale).make(&self.folder)
    }

    fn stamped(&self) -> Result<Stamp> {
        self.read_stamp()?.with_context(|| format!("the data set {} is not made", self.kind.name()))
    }

    fn read_stamp(&self) -> Result<Option<Stamp>> {
        let read = || format!("read {}", self.stamp.display());
        match fs::read(&self.stamp) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(read)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(read),
        }
    }

    /// The stamp says what is on disk, so that the disk has it first.
    fn write_stamp(&self, stamp: &Stamp) -> Result<()> {
        let write = || format!("write {}", self.stamp.display());
        let new = self.stamp.with_extension("new");
        let mut file = fs::File::create(&new).with_context(write)?;
        serde_json::to_writer(&mut file, stamp).with_context(write)?;
        rustix::fs::syncfs(&file).with_context(write)?;
        fs::rename(&new, &self.stamp).with_context(write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_data_set_of_each_kind_has_its_digest_and_comes_back_after_a_change() {
        let place = tempfile::tempdir().unwrap();
        for kind in Kind::ALL {
            let set = Set::new(kind, Scale::Smoke, place.path());
            let facts = set.ready().unwrap();
            assert_eq!(set.warm().unwrap(), Count { files: facts.files, bytes: facts.bytes });
            if matches!(kind, Kind::Tree | Kind::Image) {
                let before = set.generation().unwrap();
                set.change().unwrap();
                assert!(set.change().is_err(), "it is changed once");
                // Another run finds it changed.
                assert_eq!(set.ready().unwrap(), facts);
                assert!(set.generation().unwrap() >= before + 2);
            }
        }
    }

    #[test]
    fn a_data_set_that_somebody_changed_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let set = Set::new(Kind::MillionWide, Scale::Smoke, place.path());
        set.ready().unwrap();
        fs::write(place.path().join("million-wide/0000/0000"), "other").unwrap();
        let error = set.ready().unwrap_err().to_string();
        assert!(error.contains("is not the one that is measured with"), "{error}");
    }

    #[test]
    fn an_interrupted_change_is_changed_back() {
        let place = tempfile::tempdir().unwrap();
        let set = Set::new(Kind::Tree, Scale::Smoke, place.path());
        let facts = set.ready().unwrap();
        set.change().unwrap();
        let mut stamp = set.stamped().unwrap();
        stamp.state = State::Between;
        set.write_stamp(&stamp).unwrap();
        assert_eq!(set.ready().unwrap(), facts);
    }
}
