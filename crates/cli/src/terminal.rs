//! A question at the terminal whose answer is not shown.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};

use alidade_entity::Cx;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::{Zeroize as _, Zeroizing};

use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::password::Secret;

/// How often it is looked whether the run is to stop; a signal wakes the wait at once, save one
/// that comes just before it.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Asks and reads one line, with the terminal's own keys for editing it. However it ends, and also
/// when `cx` is cancelled meanwhile, the terminal is left as it was found.
///
/// # Errors
/// When there is no terminal, when nothing but its end is typed, or when the run is cancelled.
pub(crate) fn ask(cx: &Cx, question: &str) -> Result<Secret> {
    let failed = |error| Failure::io("ask at the terminal", &error);
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(failed)?;
    let found = tcgetattr(&terminal).map_err(|error| failed(error.into()))?;
    let mut silent = found.clone();
    silent.local_modes -= LocalModes::ECHO | LocalModes::ECHONL;
    silent.local_modes |= LocalModes::ICANON | LocalModes::ISIG;
    tcsetattr(&terminal, OptionalActions::Now, &silent).map_err(|error| failed(error.into()))?;
    let line = (&terminal)
        .write_all(question.as_bytes())
        .map_err(failed)
        .and_then(|()| read_line(cx, &terminal));
    let restored = tcsetattr(&terminal, OptionalActions::Now, &found);
    let ended = (&terminal).write_all(b"\n");
    let line = line?;
    restored.map_err(|error| failed(error.into()))?;
    ended.map_err(failed)?;
    let text = std::str::from_utf8(&line)
        .map_err(|error| Failure::usage(format!("what was typed is no text: {error}")))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn read_line(cx: &Cx, terminal: &File) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |error| Failure::io("read what is typed", &error);
    let mut line = Zeroizing::new(Vec::with_capacity(4096));
    let mut part = Zeroizing::new([0; 1024]);
    loop {
        cx.check().map_err(|error| Failure::of(Code::Interrupted, &error))?;
        match poll(&mut [PollFd::new(terminal, PollFlags::IN)], Some(&LOOK)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let read = match (&*terminal).read(&mut part[..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        line.extend_from_slice(&part[..read]);
        part.zeroize();
        if line.last() == Some(&b'\n') {
            line.pop();
            return Ok(line);
        }
        if read == 0 {
            return Err(Failure::usage("nothing was typed"));
        }
    }
}
