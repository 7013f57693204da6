//! One component of a pattern: `*`, `?`, `[a-z]`, `[^a-z]` and `\` before a literal character.
//!
//! The rules are those of Go's `filepath.Match`, byte positions included, because that is what
//! restic's patterns mean.

/// A compiled component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glob {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    AnyCharacter,
    AnySequence,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    /// Reads a component.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut tokens = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            match c {
                '*' => {
                    if tokens.last() != Some(&Token::AnySequence) {
                        tokens.push(Token::AnySequence);
                    }
                }
                '?' => tokens.push(Token::AnyCharacter),
                '[' => tokens.push(class(&mut rest).ok_or("a class `[…` does not end")?),
                '\\' => push_bytes(&mut tokens, rest.next().ok_or("it ends in a backslash")?),
                _ => push_bytes(&mut tokens, c),
            }
        }
        Ok(Self { tokens })
    }

    /// True when it matches the whole of `name`.
    ///
    /// Goes back only to the last `*`, so the time is bounded by the product of both lengths.
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        let (mut token, mut at) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        loop {
            let stepped = match self.tokens.get(token) {
                None if at == name.len() => return true,
                None => None,
                Some(Token::AnySequence) => {
                    retry = Some((token + 1, at));
                    token += 1;
                    continue;
                }
                Some(token) => step(token, &name[at..]),
            };
            match (stepped, retry) {
                (Some(width), _) => {
                    token += 1;
                    at += width;
                }
                (None, Some((after, from))) if from < name.len() && name[from] != b'/' => {
                    retry = Some((after, from + 1));
                    token = after;
                    at = from + 1;
                }
                (None, _) => return false,
            }
        }
    }
}

/// How many bytes of `rest` the token takes, if it matches there.
fn step(token: &Token, rest: &[u8]) -> Option<usize> {
    let (character, width) = first_character(rest)?;
    match token {
        Token::Byte(byte) => (rest[0] == *byte).then_some(1),
        Token::AnyCharacter => (rest[0] != b'/').then_some(width),
        Token::Class { negated, ranges } => {
            let inside = ranges.iter().any(|&(low, high)| low <= character && character <= high);
            (inside != *negated).then_some(width)
        }
        Token::AnySequence => None,
    }
}

/// The first character and its length; a byte that begins no UTF-8 sequence counts as U+FFFD.
fn first_character(bytes: &[u8]) -> Option<(char, usize)> {
    let chunk = bytes.get(..bytes.len().min(4))?;
    if chunk.is_empty() {
        return None;
    }
    let valid = match std::str::from_utf8(chunk) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&chunk[..error.valid_up_to()]).unwrap_or(""),
    };
    Some(valid.chars().next().map_or((char::REPLACEMENT_CHARACTER, 1), |c| (c, c.len_utf8())))
}

fn push_bytes(tokens: &mut Vec<Token>, character: char) {
    let mut buf = [0; 4];
    tokens.extend(character.encode_utf8(&mut buf).bytes().map(Token::Byte));
}

/// Reads a class after its `[`.
fn class(rest: &mut std::str::Chars<'_>) -> Option<Token> {
    let negated = rest.as_str().starts_with('^');
    if negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        if rest.as_str().starts_with(']') && !ranges.is_empty() {
            rest.next();
            return Some(Token::Class { negated, ranges });
        }
        let low = class_character(rest)?;
        let mut high = low;
        if rest.as_str().starts_with('-') {
            rest.next();
            high = class_character(rest)?;
        }
        ranges.push((low, high));
    }
}

fn class_character(rest: &mut std::str::Chars<'_>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;
    use proptest::prelude::*;

    #[test]
    fn a_component_matches_as_go_matches_it() {
        let cases: &[(&str, &[u8], bool)] = &[
            ("abc", b"abc", true),
            ("*", b"abc", true),
            ("*", b"", true),
            ("*c", b"abc", true),
            ("a*", b"a", true),
            ("a*b*c*d*e*/f", b"axbxcxdxe/f", true),
            ("a*b?c*x", b"abxbbxdbxebxczzx", true),
            ("a*b?c*x", b"abxbbxdbxebxczzy", false),
            ("ab[c]", b"abc", true),
            ("ab[b-d]", b"abc", true),
            ("ab[e-g]", b"abc", false),
            ("ab[^c]", b"abc", false),
            ("ab[^e-g]", b"abc", true),
            ("a\\*b", b"a*b", true),
            ("a\\*b", b"ab", false),
            ("a?b", "a☺b".as_bytes(), true),
            ("a[^a]b", "a☺b".as_bytes(), true),
            ("a???b", "a☺b".as_bytes(), false),
            ("[a-ζ]*", "α".as_bytes(), true),
            ("*[a-ζ]", b"A", false),
            ("a?b", b"a/b", false),
            ("a*b", b"a/b", false),
            ("[\\]a]", b"]", true),
            ("[\\-x]", b"-", true),
            ("[x\\-]", b"z", false),
            ("?", b"\xff", true),
            ("", b"", true),
            ("", b"a", false),
        ];
        for (pattern, name, expected) in cases {
            let glob = Glob::parse(pattern).expect(pattern);
            assert_eq!(glob.matches(name), *expected, "{pattern} on {name:?}");
        }
    }

    #[test]
    fn a_malformed_component_is_refused() {
        for pattern in ["[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "a\\", "[a-b-c]"] {
            assert!(Glob::parse(pattern).is_err(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn parsing_and_matching_never_panic(
            pattern in "[a*?\\[\\]^\\\\é-]{0,12}",
            name in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            if let Ok(glob) = Glob::parse(&pattern) {
                let _matched = glob.matches(&name);
            }
        }
    }
}
