//! Every byte of every pack.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use alidade_entity::{Cx, Step};
use sha2::{Digest, Sha256};
use zstd::bulk::Decompressor;

use super::{Check, Finding, FindingClass, PackFacts};
use crate::compress::{decompress, decompress_behind};
use crate::crypto::MasterKey;
use crate::hash::sha256_many;
use crate::pack_header::{self, HeaderEntry, LENGTH_LEN};
use crate::sealed::{Expected, PackRange, PlainReader};
use crate::writer::no_zstd;
use crate::{BlobId, Error, FileId, FileKind, Indexed, Result};

/// A blob that is longer, sealed or plain, is checked as a stream.
const HELD: u32 = 8 << 20;
/// A pack that is longer is read as a stream.
const HELD_PACK: u64 = 24 << 20;
/// Packs that a thread reads and hashes together: three hashes take the time of one and a half.
const TOGETHER: usize = 3;
/// Content of blobs that is hashed together, in bytes.
const FILL: usize = 16 << 20;

/// What a thread says about a pack it has read.
struct PackRead {
    findings: Vec<Finding>,
    blobs: u64,
    bytes: u64,
}

impl Check<'_> {
    /// Reads all packs that are there.
    pub(super) fn read_packs(
        &mut self,
        indexed: &Indexed,
        listed: &[PackFacts],
        parallel: usize,
    ) -> Result<()> {
        let cx = self.cx;
        cx.report(Step::Phase("data"));
        let bytes = listed.iter().filter_map(|fact| fact.actual).sum();
        cx.report(Step::Expect { entries: 0, bytes });
        let order = in_pack_order(indexed);
        let by_pack: Vec<&[u32]> = {
            let table = indexed.index().read();
            order.chunk_by(|a, b| table.pack_of(*a) == table.pack_of(*b)).collect()
        };
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (sender, receiver) = crossbeam_channel::bounded(16);
        std::thread::scope(|scope| {
            for _ in 0..parallel.max(1) {
                let (sender, next, stop, by_pack) = (sender.clone(), &next, &stop, &by_pack);
                scope.spawn(move || {
                    let mut reader = match PackReader::new(cx, indexed) {
                        Ok(reader) => reader,
                        Err(error) => return drop(sender.send(Err(error))),
                    };
                    loop {
                        let from = next.fetch_add(TOGETHER, Ordering::Relaxed).min(by_pack.len());
                        let packs = &by_pack[from..(from + TOGETHER).min(by_pack.len())];
                        if packs.is_empty() || stop.load(Ordering::Relaxed) {
                            return;
                        }
                        // The other end is gone only when the check has ended.
                        if sender.send(reader.read(packs, listed)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let mut done = Ok(());
            for read in &receiver {
                match read {
                    Ok(read) => read.into_iter().for_each(|read| self.pack_read(read)),
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        done = Err(error);
                    }
                }
            }
            done
        })
    }

    fn pack_read(&mut self, read: PackRead) {
        self.summary.packs_read += u64::from(read.bytes > 0);
        self.summary.blobs_read += read.blobs;
        self.summary.bytes_read += read.bytes;
        self.cx.report(Step::Bytes(read.bytes));
        read.findings.into_iter().for_each(|finding| self.tell(finding));
    }
}

/// All blobs by pack and offset.
fn in_pack_order(indexed: &Indexed) -> Vec<u32> {
    let table = indexed.index().read();
    let mut order: Vec<u32> = (0..u32::try_from(table.len()).unwrap_or(u32::MAX)).collect();
    order.sort_unstable_by_key(|at| (table.pack_of(*at), table.found(*at).blob.offset));
    order
}

/// What one thread needs to read packs.
struct PackReader<'a> {
    cx: &'a Cx,
    indexed: &'a Indexed,
    decompressor: Decompressor<'static>,
    /// The packs that are read together, whole.
    held: [Vec<u8>; TOGETHER],
    sealed: Vec<u8>,
    /// Blobs that are hashed together, and which they should be.
    plain: Vec<u8>,
    opened: Vec<Opened>,
}

/// A blob in `plain`.
struct Opened {
    pack: usize,
    id: BlobId,
    place: Range<usize>,
}

/// A pack that is being checked.
struct Reading {
    pack: FileId,
    len: u64,
    blobs: Vec<HeaderEntry>,
    /// The store could not give it.
    is_lost: bool,
    whole: u64,
    whys: Vec<String>,
}

impl<'a> PackReader<'a> {
    fn new(cx: &'a Cx, indexed: &'a Indexed) -> Result<Self> {
        let decompressor = Decompressor::new().map_err(no_zstd)?;
        let (held, sealed) = (Default::default(), Vec::new());
        let (plain, opened) = (Vec::new(), Vec::new());
        Ok(Self { cx, indexed, decompressor, held, sealed, plain, opened })
    }

    /// Reads packs of each of which the index names these blobs.
    fn read(&mut self, packs: &[&[u32]], listed: &[PackFacts]) -> Result<Vec<PackRead>> {
        self.cx.check()?;
        let mut readings: Vec<Reading> =
            packs.iter().filter_map(|blobs| self.reading(blobs, listed)).collect();
        let is_held = |reading: &Reading| reading.len <= HELD_PACK;
        if readings.iter().all(is_held) {
            self.read_held(&mut readings)?;
        } else {
            for reading in &mut readings {
                let streamed = self.read_streamed(reading);
                told(streamed, &mut reading.whys)?;
            }
        }
        Ok(readings.into_iter().map(Reading::into_read).collect())
    }

    /// What the index says of a pack that is there.
    fn reading(&self, ordinals: &[u32], listed: &[PackFacts]) -> Option<Reading> {
        let table = self.indexed.index().read();
        let found: Vec<_> = ordinals.iter().map(|at| table.found(*at)).collect();
        let first = found.first()?;
        let len = listed[table.pack_of(first.ordinal) as usize].actual?;
        let blobs = found.iter().map(|found| found.blob).collect();
        Some(Reading { pack: first.pack, len, blobs, is_lost: false, whole: 0, whys: Vec::new() })
    }

    /// Reads packs whole and hashes them together, then their blobs, many at a time.
    fn read_held(&mut self, readings: &mut [Reading]) -> Result<()> {
        let mut held = std::mem::take(&mut self.held);
        for (reading, bytes) in readings.iter_mut().zip(&mut held) {
            bytes.resize(usize::try_from(reading.len).unwrap_or(0), 0);
            let store = self.indexed.repository().store();
            if let Err(error) = store.read_at(FileKind::Pack, &reading.pack.to_string(), 0, bytes) {
                told(Err(io::Error::other(error)), &mut reading.whys)?;
                reading.is_lost = true;
            }
        }
        let packs: Vec<&[u8]> = held.iter().take(readings.len()).map(Vec::as_slice).collect();
        for (reading, hash) in readings.iter_mut().zip(sha256_many(&packs, &mut [])) {
            if !reading.is_lost && FileId(hash) != reading.pack {
                reading.whys.push(format!("its content has the hash {}", FileId(hash)));
            }
        }
        for number in 0..readings.len() {
            if !readings[number].is_lost {
                self.open_all(readings, number, &mut held[number])?;
            }
        }
        self.compare(readings);
        self.held = held;
        Ok(())
    }

    /// Opens the blobs of a pack where they lie.
    fn open_all(
        &mut self,
        readings: &mut [Reading],
        number: usize,
        bytes: &mut [u8],
    ) -> Result<()> {
        let key = self.indexed.repository().files().key();
        let reading = &mut readings[number];
        if let Err(why) = header(key, bytes, reading.len, &reading.blobs) {
            reading.whys.push(why);
        }
        let mut from = 0;
        for blob in std::mem::take(&mut readings[number].blobs) {
            self.cx.check()?;
            let at = blob.offset as usize;
            let whys = &mut readings[number].whys;
            let sealed = at.checked_add(blob.len as usize).and_then(|end| bytes.get_mut(at..end));
            let Some(sealed) = sealed.filter(|_| at >= from) else {
                whys.push(format!("the index has blob {} at an impossible place", blob.id));
                continue;
            };
            if at > from {
                whys.push(format!("the index names nothing before offset {at}"));
            }
            from = at + blob.len as usize;
            match self.open(number, &blob, sealed) {
                Ok(is_whole) => readings[number].whole += u64::from(is_whole),
                Err(why) => whys.push(format!("blob {}: {why}", blob.id)),
            }
            if self.plain.len() >= FILL {
                self.compare(readings);
            }
        }
        Ok(())
    }

    /// Opens a blob. True when its hash was compared already.
    fn open(
        &mut self,
        pack: usize,
        blob: &HeaderEntry,
        sealed: &mut [u8],
    ) -> std::result::Result<bool, String> {
        let key = self.indexed.repository().files().key();
        let id = blob.id;
        if blob.content_len().is_none_or(|len| len > HELD) {
            let plain_len = blob.plain_len.map(u64::from);
            let expected = Expected { id, sealed_len: u64::from(blob.len), plain_len };
            let streamed = PlainReader::new(key, &*sealed, expected).and_then(PlainReader::verify);
            return streamed.map(|()| true).map_err(|error| error.to_string());
        }
        let payload = key.open_in_place(sealed).map_err(|error| error.to_string())?;
        let begin = self.plain.len();
        match blob.plain_len {
            None => self.plain.extend_from_slice(payload),
            Some(len) => {
                let (decompressor, plain) = (&mut self.decompressor, &mut self.plain);
                let done = decompress_behind(decompressor, payload, len as usize, plain);
                if let Err(error) = done {
                    self.plain.truncate(begin);
                    return Err(format!("its compressed content is damaged: {error}"));
                }
            }
        }
        self.opened.push(Opened { pack, id, place: begin..self.plain.len() });
        Ok(false)
    }

    /// Hashes the blobs that were opened, and compares.
    fn compare(&mut self, readings: &mut [Reading]) {
        let contents: Vec<&[u8]> =
            self.opened.iter().map(|blob| &self.plain[blob.place.clone()]).collect();
        for (blob, hash) in self.opened.iter().zip(sha256_many(&contents, &mut [])) {
            let reading = &mut readings[blob.pack];
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

    /// Reads a pack that is too long to be held, blob by blob.
    fn read_streamed(&mut self, reading: &mut Reading) -> io::Result<()> {
        let Reading { pack, len, blobs, whole, whys, .. } = reading;
        let (pack, len) = (*pack, *len);
        let store = Arc::clone(self.indexed.repository().store());
        let mut stream = Hashing::new(PackRange::new(store, pack, 0, len));
        for blob in &*blobs {
            self.cx.check().map_err(|error| io::Error::other(Error::from(error)))?;
            let at = u64::from(blob.offset);
            if at < stream.read || at + u64::from(blob.len) > len {
                whys.push(format!("the index has blob {} at an impossible place", blob.id));
                continue;
            }
            if at > stream.read {
                whys.push(format!("the index names nothing before offset {at}"));
                stream.skip_to(at)?;
            }
            match self.blob(&mut stream, blob)? {
                Ok(()) => *whole += 1,
                Err(why) => whys.push(format!("blob {}: {why}", blob.id)),
            }
            stream.skip_to(at + u64::from(blob.len))?;
        }
        let header_from = len.saturating_sub((pack_header::MAX_SEALED_LEN + LENGTH_LEN) as u64);
        stream.skip_to(stream.read.max(header_from))?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest)?;
        let hash = FileId(stream.hash.finalize().into());
        if hash != pack {
            whys.push(format!("its content has the hash {hash}"));
        }
        if let Err(why) = header(self.indexed.repository().files().key(), &rest, len, blobs) {
            whys.push(why);
        }
        Ok(())
    }

    /// Checks the blob that `stream` stands at: the outer result is that of reading.
    fn blob(
        &mut self,
        stream: &mut Hashing,
        blob: &HeaderEntry,
    ) -> io::Result<std::result::Result<(), String>> {
        let key = self.indexed.repository().files().key();
        if blob.len > HELD || blob.content_len().is_none_or(|len| len > HELD) {
            let expected = Expected {
                id: blob.id,
                sealed_len: u64::from(blob.len),
                plain_len: blob.plain_len.map(u64::from),
            };
            let checked = PlainReader::new(key, stream, expected).and_then(PlainReader::verify);
            return match checked {
                Err(error) if is_ours(&error) => Err(error),
                checked => Ok(checked.map_err(|error| error.to_string())),
            };
        }
        self.sealed.resize(blob.len as usize, 0);
        stream.read_exact(&mut self.sealed)?;
        let payload = match key.open_in_place(&mut self.sealed) {
            Ok(payload) => payload,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let found = match blob.plain_len {
            None => BlobId::of(payload),
            Some(len) => {
                let done =
                    decompress(&mut self.decompressor, payload, len as usize, &mut self.plain);
                if let Err(error) = done {
                    return Ok(Err(format!("its compressed content is damaged: {error}")));
                }
                BlobId::of(&self.plain)
            }
        };
        Ok(if found == blob.id { Ok(()) } else { Err(format!("its content has the hash {found}")) })
    }
}

impl Reading {
    fn into_read(self) -> PackRead {
        let what = format!("pack {}", self.pack);
        let class = FindingClass::PackContent;
        let findings =
            self.whys.into_iter().map(|why| Finding { class, what: what.clone(), why }).collect();
        PackRead { findings, blobs: self.whole, bytes: self.len }
    }
}

/// Makes what ended the reading of a pack one of its findings, save that the run was told to stop.
fn told(read: io::Result<()>, whys: &mut Vec<String>) -> Result<()> {
    let Err(error) = read else { return Ok(()) };
    whys.push(match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::Cancelled) => return Err(Error::Cancelled),
        Some(ours) => super::chain(ours),
        None => error.to_string(),
    });
    Ok(())
}

/// True for an error of the store, which travelled through a reader: not damage.
fn is_ours(error: &io::Error) -> bool {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).is_some()
}

/// Compares the header at the end of a pack, of which `rest` is the end, with what the index says.
fn header(
    key: &MasterKey,
    rest: &[u8],
    pack_len: u64,
    blobs: &[HeaderEntry],
) -> std::result::Result<(), String> {
    let (rest, field) =
        rest.split_last_chunk().ok_or_else(|| "it is too short for a header".to_owned())?;
    let len = pack_header::sealed_len(*field, pack_len).map_err(|error| error.to_string())?;
    let from = rest.len().checked_sub(len);
    let from = from.ok_or_else(|| "its header lies over its blobs".to_owned())?;
    let plain = key.open(&rest[from..]).map_err(|error| format!("its header: {error}"))?;
    let entries = pack_header::decode(&plain).map_err(|error| error.to_string())?;
    if entries == blobs {
        return Ok(());
    }
    Err(match entries.iter().zip(blobs).find(|(entry, blob)| entry != blob) {
        Some((entry, _)) => format!("its header has blob {} where the index has not", entry.id),
        None => "its header and the index do not have as many blobs".to_owned(),
    })
}

/// Hashes all that is read.
struct Hashing {
    inner: PackRange,
    hash: Sha256,
    read: u64,
}

impl Hashing {
    fn new(inner: PackRange) -> Self {
        Self { inner, hash: Sha256::new(), read: 0 }
    }

    fn skip_to(&mut self, to: u64) -> io::Result<()> {
        let len = to.saturating_sub(self.read);
        let got = io::copy(&mut self.take(len), &mut io::sink())?;
        if got < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

impl Read for Hashing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buf)?;
        self.hash.update(&buf[..got]);
        self.read += got as u64;
        Ok(got)
    }
}
