//! `alidade cat`: its options, and what it prints.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;

use crate::app::App;
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::open::Need;
use crate::what::path_of;

/// Prints one file of a snapshot. Every byte is verified before it is printed.
#[derive(Debug, Args)]
pub struct Cat {
    /// The file: its path, PATH@TIME, or a snapshot's id and `:/PATH`
    pub what: OsString,
}

impl Cat {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        if app.out.is_json() {
            return Err(Failure::usage("`cat` prints the bytes of a file, not JSON"));
        }
        let opened = app.open(Need::Read)?;
        let found = app.find(&opened.engine, &self.what)?;
        let whole =
            path_of(&found.stored.entity).map(|path| path.into_os_string().into_encoded_bytes());
        let Some(path) = found.below.or(whole) else {
            return Err(Failure::usage("name a file in the snapshot: `ID:/PATH`"));
        };
        let mut out = Bytes { app, failed: None };
        let written = opened.engine.cat(&found.stored, &path, &mut out);
        match out.failed {
            Some(failure) => return Err(failure),
            None if !app.out.is_open() => return Ok(Code::Done),
            None => written.map_err(|error| app.explain(&error))?,
        };
        Ok(Code::Done)
    }
}

/// Standard output as the engine writes to it; keeps the failure that an `io::Error` cannot carry.
struct Bytes<'a> {
    app: &'a App,
    failed: Option<Failure>,
}

impl Write for Bytes<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(failure) = self.app.out.bytes(bytes) {
            self.failed = Some(failure);
        }
        if self.failed.is_some() || !self.app.out.is_open() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
