//! Every byte of every pack.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alidade_entity::Cx;
use alidade_model::Sabotage;
use sha2::{Digest, Sha256};
use zstd::bulk::Decompressor;

use super::lanes::Lanes;
use super::lost::Blob;
use super::{Finding, FindingClass, PackFacts, Told};
use crate::compress::decompress;
use crate::crypto::MasterKey;
use crate::pack_header::{self, HeaderEntry, LENGTH_LEN};
use crate::sealed::{Expected, PackRange, PlainReader};
use crate::writer::no_zstd;
use crate::{BlobId, Error, FileId, Indexed, Result};

/// A blob that is longer, sealed or plain, is checked as a stream.
const HELD: u32 = 8 << 20;
/// What follows the blobs of a pack is no longer, or it is read as a stream.
const MAX_REST: u64 = 2 << 20;

/// Which packs are read, by several threads.
pub(super) struct Packs<'a> {
    reader: PackReader<'a>,
    /// The blobs of all packs, by pack and offset, and where the blobs of each pack lie among them.
    blobs: Vec<u32>,
    packs: Vec<Range<usize>>,
    next: AtomicUsize,
    /// Bytes of these packs.
    pub(super) bytes: u64,
}

impl<'a> Packs<'a> {
    /// Those that are chosen.
    pub(super) fn of(cx: &'a Cx, indexed: &'a Indexed, listed: &'a [PackFacts]) -> Self {
        let blobs = in_pack_order(indexed, listed);
        let table = indexed.index().read();
        let mut end = 0;
        let packs = blobs.chunk_by(|a, b| table.pack_of(*a) == table.pack_of(*b)).map(|pack| {
            let begin = end;
            end += pack.len();
            begin..end
        });
        let packs = packs.collect();
        drop(table);
        let chosen = listed.iter().filter(|fact| fact.chosen);
        let bytes = chosen.filter_map(|fact| fact.actual).sum();
        let reader = PackReader { cx, indexed, listed };
        Self { reader, blobs, packs, next: AtomicUsize::new(0), bytes }
    }

    /// Reads packs until there are no more, or `tell` says no.
    pub(super) fn read(&self, tell: &mut impl FnMut(Told) -> bool) -> Result<()> {
        let next = || {
            let pack = self.packs.get(self.next.fetch_add(1, Ordering::Relaxed))?;
            Some(&self.blobs[pack.clone()])
        };
        self.reader.read_all(next, tell)
    }
}

/// All blobs of chosen packs, by pack and offset.
fn in_pack_order(indexed: &Indexed, listed: &[PackFacts]) -> Vec<u32> {
    let table = indexed.index().read();
    let all = 0..u32::try_from(table.len()).unwrap_or(u32::MAX);
    let mut order: Vec<u32> = all.filter(|at| listed[table.pack_of(*at) as usize].chosen).collect();
    order.sort_unstable_by_key(|at| (table.pack_of(*at), table.found(*at).blob.offset));
    order
}

/// What one thread needs to read packs.
#[derive(Clone, Copy)]
struct PackReader<'a> {
    cx: &'a Cx,
    indexed: &'a Indexed,
    listed: &'a [PackFacts],
}

/// A pack that is being checked.
pub(super) struct Reading {
    pub(super) pack: FileId,
    pub(super) len: u64,
    pub(super) blobs: Vec<HeaderEntry>,
    /// Blobs that are whole.
    pub(super) whole: u64,
    pub(super) whys: Vec<String>,
    /// What was wrong when it was read first, and was right then.
    pub(super) before: Vec<String>,
    /// Blobs that were found to be damaged.
    pub(super) lost: Vec<Blob>,
}

