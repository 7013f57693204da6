//! Patterns over paths, with the meaning restic gives them.
//!
//! A pattern is split at `/` into parts, and each part is matched against one component of a path:
//! `*` any bytes, `?` one character, `[a-z]` and `[^a-z]` one character of a class, `\` takes the next
//! character as it is. A part `**` stands for any number of components. A pattern that begins with `/`
//! is anchored at the top; any other matches wherever its parts stand side by side. What lies below a
//! match matches, too. In a list, a pattern after `!` takes back what patterns before it matched.

use crate::glob::Glob;

/// A pattern that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a pattern: {why}")]
pub struct PatternError {
    /// The pattern as given.
    pub pattern: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// One pattern, ready to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    anchored: bool,
    negated: bool,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// `**`
    Any,
    One(Glob),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is empty or a class or an escape in it does not end.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let error = |why| PatternError { pattern: text.to_owned(), why };
        let negated = text.starts_with('!');
        let body = text.strip_prefix('!').unwrap_or(text);
        if body.is_empty() {
            return Err(error("it is empty"));
        }
        let anchored = body.starts_with('/');
        let mut parts = Vec::new();
        for name in shortest(body) {
            parts.push(match name {
                "**" => Part::Any,
                name => Part::One(Glob::parse(name).map_err(error)?),
            });
        }
        if anchored && parts.is_empty() {
            // The top alone fits everything below it.
            parts.push(Part::Any);
        }
        Ok(Self { text: text.to_owned(), anchored, negated, parts })
    }

    /// The pattern as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when the pattern takes back what others matched.
    #[must_use]
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// True when the path with these components, or a directory above it, fits.
    #[must_use]
    pub fn matches(&self, path: &[&[u8]]) -> bool {
        if self.anchored {
            return self.fits_at(path, 0);
        }
        let fixed = self.parts.iter().filter(|part| **part != Part::Any).count();
        let last = path.len().checked_sub(fixed).filter(|_| !self.parts.is_empty());
        last.is_some_and(|last| (0..=last).any(|at| self.fits_at(path, at)))
    }

    /// True when something below the directory with these components may fit.
    #[must_use]
    pub fn may_match_below(&self, path: &[&[u8]]) -> bool {
        let fits = |(part, name): (&Part, &&[u8])| match part {
            Part::Any => true,
            Part::One(glob) => glob.matches(name),
        };
        let prefix = self.parts.iter().take_while(|part| **part != Part::Any);
        !self.anchored || prefix.zip(path).all(fits)
    }

    /// True when the parts fit side by side from the component at `offset`.
    ///
    /// Goes through the parts once, with every length that the parts so far can have, so that
    /// several `**` take no longer than their product with the length of the path.
    fn fits_at(&self, path: &[&[u8]], offset: usize) -> bool {
        // The top is a component of the path, and of a pattern that begins with it.
        let (total, top) = (path.len() + 1, usize::from(self.anchored));
        let run = &path[offset..];
        let mut lengths = vec![false; run.len() + 1];
        lengths[0] = true;
        for (at, part) in self.parts.iter().enumerate() {
            let left = self.parts.len() - at - 1;
            let mut next = vec![false; run.len() + 1];
            match part {
                Part::One(glob) => {
                    for (length, name) in run.iter().enumerate() {
                        next[length + 1] = lengths[length] && glob.matches(name);
                    }
                }
                Part::Any => {
                    // restic never widens `**` beyond the room that the parts after it need, even
                    // where these are `**` and could do without.
                    let least = lengths.iter().position(|can| *can).unwrap_or(lengths.len());
                    for (length, can) in next.iter_mut().enumerate().skip(least) {
                        *can = length + top + left <= total;
                    }
                }
            }
            if !next.contains(&true) {
                return false;
            }
            lengths = next;
        }
        lengths.iter().skip(usize::from(!self.anchored)).any(|can| *can)
    }
}

/// The components of a path without empty ones, `.`, and `..` with what it undoes.
fn shortest(path: &str) -> Vec<&str> {
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

/// Patterns in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    list: Vec<Pattern>,
}

