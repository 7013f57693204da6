//! `alidade find`: its options, and what it prints.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use alidade_model::Entry;
use alidade_protect::{Engine, StoredSnapshot};
use clap::Args;
use globset::{GlobBuilder, GlobMatcher};
use serde::Serialize;

use crate::app::App;
use crate::document::{EntryDoc, SnapshotDoc};
use crate::exit::Code;
use crate::failure::{Failure, Result};
use crate::open::Need;
use crate::text::safe;
use crate::verb::ls::each;

/// Finds entries in snapshots by name.
#[derive(Debug, Args)]
pub struct Find {
    /// A pattern for the name, or, with a slash in it, for the whole path; `*`, `?`, `[…]`, `**`
    #[arg(required = true, value_name = "PATTERN")]
    pub pattern: Vec<OsString>,
    /// Look in this snapshot; without it, in the newest of each entity
    #[arg(long = "in", value_name = "SNAPSHOT")]
    pub within: Vec<OsString>,
    /// Look in every snapshot
    #[arg(long, conflicts_with = "within")]
    pub all: bool,
    /// Upper and lower case are the same
    #[arg(short, long)]
    pub ignore_case: bool,
}

#[derive(Serialize)]
struct Item {
    snapshot: String,
    #[serde(flatten)]
    entry: EntryDoc,
}

#[derive(Serialize)]
struct Head {
    snapshots: Vec<SnapshotDoc>,
}

#[derive(Serialize)]
struct Tail {
    total: u64,
}

/// Is shown what fits.
type Show<'a> = dyn FnMut(&StoredSnapshot, &[u8], &Entry) -> Result<()> + 'a;

/// A snapshot to look in, and where in it.
type Where = (StoredSnapshot, Vec<u8>);

impl Find {
    pub(crate) fn run(&self, app: &App) -> Result<Code> {
        let patterns = self.patterns()?;
        let opened = app.open(Need::Read)?;
        let places = self.places(app, &opened.engine)?;
        let mut total = 0;
        let mut look = |show: &mut Show<'_>| {
            for (stored, under) in &places {
                each(app, &opened.engine, stored, under, |path, entry| {
                    if !patterns.iter().any(|pattern| pattern.fits(path)) {
                        return Ok(());
                    }
                    total += 1;
                    show(stored, path, entry)
                })?;
            }
            Ok(())
        };
        if app.out.is_json() {
            let snapshots = places.iter().map(|(stored, _)| SnapshotDoc::from(stored)).collect();
            let mut list = app.out.begin(&Head { snapshots }, "entries")?;
            let looked = look(&mut |stored, path, entry| {
                let entry = EntryDoc::new(path, entry);
                list.item(&Item { snapshot: stored.file.to_string(), entry })
            });
            list.end(looked.map(|()| Tail { total }))?;
        } else {
            look(&mut |stored, path, _| {
                let id = alidade_protect::short(&stored.file);
                app.out.line(&format!("{id} {} {}", app.calendar.show(stored.time), safe(path)))
            })?;
        }
        if total == 0 {
            app.out.finish()?;
            app.out.note("nothing fits")?;
        }
        Ok(Code::Done)
    }

    fn places(&self, app: &App, engine: &Engine) -> Result<Vec<Where>> {
        if !self.within.is_empty() {
            let found = self.within.iter().map(|what| {
                let found = app.find(engine, what)?;
                Ok((found.stored, found.below.unwrap_or_else(|| b"/".to_vec())))
            });
            return found.collect();
        }
        let host = app.host()?;
        let mut chosen = engine.snapshots().map_err(|error| app.explain(&error))?.snapshots;
        chosen.retain(|stored| {
            stored.origin.is_state() && host.as_ref().is_none_or(|host| stored.host == *host)
        });
        if !self.all {
            let newest: Vec<StoredSnapshot> = chosen
                .iter()
                .enumerate()
                .filter(|(at, stored)| {
                    let same = |later: &StoredSnapshot| {
                        later.entity == stored.entity && later.host == stored.host
                    };
                    !chosen[at + 1..].iter().any(same)
                })
                .map(|(_, stored)| stored.clone())
                .collect();
            chosen = newest;
        }
        Ok(chosen.into_iter().map(|stored| (stored, b"/".to_vec())).collect())
    }

    fn patterns(&self) -> Result<Vec<Pattern>> {
        self.pattern.iter().map(|text| Pattern::read(text, self.ignore_case)).collect()
    }
}

/// What to look for.
struct Pattern {
    matcher: GlobMatcher,
    whole: bool,
}

impl Pattern {
    fn read(text: &OsStr, ignore_case: bool) -> Result<Self> {
        let text = text.to_str().ok_or_else(|| Failure::usage("a pattern is not UTF-8"))?;
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .case_insensitive(ignore_case)
            .build()
            .map_err(|error| Failure::of(Code::Usage, &error))?;
        Ok(Self { matcher: glob.compile_matcher(), whole: text.contains('/') })
    }

    fn fits(&self, path: &[u8]) -> bool {
        let name = match path.iter().rposition(|&byte| byte == b'/') {
            Some(at) if !self.whole => &path[at + 1..],
            _ => path,
        };
        self.matcher.is_match(Path::new(OsStr::from_bytes(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_without_a_slash_is_for_names_and_one_with_a_slash_for_paths() {
        let fits = |pattern: &str, path: &[u8]| {
            Pattern::read(OsStr::new(pattern), false).unwrap().fits(path)
        };
        assert!(fits("*.txt", b"/a/b.txt"));
        assert!(!fits("*.txt", b"/a.txt/b"));
        assert!(fits("/a/**/c", b"/a/b/b/c"));
        assert!(!fits("/a/*", b"/a/b/c"));
        assert!(fits("b*", b"/a/b\xff"));
        assert!(Pattern::read(OsStr::new("["), false).is_err());
        assert!(Pattern::read(OsStr::new("A*"), true).unwrap().fits(b"/x/abc"));
    }
}
