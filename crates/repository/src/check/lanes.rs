//! Packs side by side: sixteen hashes at once take little longer than three.
//!
//! Of each pack a step is read, about a mebibyte of whole blobs. They are opened into a place of their
//! own, and the packs' hashes take the step together with the hashes of the contents; of these, what does
//! not fill the lanes that hash waits for the next step.

use std::io;
use std::ops::Range;

use alidade_entity::Cx;
use alidade_kernels::{Queue, Sha256};
use zstd::bulk::Decompressor;

use super::packs::{Reading, header, told};
use crate::compress::decompress_into;
use crate::crypto::OVERHEAD;
use crate::pack_header::HeaderEntry;
use crate::writer::no_zstd;
use crate::{BlobId, FileId, FileKind, Indexed, Result};

/// Packs that are read side by side.
const LANES: usize = 8;
/// Bytes that are read of a pack at a time, and as many more as the last blob is longer.
const STEP: u64 = 1 << 20;
/// Bytes that are read of all packs at a time, and as many more as one step is longer.
const STEPS: usize = 16 << 20;
/// Content of blobs that is hashed together, in bytes, and as many more as the last blob is longer.
const FILL: usize = 24 << 20;
/// Content of blobs that may wait for more, in bytes.
const WAITING: usize = 8 << 20;

/// The packs that one thread reads.
pub(super) struct Lanes<'a> {
    cx: &'a Cx,
    indexed: &'a Indexed,
    lanes: Vec<Lane>,
    /// How many packs there were.
    count: usize,
    /// Buffers of packs that are done.
    spare: Vec<Vec<u8>>,
    decompressor: Decompressor<'static>,
    /// What was decrypted of a compressed blob.
    payload: Vec<u8>,
    contents: Contents,
    queue: Queue<Blob>,
}

/// The contents of blobs that are hashed together, one behind the other.
#[derive(Default)]
struct Contents {
    blobs: Vec<(Blob, Range<usize>)>,
    /// Memory that is kept: its length is the most there ever was.
    memory: Vec<u8>,
    len: usize,
}

/// A blob, by the number of its pack.
type Blob = (usize, BlobId);

/// A pack, up to somewhere.
struct Lane {
    number: usize,
    reading: Reading,
    hash: Sha256,
    /// True when the hash has not taken what was read in this step.
    is_ahead: bool,
    /// Bytes that are behind.
    at: u64,
    /// The first blob that is not.
    next: usize,
    /// What was read in this step, `len` bytes, and which blobs it has. What follows the last blob of a
    /// pack lies behind it.
    bytes: Vec<u8>,
    len: usize,
    blobs: Range<usize>,
    /// Blobs whose hash is still to come.
    pending: usize,
    /// The store could not give it.
    is_lost: bool,
}

impl<'a> Lanes<'a> {
    pub(super) fn new(cx: &'a Cx, indexed: &'a Indexed) -> Result<Self> {
        Ok(Self {
            cx,
            indexed,
            lanes: Vec::new(),
            count: 0,
            spare: Vec::new(),
            decompressor: Decompressor::new().map_err(no_zstd)?,
            payload: Vec::new(),
            contents: Contents::default(),
            queue: Queue::new(WAITING),
        })
    }

    pub(super) fn have_room(&self) -> bool {
        self.lanes.iter().filter(|lane| !lane.is_read()).count() < LANES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Takes in a pack whose blobs follow one another.
    pub(super) fn add(&mut self, reading: Reading) {
        self.count += 1;
        self.lanes.push(Lane {
            number: self.count,
            pending: reading.blobs.len(),
            reading,
            hash: Sha256::new(),
            is_ahead: false,
            at: 0,
            next: 0,
            bytes: self.spare.pop().unwrap_or_default(),
            len: 0,
            blobs: 0..0,
            is_lost: false,
        });
    }

    /// Reads on in every pack; returns those that are done.
    pub(super) fn step(&mut self) -> Result<Vec<Reading>> {
        let mut room = STEPS;
        let mut is_over = true;
        for lane in self.lanes.iter_mut().filter(|lane| !lane.is_read()) {
            is_over = false;
            if room > 0 {
                lane.read(self.indexed)?;
                room = room.saturating_sub(lane.len);
            }
        }
        for lane in 0..self.lanes.len() {
            self.open(lane)?;
        }
        self.compare(is_over);
        for lane in &mut self.lanes {
            lane.end_step(self.indexed);
            if lane.is_read() && lane.bytes.capacity() > 0 {
                self.spare.push(std::mem::take(&mut lane.bytes));
            }
        }
        let is_done = |lane: &mut Lane| lane.is_read() && lane.pending == 0;
        Ok(self.lanes.extract_if(.., is_done).map(|lane| lane.reading).collect())
    }

    /// Opens the blobs of a step.
    fn open(&mut self, number: usize) -> Result<()> {
        let mut from = 0;
        for at in self.lanes[number].blobs.clone() {
            self.cx.check()?;
            let blob = self.lanes[number].reading.blobs[at];
            let to = from + blob.len as usize;
            if let Err(why) = self.open_blob(number, &blob, from..to) {
                self.lanes[number].found(blob.id, Err(why));
            }
            from = to;
            if self.contents.len >= FILL {
                self.compare(false);
            }
        }
        Ok(())
    }

    fn open_blob(
        &mut self,
        lane: usize,
        blob: &HeaderEntry,
        sealed: Range<usize>,
    ) -> std::result::Result<(), String> {
        let Self { lanes, payload, contents, decompressor, .. } = self;
        let lane = &lanes[lane];
        let sealed = &lane.bytes[sealed];
        let len = sealed.len().checked_sub(OVERHEAD).ok_or("it is too short for an envelope")?;
        let key = self.indexed.repository().files().key();
        let open = |plain: &mut [u8]| key.open_to(sealed, plain).map_err(|error| error.to_string());
        match blob.plain_len {
            None => open(contents.room(len))?,
            Some(plain_len) => {
                let payload = room(payload, 0, len);
                open(payload)?;
                let plain = contents.room(plain_len as usize);
                decompress_into(decompressor, payload, plain)
                    .map_err(|error| format!("its compressed content is damaged: {error}"))?;
            }
        }
        contents.add((lane.number, blob.id), blob.plain_len.map_or(len, |len| len as usize));
        Ok(())
    }

    /// Hashes what was opened, and packs as far as they were read, and compares; `all` of it, or what
    /// fills the lanes that hash.
    fn compare(&mut self, all: bool) {
        let Self { lanes, contents, queue, .. } = self;
        let mut hashes = Vec::with_capacity(contents.blobs.len());
        let ahead =
            lanes.iter_mut().filter_map(|lane| std::mem::take(&mut lane.is_ahead).then_some(lane));
        let mut streams: Vec<_> =
            ahead.map(|lane| (&mut lane.hash, &lane.bytes[..lane.len])).collect();
        let Contents { blobs, memory, len } = contents;
        let messages = blobs.drain(..).map(|(blob, range)| (blob, &memory[range]));
        queue.hash(messages, &mut streams, |blob, hash| hashes.push((blob, hash)));
        *len = 0;
        if all {
            queue.finish(|blob, hash| hashes.push((blob, hash)));
        }
        for ((number, id), hash) in hashes {
            if let Some(lane) = lanes.iter_mut().find(|lane| lane.number == number) {
                lane.found(id, Ok(BlobId(hash)));
            }
        }
    }
}

impl Contents {
    /// Memory for a content of that length, behind the others.
    fn room(&mut self, len: usize) -> &mut [u8] {
        room(&mut self.memory, self.len, len)
    }

