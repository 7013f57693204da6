//! Where the repository's password comes from.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use crate::environment::{Environment, Variable};
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::text::split_words;

/// A password, forgotten from memory when dropped.
pub(crate) type Secret = Zeroizing<String>;

/// The most bytes a password file or command may give; nobody's password is longer.
const LIMIT: u64 = 64 << 10;

/// Where a password comes from.
#[derive(Clone)]
pub(crate) enum Source {
    /// A command prints it.
    Command(String),
    /// A file holds it; `-` is standard input.
    File(PathBuf),
    /// It was in the environment.
    Given(Secret),
    /// Somebody at the terminal types it.
    Prompt,
}

impl Source {
    /// Decides where the password comes from: options first, then `ALIDADE_*`, then, where asked
    /// for, `RESTIC_*`; of one kind, command before file before text. `None` when nothing says.
    ///
    /// # Errors
    /// When one of these places names both a command and a file.
    pub(crate) fn choose(
        command: Option<&str>,
        file: Option<&Path>,
        environment: &Environment,
        restic: bool,
    ) -> Result<Option<Self>> {
        use Variable::{
            Password, PasswordCommand, PasswordFile, ResticPassword, ResticPasswordCommand,
            ResticPasswordFile,
        };
        let ours = (PasswordCommand, PasswordFile, Password);
        let theirs = (ResticPasswordCommand, ResticPasswordFile, ResticPassword);
        let places = std::iter::once(ours).chain(restic.then_some(theirs));
        Self::first_of((command, file), environment, places)
    }

    /// The same for the repository that a verb writes into beside the one that it reads.
    ///
    /// # Errors
    /// As [`Source::choose`].
    pub(crate) fn choose_other(
        flags: (Option<&str>, Option<&Path>),
        environment: &Environment,
    ) -> Result<Option<Self>> {
        use Variable::{ToPassword, ToPasswordCommand, ToPasswordFile};
        let place = (ToPasswordCommand, ToPasswordFile, ToPassword);
        Self::first_of(flags, environment, std::iter::once(place))
    }

    fn first_of(
        (command, file): (Option<&str>, Option<&Path>),
        environment: &Environment,
        places: impl Iterator<Item = (Variable, Variable, Variable)>,
    ) -> Result<Option<Self>> {
        let mut chosen = one_of(command.map(str::to_owned), file.map(Path::to_owned), None)?;
        for (command, file, text) in places {
            if chosen.is_some() {
                break;
            }
            chosen = one_of(
                environment.get(command).map(|value| utf8(command, value)).transpose()?,
                environment.get(file).map(PathBuf::from),
                environment.get(text).map(|value| utf8(text, value)).transpose()?,
            )?;
        }
        Ok(chosen)
    }

    /// Gets the password. Where somebody types it, they are asked with `ask` for `what`, and twice
    /// with `confirm`.
    ///
    /// # Errors
    /// When it cannot be had, or is empty.
    pub(crate) fn get(
        &self,
        what: &str,
        confirm: bool,
        ask: &dyn Fn(&str) -> Result<Secret>,
    ) -> Result<Secret> {
        let secret = match self {
            Self::Command(line) => from_command(line)?,
            Self::File(path) => from_file(path)?,
            Self::Given(secret) => secret.clone(),
            Self::Prompt => prompt(what, confirm, ask)?,
        };
        if secret.is_empty() {
            return Err(Failure::usage("the password is empty"));
        }
        Ok(secret)
    }
}

fn one_of(
    command: Option<String>,
    file: Option<PathBuf>,
    text: Option<String>,
) -> Result<Option<Source>> {
    match (command, file, text) {
        (Some(_), Some(_), _) => {
            Err(Failure::usage("both a password command and a password file are given"))
        }
        (Some(command), None, _) => Ok(Some(Source::Command(command))),
        (None, Some(file), _) => Ok(Some(Source::File(file))),
        (None, None, Some(text)) => Ok(Some(Source::Given(Zeroizing::new(text)))),
        (None, None, None) => Ok(None),
    }
}

fn utf8(variable: Variable, value: &std::ffi::OsStr) -> Result<String> {
    let text = value.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::usage(format!("{} is not UTF-8", variable.name())))
}

fn from_file(path: &Path) -> Result<Secret> {
    let attempt = format!("read password file {}", path.display());
    if path == Path::new("-") {
        return read(&attempt, std::io::stdin().lock());
    }
    read(&attempt, std::fs::File::open(path).map_err(|error| Failure::io(&attempt, &error))?)
}

