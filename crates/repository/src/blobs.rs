//! Many blobs at a time: neighbours in a pack are read with one request, hashes compared together.

use std::collections::HashMap;
use std::ops::Range;

use alidade_entity::Cx;

use crate::compress::decompress_behind;
use crate::crypto::IV_LEN;
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
///
/// What was stored compressed is unfolded into a memory of its own; what was not is left where it was
/// read and decrypted. Both memories are kept from one reading to the next.
#[derive(Debug, Default)]
pub struct Blobs {
    /// What was read, decrypted where it lies. Its length is the most that was ever held.
    read: Vec<u8>,
    unfolded: Vec<u8>,
    by_id: HashMap<BlobId, Lies>,
}

/// Where the content of a blob lies in its [`Blobs`].
#[derive(Clone, Debug)]
pub struct Lies {
    is_unfolded: bool,
    range: Range<usize>,
}

impl Blobs {
    /// Where the content of a blob lies, if it was read.
    #[must_use]
    pub fn find(&self, id: &BlobId) -> Option<Lies> {
        self.by_id.get(id).cloned()
    }

    /// The content that lies there.
    ///
    /// # Panics
    /// When [`Blobs::find`] did not say so after these contents were read.
    #[must_use]
    pub fn bytes(&self, lies: &Lies) -> &[u8] {
        let memory = if lies.is_unfolded { &self.unfolded } else { &self.read };
        &memory[lies.range.clone()]
    }

    /// Forgets what was read, and makes room for what will be.
    fn make_room(&mut self, ranges: &[Together<'_>]) {
        self.by_id.clear();
        self.unfolded.clear();
        self.unfolded.reserve(ranges.iter().map(Together::unfolded_len).sum());
        let (mut at, mut most) = (0, 0);
        for range in ranges {
            most = most.max(at + range.len);
            at += range.kept_len();
        }
        if self.read.len() < most {
            // Freed first, so that both are never there together. So large that it hardly ever grows
            // again: what is not used of memory that the system zeroes is not taken.
            self.read = Vec::new();
            self.read = vec![0; most.max(HELD + RANGE as usize)];
        }
    }
}

/// Neighbours in a pack, read with one request.
struct Together<'a> {
    copies: &'a [Found],
    /// Bytes from the beginning of the first to the end of the last.
    len: usize,
    /// True when what was read is kept, because more than half of it is content as it is. The rest,
    /// what lies between blobs and what was compressed, only takes room from then on.
    stays: bool,
}

impl<'a> Together<'a> {
    fn new(copies: &'a [Found]) -> Self {
        let len = match (copies.first(), copies.last()) {
            (Some(first), Some(last)) => {
                (last.blob.offset - first.blob.offset) as usize + last.blob.len as usize
            }
            _ => 0,
        };
        let raw = copies.iter().filter(|copy| copy.blob.plain_len.is_none());
        let stays = 2 * raw.map(|copy| copy.blob.len as usize).sum::<usize>() > len;
        Self { copies, len, stays }
    }

    /// Parts of `found`, which are in the order of the store.
    fn all_of(found: &'a [Found]) -> Vec<Self> {
        let (mut all, mut rest) = (Vec::new(), found);
        while !rest.is_empty() {
            let (copies, later) = rest.split_at(neighbours(rest));
            all.push(Self::new(copies));
            rest = later;
        }
        all
    }

    /// What is kept of what was read, in bytes.
    fn kept_len(&self) -> usize {
        if self.stays { self.len } else { 0 }
    }

    /// What does not stay where it was read, in bytes.
    fn unfolded_len(&self) -> usize {
        let moved = |copy: &&Found| copy.blob.plain_len.is_some() || !self.stays;
        let moved = self.copies.iter().filter(moved);
        moved.map(|copy| copy.blob.content_len().map_or(0, |len| len as usize)).sum()
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
        let mut found = self.find_first(ids);
        found.sort_unstable_by_key(|copy| (copy.pack, copy.blob.offset));
        let ranges = Together::all_of(&found);
        blobs.make_room(&ranges);
        let mut opened = Vec::with_capacity(found.len());
        self.benches().with(Bench::new, |bench| {
            let mut at = 0;
            for range in &ranges {
                cx.check()?;
                self.open_range(bench, (range, at), blobs, &mut opened)?;
                at += range.kept_len();
            }
            Ok::<_, Error>(())
        })?;
        let contents: Vec<&[u8]> = opened.iter().map(|(_, lies)| blobs.bytes(lies)).collect();
        let hashes = sha256_many(&contents, &mut []);
        let whole = opened.into_iter().zip(hashes).filter(|((id, _), hash)| id.0 == *hash);
        blobs.by_id.extend(whole.map(|(opened, _)| opened));
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

    /// Reads neighbours with one request to a place in the memory for it, and opens them.
    fn open_range(
        &self,
        bench: &mut Bench,
        (range, at): (&Together<'_>, usize),
        blobs: &mut Blobs,
        opened: &mut Vec<(BlobId, Lies)>,
    ) -> Result<()> {
        let Some(first) = range.copies.first() else { return Ok(()) };
        let Blobs { read, unfolded, .. } = blobs;
        let memory = &mut read[at..at + range.len];
        let pack = first.pack.to_string();
        let from = first.blob.offset;
        let done =
            self.repository().store().read_at(FileKind::Pack, &pack, u64::from(from), memory);
        match done {
            Ok(()) => {}
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            // Each blob is asked for alone then, and it is said what is wrong.
            Err(_) => return Ok(()),
        }
        for copy in range.copies {
            let begin = (copy.blob.offset - from) as usize;
            let sealed = &mut memory[begin..begin + copy.blob.len as usize];
            let Ok(payload) = self.repository().files().key().open_in_place(sealed) else {
                continue;
            };
            let behind = unfolded.len();
            let lies = match copy.blob.plain_len {
                None if range.stays => {
                    let begin = at + begin + IV_LEN;
                    Lies { is_unfolded: false, range: begin..begin + payload.len() }
                }
                None => {
                    unfolded.extend_from_slice(payload);
                    Lies { is_unfolded: true, range: behind..unfolded.len() }
                }
                Some(len) => {
                    let Bench { decompressor, .. } = bench;
                    if decompress_behind(decompressor, payload, len as usize, unfolded).is_err() {
                        unfolded.truncate(behind);
                        continue;
                    }
                    Lies { is_unfolded: true, range: behind..unfolded.len() }
                }
            };
            opened.push((copy.blob.id, lies));
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
