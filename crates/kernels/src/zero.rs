/// Whether every byte is zero. Content with another byte is mostly told at once.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    // Long enough that the compiler uses the widest registers, short enough to stop early.
    let (chunks, rest) = bytes.as_chunks::<256>();
    chunks.iter().all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
        && rest.iter().all(|byte| *byte == 0)
}
