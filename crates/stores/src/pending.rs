//! Packs on their way to the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alidade_model::Sabotage;
use alidade_repository::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

/// Uploads that go on while their caller does something else.
#[derive(Debug)]
pub(crate) struct Pending {
    room: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    under_way: Vec<(String, JoinHandle<Result<()>>)>,
    /// Why one of them failed: told to everybody from then on.
    failed: Option<Error>,
}

impl Pending {
    /// Room for so many at a time.
    pub(crate) fn new(uploads: usize) -> Self {
        Self { room: Arc::new(Semaphore::new(uploads.max(1))), state: Mutex::default() }
    }

    /// Waits until there is room for one more.
    ///
    /// # Errors
    /// When one that was begun before has failed.
    pub(crate) async fn room(&self) -> Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.room).acquire_owned().await;
        let permit = permit.map_err(|_closed| Error::Cancelled)?;
        self.collect_ended().await?;
        Ok(permit)
    }

    /// Begins an upload in that room.
    pub(crate) fn begin(
        &self,
        runtime: &Handle,
        name: String,
        room: OwnedSemaphorePermit,
        upload: impl Future<Output = Result<()>> + Send + 'static,
    ) {
        let ending = runtime.spawn(async move {
            let done = upload.await;
            drop(room);
            done
        });
        self.lock().under_way.push((name, ending));
    }

    /// Waits for all that were begun.
    ///
    /// # Errors
    /// When one of them failed.
    pub(crate) async fn settle(&self) -> Result<()> {
        loop {
            let Some((_, next)) = self.lock().under_way.pop() else { return self.verdict() };
            self.note(next.await);
        }
    }

    /// Waits for the one of that name, if it is on its way.
    ///
    /// # Errors
    /// When it failed, or one before it.
    pub(crate) async fn settle_one(&self, name: &str) -> Result<()> {
        let one = {
            let mut state = self.lock();
            let at = state.under_way.iter().position(|(other, _)| other == name);
            at.map(|at| state.under_way.swap_remove(at))
        };
        let Some((_, upload)) = one else { return Ok(()) };
        self.note(upload.await);
        self.verdict()
    }

    async fn collect_ended(&self) -> Result<()> {
        let ended: Vec<_> = {
            let mut state = self.lock();
            state.under_way.extract_if(.., |(_, upload)| upload.is_finished()).collect()
        };
        for (_, upload) in ended {
            self.note(upload.await);
        }
        self.verdict()
    }

    fn note(&self, ended: std::result::Result<Result<()>, tokio::task::JoinError>) {
        let error = match ended {
            Ok(Ok(())) => return,
            Ok(Err(_)) if Sabotage::LoseFailedUpload.is_on() => return,
            Ok(Err(error)) => error,
            Err(error) => Error::store("store a pack", std::io::Error::other(error)),
        };
        self.lock().failed.get_or_insert(error);
    }

    fn verdict(&self) -> Result<()> {
        self.lock().failed.clone().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        for (_, upload) in &self.lock().under_way {
            upload.abort();
        }
    }
}
