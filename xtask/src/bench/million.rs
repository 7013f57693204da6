//! A million small files: in one directory, or a thousand in each of a thousand.

use super::chance::Chance;
use super::content::Content;

/// How many directories there are, and how many files in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) folders: usize,
    pub(super) files: usize,
}

/// Bytes of each file.
pub(super) const LEN: u64 = 100;

impl Shape {
    pub(super) fn count(self) -> usize {
        self.folders * self.files
    }

    /// Where file number `at` lies.
    pub(super) fn path(self, at: usize) -> String {
        if self.folders == 1 {
            format!("{at:07}")
        } else {
            format!("{:04}/{:04}", at / self.files, at % self.files)
        }
    }
}

/// The bytes of file number `at`, instead of what is in `out`.
pub(super) fn bytes(at: usize, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(format!("file {at}\n").as_bytes());
    let left = usize::try_from(LEN).unwrap_or(0) - out.len();
    Content::Text.append(&mut Chance::of("small", at as u64), left, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_in_one_folder_or_in_many() {
        assert_eq!(Shape { folders: 1, files: 10 }.path(3), "0000003");
        assert_eq!(Shape { folders: 1_000, files: 1_000 }.path(1_234), "0001/0234");
    }

    #[test]
    fn every_file_has_its_own_hundred_bytes() {
        let (mut one, mut two) = (Vec::new(), Vec::new());
        bytes(1, &mut one);
        bytes(2, &mut two);
        assert_eq!((one.len(), two.len()), (100, 100));
        assert_ne!(one, two);
    }
}
