//! The local form of the index: what index files say, kept in the cache directory, so that a command
//! reads only those from the repository that are new.
//!
//! The index files of the repository are the truth: they are listed every time, and what is kept of
//! a file counts only while that file is there. Its name is the hash of its content, so what was
//! true of it once is true for ever. Nothing here is needed: whatever is missing, unreadable, or
//! not exactly what was written, is read from the repository again. So no failure here is an error,
//! nothing is made durable, and any number of processes may write and remove at the same time.
//!
//! It lies in [`Bundle`]s, sealed with a key of its own that follows from the repository's: bytes that
//! somebody else had sealed as the content of a file can never stand for a part of it. With each
//! new bundle those are written anew that are not much larger, so that there are never many: their
//! number grows with the logarithm of the index.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use alidade_entity::Cx;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::bundle::{self, Buffers, Bundle, BundleWriter};
use crate::crypto::MasterKey;
use crate::index_file::PackInIndex;
use crate::{FileId, Repository, Result};

/// A bundle that is no longer than this, or than twice what is written anyway, is written anew.
const SMALL: u64 = 1 << 20;

/// Where the local form of one repository's index lies, and the key to it.
#[derive(Clone)]
pub(crate) struct LocalIndex {
    directory: PathBuf,
    key: MasterKey,
}

impl LocalIndex {
    /// That of `repository` in a cache directory. Touches nothing yet.
    pub(crate) fn of(cache: &Path, repository: &Repository) -> Option<Self> {
        let id = repository.id();
        let key = derive(repository.files().key(), id)?;
        Some(Self { directory: cache.join(id.to_string()), key })
    }

    /// The bundles there are. Asked before the index files are listed, none is seen that says more
    /// than those.
    pub(crate) fn bundles(&self) -> Bundles<'_> {
        let (mut bundles, mut odd) = (Vec::new(), Vec::new());
        for path in bundle::list(&self.directory) {
            match Bundle::open(&path, &self.key) {
                Some(bundle) => bundles.push(bundle),
                None => odd.push(path),
            }
        }
        bundles.sort_by(|a, b| (b.len, &b.path).cmp(&(a.len, &a.path)));
        Bundles { local: self, bundles, odd }
    }

    /// Begins to write.
    pub(crate) fn draft(&self) -> Draft {
        Draft { local: self.clone(), state: State::Unused }
    }
}

/// The key of the local form: HMAC-SHA256 with the repository's key as the key, and this use of it,
/// the repository's id and the number of the half as the message.
fn derive(master: &MasterKey, repository: FileId) -> Option<MasterKey> {
    let mut bytes = Zeroizing::new([0; 64]);
    let (encrypt, k, r) = master.parts();
    let mut keyed = <Hmac<Sha256> as KeyInit>::new_from_slice(
        Zeroizing::new([&encrypt[..], &k[..], &r[..]].concat()).as_slice(),
    )
    .expect("HMAC takes keys of any length");
    keyed.update(b"alidade local index 1");
    keyed.update(&repository.0);
    for (number, half) in (1u8..).zip(bytes.chunks_exact_mut(32)) {
        let mut mac = keyed.clone();
        mac.update(&[number]);
        half.copy_from_slice(&mac.finalize().into_bytes());
    }
    MasterKey::from_bytes(&bytes)
}

/// What there is of the local form.
pub(crate) struct Bundles<'a> {
    local: &'a LocalIndex,
    /// The longest first.
    bundles: Vec<Bundle>,
    /// Files that are none.
    odd: Vec<PathBuf>,
}

impl<'a> Bundles<'a> {
    /// Which parts of them are of use for the index files that are there.
    pub(crate) fn plan(self, files: &[(FileId, u64)]) -> LocalPlan<'a> {
        let Self { local, bundles, odd } = self;
        let missing = files.iter().map(|(file, _)| *file).collect();
        let mut plan = LocalPlan { local, shelves: Vec::new(), missing, odd };
        for mut bundle in bundles {
            bundle.sections.retain(|section| plan.missing.remove(&section.file));
            if bundle.sections.is_empty() {
                plan.odd.push(bundle.path);
                continue;
            }
            let used: u64 = bundle.sections.iter().map(|section| section.len).sum();
            let anew = used < bundle.len / 2;
            plan.shelves.push(Shelf { bundle, used, anew });
        }
        let missing = files.iter().filter(|(file, _)| plan.missing.contains(file));
        plan.choose(missing.map(|(_, len)| len).sum());
        plan
    }
}

/// A bundle of which something is used.
struct Shelf {
    bundle: Bundle,
    /// Bytes of what is used.
    used: u64,
    /// What is used of it becomes part of a new one.
    anew: bool,
}

/// What comes from the local form, what must come from the repository, and what is kept.
pub(crate) struct LocalPlan<'a> {
    local: &'a LocalIndex,
    shelves: Vec<Shelf>,
    missing: HashSet<FileId>,
    odd: Vec<PathBuf>,
}

