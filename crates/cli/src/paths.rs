//! Where our own things lie: the default repository, its key, the catalog, caches.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::environment::{Environment, Variable};
use crate::failure::{Failure, Result};

/// The directories of the XDG base directory specification, each with our name below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Paths {
    /// For what must be kept: repository and catalog.
    pub data: PathBuf,
    /// For the key.
    pub config: PathBuf,
    /// For what may be deleted at any time.
    pub cache: PathBuf,
}

impl Paths {
    /// Finds the directories. A relative `XDG_*` path is ignored, as the specification asks.
    ///
    /// # Errors
    /// When neither a variable nor a home directory says where.
    pub(crate) fn find(environment: &Environment) -> Result<Self> {
        let below = |variable: Variable, home: &str| -> Result<PathBuf> {
            let given = environment.get(variable).map(PathBuf::from).filter(|p| p.is_absolute());
            let base = match given {
                Some(base) => base,
                None => environment
                    .get(Variable::Home)
                    .map(|h| Path::new(h).join(home))
                    .filter(|base| base.is_absolute())
                    .ok_or_else(|| no_home(variable))?,
            };
            Ok(base.join("alidade"))
        };
        Ok(Self {
            data: below(Variable::DataHome, ".local/share")?,
            config: below(Variable::ConfigHome, ".config")?,
            cache: below(Variable::CacheHome, ".cache")?,
        })
    }

    /// The repository used when none is named.
    #[must_use]
    pub(crate) fn repository(&self) -> PathBuf {
        self.data.join("repository")
    }

    /// The key of that repository.
    #[must_use]
    pub(crate) fn key(&self) -> PathBuf {
        self.config.join("key")
    }

    /// The catalog.
    #[must_use]
    pub(crate) fn catalog(&self) -> PathBuf {
        self.data.join("catalog.sqlite")
    }
}

fn no_home(variable: Variable) -> Failure {
    let name = variable.name();
    Failure::usage(format!("neither {name} nor HOME holds an absolute path"))
        .hint(format!("set HOME, or {name}, and try again"))
}

/// The path made absolute against `directory`, without `.`, `..`, double or trailing slashes.
/// Purely lexical, so that a symlink in the path keeps its name; the bytes are kept as they are.
#[must_use]
pub(crate) fn absolute(directory: &Path, path: &Path) -> PathBuf {
    let joined = directory.join(path);
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in joined.as_os_str().as_bytes().split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut bytes = vec![b'/'];
    bytes.extend(parts.join(&b'/'));
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    fn environment(pairs: &'static [(&str, &str)]) -> Environment {
        Environment::read(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn the_directories_follow_the_variables_and_else_the_home() {
        let paths =
            Paths::find(&environment(&[("HOME", "/home/u"), ("XDG_DATA_HOME", "/data")])).unwrap();
        assert_eq!(paths.repository(), Path::new("/data/alidade/repository"));
        assert_eq!(paths.catalog(), Path::new("/data/alidade/catalog.sqlite"));
        assert_eq!(paths.key(), Path::new("/home/u/.config/alidade/key"));
        assert_eq!(paths.cache, Path::new("/home/u/.cache/alidade"));
    }

    #[test]
    fn relative_directories_do_not_count() {
        let paths =
            Paths::find(&environment(&[("HOME", "/home/u"), ("XDG_DATA_HOME", "data")])).unwrap();
        assert_eq!(paths.data, Path::new("/home/u/.local/share/alidade"));
        for pairs in [&[][..], &[("HOME", "home")]] {
            let failure = Paths::find(&environment(pairs)).unwrap_err();
            assert_eq!(failure.code, crate::exit::Code::Usage);
        }
    }

    #[test]
    fn paths_are_cleaned_without_asking_the_file_system() {
        for (path, clean) in [
            (&b"a"[..], &b"/work/dir/a"[..]),
            (b".", b"/work/dir"),
            (b"../x//y/./z/", b"/work/x/y/z"),
            (b"/", b"/"),
            (b"/../..", b"/"),
            (b"/a/../../b", b"/b"),
            (b"n\xff\xfe", b"/work/dir/n\xff\xfe"),
        ] {
            let found = absolute(Path::new("/work/dir"), Path::new(OsStr::from_bytes(path)));
            assert_eq!(found.as_os_str().as_bytes(), clean);
        }
    }
}
