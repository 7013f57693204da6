//! Stores for tests: what every store must do, and stores that fail in ways real ones do.

mod conformance;
mod fault;
mod full;
mod power_cut;
mod read_only;

pub use conformance::{conforms, name};
pub use fault::{Fault, FaultStore, Operation, Verb};
pub use full::FullStore;
pub use power_cut::PowerCutStore;
pub use read_only::ReadOnlyStore;

/// What is behind the mutexes here is in order whenever it can be seen, so poison means nothing.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
