//! Which message is hashed in which lane, and when.
//!
//! The longest message goes first, so that the lanes end at nearly the same time. A lane whose
//! message ends takes the next one. When there is nothing left to take and too few lanes are busy to
//! be worth the width, the unfinished messages move to narrower lanes.

use crate::Level;
use crate::level::Set;

use super::lanes::Lanes;
use super::{BLOCK, START, Sha256, Tail, bytes_of, portable};

/// From how many unfinished messages on sixteen lanes are faster than streams of SHA instructions.
/// Measured: sixteen lanes together are as fast as nine (Emerald Rapids) interleaved streams.
#[cfg(target_arch = "x86_64")]
const WORTH_SIXTEEN: usize = 9;

/// The most lanes any kernel has.
const WIDEST: usize = 16;

/// Messages to hash and streams to advance.
pub(super) struct Work<'a, 's, 'm, 'b> {
    messages: &'s [&'a [u8]],
    digests: &'s mut [[u8; 32]],
    streams: &'s mut [(&'m mut Sha256, &'b [u8])],
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
        let lengths = messages.iter().chain(streams.iter().map(|(_, bytes)| bytes));
        let lengths: Vec<usize> = lengths.map(|bytes| bytes.len()).collect();
        order.sort_unstable_by_key(|number| std::cmp::Reverse(lengths[*number]));
        Self { messages, digests, streams, order: order.into_iter(), unfinished: Vec::new() }
    }

    pub(super) fn run(&mut self, level: Level) {
        match level.set() {
            Set::Portable => {}
            #[cfg(target_arch = "x86_64")]
            Set::ShaNi => self.run_streams(level),
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => {
                self.advance(&mut super::avx512::Sixteen::new(level), WORTH_SIXTEEN);
                self.run_streams(level);
            }
        }
        self.advance(&mut portable::One::new(), 1);
    }

    #[cfg(target_arch = "x86_64")]
    fn run_streams(&mut self, level: Level) {
        use super::shani::Streams;
        self.advance(&mut Streams::<3>::new(level), 3);
        self.advance(&mut Streams::<2>::new(level), 2);
        self.advance(&mut Streams::<1>::new(level), 1);
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
            let (body, rest) = message.split_at(message.len() / BLOCK * BLOCK);
            let tail = Tail::new(rest, message.len() as u64);
            return Some(Job { number, state: START, body, tail, tail_done: 0 });
        }
    }

    fn end(&mut self, number: usize, state: &[u32; 8]) {
        match self.digests.get_mut(number) {
            Some(digest) => *digest = bytes_of(state),
            None => self.streams[number - self.messages.len()].0.state = *state,
        }
    }
}
