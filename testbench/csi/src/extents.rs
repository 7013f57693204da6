//! Where a file has data, and where two files that were one differ.
//!
//! Two files of one pool hold the same bytes at a place where they refer to the same bytes of the
//! device: nothing is written in place as long as a snapshot refers to it.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use fiemap::{Fiemap, FiemapExtentFlags, FiemapFlags};

/// A stretch of a file with data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Where it begins on the device; not known for what is kept in another way.
    pub(crate) device: Option<u64>,
}

/// What a file has at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Hole,
    At(u64),
    Unknown,
}

/// The extents of a file, in order.
pub(crate) fn of(path: &Path) -> Result<Vec<Extent>> {
    let show = || format!("map {}", path.display());
    let file = File::open(path).with_context(show)?;
    let size = file.metadata().with_context(show)?.len();
    let mut extents = Vec::new();
    for extent in Fiemap::with_flags(&file, FiemapFlags::SYNC) {
        let extent = extent.with_context(show)?;
        // Reserved, and never written: it reads as zeros, as a hole does.
        if extent.fe_flags.contains(FiemapExtentFlags::UNWRITTEN) {
            continue;
        }
        let vague = FiemapExtentFlags::UNKNOWN
            | FiemapExtentFlags::DELALLOC
            | FiemapExtentFlags::ENCODED
            | FiemapExtentFlags::NOT_ALIGNED;
        let end = (extent.fe_logical + extent.fe_length).min(size);
        let is_known = !extent.fe_flags.intersects(vague);
        let device = is_known.then_some(extent.fe_physical);
        extents.push(Extent { start: extent.fe_logical, end, device });
    }
    extents.retain(|extent| extent.start < extent.end);
    Ok(extents)
}

/// The places with data, neighbours as one.
pub(crate) fn allocated(extents: &[Extent]) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    for extent in extents {
        add(&mut ranges, extent.start..extent.end);
    }
    ranges
}

/// The places where `target`, which is `size` long, differs from `base`.
pub(crate) fn changed(base: &[Extent], target: &[Extent], size: u64) -> Vec<Range<u64>> {
    let (mut base, mut target) = (Walk::new(base), Walk::new(target));
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < size {
        let (before, before_ends) = base.at(at);
        let (now, now_ends) = target.at(at);
        let end = before_ends.min(now_ends).min(size);
        if before != now || now == Content::Unknown {
            add(&mut ranges, at..end);
        }
        at = end;
    }
    ranges
}

fn add(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// A way through extents, forwards.
struct Walk<'a> {
    rest: &'a [Extent],
}

impl<'a> Walk<'a> {
    const fn new(extents: &'a [Extent]) -> Self {
        Self { rest: extents }
    }

    /// What lies at a place, and where that ends.
    fn at(&mut self, place: u64) -> (Content, u64) {
        while let Some((first, after)) = self.rest.split_first() {
            if place < first.start {
                return (Content::Hole, first.start);
            }
            if place < first.end {
                let at = |device| Content::At(device + (place - first.start));
                return (first.device.map_or(Content::Unknown, at), first.end);
            }
            self.rest = after;
        }
        (Content::Hole, u64::MAX)
    }
}

/// What is left of ranges from a place on.
pub(crate) fn from(ranges: Vec<Range<u64>>, start: u64) -> Vec<Range<u64>> {
    let rest = ranges.into_iter().filter(|range| range.end > start);
    rest.map(|range| range.start.max(start)..range.end).collect()
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
mod tests {
    use super::*;

    fn extent(start: u64, end: u64, device: u64) -> Extent {
        Extent { start, end, device: Some(device) }
    }

    #[test]
    fn neighbours_are_one_range() {
        let extents = [extent(0, 4, 100), extent(4, 8, 900), extent(12, 16, 0)];
        assert_eq!(allocated(&extents), [0..8, 12..16]);
        assert_eq!(allocated(&[]), []);
    }

    #[test]
    fn the_same_place_of_the_device_is_no_change_however_it_is_cut() {
        let whole = [extent(0, 16, 100)];
        let cut = [extent(0, 4, 100), extent(4, 16, 104)];
        assert_eq!(changed(&whole, &cut, 16), []);
        assert_eq!(changed(&cut, &whole, 16), []);
    }

    #[test]
    fn what_was_written_anew_and_what_was_discarded_has_changed() {
        let base = [extent(0, 16, 100)];
        let target = [extent(0, 4, 100), extent(4, 8, 900), extent(12, 16, 112)];
        assert_eq!(changed(&base, &target, 16), [4..12]);
        assert_eq!(changed(&[], &target, 16), [0..8, 12..16]);
        assert_eq!(changed(&target, &[], 16), [0..8, 12..16]);
    }

    #[test]
    fn what_the_target_has_beyond_the_end_of_the_base_has_changed() {
        let base = [extent(0, 8, 100)];
        let target = [extent(0, 8, 100), extent(20, 24, 500)];
        assert_eq!(changed(&base, &target, 32), [20..24]);
    }

    #[test]
    fn what_is_not_known_counts_as_changed() {
        let vague = [Extent { start: 0, end: 8, device: None }];
        assert_eq!(changed(&vague, &vague, 16), [0..8]);
    }

    #[test]
    fn ranges_continue_in_the_middle() {
        assert_eq!(from(vec![0..4, 8..12, 16..20], 10), [10..12, 16..20]);
        assert_eq!(from(vec![0..4], 4), []);
    }

    #[test]
    fn a_sparse_file_has_data_where_it_was_written() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.set_len(8 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 4096], 4 << 20).unwrap();
        assert_eq!(allocated(&of(&path).unwrap()), [4 << 20..(4 << 20) + 4096]);
    }
}
