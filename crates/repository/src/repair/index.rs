//! The index again: of the index files that are whole, and of the packs themselves.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use alidade_entity::{Cx, Step};

use crate::index_file::{self, MAX_BLOBS_WRITTEN, PackInIndex};
use crate::indexed::decode;
use crate::pack_header::{self, HeaderEntry, LENGTH_LEN, trailer_len};
use crate::{Error, FileId, FileKind, Lock, Repository, Result};

/// Bytes at the end of a pack in which its header nearly always lies.
const TAIL: u64 = 64 << 10;

/// What is wrong with the index, and what will say instead where everything is.
///
/// Memory: 60 bytes for each blob of a pack that is not named by a whole index file.
#[derive(Debug, Default)]
pub struct IndexRepair {
    /// Index files that are removed: they do not read, or name a pack that is not as they say.
    pub remove: Vec<FileId>,
    /// Packs that an index names and that are not there. What only they held is lost.
    pub missing: Vec<FileId>,
    /// Packs that are there and that no index rightly named, until now.
    pub found: Vec<FileId>,
    /// Packs whose own header does not read, and why. They stay where they are, named as they were.
    pub unreadable: Vec<(FileId, String)>,
    /// What the new index files name.
    packs: Vec<PackInIndex>,
    /// True when every index file reads.
    is_read: bool,
}

impl IndexRepair {
    /// True when there is nothing to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.found.is_empty() && self.is_read
    }
}

impl Repository {
    /// Compares every index file with the packs that are there, and reads the headers of those that no index
    /// rightly names; with `all`, of all packs, and believes no index file that a header contradicts. Nothing is
    /// written. What is in packs is for a check.
    ///
    /// Requests: two listings, one for each index file, and one for each pack whose header is read.
    ///
    /// # Errors
    /// When the store fails; when the run was told to stop.
    pub fn plan_index_repair(&self, cx: &Cx, all: bool) -> Result<IndexRepair> {
        let mut there = BTreeMap::new();
        self.store().list(FileKind::Pack, &mut |name, len| {
            cx.check()?;
            if let Ok(id) = name.parse::<FileId>() {
                there.insert(id, len);
            }
            Ok(())
        })?;
        let (mut said, mut is_read) = (Said::default(), true);
        for (file, _) in self.files().list(FileKind::Index)? {
            cx.check()?;
            let mut packs = Vec::new();
            let read = decode(self, &file, &mut |some| {
                packs.extend(some);
                Ok(())
            });
            match read {
                Err(Error::NotFound { .. }) => {}
                Ok(()) => said.take(file, packs, (!all, &there)),
                Err(Error::Damaged { .. }) => {
                    is_read = false;
                    said.take(file, packs, (false, &there));
                }
                Err(error) => return Err(error),
            }
        }
        let mut plan = IndexRepair { missing: said.missing, is_read, ..IndexRepair::default() };
        for (id, len) in there {
            cx.check()?;
            if said.named.contains(&id) {
                continue;
            }
            let before = said.packs.remove(&id);
            if !all && let Some(pack) = before.as_ref().filter(|pack| len_of(pack) == len) {
                plan.packs.push(pack.clone());
                continue;
            }
            cx.report(Step::Entries(1));
            match (self.pack_header(&id, len), before) {
                (Ok(blobs), before) => {
                    let pack = PackInIndex { id, blobs };
                    if before.is_none_or(|before| !is_same(before, &pack)) {
                        plan.found.push(id);
                    }
                    plan.packs.push(pack);
                }
                (Err(Error::Damaged { why, .. }), before) => {
                    plan.unreadable.push((id, why));
                    // What is known of it is what it can be saved by.
                    plan.packs.extend(before);
                }
                (Err(Error::NotFound { .. }), _) => {}
                (Err(error), _) => return Err(error),
            }
        }
        plan.remove = said.remove;
        Ok(plan)
    }

    /// Writes what the plan says and then removes the index files that it names. Killed anywhere, everything is
    /// named that was before or will be.
    ///
    /// # Errors
    /// When the lock, which must be exclusive, does not hold; when the store fails.
    pub fn repair_index(&self, cx: &Cx, lock: &Lock, plan: &IndexRepair) -> Result<()> {
        let mut rest = plan.packs.as_slice();
        while !rest.is_empty() {
            lock.check(cx)?;
            let (now, later) = rest.split_at(together(rest));
            let mut json = Vec::new();
            index_file::encode(now, &mut json)
                .map_err(|error| Error::store("encode an index", error))?;
            self.files().write(cx, FileKind::Index, &json)?;
            rest = later;
        }
        self.store().flush(FileKind::Index)?;
        lock.check(cx)?;
        for file in &plan.remove {
            self.store().remove(FileKind::Index, &file.to_string())?;
        }
        Ok(())
    }

