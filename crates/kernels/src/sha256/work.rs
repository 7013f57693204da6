//! Which message is hashed in which lane, and when.
//!
//! The longest message goes first, so that the lanes end at nearly the same time. A lane whose
//! message ends takes the next one. When there is nothing left to take and too few lanes are busy to
//! be worth the width, the unfinished messages move to narrower lanes, or wait for more ([`Queue`]).
//!
//! [`Queue`]: super::Queue

use std::cmp::Reverse;

use crate::Level;
#[cfg(target_arch = "x86_64")]
use crate::level::Set;

use super::lanes::Lanes;
use super::{BLOCK, START, Sha256, Tail, bytes_of, portable};

/// From how many unfinished messages on sixteen lanes are faster than streams of SHA instructions.
/// Measured: sixteen lanes together are as fast as nine (Emerald Rapids) interleaved streams.
const WORTH_SIXTEEN: usize = 9;

/// From how many on they are worth more than waiting for others, whose bytes must be copied.
const WORTH_NOW: usize = 12;

/// The most lanes any kernel has.
const WIDEST: usize = 16;

/// Messages to hash and streams to advance.
pub(super) struct Work<'a, 's, 'm, 'b> {
    messages: &'s [&'a [u8]],
    digests: &'s mut [[u8; 32]],
    streams: &'s mut [(&'m mut Sha256, &'b [u8])],
    /// Of the first messages, what they begin with: a state, and the bytes that are in it.
    begun: &'s [([u32; 8], u64)],
    /// Messages by their number, streams by theirs after those; what is still to begin, in order.
    order: std::vec::IntoIter<usize>,
    /// Begun in wider lanes, the one with the most to do last.
    unfinished: Vec<Job<'a>>,
}

/// One message or stream on its way.
struct Job<'a> {
    /// Its number, as in [`Work::order`].
    number: usize,
    state: [u32; 8],
    /// Whole blocks to come.
    body: &'a [u8],
    /// What comes after the body, if it is a message.
    tail: Tail,
    /// How many bytes of the tail are done.
    tail_done: usize,
}

impl Job<'_> {
    /// Whole blocks to come that lie together.
    fn input(&self) -> &[u8] {
        if self.body.is_empty() { &self.tail.blocks()[self.tail_done..] } else { self.body }
    }

    /// Takes note that the first bytes of the input are done.
    fn consume(&mut self, bytes: usize) {
        if self.body.is_empty() {
            self.tail_done += bytes;
        } else {
            self.body = &self.body[bytes..];
        }
    }
}

