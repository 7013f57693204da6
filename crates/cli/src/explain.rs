//! From what engines report to exit codes and hints: the one place that knows both.

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;

use alidade_entity::Class;
use alidade_protect as protect;
use alidade_repository as repository;
use alidade_stores::{Giver, Location, OpenError, giver};

use crate::app::App;
use crate::exit::Code;
use crate::failure::{Failure, chain};
use crate::text::shell_word;

/// How it is said that nobody vouches for a server.
const UNTRUSTED: &str = "invalid peer certificate";
/// How it is said that a server gives and takes, and removes nothing.
const APPEND_ONLY: &str = "append-only";
/// How `ssh` says that a server is not the one it was.
const OTHER_HOST: &str = "Host key verification failed";
/// How it is said that there is no `ssh`.
const NO_SSH: &str = "the program that reaches the server does not start";
/// How `ssh` says that nobody lets this user in.
const NOT_LET_IN: &str = "Permission denied (";
/// How servers of S3 call a request whose time is not theirs.
const SKEWED: &str = "RequestTimeTooSkewed";

impl App {
    /// An engine's failure with its exit code and the next command.
    pub(crate) fn explain(&self, error: &protect::Error) -> Failure {
        let code = self.code_of(error);
        let failure = Failure::new(code, chain(error));
        match error {
            protect::Error::Repository(error) => return self.explain_repository(error),
            protect::Error::Catalog(error) => return self.explain_catalog(error),
            protect::Error::Then { first, second } => {
                // Each with its own causes.
                let (first, second) = (self.explain(first), self.explain(second));
                let message = format!("{}; and afterwards: {}", first.message, second.message);
                return Failure { code, message, hint: first.hint.or(second.hint) };
            }
            protect::Error::Entity(error) if error.class() == Class::Failed => {
                return Failure { hint: self.hint_below(error), ..failure };
            }
            _ => {}
        }
        match code {
            Code::NotFound => match error {
                protect::Error::Entity(_) => failure,
                _ => {
                    failure.hint(format!("see what is there: `{}`", self.command(&[b"snapshots"])))
                }
            },
            Code::Conflict => failure.hint("name a directory that is new or empty with `--target`"),
            Code::Damaged => failure.hint(self.check_hint()),
            _ => failure,
        }
    }

