//! Where a repository lies, as people write it.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::login::{Login, masked};

/// What a path in an address may not have as it is.
const ESCAPED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'#').add(b'?');

/// The place of a repository. The forms are restic's, so that what names a repository there names it here:
///
/// - `PATH` or `local:PATH`
/// - `s3:https://HOST[:PORT]/BUCKET[/PREFIX]`, `s3:HOST/BUCKET[/PREFIX]`, `s3://HOST/BUCKET[/PREFIX]`
/// - `azure:CONTAINER:/PREFIX`
/// - `gs:BUCKET:/PREFIX`
/// - `rest:http[s]://[USER[:PASSWORD]@]HOST[:PORT]/PATH/`
/// - `sftp:[USER@]HOST:PATH`, `sftp://[USER@]HOST[:PORT]/PATH`; a path that begins with a slash (in the second form a
///   second one) is absolute, any other is below the user's home
///
/// A password in it is never shown.
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
    /// A server of restic's REST protocol.
    Rest {
        /// The server and the path on it, with a slash at its end; no login is in it.
        url: Url,
        /// Who asks, if the place says so.
        login: Option<Login>,
    },
    /// A directory of another machine, which the user's `ssh` reaches.
    Sftp {
        /// The machine.
        server: SftpServer,
        /// The directory there.
        path: String,
    },
}

/// A machine that is reached by `ssh`, in the words of that program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SftpServer {
    /// Whose account; else `ssh` knows.
    pub user: Option<String>,
    /// The machine, or a name that `ssh` knows.
    pub host: String,
    /// The port; else `ssh` knows.
    pub port: Option<u16>,
}

/// A text that names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` names no repository: {why}")]
pub struct NoLocation {
    /// The text, without a password.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl FromStr for Location {
    type Err = NoLocation;

    fn from_str(text: &str) -> Result<Self, NoLocation> {
        let wrong = |why| NoLocation { text: masked(text), why };
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
        if let Some(rest) = text.strip_prefix("rest:") {
            return rest_server(rest).map_err(wrong);
        }
        if text.starts_with("sftp://") {
            return sftp_address(text).map_err(wrong);
        }
        if let Some(rest) = text.strip_prefix("sftp:") {
            return sftp(rest).map_err(wrong);
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
            Self::Rest { url, login } => match login {
                None => write!(f, "rest:{url}"),
                Some(login) => {
                    let rest = url.as_str().strip_prefix(url.scheme()).unwrap_or_default();
                    let rest = rest.strip_prefix("://").unwrap_or_default();
                    write!(f, "rest:{}://{login}@{rest}", url.scheme())
                }
            },
            Self::Sftp { server: SftpServer { user, host, port }, path } => {
                let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                if port.is_none() && !host.contains(':') {
                    return write!(f, "sftp:{user}{host}:{path}");
                }
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                let path = utf8_percent_encode(path, ESCAPED);
                write!(f, "sftp://{user}{host}{port}/{path}")
            }
        }
    }
}

/// `http[s]://[USER[:PASSWORD]@]HOST[:PORT]/PATH/`.
fn rest_server(text: &str) -> Result<Location, &'static str> {
    if !(text.starts_with("http://") || text.starts_with("https://")) {
        return Err("the server is reached by `http` or `https`");
    }
    let mut url = Url::parse(text).map_err(|_why| "that is no address of a server")?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a question mark or a hash does not belong there");
    }
    clean(url.path())?;
    let login = Login::of(&url);
    let bare = url.set_username("").and_then(|()| url.set_password(None));
    bare.map_err(|()| "it has no server")?;
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(Location::Rest { url, login })
}

/// `sftp://[USER@]HOST[:PORT]/PATH`.
fn sftp_address(text: &str) -> Result<Location, &'static str> {
    let url = Url::parse(text).map_err(|_why| "that is no address of a server")?;
    if url.password().is_some() {
        return Err("passwords do not belong there: `ssh` asks for them, or has keys");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a question mark or a hash is written `%3F` or `%23` there");
    }
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(Cow::into_owned).map_err(|_why| "it is not UTF-8")
    };
    let user = if url.username().is_empty() { None } else { Some(decoded(url.username())?) };
    let host = decoded(url.host_str().unwrap_or_default())?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let path = decoded(url.path())?;
    let path = path.strip_prefix('/').ok_or("it has no directory")?;
    located(SftpServer { user, host, port: url.port() }, path)
}

