//! Streams as they are read.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{ChildStdout, Stdio};

use alidade_entity::{Class, Cx, Error, Result, StreamSource};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, dup};

use super::command::{Running, TICK, Words};

/// What a command prints.
pub(crate) struct Producer {
    running: Running,
    output: ChildStdout,
    is_at_end: bool,
}

impl Producer {
    /// Starts the command. It has nothing to read.
    ///
    /// # Errors
    /// When the system does not start it.
    pub(crate) fn start(cx: &Cx, words: &Words) -> Result<Self> {
        let mut running = words.start(cx, Stdio::null(), Stdio::piped())?;
        let output = running.child.stdout.take().ok_or_else(|| {
            Error::new(Class::Failed, format!("read what `{}` prints", words.shown()))
        })?;
        Ok(Self { running, output, is_at_end: false })
    }
}

impl StreamSource for Producer {
    fn read(&mut self, cx: &Cx, buf: &mut [u8]) -> Result<usize> {
        if self.is_at_end || buf.is_empty() {
            return Ok(0);
        }
        while !is_ready(&self.output)? {
            self.running.check(cx)?;
        }
        self.running.check(cx)?;
        let read = self.output.read(buf);
        let read = read.map_err(|error| Error::io("read what the command prints", error))?;
        self.is_at_end = read == 0;
        Ok(read)
    }

    fn finish(mut self: Box<Self>, cx: &Cx) -> Result<bool> {
        if !self.is_at_end {
            return Ok(false);
        }
        self.running.wait(cx)?;
        Ok(true)
    }
}

/// What comes on standard input, for which nobody vouches.
pub(crate) struct Input {
    file: File,
    is_at_end: bool,
}

impl Input {
    /// Opens this process's standard input.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn open() -> Result<Self> {
        let fd = dup(std::io::stdin().as_fd());
        let fd = fd.map_err(|errno| Error::io("open standard input", errno))?;
        Ok(Self { file: fd.into(), is_at_end: false })
    }
}

impl StreamSource for Input {
    fn read(&mut self, cx: &Cx, buf: &mut [u8]) -> Result<usize> {
        if self.is_at_end || buf.is_empty() {
            return Ok(0);
        }
        while !is_ready(&self.file)? {
            cx.check()?;
        }
        cx.check()?;
        let read = self.file.read(buf);
        let read = read.map_err(|error| Error::io("read standard input", error))?;
        self.is_at_end = read == 0;
        Ok(read)
    }

    fn finish(self: Box<Self>, _cx: &Cx) -> Result<bool> {
        Ok(false)
    }
}

/// Waits a moment for something to read, or for the end.
fn is_ready(fd: &impl AsFd) -> Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    let nanos = i64::try_from(TICK.as_nanos()).unwrap_or(0);
    let tick = Timespec { tv_sec: 0, tv_nsec: nanos };
    match poll(&mut fds, Some(&tick)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(Error::io("wait for input", errno)),
    }
}
