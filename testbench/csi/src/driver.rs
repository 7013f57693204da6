//! What all services of one driver share.

use tonic::Status;

use crate::answer::{Answer, trouble};
use crate::faults::Faults;
use crate::pool::Pool;
use crate::records::{Record, Snapshot, Volume};

/// A driver of one name on one pool.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) name: String,
    pub(crate) pool: Pool,
    pub(crate) faults: Faults,
}

impl Driver {
    /// The volume with this id, which a caller named.
    pub(crate) fn volume(&self, id: &str) -> Answer<Volume> {
        self.find(id, "volume")
    }

    /// The snapshot with this id, which a caller named.
    pub(crate) fn snapshot(&self, id: &str) -> Answer<Snapshot> {
        self.find(id, "snapshot")
    }

    fn find<R: Record>(&self, id: &str, what: &str) -> Answer<R> {
        let found = self.pool.records.get(id).map_err(trouble)?;
        found.ok_or_else(|| Status::not_found(format!("there is no {what} `{id}`")))
    }

    /// All records of a kind, by id.
    pub(crate) fn all<R: Record>(&self) -> Answer<Vec<R>> {
        self.pool.records.all().map_err(trouble)
    }
}