impl Patterns {
    /// Reads patterns; empty texts are passed over.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let texts = texts.into_iter().filter(|text| !text.is_empty());
        Ok(Self { list: texts.map(Pattern::parse).collect::<Result<_, _>>()? })
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The pattern by which the path with these components, or a directory above it, fits the list.
    #[must_use]
    pub fn find(&self, path: &[&[u8]]) -> Option<&Pattern> {
        let mut found = None;
        for pattern in &self.list {
            if pattern.negated {
                if found.is_some() && pattern.matches(path) {
                    found = None;
                }
            } else if found.is_none() && pattern.matches(path) {
                found = Some(pattern);
            }
        }
        found
    }

    /// True when something below the directory with these components may fit the list.
    #[must_use]
    pub fn may_match_below(&self, path: &[&[u8]]) -> bool {
        let mut may = false;
        for pattern in &self.list {
            if pattern.negated {
                may = may && !pattern.matches(path);
            } else {
                may = may || pattern.may_match_below(path);
            }
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(path: &str) -> Vec<&[u8]> {
        path.split('/').filter(|part| !part.is_empty()).map(str::as_bytes).collect()
    }

    #[test]
    fn patterns_fit_as_restic_documents_them() {
        let cases = [
            ("*.o", "/a/b/c.o", true),
            ("*.o", "/a/b.o/c", true),
            ("*.o", "/a/b.od", false),
            ("foo", "/a/foo/bar", true),
            ("foo/bar", "/x/foo/bar/y", true),
            ("foo/bar", "/x/foo/y/bar", false),
            ("/foo", "/x/foo", false),
            ("/foo", "/foo/x", true),
            ("/foo/*", "/foo", false),
            ("/foo/*", "/foo/x/y", true),
            ("foo/**/bar", "/x/foo/bar", true),
            ("foo/**/bar", "/x/foo/a/b/bar/c", true),
            ("/foo/**/bar", "/x/foo/bar", false),
            ("**/x", "/x", true),
            ("a?c", "/abc", true),
            ("a?c", "/a\u{e9}c", true),
            ("a[^x-z]c", "/abc", true),
            ("a[^x-z]c", "/ayc", false),
            ("a\\*c", "/a*c", true),
            ("a\\*c", "/abc", false),
            ("/foo/", "/foo/x", true),
            ("/", "/a", true),
            ("../*", "/a", false),
            (".", "/a", false),
            ("a/../b", "/b", true),
            ("/../b", "/b", true),
            ("/**/**", "/a", true),
            ("/a/**/**", "/a", false),
            ("/a/**/**", "/a/b", true),
            ("**", "/a", true),
        ];
        for (pattern, path, expected) in cases {
            let matched = Pattern::parse(pattern).unwrap().matches(&split(path));
            assert_eq!(matched, expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn a_negated_pattern_takes_back_what_others_matched() {
        let list = Patterns::parse(["/home/*/.cache", "!/home/a/.cache", "", "*.tmp"]).unwrap();
        assert!(list.find(&split("/home/b/.cache/x")).is_some());
        assert!(list.find(&split("/home/a/.cache/x")).is_none());
        assert_eq!(list.find(&split("/x.tmp")).map(Pattern::as_str), Some("*.tmp"));
    }

    #[test]
    fn a_directory_above_an_anchored_match_may_hold_it() {
        let pattern = Pattern::parse("/a/b*/c").unwrap();
        assert!(pattern.may_match_below(&split("/a")));
        assert!(pattern.may_match_below(&split("/a/bx")));
        assert!(!pattern.may_match_below(&split("/a/x")));
        assert!(!pattern.may_match_below(&split("/x")));
        assert!(Pattern::parse("/a/**/c").unwrap().may_match_below(&split("/a/x/y")));
        assert!(Pattern::parse("c").unwrap().may_match_below(&split("/x")));
    }

    #[test]
    fn a_pattern_that_does_not_end_is_refused_wherever_the_fault_lies() {
        for bad in ["", "a[", "a[b", "x*[", "a\\", "[]a]", "[-]", "a/[b", "!"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn matching_never_panics(pattern in "[!/a*?\\[\\]^\\\\-]{0,12}", path in "[/ab]{0,12}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                let _matches = pattern.matches(&split(&path));
                let _matches = pattern.may_match_below(&split(&path));
            }
        }
    }
}
