//! Which parts of a snapshot have data, and which differ from an earlier one.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::answer::{Answer, blocking, required, trouble};
use crate::driver::Driver;
use crate::faults::Breaks;
use crate::records::{Kind, Snapshot};
use crate::wire::csi::snapshot_metadata_server::SnapshotMetadata;
use crate::wire::csi::{
    BlockMetadata, BlockMetadataType, GetMetadataAllocatedRequest, GetMetadataAllocatedResponse,
    GetMetadataDeltaRequest, GetMetadataDeltaResponse,
};
use crate::{capacity, extents};

/// How many ranges a message has when the caller does not say.
const USUAL: usize = 256;

/// Answers about snapshots of raw volumes.
pub(crate) struct Changes(pub(crate) Arc<Driver>);

/// What is asked for, of any two snapshots or of one.
struct Question {
    base: Option<String>,
    target: String,
    start: i64,
    most: i32,
}

/// The ranges, as they are sent: by message.
#[derive(Debug)]
struct Found {
    messages: Vec<Vec<BlockMetadata>>,
    capacity: i64,
}

type Messages<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl SnapshotMetadata for Changes {
    type GetMetadataAllocatedStream = Messages<GetMetadataAllocatedResponse>;
    type GetMetadataDeltaStream = Messages<GetMetadataDeltaResponse>;

    async fn get_metadata_allocated(
        &self,
        request: Request<GetMetadataAllocatedRequest>,
    ) -> Result<Response<Self::GetMetadataAllocatedStream>, Status> {
        let breaks = broken(&request);
        let asked = request.into_inner();
        let question = Question {
            base: None,
            target: asked.snapshot_id,
            start: asked.starting_offset,
            most: asked.max_results,
        };
        self.answer(question, breaks, |block_metadata, volume_capacity_bytes| {
            let block_metadata_type = BlockMetadataType::VariableLength.into();
            GetMetadataAllocatedResponse {
                block_metadata_type,
                volume_capacity_bytes,
                block_metadata,
            }
        })
        .await
    }

    async fn get_metadata_delta(
        &self,
        request: Request<GetMetadataDeltaRequest>,
    ) -> Result<Response<Self::GetMetadataDeltaStream>, Status> {
        let breaks = broken(&request);
        let asked = request.into_inner();
        required("base_snapshot_id", &asked.base_snapshot_id)?;
        let question = Question {
            base: Some(asked.base_snapshot_id),
            target: asked.target_snapshot_id,
            start: asked.starting_offset,
            most: asked.max_results,
        };
        self.answer(question, breaks, |block_metadata, volume_capacity_bytes| {
            let block_metadata_type = BlockMetadataType::VariableLength.into();
            GetMetadataDeltaResponse { block_metadata_type, volume_capacity_bytes, block_metadata }
        })
        .await
    }
}

fn broken<T>(request: &Request<T>) -> Breaks {
    request.extensions().get::<Breaks>().copied().unwrap_or_default()
}

impl Changes {
    async fn answer<T: Send + 'static>(
        &self,
        question: Question,
        Breaks(breaks): Breaks,
        message: impl Fn(Vec<BlockMetadata>, i64) -> T + Send + 'static,
    ) -> Result<Response<Messages<T>>, Status> {
        let driver = Arc::clone(&self.0);
        let found = blocking(move || driver.changes(&question)).await?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for (number, ranges) in found.messages.into_iter().enumerate() {
                if let Some((_, code)) = breaks.filter(|(after, _)| *after <= number) {
                    let end = Status::new(code, "the stream broke, as asked for");
                    // An error of `send` is a caller who has gone.
                    return sender.send(Err(end)).await.is_ok();
                }
                if sender.send(Ok(message(ranges, found.capacity))).await.is_err() {
                    return false;
                }
            }
            true
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Driver {
    fn changes(&self, question: &Question) -> Answer<Found> {
        required("snapshot_id", &question.target)?;
        let most = match usize::try_from(question.most) {
            Ok(0) => USUAL,
            Ok(most) => most,
            Err(_) => return Err(Status::invalid_argument("max_results is negative")),
        };
        let target = self.raw_snapshot(&question.target)?;
        let base = question.base.as_ref().map(|id| self.raw_snapshot(id)).transpose()?;
        if let Some(base) = &base {
            if base.volume != target.volume {
                return Err(Status::invalid_argument("the snapshots are of different volumes"));
            }
            if base.created > target.created {
                return Err(Status::invalid_argument("the base is the later one"));
            }
        }
        let start = u64::try_from(question.start).ok().filter(|start| *start <= target.size);
        let Some(start) = start else {
            let text = format!("{} is not within {} bytes", question.start, target.size);
            return Err(Status::out_of_range(text));
        };
        let extents =
            |snapshot: &Snapshot| extents::of(&self.pool.snapshot(snapshot)).map_err(trouble);
        let now = extents(&target)?;
        let ranges = match base {
            None => extents::allocated(&now),
            Some(base) => extents::changed(&extents(&base)?, &now, target.size),
        };
        let messages = messages(&extents::from(ranges, start), most);
        Ok(Found { messages, capacity: capacity::told(target.size) })
    }

    fn raw_snapshot(&self, id: &str) -> Answer<Snapshot> {
        let snapshot = self.snapshot(id)?;
        if snapshot.kind != Kind::Block {
            let text = format!("snapshot `{id}` is of a file system: only raw volumes have blocks");
            return Err(Status::invalid_argument(text));
        }
        Ok(snapshot)
    }
}

/// At least one message: the caller is told the capacity also where nothing changed.
fn messages(ranges: &[Range<u64>], most: usize) -> Vec<Vec<BlockMetadata>> {
    let block = |range: &Range<u64>| BlockMetadata {
        byte_offset: capacity::told(range.start),
        size_bytes: capacity::told(range.end - range.start),
    };
    if ranges.is_empty() {
        return vec![Vec::new()];
    }
    ranges.chunks(most).map(|chunk| chunk.iter().map(block).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_no_more_ranges_than_asked_for_and_there_is_always_one() {
        let sent = messages(&[0..4, 8..12, 16..20], 2);
        assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        assert_eq!((sent[1][0].byte_offset, sent[1][0].size_bytes), (16, 4));
        assert_eq!(messages(&[], 2), [[]]);
    }
}