    /// That memory has the content of a blob.
    fn add(&mut self, blob: Blob, len: usize) {
        self.blobs.push((blob, self.len..self.len + len));
        self.len += len;
    }
}

/// `len` bytes from `at` on of memory that is kept: what is kept need not be made zero again.
fn room(memory: &mut Vec<u8>, at: usize, len: usize) -> &mut [u8] {
    if memory.len() < at + len {
        memory.resize(at + len, 0);
    }
    &mut memory[at..at + len]
}

impl Lane {
    fn is_read(&self) -> bool {
        self.is_lost || self.at == self.reading.len
    }

    /// The content of a blob has a hash, or cannot be had.
    fn found(&mut self, id: BlobId, hash: std::result::Result<BlobId, String>) {
        self.pending -= 1;
        let why = match hash {
            Ok(hash) if hash == id => {
                self.reading.whole += 1;
                return;
            }
            Ok(hash) => format!("its content has the hash {hash}"),
            Err(why) => why,
        };
        self.reading.whys.push(format!("blob {id}: {why}"));
        let kind = self.reading.blobs.iter().find(|blob| blob.id == id).map(|blob| blob.kind);
        self.reading.lost.extend(kind.map(|kind| (kind, id)));
    }

    /// Reads the next blobs, and what follows the last one with it.
    fn read(&mut self, indexed: &Indexed) -> Result<()> {
        let blobs = &self.reading.blobs;
        let (mut to, first) = (self.at, self.next);
        while let Some(blob) = blobs.get(self.next).filter(|_| to - self.at < STEP) {
            to += u64::from(blob.len);
            self.next += 1;
        }
        if self.next == blobs.len() {
            to = self.reading.len;
        }
        let len = usize::try_from(to - self.at).unwrap_or(0);
        let bytes = room(&mut self.bytes, 0, len);
        let (store, pack) = (indexed.repository().store(), self.reading.pack.to_string());
        match store.read_at(FileKind::Pack, &pack, self.at, bytes) {
            Ok(()) => {
                (self.at, self.len, self.blobs) = (to, len, first..self.next);
                self.is_ahead = true;
            }
            Err(error) => {
                told(Err(io::Error::other(error)), &mut self.reading.whys)?;
                self.is_lost = true;
                let unread = blobs[first..].iter().map(|blob| (blob.kind, blob.id));
                self.reading.lost.extend(unread);
                // The others are not read any more.
                self.pending -= blobs.len() - first;
            }
        }
        Ok(())
    }

    /// What was read is done with. Of a pack that was read to its end, compares the hash, and what its
    /// header says, which lies behind the blobs.
    fn end_step(&mut self, indexed: &Indexed) {
        let (len, blobs) = (std::mem::take(&mut self.len), std::mem::take(&mut self.blobs));
        if len == 0 || !self.is_read() || self.is_lost {
            return;
        }
        let Reading { pack, len: pack_len, blobs: entries, whys, .. } = &mut self.reading;
        let behind: usize = entries[blobs].iter().map(|blob| blob.len as usize).sum();
        let hash = FileId(self.hash.clone().finish());
        if hash != *pack {
            whys.push(format!("its content has the hash {hash}"));
        }
        let key = indexed.repository().files().key();
        if let Err(why) = header(key, &self.bytes[behind..len], *pack_len, entries) {
            whys.push(why);
        }
    }
}
