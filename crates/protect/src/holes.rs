//! The hole map: what the format's nodes cannot say about sparse files.
//!
//! `/.alidade/holes` has one line of JSON for each sparse file, in visit order:
//! `{"path":"/a/b_20c","holes":[[at,len],…]}`. The path is absolute in the snapshot, written as object
//! ids are. A file with more than [`PER_LINE`] holes has several lines, one after the other.

use std::cmp::Ordering;
use std::io::BufRead;

use alidade_model::{Hole, decode_object, encode_object};
use serde::{Deserialize, Serialize};

/// Holes in one line at most; bounds the memory of a reader to about 64 KiB a line.
const PER_LINE: usize = 1024;
/// A line longer than this is not ours: a path of ten thousand levels of the longest names, each byte escaped,
/// fits. Only a line that is that long takes that memory.
const LINE: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct Line {
    path: String,
    holes: Vec<(u64, u64)>,
}

/// Appends the lines of one file to `out`.
pub(crate) fn write(path: &[u8], holes: &[Hole], out: &mut Vec<u8>) {
    for part in holes.chunks(PER_LINE) {
        let line = Line {
            path: encode_object(path),
            holes: part.iter().map(|hole| (hole.at, hole.len)).collect(),
        };
        let text = serde_json::to_string(&line).expect("a text and numbers have a JSON form");
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
    }
}

/// Reads a hole map beside a walk in the same order.
pub(crate) struct HoleMap<R> {
    lines: R,
    next: Option<(Vec<u8>, Vec<Hole>)>,
    ended: bool,
}

impl<R: BufRead> HoleMap<R> {
    pub(crate) fn new(lines: R) -> Self {
        Self { lines, next: None, ended: false }
    }

    /// The holes of the file at `path`. Paths must be asked for in visit order; those in between are passed over.
    pub(crate) fn at(&mut self, path: &[u8]) -> std::io::Result<Vec<Hole>> {
        let mut found = Vec::new();
        loop {
            if self.next.is_none() {
                self.next = self.line()?;
            }
            match &mut self.next {
                None => return Ok(found),
                Some((at, holes)) => match visit_order(at, path) {
                    Ordering::Greater => return Ok(found),
                    Ordering::Equal => {
                        found.append(holes);
                        self.next = None;
                    }
                    Ordering::Less => self.next = None,
                },
            }
        }
    }

    fn line(&mut self) -> std::io::Result<Option<(Vec<u8>, Vec<Hole>)>> {
        if self.ended {
            return Ok(None);
        }
        let mut text = Vec::new();
        std::io::Read::take(&mut self.lines, LINE).read_until(b'\n', &mut text)?;
        if text.is_empty() {
            self.ended = true;
            return Ok(None);
        }
        let line: Line = serde_json::from_slice(&text)?;
        let holes = line.holes.into_iter().map(|(at, len)| Hole { at, len }).collect();
        Ok(Some((decode_object(&line.path), holes)))
    }
}

/// The order in which a walk visits two absolute paths: by component, by byte, a directory before its entries.
pub(crate) fn visit_order(a: &[u8], b: &[u8]) -> Ordering {
    a.split(|&byte| byte == b'/').cmp(b.split(|&byte| byte == b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_come_back_beside_a_walk_that_asks_for_more_and_for_fewer_paths() {
        let many: Vec<Hole> = (0..3000).map(|n| Hole { at: n * 8192, len: 4096 }).collect();
        let mut bytes = Vec::new();
        write(b"/a/b", &many, &mut bytes);
        write(b"/a-b", &[Hole { at: 1, len: 2 }], &mut bytes);
        write(b"/z\xff", &[Hole { at: 3, len: 4 }], &mut bytes);
        let mut map = HoleMap::new(bytes.as_slice());
        assert_eq!(map.at(b"/a").unwrap(), vec![]);
        assert_eq!(map.at(b"/a/b").unwrap(), many);
        assert_eq!(map.at(b"/a/c").unwrap(), vec![]);
        assert_eq!(map.at(b"/z\xff").unwrap(), vec![Hole { at: 3, len: 4 }]);
        assert_eq!(map.at(b"/zz").unwrap(), vec![]);
    }

    #[test]
    fn a_path_of_thousands_of_levels_keeps_its_holes() {
        let path: Vec<u8> =
            (0..3000).flat_map(|_| [b"/".as_slice(), &[0xff; 200]].concat()).collect();
        let mut bytes = Vec::new();
        write(&path, &[Hole { at: 1, len: 2 }], &mut bytes);
        assert_eq!(HoleMap::new(bytes.as_slice()).at(&path).unwrap(), vec![Hole { at: 1, len: 2 }]);
    }

    #[test]
    fn a_line_without_an_end_is_refused_and_not_held() {
        let endless = std::io::BufReader::new(std::io::repeat(b'x'));
        assert!(HoleMap::new(endless).at(b"/a").is_err());
    }

    #[test]
    fn a_directory_is_visited_before_a_sibling_whose_name_begins_with_its_own() {
        assert_eq!(visit_order(b"/a/b", b"/a-b"), Ordering::Less);
        assert_eq!(visit_order(b"/a", b"/a/b"), Ordering::Less);
    }
}
