//! What lies near what was read of a pack. A directory is a small part of a pack, and the next one to be read
//! lies near it more often than not: one request brings both.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// What is longer is asked for by itself.
const SMALL: usize = 128 << 10;
/// How much is brought at the second small read of a pack; twice as much at each further one that finds
/// nothing held, up to the most. The first is often the only one.
const LEAST: u64 = 64 << 10;
const MOST: u64 = 1 << 20;
/// How many pieces are held: 8 MiB at most.
const PIECES: usize = 8;
/// How many packs are known to have been read.
const PACKS: usize = 64;

/// Pieces of packs, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Nearby {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pieces: Vec<Piece>,
    /// How much the next read of a pack brings; nothing yet for the first.
    next: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Piece {
    pack: String,
    at: u64,
    bytes: Bytes,
    /// Where reads began that this has answered. Who reads there again doubts what came.
    served: BTreeSet<u64>,
}

/// How a read is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is, from what is held.
    Held,
    /// By this part of the pack, which is then given to [`Nearby::keep`].
    Bring(Range<u64>),
    /// By itself; what comes is then told to [`Nearby::compare`].
    Alone,
}

impl Piece {
    fn part(&self, pack: &str, at: u64, len: usize) -> Option<&[u8]> {
        if self.pack != pack {
            return None;
        }
        let begin = usize::try_from(at.checked_sub(self.at)?).ok()?;
        self.bytes.get(begin..begin.checked_add(len)?)
    }
}

impl Nearby {
    /// Answers a read if it can, and says how it is to be answered if not.
    pub(crate) fn ask(&self, pack: &str, at: u64, buf: &mut [u8]) -> Answer {
        if buf.is_empty() || buf.len() > SMALL {
            return Answer::Alone;
        }
        let mut state = self.lock();
        let found = state.pieces.iter().position(|piece| piece.part(pack, at, buf.len()).is_some());
        if let Some(found) = found {
            let mut piece = state.pieces.remove(found);
            let is_first = piece.served.insert(at);
            if let (true, Some(part)) = (is_first, piece.part(pack, at, buf.len())) {
                buf.copy_from_slice(part);
            }
            state.pieces.push(piece);
            return if is_first { Answer::Held } else { Answer::Alone };
        }
        let next = state.next.get(pack).copied();
        if state.next.len() >= PACKS {
            state.next.clear();
        }
        state.next.insert(pack.to_owned(), next.map_or(LEAST, |next| (next * 2).min(MOST)));
        match next {
            None => Answer::Alone,
            // On both sides of it: what is above a directory lies behind it.
            Some(size) => {
                let begin = at - at % size;
                let end = at.saturating_add(buf.len() as u64).max(begin.saturating_add(size));
                Answer::Bring(begin..end)
            }
        }
    }

    /// Holds a part of a pack, and answers the read that it was brought for; false when it ends before.
    pub(crate) fn keep(&self, pack: &str, piece: (u64, Bytes), at: u64, buf: &mut [u8]) -> bool {
        let (begin, bytes) = piece;
        let served = BTreeSet::from([at]);
        let piece = Piece { pack: pack.to_owned(), at: begin, bytes, served };
        let Some(part) = piece.part(pack, at, buf.len()) else { return false };
        buf.copy_from_slice(part);
        let mut state = self.lock();
        if state.pieces.len() >= PIECES {
            state.pieces.remove(0);
        }
        state.pieces.push(piece);
        true
    }

    /// Forgets pieces that are not what came by itself.
    pub(crate) fn compare(&self, pack: &str, at: u64, came: &[u8]) {
        let differs =
            |piece: &mut Piece| piece.part(pack, at, came.len()).is_some_and(|part| part != came);
        self.lock().pieces.retain_mut(|piece| !differs(piece));
    }

    /// Forgets a pack.
    pub(crate) fn forget(&self, pack: &str) {
        let mut state = self.lock();
        state.pieces.retain(|piece| piece.pack != pack);
        state.next.remove(pack);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pack of so many bytes, each another than its neighbours.
    fn pack(len: u64) -> Bytes {
        (0..len).map(|at| (at % 251) as u8).collect::<Vec<_>>().into()
    }

    /// Reads as a store does; how it was answered.
    fn read(nearby: &Nearby, whole: &Bytes, at: u64, len: usize) -> Answer {
        let mut buf = vec![0; len];
        let answer = nearby.ask("p", at, &mut buf);
        let right = &whole[at as usize..at as usize + len];
        match &answer {
            Answer::Held => assert_eq!(buf, right),
            Answer::Bring(range) => {
                let end = range.end.min(whole.len() as u64) as usize;
                let came = whole.slice(range.start as usize..end);
                assert!(nearby.keep("p", (range.start, came), at, &mut buf));
                assert_eq!(buf, right);
            }
            Answer::Alone => nearby.compare("p", at, right),
        }
        answer
    }

    #[test]
    fn the_second_small_read_brings_what_lies_near() {
        let (nearby, whole) = (Nearby::default(), pack(3 << 20));
        assert_eq!(read(&nearby, &whole, 200_000, 100), Answer::Alone);
        assert_eq!(read(&nearby, &whole, 200_300, 100), Answer::Bring(196_608..262_144));
        assert_eq!(read(&nearby, &whole, 200_100, 200), Answer::Held);
        assert_eq!(read(&nearby, &whole, 262_000, 144), Answer::Held);
        // Twice as much, and as far as the read goes.
        assert_eq!(read(&nearby, &whole, 262_100, 100), Answer::Bring(131_072..262_200));
        assert_eq!(read(&nearby, &whole, 1 << 20, SMALL + 1), Answer::Alone);
        assert_eq!(nearby.ask("q", 200_100, &mut [0; 9]), Answer::Alone);
    }

    #[test]
    fn who_reads_again_doubts_what_came() {
        let (nearby, whole) = (Nearby::default(), pack(1 << 20));
        read(&nearby, &whole, 0, 10);
        read(&nearby, &whole, 10, 10);
        assert_eq!(read(&nearby, &whole, 20, 10), Answer::Held);
        assert_eq!(read(&nearby, &whole, 20, 10), Answer::Alone);
        assert_eq!(read(&nearby, &whole, 30, 10), Answer::Held, "it was right");
        nearby.compare("p", 20, &[0; 10]);
        assert!(matches!(read(&nearby, &whole, 40, 10), Answer::Bring(_)), "it was wrong");
        nearby.forget("p");
        assert_eq!(read(&nearby, &whole, 50, 10), Answer::Alone);
    }

    #[test]
    fn what_is_held_has_a_bound() {
        let nearby = Nearby::default();
        let whole = pack(2 << 20);
        for round in 0..100_u64 {
            let name = format!("p{round}");
            for at in [0, 70_000, 300_000, 900_000] {
                let mut buf = [0; 10];
                if let Answer::Bring(range) = nearby.ask(&name, at, &mut buf) {
                    let came = whole.slice(range.start as usize..range.end as usize);
                    assert!(range.end - range.start <= MOST + SMALL as u64);
                    assert!(nearby.keep(&name, (range.start, came), at, &mut buf));
                }
            }
        }
        let state = nearby.lock();
        assert!(state.pieces.len() <= PIECES && state.next.len() <= PACKS);
    }
}
