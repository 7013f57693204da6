//! `alidade ls`: its options, and what it prints.

use std::ffi::OsString;

use alidade_model::{Entry, Kind};
use clap::Args;
use serde::Serialize;

use crate::app::App;
use crate::document::{EntryDoc, SnapshotDoc};
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::open::Need;
use crate::text::safe;

/// Lists the entries of a snapshot.
#[derive(Debug, Args)]
pub struct Ls {
    /// The snapshot: ENTITY, ENTITY@TIME, TYPE:OBJECT:SNAPSHOT, the beginning of an id, or `latest`; `:/PATH` after it lists only that path
    pub what: OsString,
    /// Mode, owner, size and time of each entry too
    #[arg(short, long)]
    pub long: bool,
}

#[derive(Serialize)]
struct Head {
    snapshot: SnapshotDoc,
}

#[derive(Serialize)]
struct Tail {
    total: u64,
}

impl Ls {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let opened = app.open(Need::Read)?;
        let found = app.find(&opened.engine, &self.what)?;
        let under = found.below.as_deref().unwrap_or(b"/");
        if app.out.is_json() {
            let head = Head { snapshot: SnapshotDoc::from(&found.stored) };
            let mut list = app.out.begin(&head, "entries")?;
            let mut total = 0;
            let listed = each(app, &opened.engine, &found.stored, under, |path, entry| {
                total += 1;
                list.item(&EntryDoc::new(path, entry))
            });
            list.end(listed.map(|()| Tail { total }))?;
        } else {
            each(app, &opened.engine, &found.stored, under, |path, entry| {
                app.out.line(&if self.long { long(app, path, entry) } else { safe(path) })
            })?;
        }
        Ok(Code::Done)
    }
}

/// Shows every entry below a path to `show`, until the reader of standard output goes away.
pub(crate) fn each(
    app: &App,
    engine: &alidade_protect::Engine,
    stored: &alidade_protect::StoredSnapshot,
    under: &[u8],
    mut show: impl FnMut(&[u8], &Entry) -> Result<()>,
) -> Result<()> {
    let mut failed: Option<Failure> = None;
    let walked = engine.entries(stored, under, &mut |path, entry| match show(path, entry) {
        Ok(()) => Ok(app.out.is_open()),
        Err(failure) => {
            failed = Some(failure);
            Ok(false)
        }
    });
    match failed {
        Some(failure) => Err(failure),
        None => walked.map_err(|error| app.explain(&error)),
    }
}

fn long(app: &App, path: &[u8], entry: &Entry) -> String {
    let metadata = &entry.metadata;
    let owner = |name: &str, number: u32| match name {
        "" => number.to_string(),
        name => safe(name.as_bytes()),
    };
    let mut line = format!(
        "{} {:8} {:8} {:>12} {} {}",
        mode_text(metadata.kind, metadata.mode),
        owner(&metadata.user, metadata.uid),
        owner(&metadata.group, metadata.gid),
        metadata.size,
        app.calendar.show(metadata.mtime),
        safe(path)
    );
    if metadata.kind == Kind::Symlink {
        line.push_str(" -> ");
        line.push_str(&safe(&metadata.link_target));
    }
    line
}

/// Kind and mode as `ls -l` writes them.
fn mode_text(kind: Kind, mode: u32) -> String {
    let kind = match kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::BlockDevice => 'b',
        Kind::CharDevice => 'c',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
    };
    let mut text = String::from(kind);
    for (shift, special, set, clear) in
        [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => clear,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_ls_writes_them() {
        for (kind, mode, text) in [
            (Kind::File, 0o644, "-rw-r--r--"),
            (Kind::Directory, 0o1777, "drwxrwxrwt"),
            (Kind::File, 0o6755, "-rwsr-sr-x"),
            (Kind::File, 0o7000, "---S--S--T"),
            (Kind::Symlink, 0o777, "lrwxrwxrwx"),
        ] {
            assert_eq!(mode_text(kind, mode), text);
        }
    }
}
