//! The fast way in: what one thread reads is cut, hashed, sealed and checked many chunks at a time.
//!
//! A batch holds the bytes of about [`FILL`] of chunks, from as many files as that takes. Then all of
//! them are hashed together, those that the repository does not know are compressed and sealed
//! straight into a pack of this thread, opened again into the place they came from, and hashed together
//! once more. Nothing of that crosses a thread, and a pack is stored only when everything in it was
//! checked.

use std::collections::VecDeque;
use std::ops::Range;

use alidade_entity::Cx;
use alidade_kernels::{Sha256, is_zero};
use alidade_model::Sabotage;
use zstd::bulk::{Compressor, Decompressor};

use crate::chunker::Chunker;
use crate::compress::{append_frame, decompress_into};
use crate::crypto::{IV_LEN, Iv, OVERHEAD};
use crate::hash::sha256_many;
use crate::index::Claim;
use crate::packer::{OpenPack, length};
use crate::writer::{is_worth_it, no_zstd};
use crate::{BlobId, BlobKind, Error, Result, Writer};

/// Bytes of chunks that are worked on together.
const FILL: usize = 24 << 20;
/// Chunks that are worked on together, at most.
const FILL_CHUNKS: usize = 4096;
/// Packs that a thread fills at a time, each blob going into one by chance: who watches the store
/// cannot tell the lengths of neighbouring chunks.
const PACKS: usize = 2;
/// Chunks of zeros of this length and more are remembered.
const LONG: usize = 64 << 10;
/// Random bytes a chunk takes: an IV, and one that chooses the pack.
const CHANCE: usize = IV_LEN + 1;

/// A chunk that was cut and is in the repository, or will be when the run is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its id.
    pub id: BlobId,
    /// Its bytes.
    pub len: u32,
    /// False when the repository knew it, or another thread is storing it.
    pub new: bool,
}

/// One thread's way to store the contents of files, one file after the other.
///
/// What was sealed goes to the writer when the batch is dropped, and is stored by its commit. What was
/// pushed and not flushed by then is forgotten.
///
/// Memory: 24 MiB of chunks and what the last of them is longer, one chunk twice, and two packs.
pub struct Batch<'w> {
    writer: &'w Writer,
    chunker: Chunker<'w>,
    /// The bytes of the chunks that are cut, one behind the other, and of the one that is not.
    bytes: Vec<u8>,
    /// Where each chunk that is cut ends.
    ends: Vec<usize>,
    done: VecDeque<Chunk>,
    packs: [OpenPack; PACKS],
    bench: Bench,
    zeros: Zeros,
}

/// The chunk of zeros that was hashed last. Disks have many, nearly all of them of the same length.
#[derive(Default)]
struct Zeros {
    last: Option<(usize, BlobId)>,
}

/// What sealing and checking needs, kept from batch to batch.
struct Bench {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    chance: Vec<u8>,
    opened: Vec<u8>,
}

impl std::fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

impl<'w> Batch<'w> {
    pub(crate) fn new(writer: &'w Writer) -> Result<Self> {
        Ok(Self {
            writer,
            chunker: writer.chunker(),
            bytes: Vec::new(),
            ends: Vec::new(),
            done: VecDeque::new(),
            packs: Default::default(),
            bench: Bench {
                compressor: Compressor::new(3).map_err(no_zstd)?,
                decompressor: Decompressor::new().map_err(no_zstd)?,
                chance: Vec::new(),
                opened: Vec::new(),
            },
            zeros: Zeros::default(),
        })
    }

    /// Takes the next bytes of the file; returns how many chunks that cut.
    ///
    /// # Errors
    /// As [`Writer::save_data`].
    pub fn push(&mut self, cx: &Cx, mut data: &[u8]) -> Result<usize> {
        let mut cut = 0;
        while !data.is_empty() {
            cx.check()?;
            let (now, later) = data.split_at(data.len().min(FILL / 8));
            self.bytes.extend_from_slice(now);
            data = later;
            while let Some(len) = self.chunker.next_cut(&self.bytes[self.begun()..]) {
                self.ends.push(self.begun() + len);
                cut += 1;
            }
            if self.is_full() {
                self.flush(cx)?;
            }
        }
        Ok(cut)
    }

    /// Takes a chunk as it is; returns how many chunks that cut, always one.
    ///
    /// # Errors
    /// As [`Writer::save_data`].
    ///
    /// # Panics
    /// When what was pushed before was not [ended](Batch::end).
    pub fn cell(&mut self, cx: &Cx, data: &[u8]) -> Result<usize> {
        cx.check()?;
        assert_eq!(self.begun(), self.bytes.len(), "a chunk begins where the one before it ended");
        self.bytes.extend_from_slice(data);
        self.ends.push(self.bytes.len());
        if self.is_full() {
            self.flush(cx)?;
        }
        Ok(1)
    }

