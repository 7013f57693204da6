//! Many blobs at a time: neighbours in a pack are read with one request, hashes compared together.

use std::collections::HashMap;
use std::ops::Range;

use alidade_entity::Cx;

use crate::compress::decompress_behind;
use crate::hash::sha256_many;
use crate::index::Found;
use crate::indexed::Bench;
use crate::{BlobId, BlobKind, Error, FileKind, Indexed, Result};

/// Bytes between two blobs that are read and thrown away rather than asked for in two requests.
const GAP: u32 = 64 << 10;
/// The longest part of a pack that is read with one request.
const RANGE: u32 = 9 << 20;
/// Content that is held together, in bytes; what is beyond is left out.
const HELD: usize = 32 << 20;

/// The contents of blobs that were read together. Their hashes are right.
#[derive(Debug, Default)]
pub struct Blobs {
    bytes: Vec<u8>,
    by_id: HashMap<BlobId, Range<usize>>,
}

impl Blobs {
    /// Where the content of a blob lies, if it was read.
    #[must_use]
    pub fn find(&self, id: &BlobId) -> Option<Range<usize>> {
        self.by_id.get(id).cloned()
    }

    /// A part of all contents, as [`Blobs::find`] gave it.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }
}

impl Indexed {
    /// Makes `blobs` what these data blobs hold, as far as their first copies are whole and 32 MiB hold
    /// them: what is missing then is for [`Indexed::read_blob`], which tries every copy and says why.
    ///
    /// # Errors
    /// When the run was told to stop; when there is no memory for zstd.
    pub fn read_blobs(&self, cx: &Cx, ids: &[BlobId], blobs: &mut Blobs) -> Result<()> {
        cx.check()?;
        blobs.by_id.clear();
        blobs.bytes.clear();
        let mut found = self.find_first(ids);
        let mut placed = Vec::with_capacity(found.len());
        self.benches().with(Bench::new, |bench| {
            found.sort_unstable_by_key(|copy| (copy.pack, copy.blob.offset));
            let mut rest = found.as_slice();
            while !rest.is_empty() {
                cx.check()?;
                let (range, later) = rest.split_at(neighbours(rest));
                self.open_range(bench, range, blobs, &mut placed)?;
                rest = later;
            }
            Ok::<_, Error>(())
        })?;
        let contents: Vec<&[u8]> =
            placed.iter().map(|(_, range)| &blobs.bytes[range.clone()]).collect();
        let hashes = sha256_many(&contents, &mut []);
        let whole = placed.into_iter().zip(hashes).filter(|((id, _), hash)| id.0 == *hash);
        blobs.by_id.extend(whole.map(|(placed, _)| placed));
        Ok(())
    }

    /// The first copies of blobs, each once, as many as are held together.
    fn find_first(&self, ids: &[BlobId]) -> Vec<Found> {
        let table = self.index().read();
        let mut seen = std::collections::HashSet::with_capacity(ids.len());
        let mut room = HELD;
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            if !seen.insert(*id) {
                continue;
            }
            let Some(copy) = table.find(BlobKind::Data, id) else { continue };
            let len = copy.blob.content_len().map_or(usize::MAX, |len| len as usize);
            if len <= room && copy.blob.len <= RANGE {
                room -= len;
                found.push(copy);
            }
        }
        found
    }

    /// Reads neighbours with one request and opens them.
    fn open_range(
        &self,
        bench: &mut Bench,
        range: &[Found],
        blobs: &mut Blobs,
        placed: &mut Vec<(BlobId, Range<usize>)>,
    ) -> Result<()> {
        let (Some(first), Some(last)) = (range.first(), range.last()) else { return Ok(()) };
        let Bench { decompressor, sealed, .. } = bench;
        let from = first.blob.offset;
        let Some(end) = last.blob.offset.checked_add(last.blob.len) else { return Ok(()) };
        sealed.resize((end - from) as usize, 0);
        let pack = first.pack.to_string();
        let read =
            self.repository().store().read_at(FileKind::Pack, &pack, u64::from(from), sealed);
        match read {
            Ok(()) => {}
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            // Each blob is asked for alone then, and it is said what is wrong.
            Err(_) => return Ok(()),
        }
        for copy in range {
            let at = (copy.blob.offset - from) as usize;
            let sealed = &mut sealed[at..at + copy.blob.len as usize];
            let Ok(payload) = self.repository().files().key().open_in_place(sealed) else {
                continue;
            };
            let begin = blobs.bytes.len();
            match copy.blob.plain_len {
                None => blobs.bytes.extend_from_slice(payload),
                Some(len) => {
                    let out = &mut blobs.bytes;
                    if decompress_behind(decompressor, payload, len as usize, out).is_err() {
                        out.truncate(begin);
                        continue;
                    }
                }
            }
            placed.push((copy.blob.id, begin..blobs.bytes.len()));
        }
        Ok(())
    }
}

/// How many of the first of `found` are read with one request.
fn neighbours(found: &[Found]) -> usize {
    let Some(first) = found.first() else { return 0 };
    let end = |copy: &Found| copy.blob.offset.saturating_add(copy.blob.len);
    let near = |pair: &&[Found]| {
        let (one, next) = (&pair[0], &pair[1]);
        one.pack == next.pack
            && (end(one)..=end(one).saturating_add(GAP)).contains(&next.blob.offset)
            && end(next) - first.blob.offset <= RANGE
    };
    1 + found.windows(2).take_while(near).count()
}
