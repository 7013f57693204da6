//! zstd, with contexts that are used again and bounds that come from the index.

use std::io::{self, Cursor};
use std::sync::{Mutex, PoisonError};

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::compress_bound;

/// How hard to compress what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// zstd level 3.
    #[default]
    Default,
    /// zstd level 1: about a quarter faster, five per cent larger.
    Fast,
    /// zstd level 11: the highest that needs less than 32 MiB a thread.
    Best,
    /// File content is stored as it is. Trees and everything else are compressed all the same, for
    /// stock restic rewrites packs of trees that are not.
    Off,
}

impl Compression {
    /// The zstd level for file content; `None` to store it as it is.
    pub(crate) fn data_level(self) -> Option<i32> {
        match self {
            Self::Default => Some(3),
            Self::Fast => Some(1),
            Self::Best => Some(11),
            Self::Off => None,
        }
    }

    /// The zstd level for trees.
    pub(crate) fn tree_level(self) -> i32 {
        self.data_level().unwrap_or(3)
    }
}

/// Compresses `plain` as one frame behind what is in `out`.
pub(crate) fn append_frame(
    compressor: &mut Compressor<'static>,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let at = out.len();
    out.reserve(compress_bound(plain.len()));
    let mut end = Cursor::new(out);
    end.set_position(at as u64);
    compressor.compress_to_buffer(plain, &mut end)?;
    Ok(())
}

/// Makes `out` what `frames` hold, which must be exactly `len` bytes; never allocates more than that.
pub(crate) fn decompress(
    decompressor: &mut Decompressor<'static>,
    frames: &[u8],
    len: usize,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    out.clear();
    out.reserve_exact(len);
    let got = decompressor.decompress_to_buffer(frames, out)?;
    if got != len {
        let why = format!("it holds {got} bytes, not the {len} that it should");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(())
}

/// Fills `out` with what `frames` hold, which must be as long.
pub(crate) fn decompress_into(
    decompressor: &mut Decompressor<'static>,
    frames: &[u8],
    out: &mut [u8],
) -> io::Result<()> {
    let got = decompressor.decompress_to_buffer(frames, out)?;
    if got == out.len() {
        return Ok(());
    }
    let why = format!("it holds {got} bytes, not the {} that it should", out.len());
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Things that are costly to make and can be used again, one at a time.
pub(crate) struct Pool<T> {
    idle: Mutex<Vec<T>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { idle: Mutex::default() }
    }
}

impl<T> Pool<T> {
    /// Does `work` with an idle one, or with a new one.
    pub(crate) fn with<R, E>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
        work: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Result<R, E> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut one = match idle {
            Some(one) => one,
            None => make()?,
        };
        let done = work(&mut one);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_one_behind_the_other_are_one_content_and_their_length_is_kept_to() {
        let mut frames = b"before".to_vec();
        let mut compressor = Compressor::new(3).unwrap();
        for part in ["one ", "", "two ", "three"] {
            append_frame(&mut compressor, part.as_bytes(), &mut frames).unwrap();
        }
        let mut plain = Vec::new();
        let mut decompressor = Decompressor::new().unwrap();
        decompress(&mut decompressor, &frames[6..], 13, &mut plain).unwrap();
        assert_eq!(plain, b"one two three");
        for wrong in [0, 12, 14] {
            let mut plain = Vec::new();
            assert!(decompress(&mut decompressor, &frames[6..], wrong, &mut plain).is_err());
        }
        assert!(decompress(&mut decompressor, &frames[7..], 13, &mut plain).is_err());
    }
}
