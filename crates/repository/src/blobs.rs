//! Many blobs at a time: neighbours in a pack are read with one request, hashes compared together.

use std::collections::HashMap;
use std::ops::Range;

use alidade_entity::Cx;

use crate::compress::decompress_into;
use crate::crypto::IV_LEN;
use crate::hash::sha256_many;
use crate::index::Found;
use crate::indexed::Bench;
use crate::{BlobId, BlobKind, Error, FileKind, Indexed, PackPart, Result};

/// Bytes between two blobs that are read and thrown away rather than asked for in two requests.
const GAP: u32 = 64 << 10;
/// The longest part of a pack that is read with one request, and the longest blob.
const RANGE: u32 = 9 << 20;
/// What is read with requests that are under way at a time, at most, where there are several.
const GROUP: usize = 8 << 20;
/// The contents of blobs that were read together. Their hashes are right.
///
/// What was not compressed is left where it was read and decrypted, as far as that is worth the room.
/// The memory is kept from one reading to the next.
#[derive(Debug, Default)]
pub struct Blobs {
    /// Contents, and what was between them where they were read. Its length is the most there ever was.
    memory: Vec<u8>,
    /// Where what is not left is read.
    passing: Vec<u8>,
    by_id: HashMap<BlobId, Range<usize>>,
}

