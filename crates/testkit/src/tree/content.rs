use std::io::{Read, Seek, SeekFrom, Write};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::FallocateFlags;

use crate::TestChance;

/// What a file is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Zeros that are really written: no holes.
    Zeros,
    /// What no compression shortens; the same seed gives the same bytes.
    Random(u64),
    /// What compresses well; the same seed gives the same bytes.
    Text(u64),
}

/// The content of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its size in bytes.
    pub size: u64,
    /// Its bytes.
    pub fill: Fill,
    /// Holes: offset and length, each a multiple of 4096. What lies past the end is cut off.
    pub holes: Vec<(u64, u64)>,
}

impl Content {
    /// That many bytes, without holes.
    #[must_use]
    pub fn new(size: u64, fill: Fill) -> Self {
        Self { size, fill, holes: Vec::new() }
    }

    /// Writes it into a new file, and never touches what is to be a hole.
    pub(super) fn write(&self, file: OwnedFd) -> std::io::Result<()> {
        let mut file = std::fs::File::from(file);
        file.set_len(self.size)?;
        let mut source = self.source();
        let mut piece = vec![0; 64 << 10];
        let mut at = 0;
        while at < self.size {
            let left = usize::try_from(self.size - at).unwrap_or(usize::MAX);
            let piece_len = left.min(piece.len());
            let bytes = &mut piece[..piece_len];
            source.fill(bytes);
            file.seek(SeekFrom::Start(at))?;
            file.write_all(bytes)?;
            at += piece_len as u64;
        }
        for &(offset, len) in &self.holes {
            let len = len.min(self.size.saturating_sub(offset));
            if len > 0 {
                let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(file.as_fd(), punch, offset, len)?;
            }
        }
        Ok(())
    }

    fn source(&self) -> Source {
        match self.fill {
            Fill::Zeros => Source::Zeros,
            Fill::Random(seed) => Source::Random(TestChance::seeded(seed)),
            Fill::Text(seed) => Source::Text(Text { chance: TestChance::seeded(seed), at: 0 }),
        }
    }
}

enum Source {
    Zeros,
    Random(TestChance),
    Text(Text),
}

impl Source {
    fn fill(&mut self, bytes: &mut [u8]) {
        match self {
            Self::Zeros => bytes.fill(0),
            Self::Random(chance) => {
                for piece in bytes.chunks_mut(8) {
                    piece.copy_from_slice(&chance.next().to_le_bytes()[..piece.len()]);
                }
            }
            Self::Text(text) => text.read_exact(bytes).expect("text never ends"),
        }
    }
}

/// Words in a random order.
struct Text {
    chance: TestChance,
    at: usize,
}

impl Read for Text {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        const WORDS: [&[u8]; 8] = [
            b"the arm of an astrolabe ",
            b"is turned to take a reading\n",
            b"0000000000000000",
            b"degrees, ",
            b"minutes and seconds; ",
            b"north ",
            b"south ",
            b"\t\t{ \"level\": 1 }\n",
        ];
        let mut filled = 0;
        while filled < bytes.len() {
            let word = WORDS[usize::try_from(self.chance.below(8)).expect("below 8")];
            let rest = &word[self.at % word.len()..];
            let len = rest.len().min(bytes.len() - filled);
            bytes[filled..filled + len].copy_from_slice(&rest[..len]);
            filled += len;
            self.at = 0;
        }
        Ok(filled)
    }
}
