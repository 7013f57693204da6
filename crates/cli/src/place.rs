//! Where the repository is.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;

use alidade_stores::Location;

use crate::environment::{Environment, Variable};
use crate::failure::{Failure, Result};
use crate::paths::{Paths, absolute};

/// Prefixes that name stores over a network.
const REMOTE: [&str; 5] = ["s3:", "azure:", "gs:", "rest:", "sftp:"];
/// Prefixes that name stores other programs of this format know, and this one does not yet.
const UNKNOWN: [&str; 3] = ["b2:", "swift:", "rclone:"];

/// Where the repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The place; a directory is absolute.
    pub location: Location,
    /// True for the embedded default: its key lies in a file of ours.
    pub is_default: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.location.fmt(f)
    }
}

impl Place {
    /// The directory, where it is one.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.location {
            Location::Local(path) => Some(path),
            _ => None,
        }
    }

    /// Decides: the option, then `ALIDADE_REPOSITORY`, then, where asked for, `RESTIC_REPOSITORY`,
    /// then the embedded default.
    ///
    /// # Errors
    /// When the text names no place, or there is no home for the default.
    pub(crate) fn choose(
        option: Option<&OsString>,
        environment: &Environment,
        restic: bool,
        directory: &Path,
        paths: &Result<Paths>,
    ) -> Result<Self> {
        let foreign = if restic { environment.get(Variable::ResticRepository) } else { None };
        let named =
            option.map(OsString::as_os_str).or(environment.get(Variable::Repository)).or(foreign);
        match named {
            Some(named) => Self::named(named, directory, paths),
            None => {
                let default = paths.clone()?.repository();
                Ok(Self { location: Location::Local(default), is_default: true })
            }
        }
    }

    /// The place that a text names.
    ///
    /// # Errors
    /// When it names none.
    pub(crate) fn named(named: &OsStr, directory: &Path, paths: &Result<Paths>) -> Result<Self> {
        let default = paths.clone().map(|paths| paths.repository());
        let bytes = named.as_bytes();
        let begins = |prefixes: &[&'static str]| {
            prefixes.iter().find(|prefix| bytes.starts_with(prefix.as_bytes())).copied()
        };
        if let Some(kind) = begins(&REMOTE) {
            let location = Location::from_str(&named.to_string_lossy()).map_err(|error| {
                Failure::usage(error.to_string())
                    .hint(format!("if it is a directory of that name: `-r ./{kind}…`"))
            })?;
            return Ok(Self { location, is_default: false });
        }
        if let Some(kind) = begins(&UNKNOWN) {
            return Err(Failure::usage(format!("`{kind}` repositories are not supported"))
                .hint(format!("if it is a directory of that name: `-r ./{kind}…`")));
        }
        let path = bytes.strip_prefix(b"local:").unwrap_or(bytes);
        if path.is_empty() {
            return Err(Failure::usage("the repository's name is empty"));
        }
        let path = absolute(directory, Path::new(OsStr::from_bytes(path)));
        let is_default = default.is_ok_and(|default| default == path);
        Ok(Self { location: Location::Local(path), is_default })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(option: Option<&str>, restic: bool, set: &[(&str, &str)]) -> Result<Place> {
        let environment = Environment::read(|name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        });
        let paths = Paths::find(&environment);
        let option = option.map(OsString::from);
        Place::choose(option.as_ref(), &environment, restic, Path::new("/work"), &paths)
    }

    #[test]
    fn the_option_wins_then_our_variable_then_restics_then_the_default() {
        let set =
            [("ALIDADE_REPOSITORY", "ours"), ("RESTIC_REPOSITORY", "/theirs"), ("HOME", "/h")];
        let path = |place: Result<Place>| place.unwrap().to_string();
        assert_eq!(path(chosen(Some("x"), true, &set)), "/work/x");
        assert_eq!(path(chosen(None, true, &set)), "/work/ours");
        assert_eq!(path(chosen(None, true, &set[1..])), "/theirs");
        let default = chosen(None, false, &set[1..]).unwrap();
        assert_eq!(default.directory(), Some(Path::new("/h/.local/share/alidade/repository")));
        assert!(default.is_default);
    }

    #[test]
    fn the_default_is_known_by_its_path_too() {
        let set = [("HOME", "/h")];
        let named = chosen(Some("/h/.local/share/alidade/repository/"), false, &set).unwrap();
        assert!(named.is_default);
        assert!(!chosen(Some("local:/elsewhere"), false, &[]).unwrap().is_default);
    }

    #[test]
    fn a_bucket_is_a_place() {
        let place =
            chosen(Some("s3:http://host:9000/bucket/a/"), false, &[("HOME", "/h")]).unwrap();
        assert_eq!(
            (place.to_string().as_str(), place.directory()),
            ("s3:http://host:9000/bucket/a", None)
        );
        assert!(!place.is_default);
    }

    #[test]
    fn what_names_no_place_is_refused() {
        for bad in ["s3:host", "azure:box", "rest:host", "sftp:host", "b2:bucket", "local:"] {
            assert_eq!(
                chosen(Some(bad), false, &[]).unwrap_err().code,
                crate::Code::Usage,
                "{bad}"
            );
        }
    }
}
