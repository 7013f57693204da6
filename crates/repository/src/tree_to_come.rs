//! Stands in for the tree codec until it is there: writes and reads no node.

use std::io::{self, Read, Write};

use crate::Node;
use crate::decode::{DecodeError, Decoded};

pub(crate) fn encode_node(_node: &Node, _out: &mut impl Write) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "trees cannot be written yet"))
}

pub(crate) struct TreeDecoder<R> {
    _json: R,
}

impl<R: Read> TreeDecoder<R> {
    pub(crate) fn new(json: R) -> Self {
        Self { _json: json }
    }
}

impl<R: Read> Iterator for TreeDecoder<R> {
    type Item = Decoded<Node>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(Err(DecodeError::malformed("trees cannot be read yet")))
    }
}
