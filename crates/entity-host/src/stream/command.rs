//! A command that runs beside us, with everything it starts.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use alidade_entity::{Class, Cx, Error, Params, Result};
use alidade_model::{Sabotage, decode_object};
use rustix::process::{Pid, Signal, kill_process_group};

/// The setting that names a command: its words in the alphabet of object ids, apart by blanks.
pub(crate) const COMMAND: &str = "command";
/// The setting that bounds how long it may run, in seconds.
pub(crate) const TIMEOUT: &str = "timeout";

/// How often a command that is waited for is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(50);
/// What a command that is told to stop has to do so.
const GRACE: Duration = Duration::from_secs(5);

/// A command, as settings say it.
#[derive(Clone, Debug)]
pub(crate) struct Words {
    words: Vec<OsString>,
    limit: Option<Duration>,
}

impl Words {
    /// The command in the settings, if there is one.
    ///
    /// # Errors
    /// [`Class::Conflict`] when a setting makes no sense.
    pub(crate) fn read(params: &Params) -> Result<Option<Self>> {
        let Some(text) = params.get(COMMAND) else { return Ok(None) };
        let words: Vec<OsString> =
            text.split(' ').map(|word| OsString::from_vec(decode_object(word))).collect();
        if words[0].is_empty() {
            return Err(Error::new(Class::Conflict, "run a command without a name"));
        }
        let limit = params.get(TIMEOUT).map(|text| {
            text.parse().map(Duration::from_secs).map_err(|_no_number| {
                Error::new(Class::Conflict, format!("wait for a command `{text}` seconds"))
            })
        });
        Ok(Some(Self { words, limit: limit.transpose()? }))
    }

    /// Its name, for people.
    pub(crate) fn shown(&self) -> String {
        self.words[0].display().to_string()
    }

    /// Starts it as the head of a process group of its own, so that it is stopped with everything it
    /// started. Its standard error is ours.
    ///
    /// # Errors
    /// When the system does not start it.
    pub(crate) fn start(&self, cx: &Cx, stdin: Stdio, stdout: Stdio) -> Result<Running> {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(stdin).stdout(stdout).process_group(0);
        let child = command
            .spawn()
            .map_err(|error| Error::io(format!("run the command `{}`", self.shown()), error))?;
        let until = self.limit.map(|limit| cx.clock().elapsed() + limit);
        Ok(Running { child, name: self.shown(), until, is_reaped: false })
    }
}

/// A command that runs. Dropping it stops it.
pub(crate) struct Running {
    pub(crate) child: Child,
    name: String,
    /// On the clock's own scale.
    until: Option<Duration>,
    is_reaped: bool,
}

impl Running {
    /// Fails when the run was told to stop or the command took too long.
    ///
    /// # Errors
    /// [`Class::Cancelled`]; [`Class::Failed`] at the time limit.
    pub(crate) fn check(&self, cx: &Cx) -> Result<()> {
        cx.check()?;
        match self.until.filter(|until| cx.clock().elapsed() >= *until) {
            None => Ok(()),
            Some(_) => {
                let attempt = format!("run `{}` in the time it was given", self.name);
                Err(Error::new(Class::Failed, attempt))
            }
        }
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// [`Class::Failed`] when it failed, was killed, or took too long.
    pub(crate) fn wait(&mut self, cx: &Cx) -> Result<()> {
        let failed = |error| Error::io("wait for a command", error);
        loop {
            if let Some(status) = self.child.try_wait().map_err(failed)? {
                self.is_reaped = true;
                return self.verdict(status);
            }
            self.check(cx)?;
            std::thread::sleep(TICK);
        }
    }

    fn verdict(&self, status: ExitStatus) -> Result<()> {
        let how = match (status.code(), status.signal()) {
            (Some(0), _) => return Ok(()),
            _ if Sabotage::StoreFailedStream.is_on() => return Ok(()),
            (Some(code), _) => format!("it ended with exit status {code}"),
            (None, Some(signal)) => format!("it was killed by signal {signal}"),
            (None, None) => "nobody knows how it ended".to_owned(),
        };
        Err(Error::new(Class::Failed, format!("run `{}`: {how}", self.name)))
    }

    /// Stops it and what it started: asked first, then not asked.
    pub(crate) fn stop(&mut self) {
        if self.is_reaped {
            return;
        }
        self.signal(Signal::TERM);
        for _ in 0..GRACE.as_millis() / TICK.as_millis() {
            // An error says that it is gone.
            if !matches!(self.child.try_wait(), Ok(None)) {
                self.is_reaped = true;
                break;
            }
            std::thread::sleep(TICK);
        }
        // What it started may outlive it.
        self.signal(Signal::KILL);
        if !self.is_reaped {
            self.is_reaped = self.child.wait().is_ok();
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        if !self.is_reaped {
            self.is_reaped = self.child.wait().is_ok();
        }
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // A group that is gone needs no signal.
            kill_process_group(group, signal).unwrap_or(());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}
