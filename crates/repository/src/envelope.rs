//! Unpacked files: an index, snapshot or lock as it lies in the store. Inside its envelope it is the
//! byte 2 and the JSON in a zstd frame; repositories of version 1 have the JSON itself.

use std::io::{self, Read};

use alidade_entity::Cx;

use crate::crypto::MasterKey;
use crate::decode::{DecodeError, Decoded};
use crate::{Error, Result};

/// The first byte of a compressed file.
const COMPRESSED: u8 = 2;
/// Most memory one zstd window may take: 2^27 bytes, what zstd's own tools accept.
const WINDOW_LOG_MAX: u32 = 27;

/// Seals a file of a repository of version 2.
///
/// # Errors
/// When the system has no randomness to give.
pub fn encode_unpacked(key: &MasterKey, cx: &Cx, json: &[u8]) -> Result<Vec<u8>> {
    let mut plain = vec![COMPRESSED];
    zstd::stream::copy_encode(json, &mut plain, 3)
        .map_err(|source| Error::store("compress a file", source))?;
    key.seal(cx, &plain)
}

/// Opens a file and gives its JSON, at most `max` bytes of it.
///
/// # Errors
/// When the envelope does not open, the form is unknown, or there is more than `max`.
pub fn decode_unpacked(key: &MasterKey, sealed: &[u8], max: usize) -> Decoded<Vec<u8>> {
    let plain = key.open(sealed)?;
    let mut json = Vec::new();
    let room = max as u64 + 1;
    Unpacked::of(&plain)?.take(room).read_to_end(&mut json).map_err(|error| broken(&error))?;
    if json.len() > max {
        return Err(DecodeError::malformed(format!("it holds more than {max} bytes")));
    }
    Ok(json)
}

/// Seals a config, which is never compressed.
///
/// # Errors
/// When the system has no randomness to give.
pub fn encode_config(key: &MasterKey, cx: &Cx, json: &[u8]) -> Result<Vec<u8>> {
    key.seal(cx, json)
}

/// The JSON inside an opened file, decompressed while it is read: the way to read files whose size
/// has no small bound.
pub struct Unpacked<'a> {
    inner: Inner<'a>,
}

enum Inner<'a> {
    Raw(&'a [u8]),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

impl std::fmt::Debug for Unpacked<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unpacked")
    }
}

impl<'a> Unpacked<'a> {
    /// Looks at the first byte of what was in the envelope.
    ///
    /// # Errors
    /// When the form is unknown.
    pub fn of(plain: &'a [u8]) -> Decoded<Self> {
        let inner = match plain {
            [b'{' | b'[', ..] => Inner::Raw(plain),
            [COMPRESSED, frame @ ..] => Inner::Zstd(Box::new(decompressor(frame)?)),
            _ => return Err(DecodeError::malformed("it is neither JSON nor compressed JSON")),
        };
        Ok(Self { inner })
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Raw(bytes) => bytes.read(buf),
            Inner::Zstd(decoder) => decoder.read(buf).map_err(damage),
        }
    }
}

/// A streaming decompressor of concatenated zstd frames whose windows are bounded. It fails with
/// [`io::ErrorKind::InvalidData`] or `UnexpectedEof` when the frames are damaged.
///
/// # Errors
/// When zstd has no memory.
pub fn decompressor<R: io::BufRead>(
    reader: R,
) -> io::Result<zstd::stream::read::Decoder<'static, R>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    Ok(decoder)
}

/// zstd reports all damage as "other".
fn damage(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::Other => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        _ => error,
    }
}

fn broken(error: &io::Error) -> DecodeError {
    DecodeError::malformed(format!("its compressed content is damaged: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alidade_entity::Cancel;

    fn cx() -> Cx {
        Cx::system(Cancel::default())
    }

    #[test]
    fn a_file_opens_to_its_json_compressed_or_not() {
        let key = MasterKey::generate(&cx()).unwrap();
        let json = br#"{"packs":[]}"#;
        let sealed = encode_unpacked(&key, &cx(), json).unwrap();
        assert_eq!(key.open(&sealed).unwrap()[..5], [2, 0x28, 0xb5, 0x2f, 0xfd]);
        assert_eq!(decode_unpacked(&key, &sealed, json.len()).unwrap(), json);
        let raw = encode_config(&key, &cx(), json).unwrap();
        assert_eq!(decode_unpacked(&key, &raw, json.len()).unwrap(), json);
        for sealed in [sealed, raw] {
            let error = decode_unpacked(&key, &sealed, json.len() - 1).unwrap_err();
            assert_eq!(error.to_string(), "it holds more than 11 bytes");
        }
    }

    #[test]
    fn a_bomb_is_refused_at_its_bound() {
        let key = MasterKey::generate(&cx()).unwrap();
        // Behind the bound there is damage, which only who goes on can see.
        let mut frame = Vec::new();
        zstd::stream::copy_encode(io::repeat(b' ').take(100 << 20), &mut frame, 1).unwrap();
        let plain = [&[COMPRESSED], frame.as_slice(), b"no frame"].concat();
        let sealed = key.seal(&cx(), &plain).unwrap();
        assert!(sealed.len() < 20_000);
        let error = decode_unpacked(&key, &sealed, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "it holds more than 1048576 bytes");
    }

    #[test]
    fn unknown_forms_and_damaged_frames_are_refused() {
        let key = MasterKey::generate(&cx()).unwrap();
        let good =
            key.open(&encode_unpacked(&key, &cx(), b"{\"a\":\"bcdefgh\"}").unwrap()).unwrap();
        let cut = good[..good.len() - 1].to_vec();
        let mut window = vec![2, 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8];
        window.extend([1, 0, 0]);
        for plain in [vec![], vec![1, b'{'], vec![2], vec![2, 1, 2, 3], cut, window] {
            let sealed = key.seal(&cx(), &plain).unwrap();
            let decoded = decode_unpacked(&key, &sealed, 1000);
            assert!(decoded.is_err() || plain == [2], "{plain:?} {decoded:?}");
        }
    }
}
