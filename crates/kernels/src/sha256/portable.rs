//! The twin of the other two: the crate `sha2`, which chooses for itself.

use super::lanes::Lanes;

/// One message at a time.
pub(super) struct One([u32; 8]);

impl One {
    pub(super) fn new() -> Self {
        Self([0; 8])
    }
}

impl Lanes<1> for One {
    fn set(&mut self, _: usize, state: &[u32; 8]) {
        self.0 = *state;
    }

    fn get(&self, _: usize) -> [u32; 8] {
        self.0
    }

    fn advance(&mut self, inputs: &[&[u8]; 1], blocks: usize) {
        let (whole, _) = inputs[0].as_chunks();
        sha2::block_api::compress256(&mut self.0, &whole[..blocks]);
    }
}