    /// What to do about a failure of a copy: what failed may be the repository below it, or the
    /// system below a plug.
    fn hint_below(&self, error: &alidade_entity::Error) -> Option<String> {
        if let Some(error) = below::<repository::Error>(error) {
            return self.explain_repository(error).hint;
        }
        match below::<std::io::Error>(error)?.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(
                "make room where it is written, and run it again; a restore begins again in a \
                 directory that is new or empty"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    fn code_of(&self, error: &protect::Error) -> Code {
        match error {
            protect::Error::Repository(error) => code_of_repository(error),
            protect::Error::Entity(error) => code_of_entity(error),
            protect::Error::NotFound { .. } => Code::NotFound,
            protect::Error::Conflict { .. } => Code::Conflict,
            protect::Error::Usage(_) => Code::Usage,
            protect::Error::Record { .. } => Code::Damaged,
            protect::Error::Then { first, second } => self.code_of(first).and(self.code_of(second)),
            _ => Code::Failed,
        }
    }

    /// A repository's failure with its exit code and the next command.
    pub(crate) fn explain_repository(&self, error: &repository::Error) -> Failure {
        use repository::Error as E;
        let failure = Failure::of(code_of_repository(error), error);
        match error {
            E::NoRepository { .. } => {
                let init = self.command(&[b"init"]);
                failure.hint(format!("make one: `{init}`"))
            }
            E::Exists { .. } => {
                let look = self.command(&[b"snapshots"]);
                failure.hint(format!("see what it holds: `{look}`"))
            }
            E::WrongPassword { .. } => failure.hint(self.password_hint()),
            E::UnknownVersion { .. } => {
                failure.hint("a newer program wrote it: use a newer version of this one")
            }
            E::Locked { stale: true, .. } => {
                let unlock = self.command(&[b"unlock"]);
                failure.hint(format!("if nothing uses it any more: `{unlock}`"))
            }
            E::Locked { .. } => {
                failure.hint(format!("wait for it: `{}`", self.again(&["--retry-lock", "5m"])))
            }
            E::LockLost => failure.hint(format!("run it again: `{}`", self.again(&[]))),
            E::Damaged { .. } | E::NotFound { .. } => failure.hint(self.check_hint()),
            E::SelfCheck { .. } => failure.hint(
                "nothing damaged was stored; this machine's memory or processor is at fault: test it",
            ),
            E::Store { source, .. } => match self.store_hint(source) {
                Some(hint) => failure.hint(hint),
                None => failure,
            },
            _ => failure,
        }
    }

    /// A failure of the catalog with the next command.
    pub(crate) fn explain_catalog(&self, error: &alidade_catalog::Error) -> Failure {
        use alidade_catalog::Error as E;
        match error {
            E::Corrupt { path, what } => {
                let rebuild = self.command(&[b"catalog", b"rebuild"]);
                Failure::new(
                    Code::Failed,
                    format!("the catalog {} is damaged: {what}", path.display()),
                )
                .hint(format!("bring it back from the repository: `{rebuild}`"))
            }
            E::AmbiguousRun { .. } => Failure::of(Code::Usage, error),
            E::Busy { .. } => Failure::of(Code::Failed, error)
                .hint(format!("run it again: `{}`", self.again(&[]))),
            E::File { .. } | E::Database { .. } => {
                let failure = Failure::of(Code::Failed, error);
                let Ok(paths) = &self.paths else { return failure };
                let place = shell_word(paths.data.as_os_str().as_bytes());
                failure.hint(format!(
                    "the directory of the catalog must have room and be writable: `df -h {place}`"
                ))
            }
            _ => Failure::of(Code::Failed, error),
        }
    }

    /// What to do about a store that refuses, or does not answer.
    fn store_hint(&self, source: &std::io::Error) -> Option<String> {
        let kind = source.kind();
        match self.place().map(|place| place.location) {
            Ok(Location::Local(_)) | Err(_) => local_hint(kind).map(str::to_owned),
            Ok(Location::Sftp { server, path }) => {
                Some(self.sftp_hint(source, &server.host, &path))
            }
            Ok(_) => Some(self.bucket_hint(source)),
        }
    }

    fn bucket_hint(&self, source: &std::io::Error) -> String {
        let said = chain(source);
        if let Some(giver) = giver(source)
            && !said.contains(UNTRUSTED)
            && !said.contains(SKEWED)
        {
            return giver_hint(giver).to_owned();
        }
        match source.kind() {
            _ if said.contains(UNTRUSTED) => {
                "trust the certificate of the server: `--cacert FILE`".to_owned()
            }
            _ if said.contains(SKEWED) => {
                "set this machine's clock: the server refuses requests of another time".to_owned()
            }
            _ if said.contains(APPEND_ONLY) => {
                "only who runs the server can remove anything: there, without `--append-only`"
                    .to_owned()
            }
            ErrorKind::PermissionDenied => {
                "the store refuses these credentials: which ones are used is said under \
                 `Environment` by `alidade --help`"
                    .to_owned()
            }
            ErrorKind::StorageFull => {
                "make room on the server and run it again: what was stored until now is used"
                    .to_owned()
            }
            _ => self.later(),
        }
    }

    fn sftp_hint(&self, source: &std::io::Error, host: &str, path: &str) -> String {
        let (said, host) = (chain(source), shell_word(host.as_bytes()));
        match source.kind() {
            _ if said.contains(OTHER_HOST) => format!(
                "`ssh` does not know the server by its key; when it is the right one, accept it: `ssh {host}`"
            ),
            _ if said.contains(NO_SSH) => {
                "install `ssh`, or name what reaches the server: `--sftp-command COMMAND`"
                    .to_owned()
            }
            _ if said.contains(NOT_LET_IN) => {
                format!(
                    "the server lets nobody in with the keys that `ssh` has: see `ssh -v {host}`"
                )
            }
            ErrorKind::PermissionDenied => format!(
                "the account on the server may not do that: look at the owner and the rights of {} there",
                shell_word(path.as_bytes())
            ),
            _ => self.later(),
        }
    }

    fn later(&self) -> String {
        let again = self.again(&[]);
        format!("what was stored until now is used; when the store answers again: `{again}`")
    }

    /// How to learn more of damage.
    pub(crate) fn check_hint(&self) -> String {
        let check = self.command(&[b"check", b"--read-data"]);
        format!("see how far the damage goes: `{check}`")
    }
}

/// A store that cannot be set up, with its exit code and what is missing.
pub(crate) fn explain_store(error: &OpenError) -> Failure {
    let failure = |code| Failure::new(code, chain(error));
    match error {
        OpenError::Profile { .. } => {
            failure(Code::Usage).hint("name one that is there with AWS_PROFILE, or unset it")
        }
        OpenError::File { .. } => {
            failure(Code::Usage).hint("name a file that is there and can be read")
        }
        OpenError::Without { .. } => {
            failure(Code::Usage).hint("use a build of this program that has it")
        }
        OpenError::Half { .. } => failure(Code::Usage).hint("set both of them, or none"),
        OpenError::Open { .. } => failure(Code::Usage)
            .hint("name a server of this machine, or one that is reached by https"),
        OpenError::Client(_) => failure(Code::Usage)
            .hint("which credentials are used is said under `Environment` by `alidade --help`"),
        _ => failure(Code::Failed),
    }
}

fn code_of_entity(error: &alidade_entity::Error) -> Code {
    match error.class() {
        Class::Cancelled => Code::Interrupted,
        Class::NotFound => Code::NotFound,
        Class::Conflict => Code::Conflict,
        Class::Damaged => Code::Damaged,
        Class::Failed => below::<repository::Error>(error).map_or(Code::Failed, code_of_repository),
        _ => Code::Failed,
    }
}

/// The first cause of that type.
fn below<E: std::error::Error + 'static>(error: &alidade_entity::Error) -> Option<&E> {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}

fn code_of_repository(error: &repository::Error) -> Code {
    use repository::Error as E;
    match error {
        E::NoRepository { .. } => Code::NoRepository,
        E::WrongPassword { .. } => Code::WrongPassword,
        E::Locked { .. } | E::LockLost => Code::Locked,
        E::Damaged { .. } => Code::Damaged,
        E::NotFound { .. } => Code::NotFound,
        E::Exists { .. } => Code::Conflict,
        E::Ambiguous { .. } | E::Usage(_) => Code::Usage,
        E::Cancelled => Code::Interrupted,
        E::Store { source, .. } if is_ours(source.kind()) => Code::Failed,
        E::Store { .. } => Code::Unreachable,
        _ => Code::Failed,
    }
}

/// True when the store answered, and said no.
fn is_ours(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::FileTooLarge
            | ErrorKind::NotADirectory
            | ErrorKind::OutOfMemory
    )
}

/// What to do when somebody gave no credentials.
fn giver_hint(giver: Giver) -> &'static str {
    match giver {
        Giver::Identity => {
            "the token, the secret or the file that credentials are asked for with must be the right one, and \
             so must the role: which ones are used is said under `Environment` by `alidade --help`"
        }
        Giver::Container => {
            "the server of the AWS_CONTAINER variables must know this container and its token"
        }
        Giver::Process => {
            "run the `credential_process` of the profile by hand: it must print keys as JSON"
        }
        Giver::Machine => {
            "no credentials are set, and this machine has no role that gives some: which ones are looked for \
             is said under `Environment` by `alidade --help`"
        }
    }
}

fn local_hint(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some("make room and run it again: what was stored until now is used, nothing is lost")
        }
        ErrorKind::ReadOnlyFilesystem => Some(
            "the repository is on a read-only file system: verbs that read need `--no-lock` there",
        ),
        ErrorKind::PermissionDenied => Some(
            "run it as the user that owns the repository; verbs that read work with `--no-lock`",
        ),
        _ => None,
    }
}
