//! Opens a store by its place.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alidade_repository::{LocalStore, Store};

use crate::bucket;
use crate::remote::Remote;
use crate::traffic::Meter;
use crate::{Location, Settings};

/// A store that cannot be reached for want of what must be known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A file that was named does not read.
    #[error("read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A profile that was named is in none of the files.
    #[error("the profile `{name}` is not in the files of AWS credentials")]
    Profile {
        /// Its name.
        name: String,
    },
    /// The client refuses what it was told.
    #[error("set up the client of the store")]
    Client(#[from] object_store::Error),
    /// The system gives no threads.
    #[error("start the threads that wait for the store")]
    Threads(#[source] io::Error),
}

impl OpenError {
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        Self::File { path: path.to_owned(), source }
    }
}

/// Opens the store at a place. Nothing is sent yet.
///
/// # Errors
/// When what must be known to reach it is missing or wrong.
pub fn open(location: &Location, settings: &Settings) -> Result<Arc<dyn Store>, OpenError> {
    let meter = Meter::new(settings.upload_limit, settings.download_limit);
    let (client, prefix) = match location {
        Location::Local(path) => return Ok(Arc::new(LocalStore::new(path))),
        Location::S3 { endpoint, bucket, prefix } => {
            (bucket::s3((endpoint, bucket), settings, Arc::clone(&meter))?, prefix)
        }
        Location::Azure { container, prefix } => {
            (bucket::azure(container, settings, Arc::clone(&meter))?, prefix)
        }
        Location::Google { bucket, prefix } => {
            (bucket::google(bucket, settings, Arc::clone(&meter))?, prefix)
        }
    };
    let place = (location.to_string(), prefix.clone());
    Ok(Arc::new(Remote::new(client, place, meter, settings)?))
}
