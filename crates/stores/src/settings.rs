//! What must be known to reach a store.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use alidade_entity::Cancel;

/// How long nothing may come before a request counts as broken.
const SILENCE: Duration = Duration::from_secs(60);
/// However little patience there is.
const LEAST: Duration = Duration::from_secs(2);
/// The server that gives keys to this machine's role; the first is Amazon's own name for it.
pub(crate) const METADATA: [&str; 2] =
    ["AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_METADATA_ENDPOINT"];

/// How to reach a store.
#[derive(Clone)]
pub struct Settings {
    /// What the environment says under the names of [`crate::VARIABLES`]; others are passed over.
    pub environment: BTreeMap<String, String>,
    /// The home directory, where files with credentials lie.
    pub home: Option<PathBuf>,
    /// Certificates that are trusted beside the system's: a PEM file.
    pub ca_certificates: Option<PathBuf>,
    /// Name the bucket in the path, not in the host name; `None` does so for all servers but Amazon's.
    pub path_style: Option<bool>,
    /// The command that speaks SFTP with the server on its standard input and output, in the words of a shell;
    /// `None` is `ssh`.
    pub sftp_command: Option<String>,
    /// Bytes a second that are sent at most.
    pub upload_limit: Option<u64>,
    /// Bytes a second that are received at most.
    pub download_limit: Option<u64>,
    /// How long a request is tried again before the store counts as unreachable.
    pub patience: Duration,
    /// Packs that are on their way at a time.
    pub uploads: usize,
    /// Ends requests that are under way.
    pub cancel: Cancel,
}

impl Settings {
    /// Nothing from the environment, no limits, three minutes of patience, two packs on their way.
    #[must_use]
    pub fn new(cancel: Cancel) -> Self {
        Self {
            environment: BTreeMap::new(),
            home: None,
            ca_certificates: None,
            path_style: None,
            sftp_command: None,
            upload_limit: None,
            download_limit: None,
            patience: Duration::from_secs(180),
            uploads: 2,
            cancel,
        }
    }

    /// How long nothing may come before a request counts as broken.
    pub(crate) fn silence(&self) -> Duration {
        SILENCE.min(self.patience.max(LEAST))
    }

    /// What the environment says under that name, if it is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// What it says under the first of these names that says anything.
    pub(crate) fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secret.
        let names: Vec<&String> = self.environment.keys().collect();
        f.debug_struct("Settings").field("environment", &names).finish_non_exhaustive()
    }
}
