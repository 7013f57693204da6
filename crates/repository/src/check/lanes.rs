//! Packs side by side: sixteen hashes at once take little longer than three.
//!
//! Of each pack a step is read, about a mebibyte of whole blobs. The hashes of all packs take their
//! steps together; then the blobs are opened where they lie, and their contents hashed together.

use std::io;
use std::ops::Range;

use alidade_entity::Cx;
use alidade_kernels::Sha256;
use zstd::bulk::Decompressor;

use super::packs::{Reading, header, told};
use crate::compress::decompress_behind;
use crate::crypto::IV_LEN;
use crate::hash::sha256_many;
use crate::pack_header::HeaderEntry;
use crate::writer::no_zstd;
use crate::{BlobId, FileId, FileKind, Indexed, Result};

/// Packs that are read side by side.
const LANES: usize = 16;
/// Bytes that are read of a pack at a time, and as many more as the last blob is longer.
const STEP: u64 = 1 << 20;
/// Bytes that are read of all packs at a time.
const STEPS: usize = 24 << 20;
/// Content of blobs that is hashed together, in bytes.
const FILL: usize = 16 << 20;

/// The packs that one thread reads.
pub(super) struct Lanes<'a> {
    cx: &'a Cx,
    indexed: &'a Indexed,
    lanes: Vec<Lane>,
    /// Buffers of packs that are done.
    spare: Vec<Vec<u8>>,
    decompressor: Decompressor<'static>,
    /// Blobs that are hashed together, and what was decompressed of them.
    opened: Vec<Opened>,
    plain: Vec<u8>,
}

/// A pack, up to somewhere.
struct Lane {
    reading: Reading,
    hash: Sha256,
    /// Bytes that are behind.
    at: u64,
    /// The first blob that is not.
    next: usize,
    /// What was read in this step, and which blobs it has.
    bytes: Vec<u8>,
    blobs: Range<usize>,
    /// The store could not give it.
    is_lost: bool,
}

/// A blob that was opened.
struct Opened {
    lane: usize,
    id: BlobId,
    place: Place,
}

/// Where the content of a blob is.
enum Place {
    /// Among the bytes of its lane: it is not compressed.
    Lane(Range<usize>),
    Plain(Range<usize>),
}

impl<'a> Lanes<'a> {
    pub(super) fn new(cx: &'a Cx, indexed: &'a Indexed) -> Result<Self> {
        let decompressor = Decompressor::new().map_err(no_zstd)?;
        let (lanes, spare) = (Vec::new(), Vec::new());
        let (plain, opened) = (Vec::new(), Vec::new());
        Ok(Self { cx, indexed, lanes, spare, decompressor, plain, opened })
    }

