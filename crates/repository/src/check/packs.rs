//! Every byte of every pack.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use alidade_entity::Step;
use sha2::{Digest, Sha256};
use zstd::bulk::Decompressor;

use super::{Check, Finding, FindingClass, PackFacts};
use crate::compress::decompress;
use crate::crypto::MasterKey;
use crate::pack_header::{self, HeaderEntry, LENGTH_LEN};
use crate::sealed::{Expected, PackRange, PlainReader};
use crate::writer::no_zstd;
use crate::{BlobId, Error, FileId, Indexed, Result};

/// A blob that is longer, sealed or plain, is checked as a stream.
const HELD: u32 = 8 << 20;

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
                    let mut reader = match PackReader::new(indexed) {
                        Ok(reader) => reader,
                        Err(error) => return drop(sender.send(Err(error))),
                    };
                    while let Some(blobs) = by_pack.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        let go_on = cx.check().map_err(Error::from);
                        let read = go_on.and_then(|()| reader.read(blobs, listed));
                        // The other end is gone only when the check has ended.
                        if sender.send(read).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let mut done = Ok(());
            for read in &receiver {
                match read {
                    Ok(read) => self.pack_read(read),
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
    indexed: &'a Indexed,
    decompressor: Decompressor<'static>,
    sealed: Vec<u8>,
    plain: Vec<u8>,
}

impl<'a> PackReader<'a> {
    fn new(indexed: &'a Indexed) -> Result<Self> {
        let decompressor = Decompressor::new().map_err(no_zstd)?;
        Ok(Self { indexed, decompressor, sealed: Vec::new(), plain: Vec::new() })
    }

    /// Reads a pack of which the index names these blobs.
    fn read(&mut self, ordinals: &[u32], listed: &[PackFacts]) -> Result<PackRead> {
        let (pack, blobs, fact) = {
            let table = self.indexed.index().read();
            let found: Vec<_> = ordinals.iter().map(|at| table.found(*at)).collect();
            let Some(first) = found.first() else {
                return Ok(PackRead { findings: Vec::new(), blobs: 0, bytes: 0 });
            };
            let fact = listed[table.pack_of(first.ordinal) as usize];
            (first.pack, found.iter().map(|found| found.blob).collect::<Vec<_>>(), fact)
        };
        let Some(len) = fact.actual else {
            return Ok(PackRead { findings: Vec::new(), blobs: 0, bytes: 0 });
        };
        let mut whys = Vec::new();
        let read = self.read_whole(pack, len, &blobs, &mut whys);
        if let Err(error) = &read {
            whys.push(match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
                Some(Error::Cancelled) => return Err(Error::Cancelled),
                Some(ours) => super::chain(ours),
                None => error.to_string(),
            });
        }
        let findings = whys.into_iter().map(|why| Finding {
            class: FindingClass::PackContent,
            what: format!("pack {pack}"),
            why,
        });
        let blobs = read.unwrap_or(0);
        Ok(PackRead { findings: findings.collect(), blobs, bytes: len })
    }

    /// Returns how many blobs are whole.
    fn read_whole(
        &mut self,
        pack: FileId,
        len: u64,
        blobs: &[HeaderEntry],
        whys: &mut Vec<String>,
    ) -> io::Result<u64> {
        let store = Arc::clone(self.indexed.repository().store());
        let mut stream = Hashing::new(PackRange::new(store, pack, 0, len));
        let mut whole = 0;
        for blob in blobs {
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
                Ok(()) => whole += 1,
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
        Ok(whole)
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
