/// A reason to leave something out, with the name under which plans and outcomes count it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A pattern as given by `--exclude`, read by [`crate::Pattern`].
    Pattern(String),
    /// A directory that holds a file of that name (`--exclude-if-present NAME[:HEADER]`).
    IfPresent {
        /// Name of the marker file.
        name: String,
        /// Bytes the marker file must begin with; empty for any.
        header: String,
    },
    /// Files larger than so many bytes (`--exclude-larger-than`).
    LargerThan(u64),
    /// Directories on another file system (`--one-file-system`); the mount point itself is kept.
    OneFileSystem,
    /// Exactly this path and what is below it, because it is ours: `own repository`, `own key`, ….
    Own {
        /// What lies there.
        what: String,
        /// Absolute path, raw bytes.
        path: Vec<u8>,
    },
}

impl Rule {
    /// The name of the rule, as plans and outcomes show it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Pattern(pattern) => format!("exclude {pattern}"),
            Self::IfPresent { name, header } if header.is_empty() => {
                format!("exclude-if-present {name}")
            }
            Self::IfPresent { name, .. } if name == "CACHEDIR.TAG" => "exclude-caches".to_owned(),
            Self::IfPresent { name, header } => format!("exclude-if-present {name}:{header}"),
            Self::LargerThan(bytes) => format!("exclude-larger-than {bytes}"),
            Self::OneFileSystem => "one-file-system".to_owned(),
            Self::Own { what, path } => format!("own {what} {}", String::from_utf8_lossy(path)),
        }
    }
}

/// What of an entity is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Rules that leave something out; the first that holds is counted.
    pub rules: Vec<Rule>,
    /// Only these paths (absolute, raw bytes) and what is below them; empty means everything.
    pub only: Vec<Vec<u8>>,
    /// Only what fits one of these patterns, and what is below it; empty means everything.
    pub include: Vec<String>,
}