    pub(super) fn have_room(&self) -> bool {
        self.lanes.len() < LANES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Takes in a pack whose blobs follow one another.
    pub(super) fn add(&mut self, reading: Reading) {
        self.lanes.push(Lane {
            reading,
            hash: Sha256::new(),
            at: 0,
            next: 0,
            bytes: self.spare.pop().unwrap_or_default(),
            blobs: 0..0,
            is_lost: false,
        });
    }

    /// Reads on in every pack; returns those that are done.
    pub(super) fn step(&mut self) -> Result<Vec<Reading>> {
        let mut room = STEPS;
        for lane in &mut self.lanes {
            lane.blobs = lane.next..lane.next;
            // Memory that is kept need not be made zero again.
            let len = if room > 0 { lane.read(self.indexed)? } else { 0 };
            lane.bytes.truncate(len);
            room = room.saturating_sub(len);
        }
        let mut streams: Vec<_> =
            self.lanes.iter_mut().map(|lane| (&mut lane.hash, lane.bytes.as_slice())).collect();
        Sha256::update_many(&mut streams);
        for number in 0..self.lanes.len() {
            self.open(number)?;
        }
        self.compare();
        let lanes = std::mem::take(&mut self.lanes);
        let (done, rest): (Vec<_>, Vec<_>) = lanes.into_iter().partition(Lane::is_done);
        self.lanes = rest;
        Ok(done.into_iter().map(|lane| self.retire(lane)).collect())
    }

    fn retire(&mut self, lane: Lane) -> Reading {
        self.spare.push(lane.bytes);
        lane.reading
    }

    /// Opens the blobs of a step where they lie, and looks at what follows the last of a pack.
    fn open(&mut self, number: usize) -> Result<()> {
        let mut from = 0;
        for at in self.lanes[number].blobs.clone() {
            self.cx.check()?;
            let blob = self.lanes[number].reading.blobs[at];
            let to = from + blob.len as usize;
            match self.open_blob(number, &blob, from..to) {
                Ok(place) => self.opened.push(Opened { lane: number, id: blob.id, place }),
                Err(why) => {
                    self.lanes[number].reading.whys.push(format!("blob {}: {why}", blob.id));
                }
            }
            from = to;
            if self.plain.len() >= FILL {
                self.compare();
            }
        }
        let lane = &mut self.lanes[number];
        if lane.is_done() && !lane.is_lost {
            lane.finish(self.indexed, from);
        }
        Ok(())
    }

    fn open_blob(
        &mut self,
        lane: usize,
        blob: &HeaderEntry,
        sealed: Range<usize>,
    ) -> std::result::Result<Place, String> {
        let begins = sealed.start;
        let sealed = &mut self.lanes[lane].bytes[sealed];
        let key = self.indexed.repository().files().key();
        let payload = key.open_in_place(sealed).map_err(|error| error.to_string())?;
        let Some(len) = blob.plain_len else {
            let from = begins + IV_LEN;
            return Ok(Place::Lane(from..from + payload.len()));
        };
        let begin = self.plain.len();
        let (decompressor, plain) = (&mut self.decompressor, &mut self.plain);
        if let Err(error) = decompress_behind(decompressor, payload, len as usize, plain) {
            plain.truncate(begin);
            return Err(format!("its compressed content is damaged: {error}"));
        }
        Ok(Place::Plain(begin..self.plain.len()))
    }

    /// Hashes the blobs that were opened, and compares.
    fn compare(&mut self) {
        let content = |blob: &Opened| match &blob.place {
            Place::Lane(range) => &self.lanes[blob.lane].bytes[range.clone()],
            Place::Plain(range) => &self.plain[range.clone()],
        };
        let contents: Vec<&[u8]> = self.opened.iter().map(content).collect();
        let hashes = sha256_many(&contents, &mut []);
        for (blob, hash) in self.opened.iter().zip(hashes) {
            let reading = &mut self.lanes[blob.lane].reading;
            if blob.id.0 == hash {
                reading.whole += 1;
            } else {
                let hash = BlobId(hash);
                reading.whys.push(format!("blob {}: its content has the hash {hash}", blob.id));
            }
        }
        self.opened.clear();
        self.plain.clear();
    }
}

impl Lane {
    fn is_done(&self) -> bool {
        self.is_lost || self.at == self.reading.len
    }

    /// Reads the next blobs, and what follows the last one with it; returns how many bytes that are.
    fn read(&mut self, indexed: &Indexed) -> Result<usize> {
        let blobs = &self.reading.blobs;
        let mut to = self.at;
        while let Some(blob) = blobs.get(self.next).filter(|_| to - self.at < STEP) {
            to += u64::from(blob.len);
            self.next += 1;
        }
        self.blobs.end = self.next;
        if self.next == blobs.len() {
            to = self.reading.len;
        }
        let len = usize::try_from(to - self.at).unwrap_or(0);
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
        let (store, pack) = (indexed.repository().store(), self.reading.pack.to_string());
        match store.read_at(FileKind::Pack, &pack, self.at, &mut self.bytes[..len]) {
            Ok(()) => {
                self.at = to;
                Ok(len)
            }
            Err(error) => {
                told(Err(io::Error::other(error)), &mut self.reading.whys)?;
                self.blobs.end = self.blobs.start;
                self.is_lost = true;
                Ok(0)
            }
        }
    }

    /// All of it was read: compares its hash, and what its header says, which lies behind the blobs.
    fn finish(&mut self, indexed: &Indexed, behind: usize) {
        let rest = &self.bytes[behind..];
        let Reading { pack, len, blobs, whys, .. } = &mut self.reading;
        let hash = FileId(self.hash.clone().finish());
        if hash != *pack {
            whys.push(format!("its content has the hash {hash}"));
        }
        if let Err(why) = header(indexed.repository().files().key(), rest, *len, blobs) {
            whys.push(why);
        }
    }
}
