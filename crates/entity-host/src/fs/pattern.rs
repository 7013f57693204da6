//! Exclude patterns, with restic's meaning.
//!
//! A pattern is a path whose components are globs. `**` stands for any number of components. A
//! pattern that begins with `/` is matched from the root, any other at any depth. A pattern matches
//! a path when it matches a run of its components, so what lies below a match matches, too. A `!`
//! in front takes back what patterns before it matched.

use super::glob::Glob;

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{pattern}` is not a pattern: a `[` without its `]`, an empty range, or a `\\` at the end"
)]
pub struct PatternError {
    /// The pattern as it was given.
    pub pattern: String,
}

/// Checks patterns without using them.
///
/// # Errors
/// The first that is malformed, by name.
pub fn check_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<(), PatternError> {
    patterns.into_iter().try_for_each(|pattern| Pattern::parse(pattern).map(drop))
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// True for a pattern that takes back.
    pub(crate) negated: bool,
    anchored: bool,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `**`
    Any,
    One(Glob),
}

impl Pattern {
    /// Reads a pattern; an empty one is one that matches nothing.
    pub(crate) fn parse(text: &str) -> Result<Self, PatternError> {
        let (negated, path) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let anchored = path.starts_with('/');
        let names = clean(path);
        let mut parts = Vec::new();
        for name in &names {
            parts.push(match *name {
                "**" => Part::Any,
                name => Part::One(
                    Glob::parse(name).ok_or_else(|| PatternError { pattern: text.to_owned() })?,
                ),
            });
        }
        if anchored && parts.is_empty() {
            // The root alone matches everything below it.
            parts.push(Part::Any);
        }
        Ok(Self { negated, anchored, parts })
    }

    /// True when it matches an absolute path given by its components.
    pub(crate) fn matches(&self, names: &[&[u8]]) -> bool {
        if self.anchored {
            return self.matches_at(names, 0, 1);
        }
        let last =
            names.len().saturating_sub(self.parts.iter().filter(|p| **p != Part::Any).count());
        !self.parts.is_empty() && (0..=last).any(|offset| self.matches_at(names, offset, 0))
    }

    /// True when a run that begins at `offset` matches. `consumed` counts the root, which is a
    /// component of the path, and of an anchored pattern.
    fn matches_at(&self, names: &[&[u8]], offset: usize, consumed: usize) -> bool {
        let total = names.len() + 1;
        let run = &names[offset..];
        // reach[n]: the parts so far can match the first n components of the run.
        let mut reach = vec![false; run.len() + 1];
        reach[0] = true;
        for (at, part) in self.parts.iter().enumerate() {
            let left = self.parts.len() - at - 1;
            let mut next = vec![false; run.len() + 1];
            match part {
                Part::One(glob) => {
                    for n in 0..run.len() {
                        next[n + 1] = reach[n] && glob.matches(run[n]);
                    }
                }
                Part::Any => {
                    // restic never widens `**` beyond the room that the parts after it need.
                    let first = reach.iter().position(|can| *can).unwrap_or(run.len() + 1);
                    for (n, can) in next.iter_mut().enumerate().skip(first) {
                        *can = n + consumed + left <= total;
                    }
                }
            }
            if !next.contains(&true) {
                return false;
            }
            reach = next;
        }
        let least = usize::from(consumed == 0);
        reach.iter().skip(least).any(|can| *can)
    }
}

/// The components of a path without empty ones, `.`, and `..` with what it undoes.
fn clean(path: &str) -> Vec<&str> {
    let anchored = path.starts_with('/');
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => {
                names.pop();
            }
            ".." if anchored => {}
            name => names.push(name),
        }
    }
    names
}
