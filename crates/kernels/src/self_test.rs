use crate::{Level, sha256_many_at};

/// A kernel gave a wrong answer to a question whose answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// At which level.
    pub level: Level,
    /// Which kernel.
    pub kernel: &'static str,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the {} kernel gives wrong results at level {}", self.kernel, self.level.name())
    }
}

impl std::error::Error for Broken {}

/// Asks every kernel at `level` questions whose answers are known.
///
/// # Errors
/// The first kernel that answers wrong.
pub fn self_test(level: Level) -> Result<(), Broken> {
    match TESTS.into_iter().find(|(_, is_right)| !is_right(level)) {
        Some((kernel, _)) => Err(Broken { level, kernel }),
        None => Ok(()),
    }
}

/// A kernel and how to ask it.
type Test = (&'static str, fn(Level) -> bool);

const TESTS: [Test; 1] = [("sha256", sha256_is_right)];

/// The bytes the tests run on: `n * 7 + 3`, modulo 256, is byte `n`.
const fn pattern<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        bytes[at] = (at * 7 + 3).to_le_bytes()[0];
        at += 1;
    }
    bytes
}

/// Forty messages of mixed lengths, so that every lane is filled, emptied and filled again; the
/// answers are hashed together.
fn sha256_is_right(level: Level) -> bool {
    const BYTES: [u8; 1024] = pattern();
    const COUNT: usize = 40;
    let messages: [&[u8]; COUNT] = std::array::from_fn(|at| &BYTES[at..at + at * 67 % 900]);
    let mut digests = [[0; 32]; COUNT];
    sha256_many_at(level, &messages, &mut digests);
    let mut digest = [[0; 32]];
    sha256_many_at(level, &[digests.as_flattened()], &mut digest);
    digest[0] == SHA256_ANSWER
}

const SHA256_ANSWER: [u8; 32] = [
    0xc5, 0x18, 0x73, 0x4b, 0x1e, 0x5e, 0x26, 0xb9, 0x8c, 0x8e, 0x4e, 0xb5, 0x1c, 0x75, 0xe1, 0x2e,
    0xa6, 0x2a, 0x5e, 0x0f, 0x9c, 0xe6, 0xa2, 0xaa, 0x44, 0xe9, 0x71, 0x3d, 0x2e, 0x17, 0xce, 0xd6,
];
