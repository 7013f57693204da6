//! Patterns over paths, with the meaning restic gives them.
//!
//! A pattern is split at `/` into parts, and each part is matched against one component of a path:
//! `*` any bytes, `?` one character, `[a-z]` and `[^a-z]` one character of a class, `\` takes the next
//! character as it is. A part `**` stands for any number of components. A pattern that begins with `/`
//! is anchored at the top; any other matches wherever its parts stand side by side. What lies below a
//! match matches, too. In a list, a pattern after `!` takes back what patterns before it matched.

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
    parts: Vec<Vec<u8>>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// When it is empty or a class or an escape in it does not end.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let error = |why| PatternError { pattern: text.to_owned(), why };
        let negated = text.starts_with('!');
        let body = text.strip_prefix('!').unwrap_or(text).as_bytes();
        let anchored = body.first() == Some(&b'/');
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for part in body.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop();
                }
                part => parts.push(part.to_vec()),
            }
        }
        if parts.is_empty() && !anchored {
            return Err(error("it is empty"));
        }
        for part in &parts {
            glob(part, b"").map_err(error)?;
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
        let parts: Vec<&[u8]> = self.parts.iter().map(Vec::as_slice).collect();
        window(&parts, path, self.anchored)
    }

    /// True when something below the directory with these components may fit.
    #[must_use]
    pub fn may_match_below(&self, path: &[&[u8]]) -> bool {
        if !self.anchored {
            return true;
        }
        let wild = self.parts.iter().position(|part| part == b"**");
        let prefix = wild.unwrap_or(self.parts.len()).min(path.len());
        let parts: Vec<&[u8]> = self.parts[..prefix].iter().map(Vec::as_slice).collect();
        fits(&parts, &path[..prefix])
    }
}

/// True when the parts stand side by side somewhere in the path; at its beginning when anchored.
fn window(parts: &[&[u8]], path: &[&[u8]], anchored: bool) -> bool {
    if let Some(wild) = parts.iter().position(|part| *part == b"**") {
        let fixed = parts.len() - 1;
        return (0..=path.len().saturating_sub(fixed)).any(|stars| {
            let mut expanded = parts[..wild].to_vec();
            expanded.extend(std::iter::repeat_n(b"*".as_slice(), stars));
            expanded.extend_from_slice(&parts[wild + 1..]);
            (!expanded.is_empty() || path.is_empty()) && window(&expanded, path, anchored)
        });
    }
    if parts.len() > path.len() {
        return false;
    }
    let last = if anchored { 0 } else { path.len() - parts.len() };
    (0..=last).any(|at| fits(parts, &path[at..at + parts.len()]))
}

fn fits(parts: &[&[u8]], components: &[&[u8]]) -> bool {
    parts.iter().zip(components).all(|(part, name)| glob(part, name) == Ok(true))
}

/// Matches one part against one component.
fn glob(pattern: &[u8], name: &[u8]) -> Result<bool, &'static str> {
    let Some((&first, rest)) = pattern.split_first() else { return Ok(name.is_empty()) };
    match first {
        b'*' => {
            // Reads the rest once even if nothing is left to match, so that a bad pattern is always found.
            let mut found = glob(rest, b"")? && name.is_empty();
            for at in 0..=name.len() {
                if found {
                    break;
                }
                found = glob(rest, &name[at..])?;
            }
            Ok(found)
        }
        b'?' => {
            let ahead = glob(rest, b"")?;
            match character(name) {
                None => Ok(false),
                Some((_, width)) => {
                    Ok(if name.len() == width { ahead } else { glob(rest, &name[width..])? })
                }
            }
        }
        b'[' => {
            let wanted = character(name);
            let (holds, rest) = class(rest, wanted.map(|(c, _)| c))?;
            let ahead = glob(rest, b"")?;
            match wanted {
                Some((_, width)) if holds => {
                    Ok(if name.len() == width { ahead } else { glob(rest, &name[width..])? })
                }
                _ => Ok(false),
            }
        }
        b'\\' => match rest.split_first() {
            None => Err("it ends in a backslash"),
            Some((byte, rest)) => literal(*byte, rest, name),
        },
        byte => literal(byte, rest, name),
    }
}

fn literal(byte: u8, rest: &[u8], name: &[u8]) -> Result<bool, &'static str> {
    match name.split_first() {
        Some((found, after)) if *found == byte => glob(rest, after),
        _ => glob(rest, b"").map(|_| false),
    }
}

/// Reads a class after its `[`; says whether it holds `wanted` and what follows its `]`.
fn class(mut pattern: &[u8], wanted: Option<u32>) -> Result<(bool, &[u8]), &'static str> {
    const OPEN: &str = "a class `[…` does not end";
    let negated = pattern.first() == Some(&b'^');
    if negated {
        pattern = &pattern[1..];
    }
    let mut holds = false;
    let mut ranges = 0;
    loop {
        if pattern.first() == Some(&b']') && ranges > 0 {
            return Ok((holds != negated, &pattern[1..]));
        }
        let (low, rest) = class_character(pattern).ok_or(OPEN)?;
        let (high, rest) = match rest.split_first() {
            Some((b'-', rest)) => class_character(rest).ok_or(OPEN)?,
            _ => (low, rest),
        };
        holds |= wanted.is_some_and(|c| low <= c && c <= high);
        ranges += 1;
        pattern = rest;
    }
}

fn class_character(pattern: &[u8]) -> Option<(u32, &[u8])> {
    let pattern = match pattern.first()? {
        b'-' | b']' => return None,
        b'\\' => &pattern[1..],
        _ => pattern,
    };
    let (c, width) = character(pattern)?;
    (pattern.len() > width).then(|| (c, &pattern[width..]))
}

/// The first character and its width; a byte that begins no character stands for itself, above all characters.
fn character(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    for width in 1..=bytes.len().min(4) {
        if let Ok(text) = std::str::from_utf8(&bytes[..width])
            && let Some(c) = text.chars().next()
        {
            return Some((u32::from(c), width));
        }
    }
    Some((0x11_0000 + u32::from(first), 1))
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
                let _ = pattern.matches(&split(&path));
                let _ = pattern.may_match_below(&split(&path));
            }
        }
    }
}
