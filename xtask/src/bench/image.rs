//! The image of a disk: extents of noise, zeros and text.

use super::chance::Chance;
use super::content::Content;

/// Bytes of the whole image.
pub(super) const FULL: u64 = 4 << 30;
pub(super) const SMOKE: u64 = 48 << 20;

/// Bytes of one random write, and to what it is aligned.
pub(super) const WRITE: u64 = 64 << 10;
const ALIGNMENT: u64 = 4 << 10;

/// A stretch of one kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) at: u64,
    pub(super) len: u64,
    pub(super) content: Content,
    number: u64,
}

impl Extent {
    /// Its bytes, instead of what is in `out`.
    pub(super) fn bytes(&self, out: &mut Vec<u8>) {
        out.clear();
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        self.content.append(&mut Chance::of("extent", self.number), len, out);
    }
}

/// All extents: 64 KiB to 4 MiB each, 60 % noise, 20 % zeros, 20 % text.
pub(super) fn extents(size: u64) -> Vec<Extent> {
    let mut chance = Chance::of("image", 0);
    let (least, most) = ((64 << 10) / ALIGNMENT, (4 << 20) / ALIGNMENT);
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size {
        let len = (ALIGNMENT * (least + chance.below(most - least + 1))).min(size - at);
        let kinds = [Content::Noise, Content::Zeros, Content::Text];
        let content = kinds[chance.weighed(&[60, 20, 20])];
        extents.push(Extent { at, len, content, number: extents.len() as u64 });
        at += len;
    }
    extents
}

/// Bytes that are not zeros.
pub(super) fn unique_bytes(size: u64) -> u64 {
    let kept = |extent: &&Extent| extent.content != Content::Zeros;
    extents(size).iter().filter(kept).map(|extent| extent.len).sum()
}

/// Where the random writes of the change go: 1 % of the image, no two at one place.
pub(super) fn writes(size: u64) -> Vec<u64> {
    let mut chance = Chance::of("image writes", 0);
    // 640 of them in 4 GiB.
    let count = size * 640 / FULL;
    let mut places: Vec<u64> = Vec::new();
    while (places.len() as u64) < count {
        let at = ALIGNMENT * chance.below((size - WRITE) / ALIGNMENT + 1);
        if places.iter().all(|other| other.abs_diff(at) >= WRITE) {
            places.push(at);
        }
    }
    places
}

/// What the write at `at` writes.
pub(super) fn written(at: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let len = usize::try_from(WRITE).unwrap_or(0);
    Content::Noise.append(&mut Chance::of("image write", at), len, &mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_cover_the_image_in_the_shares_that_were_said() {
        let extents = extents(FULL);
        let mut end = 0;
        for extent in &extents {
            assert_eq!(extent.at, end);
            end += extent.len;
        }
        assert_eq!(end, FULL);
        for (content, percent) in [(Content::Noise, 60), (Content::Zeros, 20), (Content::Text, 20)]
        {
            let bytes: u64 = extents.iter().filter(|e| e.content == content).map(|e| e.len).sum();
            let found = bytes * 100 / FULL;
            assert!(found.abs_diff(percent) <= 2, "{content:?}: {found} %");
        }
    }

    #[test]
    fn the_writes_are_one_per_cent_and_do_not_overlap() {
        let mut places = writes(FULL);
        assert_eq!(places.len(), 640);
        places.sort_unstable();
        assert!(places.windows(2).all(|two| two[1] - two[0] >= WRITE));
        assert!(places.iter().all(|at| at % ALIGNMENT == 0 && at + WRITE <= FULL));
    }
}
