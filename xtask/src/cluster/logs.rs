//! The logs of the parts.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};

use anyhow::{Context, Result};

use super::advise;
use super::place::Place;
use super::record::Record;

/// Prints the log of a part.
pub(super) fn run(place: &Place, part: &str) -> Result<()> {
    let path = place.log(part);
    if part.contains('/') || !path.is_file() {
        Record::of(place)?;
        let logs = names(place)?.join(", ");
        return Err(advise(&format!("there is no log of `{part}`"), &format!("there are: {logs}")));
    }
    let mut file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    match io::copy(&mut file, &mut io::stdout()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("print the log")
        }
        _ => Ok(()),
    }
}

/// The logs there are.
pub(super) fn names(place: &Place) -> Result<Vec<String>> {
    let folder = place.at("logs");
    let list = || format!("list {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(list)? {
        let name = entry.with_context(list)?.file_name();
        names.extend(name.to_string_lossy().strip_suffix(".log").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The last lines of a log, for an error; an unreadable one has none.
pub(super) fn tail(place: &Place, part: &str, lines: usize) -> String {
    const LEAST: u64 = 16 << 10;
    let read = || -> io::Result<String> {
        let mut file = File::open(place.log(part))?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LEAST)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| error.to_string());
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