impl<'a, 's, 'm, 'b: 'a> Work<'a, 's, 'm, 'b> {
    /// # Panics
    /// When there are not as many digests as messages.
    pub(super) fn new(
        messages: &'s [&'a [u8]],
        digests: &'s mut [[u8; 32]],
        streams: &'s mut [(&'m mut Sha256, &'b [u8])],
    ) -> Self {
        assert_eq!(messages.len(), digests.len(), "each message has its place for a digest");
        let mut order: Vec<usize> = (0..messages.len() + streams.len()).collect();
        // Streams first: they are the ones that cannot wait.
        order.sort_unstable_by_key(|number| {
            let length = |message: &&[u8]| (1, Reverse(message.len()));
            let stream = || (0, Reverse(streams[*number - messages.len()].1.len()));
            messages.get(*number).map_or_else(stream, length)
        });
        let (order, unfinished) = (order.into_iter(), Vec::new());
        Self { messages, digests, streams, begun: &[], order, unfinished }
    }

    /// The first messages are what is left of longer ones: of each the state, and the bytes that
    /// are in it.
    pub(super) fn resuming(self, begun: &'s [([u32; 8], u64)]) -> Self {
        Self { begun, ..self }
    }

    pub(super) fn run(&mut self, level: Level) {
        self.run_wide(level, WORTH_SIXTEEN);
        self.run_narrow(level);
    }

    /// Works as long as wide lanes are full enough. Of the messages that are not finished then, the
    /// shortest are left, up to `room` bytes in all: of each its number, its state, and how many of its
    /// bytes are in it.
    pub(super) fn run_full(&mut self, level: Level, room: usize) -> Vec<(usize, [u32; 8], usize)> {
        if !self.run_wide(level, WORTH_NOW) {
            self.run_narrow(level);
            return Vec::new();
        }
        let mut jobs: Vec<Job<'a>> = std::iter::from_fn(|| self.next()).collect();
        jobs.sort_unstable_by_key(|job| job.body.len());
        let (mut left, mut room) = (Vec::new(), room);
        for job in jobs {
            let message = self.messages.get(job.number).filter(|_| !job.body.is_empty());
            match message.filter(|_| job.body.len() <= room) {
                Some(message) => {
                    room -= job.body.len();
                    let done = message.len() / BLOCK * BLOCK - job.body.len();
                    left.push((job.number, job.state, done));
                }
                None => self.unfinished.push(job),
            }
        }
        self.run_narrow(level);
        left
    }

    /// False where there are no wide lanes.
    #[cfg(target_arch = "x86_64")]
    fn run_wide(&mut self, level: Level, fewest: usize) -> bool {
        if level.set() < Set::Avx512 {
            return false;
        }
        self.advance(&mut super::avx512::Sixteen::new(level), fewest);
        true
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn run_wide(&mut self, _: Level, _: usize) -> bool {
        false
    }

    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_variables, reason = "there is one level")
    )]
    fn run_narrow(&mut self, level: Level) {
        #[cfg(target_arch = "x86_64")]
        if level.set() >= Set::ShaNi {
            use super::shani::Streams;
            self.advance(&mut Streams::<3>::new(level), 3);
            self.advance(&mut Streams::<2>::new(level), 2);
            self.advance(&mut Streams::<1>::new(level), 1);
        }
        self.advance(&mut portable::One::new(), 1);
    }

    /// Works until fewer than `fewest` lanes are busy and nothing is left to take.
    fn advance<const N: usize>(&mut self, lanes: &mut impl Lanes<N>, fewest: usize) {
        const { assert!(N <= WIDEST) };
        if self.order.len() + self.unfinished.len() < fewest {
            return;
        }
        let mut jobs: [Option<Job<'a>>; N] = [const { None }; N];
        loop {
            for (lane, job) in jobs.iter_mut().enumerate().filter(|(_, job)| job.is_none()) {
                *job = self.next();
                if let Some(job) = job {
                    lanes.set(lane, &job.state);
                }
            }
            let inputs = || jobs.iter().flatten().map(Job::input);
            let busy = inputs().count();
            let Some(shortest) = inputs().min_by_key(|input| input.len()) else { return };
            if busy < fewest {
                break;
            }
            // An idle lane hashes along what another one hashes; nobody looks at its state.
            let blocks = shortest.len() / BLOCK;
            let inputs = jobs.each_ref().map(|job| job.as_ref().map_or(shortest, Job::input));
            lanes.advance(&inputs, blocks);
            for (lane, place) in jobs.iter_mut().enumerate() {
                let Some(job) = place else { continue };
                job.consume(blocks * BLOCK);
                if job.input().is_empty() {
                    self.end(job.number, &lanes.get(lane));
                    *place = None;
                }
            }
        }
        let begun = jobs.into_iter().enumerate();
        self.unfinished.extend(
            begun.filter_map(|(lane, job)| job.map(|job| Job { state: lanes.get(lane), ..job })),
        );
        self.unfinished.sort_unstable_by_key(|job| job.body.len());
    }

    fn next(&mut self) -> Option<Job<'a>> {
        if let Some(job) = self.unfinished.pop() {
            return Some(job);
        }
        loop {
            let number = self.order.next()?;
            let Some(message) = self.messages.get(number) else {
                let (stream, bytes) = &mut self.streams[number - self.messages.len()];
                let body = stream.begin(bytes);
                if body.is_empty() {
                    continue;
                }
                let tail = Tail::none();
                return Some(Job { number, state: stream.state, body, tail, tail_done: 0 });
            };
            let (state, before) = self.begun.get(number).copied().unwrap_or((START, 0));
            let (body, rest) = message.split_at(message.len() / BLOCK * BLOCK);
            let tail = Tail::new(rest, before + message.len() as u64);
            return Some(Job { number, state, body, tail, tail_done: 0 });
        }
    }

    fn end(&mut self, number: usize, state: &[u32; 8]) {
        match self.digests.get_mut(number) {
            Some(digest) => *digest = bytes_of(state),
            None => self.streams[number - self.messages.len()].0.state = *state,
        }
    }
}
