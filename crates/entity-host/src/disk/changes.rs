//! What of a disk changed since a base: nothing, when the image file is the one it was, or what a map says.

use std::fs;
use std::ops::Range;

use alidade_entity::{Base, Class, Cx, Error, Params, Result};
use alidade_model::Time;
use rustix::fs::fstat;

use super::clone::CLONE;
use super::image::{Image, Nature};
use super::kind::LIVE;

/// The setting that names a map of changed ranges.
pub(crate) const MAP: &str = "changed-blocks";

/// The largest map that is read, in bytes.
const MAP_BYTES: u64 = 256 << 20;

/// A file that changed less than this before it was looked at, in nanoseconds, may change again without
/// another time: file systems count in steps of the system's clock, some of whole seconds.
const STEP: i128 = 2_000_000_000;

/// What an image file was when it was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    size: u64,
    mtime: Time,
    ctime: Time,
}

impl Stamp {
    /// The stamp of an image file; `None` of a device, which has none.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn of(image: &Image) -> Result<Option<Self>> {
        if image.nature != Nature::File {
            return Ok(None);
        }
        let failed = |errno| Error::io(format!("look at {}", image.shown()), errno);
        let stat = fstat(&image.fd).map_err(failed)?;
        let time = |seconds, nanos| Time::new(seconds, u32::try_from(nanos).unwrap_or(0));
        Ok(Some(Self {
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        }))
    }

    /// The base a later reading may be given, unless the file changed just now.
    pub(crate) fn base(&self, now: Time) -> Option<Base> {
        let is_old = |time: Time| now.as_nanos() - time.as_nanos() >= STEP;
        (is_old(self.mtime) && is_old(self.ctime)).then(|| Base(self.text().into_bytes()))
    }

    /// True when the base is of the same file, unchanged.
    pub(crate) fn is(&self, base: &Base) -> bool {
        base.0 == self.text().as_bytes()
    }

    fn text(&self) -> String {
        let Self { inode, size, mtime, ctime } = self;
        format!("image 1 {inode} {size} {} {}", mtime.as_nanos(), ctime.as_nanos())
    }
}

/// The ranges that changed, ascending and apart, within a disk of that size.
///
/// The map is a text file: a line for each range, its offset and its length in bytes, apart by blanks;
/// empty lines and lines that begin with `#` are passed over. Ranges may overlap and come in any order.
///
/// # Errors
/// [`Class::Conflict`] when the map does not read or goes beyond the disk.
pub(crate) fn read_map(cx: &Cx, path: &str, size: u64) -> Result<Vec<Range<u64>>> {
    let failed = |error| Error::io(format!("read the map of changed blocks {path}"), error);
    let len = fs::metadata(path).map_err(failed)?.len();
    if len > MAP_BYTES {
        let attempt = format!("read the map of changed blocks {path}: {len} bytes are too many");
        return Err(Error::new(Class::Conflict, attempt));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let mut ranges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if number % 65_536 == 0 {
            cx.check()?;
        }
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let range = range_of(line).filter(|range| range.end <= size).ok_or_else(|| {
            let what = "no offset and length within the disk";
            let attempt = format!("read line {} of {path}: `{line}` is {what}", number + 1);
            Error::new(Class::Conflict, attempt)
        })?;
        ranges.push(range);
    }
    Ok(joined(ranges))
}

fn range_of(line: &str) -> Option<Range<u64>> {
    let mut words = line.split_ascii_whitespace().map(str::parse::<u64>);
    let (Some(Ok(at)), Some(Ok(len)), None) = (words.next(), words.next(), words.next()) else {
        return None;
    };
    Some(at..at.checked_add(len)?)
}

/// The same ranges, ascending and apart.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    let mut apart: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

/// What settings of a reading there are; others are refused.
///
/// # Errors
/// [`Class::Unsupported`] for a setting that disks do not have.
pub(crate) fn known(params: &Params) -> Result<()> {
    let names = [MAP, CLONE, LIVE];
    match params.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let attempt = format!("read a disk with the setting `{name}`");
            Err(Error::new(Class::Unsupported, attempt))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_map_are_put_in_order() {
        let ranges = vec![10..20, 0..4, 4..6, 15..30, 40..40];
        assert_eq!(joined(ranges), [0..6, 10..30]);
    }

    #[test]
    fn a_line_of_a_map_is_an_offset_and_a_length() {
        for (line, range) in [
            ("0 4096", Some(0..4096)),
            ("4096\t1", Some(4096..4097)),
            ("4096", None),
            ("1 2 3", None),
            ("-1 2", None),
            ("0x10 2", None),
            ("18446744073709551615 1", None),
        ] {
            assert_eq!(range_of(line), range, "{line}");
        }
    }

    #[test]
    fn a_file_that_changed_just_now_is_no_base() {
        let at = |seconds| Time::new(seconds, 0);
        let stamp = Stamp { inode: 1, size: 2, mtime: at(100), ctime: at(101) };
        assert_eq!(stamp.base(at(102)), None);
        let base = stamp.base(at(103)).unwrap();
        assert!(stamp.is(&base));
        assert!(!Stamp { size: 3, ..stamp }.is(&base));
        assert!(!Stamp { ctime: at(102), ..stamp }.is(&base));
        assert_eq!(stamp.base(at(90)), None, "a clock that went back");
    }
}
