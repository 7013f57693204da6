//! Entries between being announced and being settled.

use std::collections::VecDeque;
use std::sync::Arc;

use alidade_entity::{EntryNo, Verdict};
use alidade_model::{Entry, Hole, Metadata};
use alidade_repository::{Content, SameNode};

use crate::base_cells::BaseCells;
use crate::stored_sink::Taken;

/// Buffers of entries that are kept to be used again, and the largest of them.
const SPARE: usize = 64;
const SPARE_BYTES: usize = 4 << 10;

/// The entries that are announced and not yet settled, in visit order.
#[derive(Default)]
pub(crate) struct Announced {
    entries: VecDeque<(EntryNo, Begun)>,
    /// Buffers that are used again.
    spare: Vec<Vec<u8>>,
}

/// One of them.
pub(crate) enum Begun {
    /// It has no content, or the content is still to come.
    Open(Entry),
    /// What changed of its content is still to come; the base has the rest.
    Changes(Entry, Arc<BaseCells>),
    /// Unchanged since the base, or it has come: content and holes.
    Known(Entry, Content, Vec<Hole>),
    /// It is in the base as it would be written now.
    Same(Same),
    /// It will not come.
    Abandoned,
}

/// An entry whose node in the base can be used as it is.
pub(crate) struct Same {
    pub(crate) node: SameNode,
    /// Its name, and behind it what it adds to the digest.
    pub(crate) words: Vec<u8>,
    pub(crate) name: usize,
    pub(crate) holes: Vec<Hole>,
    /// The entry itself, of a directory, what is in which may be other than it was.
    pub(crate) directory: Option<Box<Entry>>,
}

impl Announced {
    /// Adds the entry of that number, which is behind all others.
    pub(crate) fn push(&mut self, no: EntryNo, begun: Begun) {
        self.entries.push_back((no, begun));
    }

    /// Takes the first one, when it has that number.
    pub(crate) fn pop(&mut self, no: EntryNo) -> Option<Begun> {
        self.entries.pop_front_if(|(first, _)| *first == no).map(|(_, begun)| begun)
    }

    /// The first one, when its content is still to come.
    pub(crate) fn first_open(&self) -> Option<(EntryNo, &Entry)> {
        match self.entries.front()? {
            (no, Begun::Open(entry)) => Some((*no, entry)),
            _ => None,
        }
    }

    /// An empty buffer.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// One of them.
    pub(crate) fn find(&mut self, no: EntryNo) -> Option<&mut Begun> {
        let at = self.entries.binary_search_by_key(&no, |(no, _)| *no).ok()?;
        self.entries.get_mut(at).map(|(_, begun)| begun)
    }

    /// Keeps a buffer, unless it is large or there are many.
    pub(crate) fn spare(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE && buffer.capacity() <= SPARE_BYTES {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

impl Begun {
    /// The content has come: what was read when it was opened counts, not what the walk saw before.
    pub(crate) fn settle_content(&mut self, taken: Taken, metadata: Metadata, verdict: Verdict) {
        let Taken { content, holes, .. } = taken;
        *self = match std::mem::replace(self, Self::Abandoned) {
            Self::Known(entry, content, _) => Self::Known(entry, content, holes),
            Self::Open(mut entry) | Self::Changes(mut entry, _) => {
                entry.metadata = metadata;
                if verdict != Verdict::Steady {
                    // What was stored is not what lies there now. An inode change time of zero makes
                    // the next run read the file again, ours or stock restic's.
                    entry.metadata.ctime = alidade_model::Time::default();
                }
                Self::Known(entry, content, holes)
            }
            other @ (Self::Same(_) | Self::Abandoned) => other,
        };
    }
}
