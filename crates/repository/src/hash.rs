//! SHA-256 of many blobs.

use alidade_kernels::{Sha256, hash_together};

/// The hashes of all messages; in the same pass the streams take the bytes beside them.
pub(crate) fn sha256_many(
    messages: &[&[u8]],
    streams: &mut [(&mut Sha256, &[u8])],
) -> Vec<[u8; 32]> {
    let mut digests = vec![[0; 32]; messages.len()];
    hash_together(messages, &mut digests, streams);
    digests
}
