//! Where the repository is.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::environment::{Environment, Variable};
use crate::failure::{Failure, Result};
use crate::paths::{Paths, absolute};

/// Prefixes that name stores other programs of this format know, and this one does not yet.
const REMOTE: [&str; 8] = ["s3:", "sftp:", "rest:", "azure:", "gs:", "b2:", "swift:", "rclone:"];

/// Where the repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The directory, absolute.
    pub path: PathBuf,
    /// True for the embedded default: its key lies in a file of ours.
    pub is_default: bool,
}

impl Place {
    /// Decides: the option, then `ALIDADE_REPOSITORY`, then, where asked for, `RESTIC_REPOSITORY`,
    /// then the embedded default.
    ///
    /// # Errors
    /// When the place named is not a directory of this machine, or there is no home for the default.
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
        let default = paths.clone().map(|paths| paths.repository());
        let Some(named) = named else {
            return Ok(Self { path: default?, is_default: true });
        };
        let bytes = named.as_bytes();
        if let Some(kind) = REMOTE.iter().find(|prefix| bytes.starts_with(prefix.as_bytes())) {
            return Err(Failure::usage(format!(
                "`{kind}` repositories are not supported; name a directory"
            ))
            .hint(format!("if it is a directory of that name: `-r ./{kind}…`")));
        }
        let path = bytes.strip_prefix(b"local:").unwrap_or(bytes);
        if path.is_empty() {
            return Err(Failure::usage("the repository's name is empty"));
        }
        let path = absolute(directory, Path::new(std::ffi::OsStr::from_bytes(path)));
        let is_default = default.is_ok_and(|default| default == path);
        Ok(Self { path, is_default })
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
        let path = |place: Result<Place>| place.unwrap().path.display().to_string();
        assert_eq!(path(chosen(Some("x"), true, &set)), "/work/x");
        assert_eq!(path(chosen(None, true, &set)), "/work/ours");
        assert_eq!(path(chosen(None, true, &set[1..])), "/theirs");
        let default = chosen(None, false, &set[1..]).unwrap();
        assert_eq!(default.path, Path::new("/h/.local/share/alidade/repository"));
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
    fn places_that_are_no_directories_are_refused() {
        for bad in ["s3:host/bucket", "rest:http://host/", "local:"] {
            assert_eq!(
                chosen(Some(bad), false, &[]).unwrap_err().code,
                crate::Code::Usage,
                "{bad}"
            );
        }
    }
}