    /// The blobs of a pack of `len` bytes, as it says itself.
    ///
    /// # Errors
    /// [`Error::Damaged`] when its header is not whole; when the store fails.
    pub(crate) fn pack_header(&self, pack: &FileId, len: u64) -> Result<Vec<HeaderEntry>> {
        let name = pack.to_string();
        let damaged = |why: String| Error::damaged_file(FileKind::Pack, &name, why);
        let tail = |bytes: u64| {
            let bytes = bytes.min(len);
            let mut tail = vec![0; usize::try_from(bytes).unwrap_or(0)];
            self.store().read_at(FileKind::Pack, &name, len - bytes, &mut tail).map(|()| tail)
        };
        let mut end = tail(TAIL)?;
        let field = end.last_chunk::<LENGTH_LEN>();
        let field = *field.ok_or_else(|| damaged("it is too short for a header".to_owned()))?;
        let sealed = pack_header::sealed_len(field, len).map_err(|why| damaged(why.to_string()))?;
        if sealed + LENGTH_LEN > end.len() {
            end = tail((sealed + LENGTH_LEN) as u64)?;
        }
        let from = end.len().checked_sub(sealed + LENGTH_LEN);
        let from = from.ok_or_else(|| damaged("its header lies before it".to_owned()))?;
        let header = &end[from..end.len() - LENGTH_LEN];
        let plain = self.files().key().open(header).map_err(|why| damaged(why.to_string()))?;
        let blobs = pack_header::decode(&plain).map_err(|why| damaged(why.to_string()))?;
        let said = len_of_blobs(&blobs);
        if said == len { Ok(blobs) } else { Err(damaged(format!("its header is of {said} bytes"))) }
    }
}

/// What the index files say.
#[derive(Default)]
struct Said {
    /// Files that are removed.
    remove: Vec<FileId>,
    /// Packs that a file names which stays.
    named: HashSet<FileId>,
    /// What files say that are removed.
    packs: HashMap<FileId, PackInIndex>,
    missing: Vec<FileId>,
}

impl Said {
    /// Takes in a file. It stays when it `may` and everything that it names is there as it says.
    fn take(
        &mut self,
        file: FileId,
        packs: Vec<PackInIndex>,
        (may, there): (bool, &BTreeMap<FileId, u64>),
    ) {
        let gone = packs.iter().filter(|pack| !there.contains_key(&pack.id)).map(|pack| pack.id);
        let gone: BTreeSet<FileId> = gone.collect();
        let is_right = |pack: &PackInIndex| there.get(&pack.id) == Some(&len_of(pack));
        if may && packs.iter().all(is_right) {
            self.named.extend(packs.iter().map(|pack| pack.id));
            return;
        }
        self.missing.extend(gone);
        self.remove.push(file);
        let rest = packs.into_iter().filter(|pack| there.contains_key(&pack.id));
        self.packs.extend(rest.map(|pack| (pack.id, pack)));
    }
}

/// True when the index says of a pack what the pack says of itself.
fn is_same(mut index: PackInIndex, pack: &PackInIndex) -> bool {
    // An index names blobs in any order, a header in that of the pack.
    index.blobs.sort_unstable_by_key(|blob| blob.offset);
    index == *pack
}

/// The length that a pack has if its index is right.
fn len_of(pack: &PackInIndex) -> u64 {
    len_of_blobs(&pack.blobs)
}

fn len_of_blobs(blobs: &[HeaderEntry]) -> u64 {
    blobs.iter().map(|blob| u64::from(blob.len)).sum::<u64>() + trailer_len(blobs)
}

/// How many of the first packs go into one index file.
fn together(packs: &[PackInIndex]) -> usize {
    let mut blobs = 0;
    let fits = packs.iter().take_while(|pack| {
        blobs += pack.blobs.len();
        blobs <= MAX_BLOBS_WRITTEN
    });
    fits.count().max(1)
}
