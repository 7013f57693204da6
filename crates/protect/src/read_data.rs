//! Which data a check reads, and when it was read last.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use alidade_catalog::PackName;
use alidade_entity::Cx;
use alidade_repository::{CheckWatch, FileId, Finding};

use crate::{Engine, Result};

/// Packs that were read are recorded after this many seconds, and at the end.
const RECORDED_EVERY: i64 = 2;

/// Which packs a check reads whole.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReadData {
    /// What part of them.
    pub part: Part,
    /// Of these, only those that this machine has not read whole, and found right, for this long.
    pub unread_for: Option<Duration>,
}

/// A part of the packs of a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Part {
    /// None.
    #[default]
    Nothing,
    /// All.
    Everything,
    /// One of some groups of about the same size, which follow from the packs' names: the one with this number,
    /// counted from 1, of so many. The groups are restic's.
    Group {
        /// Which.
        number: u8,
        /// Of how many.
        of: u8,
    },
    /// So many percent of the bytes at least, those that were read longest ago first.
    Percent(f64),
    /// So many bytes at least, as of [`Part::Percent`].
    Bytes(u64),
}

impl ReadData {
    /// Everything, or nothing.
    #[must_use]
    pub fn all(read: bool) -> Self {
        let part = if read { Part::Everything } else { Part::Nothing };
        Self { part, unread_for: None }
    }

    /// True when every byte is read.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.part == Part::Everything && self.unread_for.is_none()
    }

    /// Of the packs, with their lengths, those that are to be read at the second `now`.
    fn of(
        &self,
        packs: &[(FileId, u64)],
        reads: &HashMap<PackName, i64>,
        now: i64,
    ) -> HashSet<FileId> {
        let last = |id: &FileId| reads.get(&id.0).copied().unwrap_or(i64::MIN);
        let unread_for =
            self.unread_for.map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        let before =
            if self.unread_for.is_some() { now.saturating_sub(unread_for) } else { i64::MAX };
        let old = packs.iter().filter(|(id, _)| last(id) <= before);
        let all: u64 = packs.iter().map(|(_, len)| len).sum();
        let wanted = match self.part {
            Part::Nothing => 0,
            Part::Everything => u64::MAX,
            Part::Group { number, of } => {
                let is_in = |id: &FileId| id.0[0] % of.max(1) == number.wrapping_sub(1);
                return old.map(|(id, _)| *id).filter(is_in).collect();
            }
            // A share of a sum of lengths: what is lost of it by rounding is less than a pack.
            Part::Percent(share) => (all as f64 * share / 100.0).ceil() as u64,
            Part::Bytes(bytes) => bytes,
        };
        let mut old: Vec<_> = old.collect();
        old.sort_unstable_by_key(|(id, _)| (last(id), *id));
        let mut bytes = 0;
        let chosen = old.into_iter().take_while(|(_, len)| {
            let is_due = bytes < wanted;
            bytes += len;
            is_due
        });
        chosen.map(|(id, _)| *id).collect()
    }
}

/// Follows a check: chooses what is read, and takes down what was.
pub(crate) struct Watch<'a> {
    engine: &'a Engine,
    how: ReadData,
    each: &'a mut dyn FnMut(&Finding),
    /// The first findings, as sentences.
    pub(crate) named: Vec<String>,
    read: Vec<PackName>,
    recorded: i64,
    failed: Option<crate::Error>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        how: ReadData,
        each: &'a mut dyn FnMut(&Finding),
    ) -> Self {
        let recorded = engine.cx().now().seconds;
        Self { engine, how, each, named: Vec::new(), read: Vec::new(), recorded, failed: None }
    }

    /// Records what was read since it was recorded last. Returns what failed of all recording.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.record(self.engine.cx());
        self.failed.take().map_or(Ok(()), Err)
    }

    fn record(&mut self, cx: &Cx) {
        if self.read.is_empty() {
            return;
        }
        self.recorded = cx.now().seconds;
        let (catalog, repository) = (&self.engine.parts.catalog, self.engine.repository_id());
        let put = catalog.put_pack_reads(&repository, &self.read, self.recorded);
        self.read.clear();
        self.note(put.map_err(Into::into));
    }

    fn note(&mut self, done: Result<()>) {
        if let Err(error) = done {
            self.failed.get_or_insert(error);
        }
    }

    /// When packs were read, without those that are gone.
    fn reads(&self, packs: &[(FileId, u64)]) -> Result<HashMap<PackName, i64>> {
        let (catalog, repository) = (&self.engine.parts.catalog, self.engine.repository_id());
        let mut reads = catalog.pack_reads(&repository)?;
        let there: HashSet<PackName> = packs.iter().map(|(id, _)| id.0).collect();
        let gone: Vec<PackName> =
            reads.keys().filter(|pack| !there.contains(*pack)).copied().collect();
        if !gone.is_empty() {
            catalog.forget_pack_reads(&repository, &gone)?;
        }
        reads.retain(|pack, _| there.contains(pack));
        Ok(reads)
    }
}

