//! Opens a store by its place.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alidade_repository::{LocalStore, Store};
use object_store::ObjectStore;

use crate::azure::azure;
use crate::bucket;
use crate::google::google;
use crate::remote::{Prepare, Remote};
#[cfg(feature = "rest")]
use crate::rest::Rest;
#[cfg(feature = "sftp")]
use crate::sftp::Sftp;
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
    /// This program was built without what speaks with such a store.
    #[error("this program was built without the feature `{feature}`")]
    Without {
        /// The feature of its build.
        feature: &'static str,
    },
    /// Of two settings that belong together one is missing.
    #[error("{has} is set and {lacks} is not")]
    Half {
        /// The one that is there.
        has: &'static str,
        /// The other.
        lacks: &'static str,
    },
    /// Keys would be asked for in the open, of another machine.
    #[error("`{url}` is another machine's, and is reached without TLS")]
    Open {
        /// Who would be asked.
        url: String,
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
    let (client, prefix, prepare): (Arc<dyn ObjectStore>, &str, Option<Arc<dyn Prepare>>) =
        match location {
            Location::Local(path) => return Ok(Arc::new(LocalStore::new(path))),
            Location::S3 { endpoint, bucket, prefix } => {
                (bucket::s3((endpoint, bucket), settings, Arc::clone(&meter))?, prefix, None)
            }
            Location::Azure { container, prefix } => {
                (azure(container, settings, Arc::clone(&meter))?, prefix, None)
            }
            Location::Google { bucket, prefix } => {
                (google(bucket, settings, Arc::clone(&meter))?, prefix, None)
            }
            #[cfg(feature = "rest")]
            Location::Rest { url, login } => {
                let rest = Rest::new((url, login.as_ref()), settings, Arc::clone(&meter))?;
                (Arc::new(rest.clone()), "", Some(Arc::new(rest)))
            }
            #[cfg(feature = "sftp")]
            Location::Sftp { server, path } => {
                (Arc::new(Sftp::new((server, path), settings, Arc::clone(&meter))), "", None)
            }
            #[cfg(not(feature = "rest"))]
            Location::Rest { .. } => return Err(OpenError::Without { feature: "rest" }),
            #[cfg(not(feature = "sftp"))]
            Location::Sftp { .. } => return Err(OpenError::Without { feature: "sftp" }),
        };
    let place = (location.to_string(), prefix.to_owned());
    Ok(Arc::new(Remote::new(client, place, meter, settings)?.prepared_by(prepare)))
}
