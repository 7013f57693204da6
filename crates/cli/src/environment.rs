//! Every environment variable this program reads, in one list, read once at the door.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

macro_rules! variables {
    ($($variant:ident = $name:literal, $about:literal;)*) => {
        /// An environment variable that this program reads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Variable {
            $(#[doc = $about] $variant,)*
        }

        impl Variable {
            /// All of them, in the order in which the help lists them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it is for, one sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)* }
            }
        }
    };
}

variables! {
    Repository = "ALIDADE_REPOSITORY", "The repository, as --repository.";
    Password = "ALIDADE_PASSWORD", "The repository's password.";
    PasswordFile = "ALIDADE_PASSWORD_FILE", "The file that holds the password, as --password-file.";
    PasswordCommand = "ALIDADE_PASSWORD_COMMAND", "The command that prints the password, as --password-command.";
    ToRepository = "ALIDADE_TO_REPOSITORY", "The repository that `copy` writes into, as --to.";
    ToPassword = "ALIDADE_TO_PASSWORD", "Its password.";
    ToPasswordFile = "ALIDADE_TO_PASSWORD_FILE", "The file that holds it, as --to-password-file.";
    ToPasswordCommand = "ALIDADE_TO_PASSWORD_COMMAND", "The command that prints it, as --to-password-command.";
    CacheDir = "ALIDADE_CACHE_DIR", "The directory for caches, as --cache-dir.";
    Host = "ALIDADE_HOST", "The host entities belong to, as --host.";
    Progress = "ALIDADE_PROGRESS", "How progress is shown, as --progress.";
    ResticRepository = "RESTIC_REPOSITORY", "The repository; read only with --restic-env.";
    ResticPassword = "RESTIC_PASSWORD", "The password; read only with --restic-env.";
    ResticPasswordFile = "RESTIC_PASSWORD_FILE", "The password file; read only with --restic-env.";
    ResticPasswordCommand = "RESTIC_PASSWORD_COMMAND", "The password command; read only with --restic-env.";
    DataHome = "XDG_DATA_HOME", "Where the default repository and the catalog lie; else ~/.local/share.";
    ConfigHome = "XDG_CONFIG_HOME", "Where the default repository's key lies; else ~/.config.";
    CacheHome = "XDG_CACHE_HOME", "Where caches lie; else ~/.cache.";
    Home = "HOME", "The home directory.";
    TemporaryDir = "TMPDIR", "Where the private directory for temporary files lies with --no-cache; else /tmp.";
    NoColor = "NO_COLOR", "When set and not empty, nothing is coloured.";
}

/// The values of all variables that are set and not empty.
#[derive(Clone, Default)]
pub struct Environment {
    values: BTreeMap<Variable, OsString>,
    /// Those by which stores are reached.
    stores: BTreeMap<String, String>,
}

impl Environment {
    /// Asks `get` for every variable of the list and of [`alidade_stores::VARIABLES`], once.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Self {
        let values = Variable::ALL
            .iter()
            .filter_map(|&variable| Some((variable, get(variable.name())?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let text = |name: &str| get(name).map(|value| value.to_string_lossy().into_owned());
        let stores = alidade_stores::VARIABLES.iter().filter_map(|(name, _)| {
            let value = text(name).filter(|value| !value.is_empty())?;
            Some(((*name).to_owned(), value))
        });
        Self { values, stores: stores.collect() }
    }

    /// The value of a variable; `None` when it is not set or empty.
    #[must_use]
    pub fn get(&self, variable: Variable) -> Option<&OsStr> {
        self.values.get(&variable).map(OsString::as_os_str)
    }

    /// What stores are reached by.
    #[must_use]
    pub(crate) fn stores(&self) -> &BTreeMap<String, String> {
        &self.stores
    }

    /// The list as help text.
    #[must_use]
    pub fn help() -> String {
        let ours = Variable::ALL.iter().map(|variable| (variable.name(), variable.about()));
        let lines: Vec<String> = ours
            .chain(alidade_stores::VARIABLES.iter().copied())
            .map(|(name, about)| format!("  {name:<26} {about}"))
            .collect();
        format!("Environment:\n{}", lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        let environment = Environment::read(|name| match name {
            "ALIDADE_REPOSITORY" => Some("/r".into()),
            "ALIDADE_HOST" => Some(OsString::new()),
            _ => None,
        });
        assert_eq!(environment.get(Variable::Repository), Some(OsStr::new("/r")));
        assert_eq!(environment.get(Variable::Host), None);
        assert_eq!(environment.get(Variable::Home), None);
    }

    #[test]
    fn no_variable_is_listed_twice() {
        let ours = Variable::ALL.iter().map(|variable| variable.name());
        let all = ours.chain(alidade_stores::VARIABLES.iter().map(|(name, _)| *name));
        let mut names: Vec<&str> = all.collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