impl PackReader<'_> {
    /// Reads the packs that `next` gives, until it gives no more or `tell` says no: many side by side,
    /// and those that are not like other packs alone.
    fn read_all<'p>(
        self,
        mut next: impl FnMut() -> Option<&'p [u32]>,
        tell: &mut impl FnMut(Told) -> bool,
    ) -> Result<()> {
        let mut lanes = Lanes::new(self.cx, self.indexed)?;
        let mut alone = None;
        loop {
            while lanes.have_room() {
                let Some(ordinals) = next() else { break };
                let Some(mut reading) = self.reading(ordinals) else { continue };
                if reading.is_even() {
                    lanes.add(reading);
                    continue;
                }
                let decompressor = alone.get_or_insert(Decompressor::new().map_err(no_zstd)?);
                let read = self.read_streamed(decompressor, &mut reading);
                told(read, &mut reading.whys)?;
                let reading = self.twice(reading, &mut alone)?;
                if !tell(reading.into_told()) {
                    return Ok(());
                }
            }
            self.cx.check()?;
            if lanes.is_empty() {
                return Ok(());
            }
            for reading in lanes.step()? {
                let reading = self.twice(reading, &mut alone)?;
                if !tell(reading.into_told()) {
                    return Ok(());
                }
            }
        }
    }

    /// Reads a pack once more in which something is wrong: it may have been damaged on the way.
    fn twice(self, found: Reading, alone: &mut Option<Decompressor<'static>>) -> Result<Reading> {
        if found.whys.is_empty() {
            return Ok(found);
        }
        let Reading { pack, len, blobs, whys: before, .. } = found;
        let mut again =
            Reading { pack, len, blobs, whole: 0, whys: Vec::new(), before, lost: Vec::new() };
        if alone.is_none() {
            *alone = Some(Decompressor::new().map_err(no_zstd)?);
        }
        if let Some(decompressor) = alone {
            let read = self.read_streamed(decompressor, &mut again);
            told(read, &mut again.whys)?;
        }
        Ok(again)
    }

    /// What the index says of a pack that is there.
    fn reading(&self, ordinals: &[u32]) -> Option<Reading> {
        let table = self.indexed.index().read();
        let found: Vec<_> = ordinals.iter().map(|at| table.found(*at)).collect();
        let first = found.first()?;
        let len = self.listed[table.pack_of(first.ordinal) as usize].actual?;
        let blobs = found.iter().map(|found| found.blob).collect();
        Some(Reading {
            pack: first.pack,
            len,
            blobs,
            whole: 0,
            whys: Vec::new(),
            before: Vec::new(),
            lost: Vec::new(),
        })
    }

    /// Reads any pack, blob by blob.
    fn read_streamed(
        self,
        decompressor: &mut Decompressor<'static>,
        reading: &mut Reading,
    ) -> io::Result<()> {
        let (mut sealed, mut plain) = (Vec::new(), Vec::new());
        let Reading { pack, len, blobs, whole, whys, lost, .. } = reading;
        let (pack, len) = (*pack, *len);
        let store = Arc::clone(self.indexed.repository().store());
        let mut stream = Hashing::new(PackRange::new(store, pack, 0, len));
        for blob in &*blobs {
            self.cx.check().map_err(|error| io::Error::other(Error::from(error)))?;
            let at = u64::from(blob.offset);
            if at < stream.read || at + u64::from(blob.len) > len {
                whys.push(format!("the index has blob {} at an impossible place", blob.id));
                lost.push((blob.kind, blob.id));
                continue;
            }
            if at > stream.read {
                whys.push(format!("the index names nothing before offset {at}"));
                stream.skip_to(at)?;
            }
            match self.blob(&mut stream, blob, (decompressor, &mut sealed, &mut plain))? {
                Ok(()) => *whole += 1,
                Err(why) => {
                    whys.push(format!("blob {}: {why}", blob.id));
                    lost.push((blob.kind, blob.id));
                }
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
        self,
        stream: &mut Hashing,
        blob: &HeaderEntry,
        (decompressor, sealed, plain): (&mut Decompressor<'static>, &mut Vec<u8>, &mut Vec<u8>),
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
        sealed.resize(blob.len as usize, 0);
        stream.read_exact(sealed)?;
        let payload = match key.open_in_place(sealed) {
            Ok(payload) => payload,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let found = match blob.plain_len {
            None => BlobId::of(payload),
            Some(len) => {
                if let Err(error) = decompress(decompressor, payload, len as usize, plain) {
                    return Ok(Err(format!("its compressed content is damaged: {error}")));
                }
                BlobId::of(plain)
            }
        };
        Ok(if found == blob.id { Ok(()) } else { Err(format!("its content has the hash {found}")) })
    }
}

impl Reading {
    /// True when it has blob after blob and a header, none of them long: what every writer makes.
    fn is_even(&self) -> bool {
        let mut at = 0;
        let blobs = self.blobs.iter().all(|blob| {
            let is_next = u64::from(blob.offset) == at;
            at += u64::from(blob.len);
            let is_short = |len| len <= HELD;
            is_next && is_short(blob.len) && blob.content_len().is_some_and(is_short)
        });
        blobs && (at..=at + MAX_REST).contains(&self.len)
    }

    fn into_told(self) -> Told {
        let is_sound = self.whys.is_empty() && self.before.is_empty();
        let sound = (is_sound || Sabotage::RecordDamagedPack.is_on()).then_some(self.pack);
        let of = |class, why| Finding::of_pack(class, self.pack, why);
        let before = self.before.into_iter().filter(|_| self.whys.is_empty());
        let before: Vec<Finding> = before
            .map(|why| of(FindingClass::Unsteady, format!("only when it was read first: {why}")))
            .collect();
        let whys = self.whys.into_iter().map(|why| of(FindingClass::PackContent, why));
        let findings = whys.chain(before).collect();
        let packs = u64::from(self.len > 0);
        let (lost, blobs, bytes) = (self.lost, self.whole, self.len);
        Told { findings, lost, sound, packs, blobs, bytes, ..Told::default() }
    }
}

/// Makes what ended the reading of a pack one of its findings, save that the run was told to stop.
pub(super) fn told(read: io::Result<()>, whys: &mut Vec<String>) -> Result<()> {
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
pub(super) fn header(
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