    /// Ends the file, or what stands before a hole in it; returns how many chunks that cut, none or one.
    ///
    /// # Errors
    /// As [`Writer::save_data`].
    pub fn end(&mut self, cx: &Cx) -> Result<usize> {
        cx.check()?;
        let begun = self.begun();
        let rest = self.bytes.len() - begun;
        // All cuts that lie in the bytes were found, so what is left is one chunk.
        self.chunker = self.writer.chunker();
        if rest == 0 {
            return Ok(0);
        }
        if Sabotage::DropLastChunk.is_on() {
            self.bytes.truncate(begun);
            return Ok(0);
        }
        self.ends.push(self.bytes.len());
        if self.is_full() {
            self.flush(cx)?;
        }
        Ok(1)
    }

    /// Forgets the bytes that are not cut yet; the next are those of another file.
    pub fn forget(&mut self) {
        self.bytes.truncate(self.begun());
        self.chunker = self.writer.chunker();
    }

    /// The next chunk, in the order in which they were cut; `None` when it is still to be worked on.
    pub fn next_done(&mut self) -> Option<Chunk> {
        self.done.pop_front()
    }

    /// Works on all chunks that are cut.
    ///
    /// # Errors
    /// As [`Writer::save_data`].
    pub fn flush(&mut self, cx: &Cx) -> Result<()> {
        if self.ends.is_empty() {
            return Ok(());
        }
        let writer = self.writer;
        writer.guarded(|| self.seal_all(cx))?;
        let begun = self.begun();
        self.bytes.copy_within(begun.., 0);
        self.bytes.truncate(self.bytes.len() - begun);
        self.ends.clear();
        Ok(())
    }

    /// Where the chunk begins that is not cut yet.
    fn begun(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn is_full(&self) -> bool {
        self.begun() >= FILL || self.ends.len() >= FILL_CHUNKS
    }

    /// Hashes all chunks, seals those that must be stored, checks them, and stores the packs that are full.
    ///
    /// Does not stop in between when the run is told to: what was begun here is soon done, and what was
    /// claimed must be stored for the writer to go on.
    fn seal_all(&mut self, cx: &Cx) -> Result<()> {
        let Self { writer, bytes, ends, done, packs, bench, zeros, .. } = self;
        let ids = {
            let begins = std::iter::once(&0).chain(ends.iter());
            let chunks: Vec<&[u8]> =
                begins.zip(&*ends).map(|(from, to)| &bytes[*from..*to]).collect();
            let mut streams: Vec<_> = packs.iter_mut().filter_map(OpenPack::stream).collect();
            zeros.hash_all(&chunks, &mut streams)
        };
        bench.chance.resize(ids.len() * CHANCE, 0);
        cx.fill(&mut bench.chance)?;
        // Those whose bytes are now what was opened and decompressed again.
        let mut opened = Vec::with_capacity(ids.len());
        let mut from = 0;
        for (number, (id, to)) in ids.into_iter().zip(&*ends).enumerate() {
            let range = std::mem::replace(&mut from, *to)..*to;
            let len = length(range.len())?;
            let new = writer.indexed().index().claim(BlobKind::Data, id) == Claim::Mine;
            done.push_back(Chunk { id, len, new });
            if !new {
                writer.counters().known(BlobKind::Data);
                continue;
            }
            let (iv, slot) = bench.chance(number);
            let stored =
                bench.seal(writer, (iv, id), &mut bytes[range.clone()], &mut packs[slot])?;
            writer.counters().added(BlobKind::Data, u64::from(len), stored);
            if writer.self_checks() {
                opened.push((id, range));
            }
            if packs[slot].is_full(writer.pack_size()) {
                check_all(writer, bytes, &mut opened, packs)?;
                // Its memory is filled again: memory that was never touched costs more than that.
                writer.store_pack(cx, &mut packs[slot])?;
                packs[slot].clear();
            }
        }
        check_all(writer, bytes, &mut opened, packs)
    }
}

/// Compares what was opened with what it should be; in the same pass packs hash what was added.
fn check_all(
    writer: &Writer,
    bytes: &[u8],
    opened: &mut Vec<(BlobId, Range<usize>)>,
    packs: &mut [OpenPack],
) -> Result<()> {
    let blobs: Vec<&[u8]> = opened.iter().map(|(_, range)| &bytes[range.clone()]).collect();
    let mut streams: Vec<_> = packs.iter_mut().filter_map(OpenPack::stream).collect();
    for ((id, _), found) in opened.iter().zip(sha256_many(&blobs, &mut streams)) {
        if id.0 != found {
            let why = format!("its content has the hash {}", BlobId(found));
            return Err(Error::SelfCheck { blob: id.to_string(), why });
        }
        writer.counters().checked();
    }
    opened.clear();
    Ok(())
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let packs = std::mem::take(&mut self.packs).into_iter();
        self.writer.leave_packs(packs.filter(|pack| !pack.is_empty()));
    }
}