impl LocalPlan<'_> {
    /// Marks what is written anew: when anything is new, all that is not much larger than it.
    fn choose(&mut self, missing: u64) {
        let marked = self.shelves.iter().filter(|shelf| shelf.anew).map(|shelf| shelf.used);
        let mut written = missing + marked.sum::<u64>();
        if written == 0 {
            return;
        }
        for shelf in self.shelves.iter_mut().rev().filter(|shelf| !shelf.anew) {
            if shelf.used > SMALL.max(2 * written) {
                break;
            }
            shelf.anew = true;
            written += shelf.used;
        }
    }

    /// How many blobs come from the local form, when all is well.
    pub(crate) fn blobs(&self) -> u64 {
        let sections = self.shelves.iter().flat_map(|shelf| &shelf.bundle.sections);
        sections.map(|section| section.blobs).sum()
    }

    /// Hands over what is known, and returns the index files that must be read, with what takes down
    /// what they say.
    ///
    /// # Errors
    /// When `each` fails, with its error.
    pub(crate) fn read(
        self,
        cx: &Cx,
        each: &mut dyn FnMut(&PackInIndex) -> Result<()>,
    ) -> Result<(HashSet<FileId>, Renewal)> {
        let Self { local, shelves, mut missing, odd } = self;
        let mut renewal = Renewal { draft: local.draft(), replaced: Vec::new(), odd };
        let mut buffers = Buffers::default();
        for Shelf { bundle, anew, .. } in shelves {
            let mut whole = true;
            for section in &bundle.sections {
                let draft = &mut renewal.draft;
                if anew {
                    draft.begin(cx, section.file);
                }
                let read = bundle.read(&local.key, section, &mut buffers, &mut |pack| {
                    if anew {
                        draft.pack(cx, pack);
                    }
                    each(pack)
                })?;
                if !read {
                    // What it said so far is true and may be said again.
                    missing.insert(section.file);
                    whole = false;
                }
                match anew {
                    true if read => draft.end(cx),
                    true => draft.undo(),
                    false => {}
                }
            }
            match (whole, anew) {
                (false, _) => renewal.odd.push(bundle.path),
                (true, true) => renewal.replaced.push(bundle.path),
                (true, false) => {}
            }
        }
        Ok((missing, renewal))
    }
}

/// What takes down what new index files say, and then puts it in the place of what is out of date.
pub(crate) struct Renewal {
    pub(crate) draft: Draft,
    /// Bundles that the new one takes the place of.
    replaced: Vec<PathBuf>,
    /// What is of no use.
    odd: Vec<PathBuf>,
}

impl Renewal {
    /// Ends it. Whatever fails, what is there then is as good as before.
    pub(crate) fn finish(mut self, cx: &Cx) {
        if self.draft.finish(cx) {
            self.replaced.iter().for_each(|path| bundle::remove(path));
        }
        self.odd.iter().for_each(|path| bundle::remove(path));
    }
}

/// A bundle that is written when there is something to write, and as long as that succeeds. No failure
/// is told: nothing is lost but the time to read an index file from the repository once more.
pub(crate) struct Draft {
    local: LocalIndex,
    state: State,
}

enum State {
    Unused,
    Open(Box<BundleWriter>),
    Broken,
}

impl Draft {
    /// Begins what an index file says.
    pub(crate) fn begin(&mut self, cx: &Cx, file: FileId) {
        if let State::Unused = self.state {
            let made = BundleWriter::create(cx, &self.local.directory, &self.local.key);
            self.state = made.map_or(State::Broken, |made| State::Open(Box::new(made)));
        }
        self.write(|writer| {
            writer.begin(file);
            Ok(())
        });
    }

    /// Adds a pack, or some blobs of one.
    pub(crate) fn pack(&mut self, cx: &Cx, pack: &PackInIndex) {
        self.write(|writer| writer.pack(cx, pack));
    }

    /// Ends what an index file says.
    pub(crate) fn end(&mut self, cx: &Cx) {
        self.write(|writer| writer.end(cx));
    }

    /// Forgets what was said since [`Draft::begin`].
    fn undo(&mut self) {
        self.write(|writer| {
            writer.undo();
            Ok(())
        });
    }

    /// Makes it a bundle that the next command finds. The next `begin` begins another one. False when it
    /// could not be written.
    pub(crate) fn finish(&mut self, cx: &Cx) -> bool {
        match std::mem::replace(&mut self.state, State::Unused) {
            State::Unused => true,
            State::Open(writer) => writer.finish(cx).is_ok(),
            State::Broken => false,
        }
    }

    fn write(&mut self, work: impl FnOnce(&mut BundleWriter) -> Result<()>) {
        if let State::Open(writer) = &mut self.state
            && work(writer).is_err()
        {
            self.state = State::Broken;
        }
    }
}

#[cfg(test)]
mod tests;
