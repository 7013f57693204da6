//! Running a program of the system.

use std::ffi::OsStr;
use std::io;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program to its end and gives what it printed. Its complaint is the error's text.
pub(crate) fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    let words = || {
        let words = arguments.iter().map(|word| word.as_ref().to_string_lossy());
        words.fold(program.to_owned(), |line, word| line + " " + &word)
    };
    let ended = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let ended = match ended {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("there is no program `{program}`; Debian has it in btrfs-progs or util-linux")
        }
        ended => ended.with_context(words)?,
    };
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        bail!("{} ended with {}: {}", words(), ended.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn a_failed_program_is_named_with_what_it_said() {
        assert_eq!(run("sh", &["-c", "echo good"]).unwrap(), "good\n");
        let error = run("sh", &["-c", "echo bad >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.starts_with("sh -c ") && error.ends_with("exit status: 3: bad"), "{error}");
        let error = run("no-such-program", &["x"]).unwrap_err().to_string();
        assert!(error.starts_with("there is no program `no-such-program`"), "{error}");
    }
}
