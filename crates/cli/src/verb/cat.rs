//! `alidade cat`: its options, and what it prints.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;

use crate::app::App;
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::open::Need;
use crate::size;
use crate::what::path_of;

/// Prints one file of a snapshot, or a disk, or a part of it. Every byte is verified before it is printed.
#[derive(Debug, Args)]
pub struct Cat {
    /// The file: its path, PATH@TIME, or a snapshot's id and `:/PATH`; or a disk
    pub what: OsString,
    /// Begin at this byte; such as `4096` or `1G`
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size::parse)]
    pub offset: u64,
    /// Print so many bytes, not all to the end
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub length: Option<u64>,
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
        let path = found.below.or(whole);
        let end = self.length.map_or(u64::MAX, |length| self.offset.saturating_add(length));
        let mut out = Bytes { app, failed: None };
        let range = self.offset..end;
        let written = opened.engine.cat(&found.stored, path.as_deref(), range, &mut out);
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
