//! What can be said of a disk when it was read.

use std::sync::Arc;

use alidade_entity::{Cx, Ending, Lease, Result};
use alidade_model::Consistency;

use super::changes::Stamp;
use super::clone::Reflink;
use super::image::{Image, Nature};
use super::users::writes_to;

/// Watches a disk while it is read.
pub(crate) struct DiskLease {
    cx: Cx,
    image: Arc<Image>,
    before: State,
    /// True when somebody may write to it and it is read all the same.
    is_live: bool,
}

/// What tells that a disk was written to.
#[derive(PartialEq, Eq)]
enum State {
    File(Option<Stamp>),
    /// Writes, as the system counts them.
    Device(Option<u64>),
}

impl State {
    fn of(image: &Image) -> Result<Self> {
        Ok(match image.nature {
            Nature::File => Self::File(Stamp::of(image)?),
            Nature::Device(device) => Self::Device(writes_to(device)),
        })
    }
}

impl DiskLease {
    /// Watches from now on.
    ///
    /// # Errors
    /// When the system does not say what the file is.
    pub(crate) fn new(cx: &Cx, image: Arc<Image>, is_live: bool) -> Result<Self> {
        let before = State::of(&image)?;
        Ok(Self { cx: cx.clone(), image, before, is_live })
    }
}

/// Holds the clone that is read.
pub(crate) struct CloneLease {
    pub(crate) clone: Reflink,
    pub(crate) image: Arc<Image>,
}

impl Lease for CloneLease {
    fn finish(mut self: Box<Self>) -> Result<Ending> {
        let next = Some(self.clone.keep(&self.image.fd)?);
        Ok(Ending { next, ..Ending::of(Consistency::Crash) })
    }
}

impl Lease for DiskLease {
    fn finish(self: Box<Self>) -> Result<Ending> {
        let is_same = State::of(&self.image)? == self.before;
        let is_still = is_same && !self.is_live && self.before != State::Device(None);
        if !is_still {
            return Ok(Ending::of(Consistency::Torn));
        }
        let next = match self.before {
            State::File(Some(stamp)) => stamp.base(self.cx.now()),
            State::File(None) | State::Device(_) => None,
        };
        Ok(Ending { next, ..Ending::of(Consistency::Crash) })
    }
}