impl Zeros {
    /// The ids of all chunks; one of zeros that is as long as the one before it is not hashed again.
    /// In the same pass the streams take the bytes beside them.
    fn hash_all(&mut self, chunks: &[&[u8]], streams: &mut [(&mut Sha256, &[u8])]) -> Vec<BlobId> {
        let ids: Vec<Option<BlobId>> = chunks.iter().map(|chunk| self.known(chunk)).collect();
        let unknown = chunks.iter().zip(&ids).filter(|(_, id)| id.is_none());
        let unknown: Vec<&[u8]> = unknown.map(|(chunk, _)| *chunk).collect();
        let mut hashes = sha256_many(&unknown, streams).into_iter().map(BlobId);
        let fill = |id: Option<BlobId>| id.or_else(|| hashes.next());
        let ids: Vec<BlobId> = ids.into_iter().filter_map(fill).collect();
        let last =
            chunks.iter().zip(&ids).rfind(|(chunk, _)| chunk.len() >= LONG && is_zero(chunk));
        self.last = last.map(|(chunk, id)| (chunk.len(), *id)).or(self.last);
        ids
    }

    fn known(&self, chunk: &[u8]) -> Option<BlobId> {
        self.last.filter(|(len, _)| *len == chunk.len() && is_zero(chunk)).map(|(_, id)| id)
    }
}

impl Bench {
    /// What chance gave a chunk: its IV and its pack.
    fn chance(&self, number: usize) -> (Iv, usize) {
        let mut iv = [0; IV_LEN];
        let chance = &self.chance[number * CHANCE..][..CHANCE];
        iv.copy_from_slice(&chance[..IV_LEN]);
        (iv, usize::from(chance[IV_LEN]) % PACKS)
    }

    /// Seals a chunk into a pack and, for the check, makes `plain` what opening it gives. Returns the
    /// bytes it takes.
    fn seal(
        &mut self,
        writer: &Writer,
        (iv, id): (Iv, BlobId),
        plain: &mut [u8],
        pack: &mut OpenPack,
    ) -> Result<u64> {
        let mut sealer = writer.key().sealer(iv)?;
        let (mut plain_len, level) = (None, writer.level(BlobKind::Data));
        let compressor = &mut self.compressor;
        let sealed = pack.add(BlobKind::Data, id, |out| {
            let body = out.len() + IV_LEN;
            out.extend_from_slice(sealer.iv());
            if let Some(level) = level {
                compressor
                    .set_compression_level(level)
                    .and_then(|()| append_frame(compressor, plain, out))
                    .map_err(no_zstd)?;
                if is_worth_it(out.len() - body, plain.len()) {
                    plain_len = Some(length(plain.len())?);
                } else {
                    out.truncate(body);
                }
            }
            if plain_len.is_none() {
                out.extend_from_slice(plain);
            }
            sealer.update(&mut out[body..]);
            out.extend_from_slice(&sealer.finish());
            Ok(plain_len)
        })?;
        if writer.self_checks() {
            let failed = |why: String| Error::SelfCheck { blob: id.to_string(), why };
            open_again(
                writer,
                sealed,
                plain_len.is_some(),
                (&mut self.decompressor, &mut self.opened),
                plain,
            )
            .map_err(failed)?;
        }
        Ok(sealed.len() as u64)
    }
}

/// Makes `plain`, which is what was sealed, what is in the envelope; what is hashed then has come out of it.
fn open_again(
    writer: &Writer,
    sealed: &[u8],
    is_compressed: bool,
    (decompressor, opened): (&mut Decompressor<'static>, &mut Vec<u8>),
    plain: &mut [u8],
) -> std::result::Result<(), String> {
    let key = writer.key();
    if !is_compressed {
        return key.open_to(sealed, plain).map_err(|error| error.to_string());
    }
    let len = sealed.len().saturating_sub(OVERHEAD);
    // Memory that is kept need not be made zero again.
    if opened.len() < len {
        opened.resize(len, 0);
    }
    let payload = &mut opened[..len];
    key.open_to(sealed, payload).map_err(|error| error.to_string())?;
    plain.fill(0);
    decompress_into(decompressor, payload, plain).map_err(|error| error.to_string())
}