fn from_command(line: &str) -> Result<Secret> {
    let words = split_words(line)
        .map_err(|why| Failure::usage(format!("the password command cannot be split: {why}")))?;
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::usage("the password command is empty"));
    };
    let attempt = format!("run password command {program}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| Failure::io(&attempt, &error))?;
    let output = child.stdout.take().expect("its standard output was asked for");
    let secret = read(&attempt, output);
    let status = child.wait().map_err(|error| Failure::io(&attempt, &error))?;
    if !status.success() {
        return Err(Failure::new(Code::Failed, format!("{attempt}: it ended with {status}")));
    }
    secret
}

/// All of a reader without white space at either end, as restic reads its password files.
fn read(attempt: &str, from: impl Read) -> Result<Secret> {
    let mut bytes = Zeroizing::new(Vec::new());
    from.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| Failure::io(attempt, &error))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Failure::usage(format!("{attempt}: more than {LIMIT} bytes are no password")));
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let text =
        std::str::from_utf8(text).map_err(|error| Failure::usage(format!("{attempt}: {error}")))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

fn prompt(what: &str, confirm: bool, ask: &dyn Fn(&str) -> Result<Secret>) -> Result<Secret> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("no password is given, and nobody is at a terminal to ask")
            .hint("name one with `--password-file FILE` or `--password-command COMMAND`"));
    }
    let first = ask(&format!("{what}: "))?;
    if confirm && *ask(&format!("{what} again: "))? != *first {
        return Err(Failure::usage("the two passwords differ"));
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody(question: &str) -> Result<Secret> {
        panic!("asked for {question}")
    }

    fn chosen(
        command: Option<&str>,
        file: Option<&str>,
        restic: bool,
        set: &[(&str, &str)],
    ) -> String {
        let environment = Environment::read(|name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        });
        match Source::choose(command, file.map(Path::new), &environment, restic) {
            Ok(Some(Source::Command(line))) => format!("command {line}"),
            Ok(Some(Source::File(path))) => format!("file {}", path.display()),
            Ok(Some(Source::Given(_))) => "text".to_owned(),
            Ok(Some(Source::Prompt)) => "prompt".to_owned(),
            Ok(None) => "none".to_owned(),
            Err(failure) => failure.message,
        }
    }

    #[test]
    fn options_win_over_our_variables_and_those_over_restics() {
        let all = [
            ("ALIDADE_PASSWORD_FILE", "/ours"),
            ("ALIDADE_PASSWORD", "x"),
            ("RESTIC_PASSWORD_COMMAND", "theirs"),
        ];
        assert_eq!(chosen(Some("a"), None, true, &all), "command a");
        assert_eq!(chosen(None, Some("/f"), true, &all), "file /f");
        assert_eq!(chosen(None, None, true, &all), "file /ours");
        assert_eq!(chosen(None, None, true, &all[1..]), "text");
        assert_eq!(chosen(None, None, true, &all[2..]), "command theirs");
        assert_eq!(chosen(None, None, false, &all[2..]), "none");
        let both = "both a password command and a password file are given";
        assert_eq!(chosen(Some("a"), Some("/f"), false, &[]), both);
    }

    #[test]
    fn files_and_commands_give_the_text_without_white_space_around_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p");
        std::fs::write(&path, "\u{feff}se cret\r\n").unwrap();
        assert_eq!(*Source::File(path.clone()).get("", false, &nobody).unwrap(), "se cret");
        let line = format!("cat '{}'", path.display());
        assert_eq!(*Source::Command(line).get("", false, &nobody).unwrap(), "se cret");
    }

    #[test]
    fn a_source_that_gives_no_password_is_a_clear_failure() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p");
        std::fs::write(&path, " \n").unwrap();
        let of = |source: Source| source.get("", false, &nobody).unwrap_err();
        assert_eq!(of(Source::File(path)).message, "the password is empty");
        assert_eq!(of(Source::File("/nowhere/p".into())).code, Code::NotFound);
        assert_eq!(of(Source::Command("false".into())).code, Code::Failed);
        assert_eq!(of(Source::Command("/nowhere/c".into())).code, Code::NotFound);
        assert_eq!(of(Source::Command("'".into())).code, Code::Usage);
        assert_eq!(of(Source::Command(" ".into())).code, Code::Usage);
    }
}
