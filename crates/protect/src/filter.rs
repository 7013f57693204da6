//! What of a stored tree is meant, decided path by path.

use alidade_entity::{Class, Error, Result};
use alidade_model::{Patterns, Rule, Selection};

use crate::identity::components;

/// What a filter says about an entry.
pub(crate) enum Verdict {
    /// It is meant, and everything below it that no rule leaves out.
    Yes,
    /// It is not itself meant; something below it may be.
    Maybe,
    /// Neither it nor anything below it; by a rule, if it was left out on purpose.
    No(Option<String>),
}

/// A selection, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    only: Vec<Vec<u8>>,
    include: Patterns,
    exclude: Patterns,
}

impl Filter {
    /// The filter for a selection. Rules that ask a live file system (markers, mount points, sizes) do not
    /// apply to what is stored.
    pub(crate) fn of(selection: &Selection) -> Result<Self> {
        let bad = |error| Error::with_source(Class::Unsupported, "read a pattern", error);
        let excludes = selection.rules.iter().filter_map(|rule| match rule {
            Rule::Pattern(pattern) => Some(pattern.as_str()),
            _ => None,
        });
        Ok(Self {
            only: selection.only.clone(),
            include: Patterns::parse(selection.include.iter().map(String::as_str)).map_err(bad)?,
            exclude: Patterns::parse(excludes).map_err(bad)?,
        })
    }

    pub(crate) fn takes_everything(&self) -> bool {
        self.only.is_empty() && self.include.is_empty() && self.exclude.is_empty()
    }

    /// Judges the entry at an absolute path.
    pub(crate) fn look(&self, path: &[u8], is_dir: bool) -> Verdict {
        let path = components(path);
        if let Some(pattern) = self.exclude.find(&path) {
            return Verdict::No(Some(Rule::Pattern(pattern.as_str().to_owned()).name()));
        }
        let mut chosen = self.only.is_empty();
        let mut leads = false;
        for only in &self.only {
            let only = components(only);
            chosen |= path.len() >= only.len() && path[..only.len()] == only[..];
            leads |= is_dir && path.len() < only.len() && only[..path.len()] == path[..];
        }
        if !chosen && !leads {
            return Verdict::No(None);
        }
        if !self.include.is_empty() {
            chosen = chosen && self.include.find(&path).is_some();
            leads = is_dir && self.include.may_match_below(&path);
        }
        match (chosen, leads) {
            (true, _) => Verdict::Yes,
            (false, true) => Verdict::Maybe,
            (false, false) => Verdict::No(None),
        }
    }
}
