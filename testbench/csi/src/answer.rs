//! What goes wrong, as the caller hears it.

use std::io;

use tonic::Status;

/// What an operation gives: a value, or the refusal that is sent.
pub(crate) type Answer<T> = Result<T, Status>;

/// What went wrong here and is no fault of the caller.
pub(crate) fn trouble(error: anyhow::Error) -> Status {
    let is_full = error.chain().any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    });
    let text = format!("{error:#}");
    drop(error);
    if is_full { Status::resource_exhausted(text) } else { Status::internal(text) }
}

/// A field that must not be empty.
pub(crate) fn required<'a>(name: &str, value: &'a str) -> Answer<&'a str> {
    if value.is_empty() {
        return Err(Status::invalid_argument(format!("{name} is missing")));
    }
    Ok(value)
}

/// Runs work that blocks, to its end: also when the caller has gone.
pub(crate) async fn blocking<T, F>(work: F) -> Answer<T>
where
    T: Send + 'static,
    F: FnOnce() -> Answer<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(Status::internal(format!("the work did not end: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart() {
        let full = anyhow::Error::new(io::Error::from(io::ErrorKind::StorageFull)).context("write");
        assert_eq!(trouble(full).code(), tonic::Code::ResourceExhausted);
        assert_eq!(trouble(anyhow::anyhow!("x")).code(), tonic::Code::Internal);
    }

    #[test]
    fn an_empty_field_is_named() {
        assert_eq!(required("name", "a").unwrap(), "a");
        assert_eq!(required("name", "").unwrap_err().message(), "name is missing");
    }
}
