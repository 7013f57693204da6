//! Index files: which blobs lie where in which packs. Written in the order given, read pack by pack:
//! an index may hold more than memory should.

use std::io::{self, Read, Write};

use crate::crypto;
use crate::decode::{DecodeError, Decoded};
use crate::json::Reader;
use crate::pack_header::{HeaderEntry, MAX_SEALED_LEN};
use crate::{BlobId, BlobKind, FileId, Result, id};

/// Most blobs that restic puts into one file, and we.
pub const MAX_BLOBS_WRITTEN: usize = 50_000;
/// Most blobs one pack can hold, as its header can describe no more.
const MAX_BLOBS_IN_PACK: usize = MAX_SEALED_LEN / 37;
/// Longest text of the fields we know, with room for names of those we do not.
const MAX_TEXT: usize = 4 << 10;

/// One pack and what lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackInIndex {
    /// The pack.
    pub id: FileId,
    /// Its blobs, in any order.
    pub blobs: Vec<HeaderEntry>,
}

/// Writes an index of these packs as restic writes it: one line.
///
/// # Errors
/// When `out` fails.
pub fn encode<'a>(
    packs: impl IntoIterator<Item = &'a PackInIndex>,
    out: &mut impl Write,
) -> io::Result<()> {
    out.write_all(br#"{"packs":["#)?;
    for (at, pack) in packs.into_iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        write!(out, r#"{comma}{{"id":"{}","blobs":["#, pack.id)?;
        for (at, blob) in pack.blobs.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let HeaderEntry { kind, id, offset, len, plain_len } = blob;
            let kind = kind.word();
            write!(
                out,
                r#"{comma}{{"id":"{id}","type":"{kind}","offset":{offset},"length":{len}"#
            )?;
            if let Some(plain_len) = plain_len {
                write!(out, r#","uncompressed_length":{plain_len}"#)?;
            }
            out.write_all(b"}")?;
        }
        out.write_all(b"]}")?;
    }
    out.write_all(b"]}\n")
}

/// Reads an index, handing over pack by pack. Unknown fields are ignored, among them `supersedes`
/// and what other programs add. Nothing says that a pack comes only once.
///
/// # Errors
/// When it is malformed or cannot be read, or `each` fails; packs before the fault were handed over.
pub fn decode(reader: impl Read, mut each: impl FnMut(&PackInIndex) -> Result<()>) -> Decoded<()> {
    let mut json = Reader::new(reader);
    json.set_budget(MAX_TEXT);
    let mut decoder = Decoder { json, name: String::new(), text: String::new() };
    decoder.index(&mut each)
}

struct Decoder<R> {
    json: Reader<R>,
    name: String,
    text: String,
}

impl<R: Read> Decoder<R> {
    fn index(&mut self, each: &mut impl FnMut(&PackInIndex) -> Result<()>) -> Decoded<()> {
        let mut seen = false;
        let mut fields = self.json.object()?;
        while self.field(&mut fields)? {
            if self.name != "packs" {
                self.json.skip()?;
                continue;
            }
            if std::mem::replace(&mut seen, true) {
                return Err(twice("packs"));
            }
            self.packs(each)?;
        }
        self.json.end()?;
        if seen { Ok(()) } else { Err(missing("packs")) }
    }

    fn packs(&mut self, each: &mut impl FnMut(&PackInIndex) -> Result<()>) -> Decoded<()> {
        // Go writes an empty list as null.
        if self.json.null()? {
            return Ok(());
        }
        let mut pack = PackInIndex { id: FileId([0; 32]), blobs: Vec::new() };
        let mut packs = self.json.list()?;
        while self.json.item(&mut packs)? {
            self.pack(&mut pack)?;
            each(&pack)?;
        }
        Ok(())
    }

    fn pack(&mut self, pack: &mut PackInIndex) -> Decoded<()> {
        pack.blobs.clear();
        let (mut id, mut blobs) = (None, false);
        let mut fields = self.json.object()?;
        while self.field(&mut fields)? {
            match self.name.as_str() {
                "id" if id.is_some() => return Err(twice("id")),
                "id" => id = Some(self.id()?),
                "blobs" if blobs => return Err(twice("blobs")),
                "blobs" => {
                    blobs = true;
                    self.blobs(&mut pack.blobs)?;
                }
                _ => self.json.skip()?,
            }
        }
        pack.id = FileId(id.ok_or_else(|| missing("id"))?);
        if blobs { Ok(()) } else { Err(missing("blobs")) }
    }

    fn blobs(&mut self, blobs: &mut Vec<HeaderEntry>) -> Decoded<()> {
        if self.json.null()? {
            return Ok(());
        }
        let mut items = self.json.list()?;
        while self.json.item(&mut items)? {
            if blobs.len() == MAX_BLOBS_IN_PACK {
                return Err(DecodeError::malformed("it has a pack with too many blobs"));
            }
            blobs.push(self.blob()?);
        }
        Ok(())
    }

    fn blob(&mut self) -> Decoded<HeaderEntry> {
        let (mut id, mut kind, mut offset, mut len, mut plain_len) = (None, None, None, None, None);
        let mut fields = self.json.object()?;
        while self.field(&mut fields)? {
            let again = match self.name.as_str() {
                "id" => id.replace(self.id()?).is_some(),
                "type" => kind.replace(self.kind()?).is_some(),
                "offset" => offset.replace(self.number()?).is_some(),
                "length" => len.replace(self.number()?).is_some(),
                "uncompressed_length" => plain_len.replace(self.number()?).is_some(),
                _ => {
                    self.json.skip()?;
                    false
                }
            };
            if again {
                return Err(DecodeError::malformed("it has a blob with a field twice"));
            }
        }
        let entry = HeaderEntry {
            kind: kind.ok_or_else(|| missing("type"))?,
            id: BlobId(id.ok_or_else(|| missing("id"))?),
            offset: offset.ok_or_else(|| missing("offset"))?,
            len: len.ok_or_else(|| missing("length"))?,
            plain_len: plain_len.filter(|len| *len != 0),
        };
        if (entry.len as usize) < crypto::OVERHEAD {
            return Err(DecodeError::malformed("it has a blob shorter than an envelope"));
        }
        if entry.offset.checked_add(entry.len).is_none() {
            return Err(DecodeError::malformed("it has a blob beyond 4 GiB"));
        }
        Ok(entry)
    }

    /// Reads the name of the next field, and lets it and its value be of some length.
    fn field(&mut self, first: &mut crate::json::First) -> Decoded<bool> {
        self.json.set_budget(MAX_TEXT);
        self.json.field(first, &mut self.name)
    }

    fn id(&mut self) -> Decoded<[u8; 32]> {
        self.json.text(&mut self.text)?;
        id::parse(self.text.as_bytes())
            .ok_or_else(|| DecodeError::malformed("it has an id that is none"))
    }

    fn kind(&mut self) -> Decoded<BlobKind> {
        self.json.text(&mut self.text)?;
        [BlobKind::Data, BlobKind::Tree]
            .into_iter()
            .find(|kind| kind.word() == self.text)
            .ok_or_else(|| DecodeError::malformed("it has a blob of an unknown type"))
    }

    fn number(&mut self) -> Decoded<u32> {
        let number = self.json.number(u32::MAX.into())?;
        u32::try_from(number)
            .map_err(|_cause| DecodeError::malformed("it has a number that is too large"))
    }
}

fn missing(field: &'static str) -> DecodeError {
    DecodeError::malformed(format!("it has no {field}"))
}

fn twice(field: &'static str) -> DecodeError {
    DecodeError::malformed(format!("it has {field} twice"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn packs() -> Vec<PackInIndex> {
        let blob = |n: u8, kind, plain_len| HeaderEntry {
            kind,
            id: BlobId([n; 32]),
            offset: u32::from(n) * 100,
            len: 44,
            plain_len,
        };
        vec![
            PackInIndex {
                id: FileId([1; 32]),
                blobs: vec![blob(0, BlobKind::Data, None), blob(1, BlobKind::Data, Some(3))],
            },
            PackInIndex { id: FileId([2; 32]), blobs: vec![blob(2, BlobKind::Tree, Some(9))] },
            PackInIndex { id: FileId([3; 32]), blobs: vec![] },
        ]
    }

    fn text() -> String {
        let mut out = Vec::new();
        encode(&packs(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn read(json: &str) -> Decoded<Vec<PackInIndex>> {
        let mut packs = Vec::new();
        decode(json.as_bytes(), |pack| {
            packs.push(pack.clone());
            Ok(())
        })?;
        Ok(packs)
    }

    #[test]
    fn an_index_reads_back_pack_by_pack() {
        assert_eq!(read(&text()).unwrap(), packs());
        assert!(text().starts_with(r#"{"packs":[{"id":"0101"#) && text().ends_with("]}]}\n"));
        let mut none = Vec::new();
        encode(&[], &mut none).unwrap();
        assert_eq!(none, b"{\"packs\":[]}\n");
        assert_eq!(read(r#"{"packs":null}"#).unwrap(), []);
    }

    #[test]
    fn what_other_programs_add_is_ignored() {
        let more = text()
            .replacen('{', r#"{"supersedes":["x"],"packs_to_delete":[{"id":1}],"#, 1)
            .replace(r#""blobs""#, r#""time":"t","size":5,"blobs""#)
            .replace(r#""type""#, r#""new":{},"type""#);
        assert_eq!(read(&more).unwrap(), packs());
    }

    #[test]
    fn damaged_indexes_are_refused() {
        let good = text();
        let bads = [
            String::new(),
            "[]".to_owned(),
            "{}".to_owned(),
            good[..good.len() - 2].to_owned(),
            format!("{good}x"),
            good.replacen("0101", "01", 1),
            good.replacen("\"data\"", "\"blob\"", 1),
            good.replacen(":44", ":31", 1),
            good.replacen(":44", ":4294967296", 1),
            good.replacen(":100", ":4294967260", 1),
            good.replacen(":100", ":-1", 1),
            good.replacen(r#""length":44"#, r#""length":44,"length":44"#, 1),
            good.replacen(r#""type":"data","#, "", 1),
            good.replacen(r#""blobs""#, r#""blob""#, 1),
            r#"{"packs":[],"packs":[]}"#.to_owned(),
        ];
        for bad in bads {
            assert!(read(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_takes_the_packs_may_stop_it() {
        let stop = Error::NotFound { what: "anything".to_owned() };
        let error = decode(text().as_bytes(), |_| Err(stop.clone())).unwrap_err().of("index 1");
        assert!(matches!(error, Error::NotFound { .. }));
    }
}