impl Blobs {
    /// Content that is held together, in bytes; what is beyond is left out.
    pub const HELD: usize = 40 << 20;

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
        &self.memory[range]
    }

    /// Forgets what was read, and makes room for what will be.
    fn make_room(&mut self, parts: &[Together<'_>]) {
        self.by_id.clear();
        let held = parts.iter().map(Together::held_len).sum();
        if self.memory.len() < held {
            // Freed first, so that both are never there together. So large that it hardly ever grows
            // again: what is not used of memory that the system zeroes is not taken.
            self.memory = Vec::new();
            self.memory = vec![0; held.max(Self::HELD + RANGE as usize)];
        }
        let passing = parts.iter().filter(|part| !part.stays).map(|part| part.len).max();
        if self.passing.len() < passing.unwrap_or(0) {
            self.passing.resize(passing.unwrap_or(0), 0);
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
    fn all_of(found: &'a [Found], best_read: u32) -> Vec<Self> {
        let (mut all, mut rest) = (Vec::new(), found);
        while !rest.is_empty() {
            let (copies, later) = rest.split_at(neighbours(rest, best_read));
            all.push(Self::new(copies));
            rest = later;
        }
        all
    }

    /// The pack they lie in.
    fn pack(&self) -> String {
        self.copies.first().map(|first| first.pack.to_string()).unwrap_or_default()
    }

    /// Where the first begins.
    fn from(&self) -> u32 {
        self.copies.first().map_or(0, |first| first.blob.offset)
    }

    /// What of the memory it takes: what stays, and behind it what does not lie in there.
    fn held_len(&self) -> usize {
        let moved = |copy: &&Found| copy.blob.plain_len.is_some() || !self.stays;
        let moved = self.copies.iter().filter(moved);
        let moved: usize =
            moved.map(|copy| copy.blob.content_len().map_or(0, |len| len as usize)).sum();
        self.kept_len() + moved
    }

    fn kept_len(&self) -> usize {
        if self.stays { self.len } else { 0 }
    }
}

impl Indexed {
    /// Makes `blobs` what these data blobs hold, as far as their first copies are whole and
    /// [`Blobs::HELD`] holds them: what is missing then is for [`Indexed::read_blob`], which tries every copy and says why.
    ///
    /// # Errors
    /// When the run was told to stop; when there is no memory for zstd.
    pub fn read_blobs(&self, cx: &Cx, ids: &[BlobId], blobs: &mut Blobs) -> Result<()> {
        cx.check()?;
        let mut found = self.find_first(ids);
        found.sort_unstable_by_key(|copy| (copy.pack, copy.blob.offset));
        let parts = Together::all_of(&found, self.repository().store().best_read().min(RANGE));
        blobs.make_room(&parts);
        let mut opened = Vec::with_capacity(found.len());
        self.benches().with(Bench::new, |bench| {
            let (mut at, mut rest) = (0, &parts[..]);
            while !rest.is_empty() {
                let (group, later) = rest.split_at(self.together(rest));
                for (part, came) in group.iter().zip(self.read_group(group)) {
                    cx.check()?;
                    self.open_part(bench, (part, at), came, (blobs, &mut opened))?;
                    at += part.held_len();
                }
                rest = later;
            }
            Ok::<_, Error>(())
        })?;
        let contents: Vec<&[u8]> =
            opened.iter().map(|(_, range)| &blobs.memory[range.clone()]).collect();
        let hashes = sha256_many(&contents, &mut []);
        let whole = opened.into_iter().zip(hashes).filter(|((id, _), hash)| id.0 == *hash);
        blobs.by_id.extend(whole.map(|(opened, _)| opened));
        Ok(())
    }

    /// The first copies of blobs, each once, as many as are held together.
    fn find_first(&self, ids: &[BlobId]) -> Vec<Found> {
        let table = self.index().read();
        let mut seen = std::collections::HashSet::with_capacity(ids.len());
        let mut room = Blobs::HELD;
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

    /// How many of the first of `parts` are read at a time.
    fn together(&self, parts: &[Together<'_>]) -> usize {
        let mut len = 0;
        let fits = |part: &&Together<'_>| {
            len += part.len;
            len <= GROUP
        };
        let most = self.repository().store().reads_together();
        parts.iter().take(most).take_while(fits).count().max(1)
    }

    /// Reads parts at a time; what came of each. One alone is left to who opens it, and read to where it stays.
    fn read_group(&self, group: &[Together<'_>]) -> Vec<Option<Result<Vec<u8>>>> {
        if let [_] = group {
            return vec![None];
        }
        let mut came: Vec<Vec<u8>> = group.iter().map(|part| vec![0; part.len]).collect();
        let names: Vec<String> = group.iter().map(Together::pack).collect();
        let places = group.iter().zip(&names).zip(&mut came);
        let mut parts: Vec<PackPart<'_>> = places
            .map(|((part, name), buf)| PackPart { name, at: part.from().into(), buf })
            .collect();
        let read = self.repository().store().read_parts(&mut parts);
        read.into_iter().zip(came).map(|(read, bytes)| Some(read.map(|()| bytes))).collect()
    }

    /// Opens neighbours, which one request has read or reads now, into the memory from `at` on.
    fn open_part(
        &self,
        bench: &mut Bench,
        (part, at): (&Together<'_>, usize),
        came: Option<Result<Vec<u8>>>,
        (blobs, opened): (&mut Blobs, &mut Vec<(BlobId, Range<usize>)>),
    ) -> Result<()> {
        let (kept, moved) = blobs.memory[at..].split_at_mut(part.kept_len());
        let read = if part.stays { kept } else { &mut blobs.passing[..part.len] };
        let from = part.from();
        let done = match came {
            Some(came) => came.map(|bytes| read.copy_from_slice(&bytes)),
            None => {
                let store = self.repository().store();
                store.read_at(FileKind::Pack, &part.pack(), from.into(), read)
            }
        };
        match done {
            Ok(()) => {}
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            // Each blob is asked for alone then, and it is said what is wrong.
            Err(_) => return Ok(()),
        }
        let mut end = 0;
        for copy in part.copies {
            let begin = (copy.blob.offset - from) as usize;
            let sealed = &mut read[begin..begin + copy.blob.len as usize];
            let Ok(payload) = self.repository().files().key().open_in_place(sealed) else {
                continue;
            };
            if part.stays && copy.blob.plain_len.is_none() {
                let begin = at + begin + IV_LEN;
                opened.push((copy.blob.id, begin..begin + payload.len()));
                continue;
            }
            let len = copy.blob.plain_len.map_or(payload.len(), |len| len as usize);
            let out = &mut moved[end..end + len];
            match copy.blob.plain_len {
                None => out.copy_from_slice(payload),
                Some(_) if decompress_into(&mut bench.decompressor, payload, out).is_ok() => {}
                Some(_) => continue,
            }
            let begin = at + part.kept_len() + end;
            opened.push((copy.blob.id, begin..begin + len));
            end += len;
        }
        Ok(())
    }
}

/// How many of the first of `found` are read with one request.
fn neighbours(found: &[Found], best_read: u32) -> usize {
    let Some(first) = found.first() else { return 0 };
    let end = |copy: &Found| copy.blob.offset.saturating_add(copy.blob.len);
    let near = |pair: &&[Found]| {
        let (one, next) = (&pair[0], &pair[1]);
        one.pack == next.pack
            && (end(one)..=end(one).saturating_add(GAP)).contains(&next.blob.offset)
            && end(next) - first.blob.offset <= best_read
    };
    1 + found.windows(2).take_while(near).count()
}