impl CheckWatch for Watch<'_> {
    fn found(&mut self, finding: Finding) {
        (self.each)(&finding);
        if self.named.len() < crate::verify::NAMED {
            self.named.push(finding.to_string());
        }
    }

    fn choose(&mut self, packs: &[(FileId, u64)]) -> Option<HashSet<FileId>> {
        if self.how.is_everything() {
            return None;
        }
        let reads = match self.reads(packs) {
            Ok(reads) => reads,
            Err(error) => {
                // Nothing is known of what was read: everything is due.
                self.note(Err(error));
                HashMap::new()
            }
        };
        Some(self.how.of(packs, &reads, self.engine.cx().now().seconds))
    }

    fn is_whole(&mut self, pack: FileId) {
        self.read.push(pack.0);
        let cx = self.engine.cx();
        if cx.now().seconds >= self.recorded + RECORDED_EVERY {
            self.record(cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(first: u8) -> FileId {
        let mut id = [0; 32];
        id[0] = first;
        FileId(id)
    }

    /// The first bytes of what is chosen of ten packs of 100 bytes, of which the Nth was read at the second N
    /// but the last, which never was; at the second 10.
    fn chosen(part: Part, unread_for: Option<u64>) -> Vec<u8> {
        let packs: Vec<_> = (0..10).map(|n| (id(n), 100)).collect();
        let reads = (0..9).map(|n| (id(n).0, i64::from(n))).collect();
        let how = ReadData { part, unread_for: unread_for.map(Duration::from_secs) };
        let mut chosen: Vec<u8> =
            how.of(&packs, &reads, 10).into_iter().map(|id| id.0[0]).collect();
        chosen.sort_unstable();
        chosen
    }

    #[test]
    fn what_was_read_longest_ago_is_read_first() {
        assert_eq!(chosen(Part::Percent(30.0), None), [0, 1, 9]);
        assert_eq!(chosen(Part::Percent(0.001), None), [9]);
        assert_eq!(chosen(Part::Percent(100.0), None).len(), 10);
        assert_eq!(chosen(Part::Bytes(101), None), [0, 9]);
        assert!(chosen(Part::Bytes(0), None).is_empty());
        assert_eq!(chosen(Part::Everything, None).len(), 10);
        assert!(chosen(Part::Nothing, None).is_empty());
    }

    #[test]
    fn what_was_read_lately_is_left_out() {
        assert_eq!(chosen(Part::Everything, Some(7)), [0, 1, 2, 3, 9]);
        assert_eq!(chosen(Part::Everything, Some(0)).len(), 10);
        assert_eq!(chosen(Part::Everything, Some(u64::MAX)), [9]);
        assert_eq!(chosen(Part::Percent(20.0), Some(7)), [0, 9]);
        assert_eq!(chosen(Part::Group { number: 2, of: 2 }, Some(7)), [1, 3, 9]);
    }

    #[test]
    fn all_groups_together_are_everything() {
        for of in [1, 2, 3, 10, 255] {
            let mut all: Vec<u8> =
                (1..=of).flat_map(|number| chosen(Part::Group { number, of }, None)).collect();
            all.sort_unstable();
            assert_eq!(all, (0..10).collect::<Vec<u8>>(), "{of}");
        }
    }
}