/// `[USER@]HOST:PATH`.
fn sftp(text: &str) -> Result<Location, &'static str> {
    let (server, path) = text.split_once(':').ok_or("after the host stands `:` and a directory")?;
    let (user, host) = match server.rsplit_once('@') {
        Some((user, host)) => (Some(user.to_owned()), host),
        None => (None, server),
    };
    located(SftpServer { user, host: host.to_owned(), port: None }, path)
}

/// What would be taken for something else by `ssh` or by the server is refused.
fn located(server: SftpServer, path: &str) -> Result<Location, &'static str> {
    let SftpServer { user, host, .. } = &server;
    if host.is_empty() {
        return Err("it has no server");
    }
    if host.starts_with('-') || user.as_ref().is_some_and(|user| user.starts_with('-')) {
        return Err("what begins with `-` would be an option of `ssh`");
    }
    if host.contains(':') && host.parse::<Ipv6Addr>().is_err() {
        return Err("that is no address of a server");
    }
    if path.starts_with('~') {
        return Err(
            "a server does not know `~`: a path without a slash before it is below the home",
        );
    }
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let root = if path.starts_with('/') { "/" } else { "" };
    let path = match format!("{root}{}", parts.join("/")) {
        path if path.is_empty() => ".".to_owned(),
        path => path,
    };
    Ok(Location::Sftp { server, path })
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
            ("rest:http://host:8000", "rest:http://host:8000/"),
            ("rest:https://host/a/b", "rest:https://host/a/b/"),
            ("rest:https://host/a/b/", "rest:https://host/a/b/"),
            ("rest:http://anna@host/", "rest:http://anna@host/"),
            ("rest:http://anna:se%40cret@host/a", "rest:http://anna:***@host/a/"),
            ("rest:http://[::1]:8000/a/", "rest:http://[::1]:8000/a/"),
            ("rest:host/a", "the server is reached by `http` or `https`"),
            ("rest:ftp://host/a", "the server is reached by `http` or `https`"),
            ("rest:http:///", "that is no address of a server"),
            ("rest:http://host:99999/", "that is no address of a server"),
            ("rest:http://host/?a=b", "a question mark or a hash does not belong there"),
            ("rest:http://host/a//b", "a part of the prefix is empty, `.` or `..`"),
            ("sftp:host:a/b", "sftp:host:a/b"),
            ("sftp:anna@host:/srv//x/", "sftp:anna@host:/srv/x"),
            ("sftp:anna@corp@host:x", "sftp:anna@corp@host:x"),
            ("sftp:host:", "sftp:host:."),
            ("sftp:host:/", "sftp:host:/"),
            ("sftp://host/a/b", "sftp:host:a/b"),
            ("sftp://anna@host//srv/x", "sftp:anna@host:/srv/x"),
            ("sftp://anna@host:2222//srv/a%20b", "sftp://anna@host:2222//srv/a%20b"),
            ("sftp://[::1]:22/x", "sftp://[::1]:22/x"),
            ("sftp://[::1]/x", "sftp://[::1]/x"),
            ("sftp:host", "after the host stands `:` and a directory"),
            ("sftp::/x", "it has no server"),
            ("sftp:-oProxyCommand=x:/x", "what begins with `-` would be an option of `ssh`"),
            ("sftp://-x@host/x", "what begins with `-` would be an option of `ssh`"),
            ("sftp://host", "it has no directory"),
            (
                "sftp:host:~/x",
                "a server does not know `~`: a path without a slash before it is below the home",
            ),
            (
                "sftp://a:b@host/x",
                "passwords do not belong there: `ssh` asks for them, or has keys",
            ),
        ] {
            assert_eq!(shown(text), place, "{text}");
        }
    }

    #[test]
    fn what_is_shown_names_the_same_place() {
        for text in [
            "rest:https://host:8000/a%20b/",
            "sftp:anna@host:/srv/x y",
            "sftp://host:2222//srv/100%25/a%20b%23",
            "sftp://[fe80::1]//srv",
        ] {
            let place: Location = text.parse().unwrap();
            assert_eq!(place.to_string().parse::<Location>().unwrap(), place, "{text}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let place: Location = "rest:http://anna:hidden@host/a".parse().unwrap();
        let wrong = "rest:http://anna:hidden@host/?x".parse::<Location>().unwrap_err();
        let odd = "rest:gopher://anna:hidden@host/".parse::<Location>().unwrap_err();
        for text in [format!("{place} {place:?}"), wrong.to_string(), odd.to_string()] {
            assert!(!text.contains("hidden") && text.contains("host"), "{text}");
        }
    }
}
