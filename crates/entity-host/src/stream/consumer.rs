//! Streams as they are written: to a command, or to standard output.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::{ChildStdin, Stdio};

use alidade_entity::{Class, Cx, Error, Result, SinkEnding, StreamSink};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, dup};

use super::command::{Running, TICK, Words};

/// What is written at a time: a pipe that has room takes so much without waiting (`PIPE_BUF`), so that a
/// run that was told to stop does not wait for its reader.
const STEP: usize = 4096;

/// A command that reads.
pub(crate) struct Consumer {
    /// Closed in the end, so that it sees one.
    input: Option<ChildStdin>,
    running: Running,
}

impl Consumer {
    /// Starts the command. What it prints goes where ours goes.
    ///
    /// # Errors
    /// When the system does not start it.
    pub(crate) fn start(cx: &Cx, words: &Words) -> Result<Self> {
        let mut running = words.start(cx, Stdio::piped(), Stdio::inherit())?;
        let input = running.child.stdin.take();
        Ok(Self { input, running })
    }
}

impl StreamSink for Consumer {
    fn write(&mut self, cx: &Cx, data: &[u8]) -> Result<()> {
        let Some(input) = &mut self.input else {
            return Err(Error::new(Class::Failed, "write to a command whose input is closed"));
        };
        let running = &self.running;
        match put(input, data, || running.check(cx)) {
            // It wants no more: how it ends says whether that is right.
            Err(error) if is_broken_pipe(&error) => {
                self.input = None;
                self.running.wait(cx)?;
                Err(Error::with_source(error.class(), "write all to the command", error))
            }
            written => written,
        }
    }

    fn finish(mut self: Box<Self>, cx: &Cx) -> Result<SinkEnding> {
        drop(self.input.take());
        self.running.wait(cx)?;
        Ok(SinkEnding::default())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Without its end it must not take what it has for all there is.
        if self.input.is_some() {
            self.running.kill();
        }
    }
}

/// Our own standard output.
pub(crate) struct Output {
    file: File,
}

impl Output {
    /// Opens it.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn open() -> Result<Self> {
        let fd = dup(io::stdout().as_fd());
        Ok(Self { file: fd.map_err(|errno| Error::io("open standard output", errno))?.into() })
    }
}

impl StreamSink for Output {
    fn write(&mut self, cx: &Cx, data: &[u8]) -> Result<()> {
        put(&mut self.file, data, || cx.check())
    }

    fn finish(self: Box<Self>, _cx: &Cx) -> Result<SinkEnding> {
        Ok(SinkEnding::default())
    }
}

/// Writes all of it, waiting for whoever reads, as long as `check` lets it.
fn put(out: &mut (impl Write + AsFd), data: &[u8], check: impl Fn() -> Result<()>) -> Result<()> {
    let mut rest = data;
    while !rest.is_empty() {
        check()?;
        if !has_room(out)? {
            continue;
        }
        let now = &rest[..rest.len().min(STEP)];
        match out.write(now) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("write the stream", error)),
        }
    }
    Ok(())
}

/// Waits a moment until something can be written, or nothing ever.
fn has_room(fd: &impl AsFd) -> Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::OUT)];
    let nanos = i64::try_from(TICK.as_nanos()).unwrap_or(0);
    let tick = Timespec { tv_sec: 0, tv_nsec: nanos };
    match poll(&mut fds, Some(&tick)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(Error::io("wait until the stream is read", errno)),
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    let io = source.and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
