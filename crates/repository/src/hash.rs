//! SHA-256 of many messages.

use sha2::{Digest, Sha256};

/// The hashes of all messages.
pub(crate) fn sha256_many(messages: &[&[u8]]) -> Vec<[u8; 32]> {
    messages.iter().map(|message| Sha256::digest(message).into()).collect()
}
