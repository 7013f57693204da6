//! Messages that wait for company.

use std::ops::Range;

use super::Sha256;
use super::work::Work;
use crate::Level;

/// Hashes messages as long as they fill the lanes; the last few wait for those that come next, instead
/// of being hashed slowly.
///
/// Whoever gives a message gives something to know it by, and gets that back with the hash, now or
/// later. Memory: twice the room it was given.
#[derive(Debug)]
pub struct Queue<T> {
    level: Level,
    /// Bytes that may wait.
    room: usize,
    waiting: Vec<Waiting<T>>,
    /// The bytes that wait, and the memory of those that did.
    bytes: Vec<u8>,
    spare: Vec<u8>,
}

/// What is left of a message.
#[derive(Debug)]
struct Waiting<T> {
    tag: T,
    state: [u32; 8],
    /// Bytes that are in the state.
    before: u64,
    /// Where those lie that are not.
    rest: Range<usize>,
}

impl<T> Queue<T> {
    /// Messages may wait with that many bytes in all.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self::at(Level::detect(), room)
    }

    /// As [`Queue::new`], with the instructions of `level`.
    #[must_use]
    pub const fn at(level: Level, room: usize) -> Self {
        Self { level, room, waiting: Vec::new(), bytes: Vec::new(), spare: Vec::new() }
    }

    /// Takes messages; `done` gets the hashes of those that are finished, of any of those that were
    /// given, in any order. In the same pass every stream takes all of the bytes beside it.
    pub fn hash<'m>(
        &mut self,
        messages: impl IntoIterator<Item = (T, &'m [u8])>,
        streams: &mut [(&mut Sha256, &[u8])],
        done: impl FnMut(T, [u8; 32]),
    ) {
        self.run(messages, streams, self.room, done);
    }

    /// Finishes the messages that wait.
    pub fn finish(&mut self, done: impl FnMut(T, [u8; 32])) {
        self.run([], &mut [], 0, done);
    }

    fn run<'m>(
        &mut self,
        messages: impl IntoIterator<Item = (T, &'m [u8])>,
        streams: &mut [(&mut Sha256, &[u8])],
        room: usize,
        mut done: impl FnMut(T, [u8; 32]),
    ) {
        let (mut tags, mut rests, mut begun) = (Vec::new(), Vec::new(), Vec::new());
        for Waiting { tag, state, before, rest } in std::mem::take(&mut self.waiting) {
            tags.push(tag);
            rests.push(&self.bytes[rest]);
            begun.push((state, before));
        }
        for (tag, message) in messages {
            tags.push(tag);
            rests.push(message);
        }
        let mut digests = vec![[0; 32]; tags.len()];
        let mut work = Work::new(&rests, &mut digests, streams).resuming(&begun);
        let mut left = vec![None; tags.len()];
        for (number, state, taken) in work.run_full(self.level, room) {
            left[number] = Some((state, taken));
        }
        self.spare.clear();
        for (number, tag) in tags.into_iter().enumerate() {
            let Some((state, taken)) = left[number] else {
                done(tag, digests[number]);
                continue;
            };
            let before = begun.get(number).map_or(0, |(_, before)| *before) + taken as u64;
            let from = self.spare.len();
            self.spare.extend_from_slice(&rests[number][taken..]);
            self.waiting.push(Waiting { tag, state, before, rest: from..self.spare.len() });
        }
        std::mem::swap(&mut self.bytes, &mut self.spare);
    }
}
