//! How a disk lies in a snapshot: in one file, or in segments; in cells, and zeros in stretches.
//!
//! A disk of up to 64 GiB is the file `data`. A larger one is the directory `data.d` of directories
//! `000000`, `000001`, … of 64 segments `00` to `63` of 1 GiB each, the last one shorter: what did not
//! change is a directory that is stored already, and no directory is longer than 5 MiB of text. One behind
//! the other they are the disk.
//!
//! Every file is cut into cells of 256 KiB that lie at multiples of it, so that a change makes one of them
//! new. A stretch of 8 MiB at a multiple of it that is all zeros is one blob. So the blobs of a disk follow
//! from its bytes alone.

use alidade_kernels::sha256;
use alidade_model::{ContentName, Entry, Kind, Metadata, Time, Version};
use alidade_repository::BlobId;
use std::collections::HashMap;

/// Bytes of a cell.
pub(crate) const CELL: u64 = 256 << 10;
/// Zeros that are one blob.
pub(crate) const STRETCH: u64 = 8 << 20;
/// A disk of so many bytes is one file.
const SINGLE: u64 = 64 << 30;
/// Bytes of a segment of a larger one.
pub(crate) const SEGMENT: u64 = 1 << 30;
/// Segments in a directory.
pub(crate) const GROUP: u64 = 64;

/// True when a disk of so many bytes lies in segments.
pub(crate) fn has_segments(size: u64) -> bool {
    size > SINGLE
}

/// The name of the file, or of the directory of segments.
pub(crate) fn name_of(content: &ContentName, size: u64) -> Vec<u8> {
    let end = if has_segments(size) { ".d" } else { "" };
    format!("{content}{end}").into_bytes()
}

/// The name of a directory of segments.
pub(crate) fn group_name(group: u64) -> Vec<u8> {
    format!("{group:06}").into_bytes()
}

/// The name of a segment in its directory.
pub(crate) fn segment_name(segment: u64) -> Vec<u8> {
    format!("{:02}", segment % GROUP).into_bytes()
}

/// A file or directory of a disk. All of them say the same of themselves, so that equal ones are stored
/// once.
pub(crate) fn entry(name: Vec<u8>, kind: Kind, size: u64, is_same: bool) -> Entry {
    let mode = if kind == Kind::Directory { 0o700 } else { 0o600 };
    let time = Time::default();
    let version = if is_same {
        Version::Stat { size, mtime: time, ctime: time, inode: None }
    } else {
        Version::Unknown
    };
    Entry { name, metadata: Metadata { size, ..Metadata::of(kind, mode) }, version }
}

/// The ids of blobs of zeros, by their length.
#[derive(Debug, Default)]
pub(crate) struct ZeroIds {
    known: HashMap<u64, BlobId>,
}

impl ZeroIds {
    /// True when that is the id of so many zeros; at most a stretch of them.
    pub(crate) fn is(&mut self, id: &BlobId, len: u64) -> bool {
        let len = len.min(STRETCH);
        let zeros = |len: u64| vec![0; usize::try_from(len).unwrap_or(0)];
        *id == *self.known.entry(len).or_insert_with(|| BlobId(sha256(&zeros(len))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_named_so_that_they_follow_one_another() {
        let names: Vec<_> = [0, 1, 63, 64, 6400]
            .map(|segment| [group_name(segment / GROUP), segment_name(segment)].concat())
            .to_vec();
        assert_eq!(names.last().unwrap(), b"00010000");
        assert!(names.is_sorted());
        let data = ContentName::data();
        assert_eq!(name_of(&data, SINGLE), b"data");
        assert_eq!(name_of(&data, SINGLE + 1), b"data.d");
    }

    #[test]
    fn zeros_are_known_by_their_id() {
        let mut zeros = ZeroIds::default();
        assert!(zeros.is(&BlobId::of(&[0; 4096]), 4096));
        assert!(!zeros.is(&BlobId::of(&[0; 4096]), 4097));
        assert!(!zeros.is(&BlobId::of(&[1; 4096]), 4096));
    }
}
