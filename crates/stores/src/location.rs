//! Where a repository lies, as people write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The place of a repository. The forms are restic's, so that what names a repository there names it here:
///
/// - `PATH` or `local:PATH`
/// - `s3:https://HOST[:PORT]/BUCKET[/PREFIX]`, `s3:HOST/BUCKET[/PREFIX]`, `s3://HOST/BUCKET[/PREFIX]`
/// - `azure:CONTAINER:/PREFIX`
/// - `gs:BUCKET:/PREFIX`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A directory of this machine.
    Local(PathBuf),
    /// A bucket of S3 or of what speaks its language.
    S3 {
        /// The server, with scheme and port.
        endpoint: String,
        /// The bucket.
        bucket: String,
        /// What the names of the repository's objects begin with; no slash at either end.
        prefix: String,
    },
    /// A container of Azure Blob Storage.
    Azure {
        /// The container.
        container: String,
        /// As for S3.
        prefix: String,
    },
    /// A bucket of Google Cloud Storage.
    Google {
        /// The bucket.
        bucket: String,
        /// As for S3.
        prefix: String,
    },
}

/// A text that names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no repository: {why}")]
pub struct NoLocation {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl FromStr for Location {
    type Err = NoLocation;

    fn from_str(text: &str) -> Result<Self, NoLocation> {
        let wrong = |why| NoLocation { text: text.to_owned(), why };
        if let Some(path) = text.strip_prefix("local:") {
            return Ok(Self::Local(path.into()));
        }
        if let Some(rest) = text.strip_prefix("s3:") {
            return s3(rest).map_err(wrong);
        }
        if let Some(rest) = text.strip_prefix("azure:") {
            let (container, prefix) = container(rest).map_err(wrong)?;
            return Ok(Self::Azure { container, prefix });
        }
        if let Some(rest) = text.strip_prefix("gs:") {
            let (bucket, prefix) = container(rest).map_err(wrong)?;
            return Ok(Self::Google { bucket, prefix });
        }
        Ok(Self::Local(text.into()))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "{}", path.display()),
            Self::S3 { endpoint, bucket, prefix } => {
                write!(f, "s3:{endpoint}/{bucket}")?;
                if prefix.is_empty() { Ok(()) } else { write!(f, "/{prefix}") }
            }
            Self::Azure { container, prefix } => write!(f, "azure:{container}:/{prefix}"),
            Self::Google { bucket, prefix } => write!(f, "gs:{bucket}:/{prefix}"),
        }
    }
}

/// `[SCHEME://]HOST/BUCKET[/PREFIX]`, or `//HOST/…`, or `/BUCKET/…` of Amazon.
fn s3(text: &str) -> Result<Location, &'static str> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some(_) => return Err("the server is reached by `http` or `https`"),
        None => ("https", text.trim_start_matches('/')),
    };
    let (host, rest) = rest.split_once('/').ok_or("it has no bucket")?;
    if host.is_empty() {
        return Err("it has no server");
    }
    if host.contains('@') {
        return Err("keys do not belong there");
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err("it has no bucket");
    }
    let endpoint = format!("{scheme}://{host}");
    Ok(Location::S3 { endpoint, bucket: bucket.to_owned(), prefix: clean(prefix)? })
}

/// `NAME:/PREFIX` or `NAME:PREFIX`.
fn container(text: &str) -> Result<(String, String), &'static str> {
    let (name, prefix) = text.split_once(':').ok_or("after its name stands `:/`")?;
    if name.is_empty() {
        return Err("it has no name");
    }
    Ok((name.to_owned(), clean(prefix)?))
}

/// A prefix without slashes at its ends.
fn clean(prefix: &str) -> Result<String, &'static str> {
    let prefix = prefix.trim_matches('/');
    let is_odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if !prefix.is_empty() && prefix.split('/').any(is_odd) {
        return Err("a part of the prefix is empty, `.` or `..`");
    }
    Ok(prefix.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match text.parse::<Location>() {
            Ok(Location::Local(path)) => format!("local {}", path.display()),
            Ok(location) => location.to_string(),
            Err(error) => error.why.to_owned(),
        }
    }

    #[test]
    fn places_are_read_as_restic_writes_them() {
        for (text, place) in [
            ("/srv/repo", "local /srv/repo"),
            ("local:a b", "local a b"),
            ("relative/dir", "local relative/dir"),
            ("s3:https://example.org:9000/bucket", "s3:https://example.org:9000/bucket"),
            ("s3:http://127.0.0.1:9000/b/a/c/", "s3:http://127.0.0.1:9000/b/a/c"),
            ("s3:s3.amazonaws.com/bucket/x", "s3:https://s3.amazonaws.com/bucket/x"),
            ("s3://s3.eu-west-1.amazonaws.com/b", "s3:https://s3.eu-west-1.amazonaws.com/b"),
            ("azure:box:/", "azure:box:/"),
            ("azure:box:/a/b", "azure:box:/a/b"),
            ("gs:box:/a", "gs:box:/a"),
            ("gs:box:a", "gs:box:/a"),
            ("s3:", "it has no bucket"),
            ("s3:https:///bucket", "it has no server"),
            ("s3:https://host/", "it has no bucket"),
            ("s3:ftp://host/b", "the server is reached by `http` or `https`"),
            ("s3:https://key:secret@host/b", "keys do not belong there"),
            ("s3:https://host/b/a//c", "a part of the prefix is empty, `.` or `..`"),
            ("s3:https://host/b/../c", "a part of the prefix is empty, `.` or `..`"),
            ("azure:box", "after its name stands `:/`"),
            ("gs::/x", "it has no name"),
        ] {
            assert_eq!(shown(text), place, "{text}");
        }
    }
}
