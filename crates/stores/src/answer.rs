//! What servers without entity tags and versions answer, in the client's words.

use std::future::ready;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use object_store::path::Path;
use object_store::{GetResult, GetResultPayload, ObjectMeta, PutResult};

/// A file of that length, or the part of it that begins at `start`.
pub(crate) fn got(location: &Path, size: u64, (bytes, start): (Bytes, u64)) -> GetResult {
    let range = start..start + bytes.len() as u64;
    GetResult {
        payload: GetResultPayload::Stream(stream::once(ready(Ok(bytes))).boxed()),
        meta: meta(location.clone(), size),
        range,
        attributes: Default::default(),
        extensions: Default::default(),
    }
}

/// What is known of a file.
pub(crate) fn meta(location: Path, size: u64) -> ObjectMeta {
    ObjectMeta { location, size, last_modified: Default::default(), e_tag: None, version: None }
}

/// A file was stored.
pub(crate) fn stored() -> PutResult {
    PutResult { e_tag: None, version: None, extensions: Default::default() }
}
