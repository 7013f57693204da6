//! Names of nodes: any bytes as text and back, as Go's `strconv.Quote` and `strconv.Unquote` do it,
//! without the quotes around it.

use std::io::Write as _;

use crate::printable::PRINTABLE;

/// Appends `bytes` as Go quotes them: what is printable stands for itself, save `"` and `\`; bytes
/// outside UTF-8 become `\xNN`, everything else an escape of its code point.
pub fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            quote_char(c, out);
        }
        for byte in chunk.invalid() {
            hex(out, 'x', u32::from(*byte), 2);
        }
    }
}

fn quote_char(c: char, out: &mut Vec<u8>) {
    let short = match c {
        '"' | '\\' => c,
        _ if is_printable(c) => {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return;
        }
        '\x07' => 'a',
        '\x08' => 'b',
        '\x0c' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\x0b' => 'v',
        '\0'..='\x7f' => return hex(out, 'x', c.into(), 2),
        '\0'..='\u{ffff}' => return hex(out, 'u', c.into(), 4),
        _ => return hex(out, 'U', c.into(), 8),
    };
    out.extend([b'\\', short as u8]);
}

fn hex(out: &mut Vec<u8>, letter: char, number: u32, digits: usize) {
    write!(out, "\\{letter}{number:0digits$x}").expect("writing to memory cannot fail");
}

fn is_printable(c: char) -> bool {
    let c = u32::from(c);
    if c < 0x80 {
        return (0x20..0x7f).contains(&c);
    }
    let at = PRINTABLE.partition_point(|(_, end)| *end < c);
    PRINTABLE.get(at).is_some_and(|(start, _)| *start <= c)
}

/// Reads what Go's `Unquote` reads between double quotes, octal and simple escapes included.
/// `None` for anything else.
#[must_use]
pub fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = escape(rest[at..].strip_prefix('\\')?, &mut out)?;
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

/// Appends what the escape after a backslash means; returns what comes after it.
fn escape<'a>(text: &'a str, out: &mut Vec<u8>) -> Option<&'a str> {
    let mut chars = text.chars();
    let letter = chars.next()?;
    let rest = chars.as_str();
    let byte = match letter {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' | '"' => letter as u8,
        'x' => {
            out.push(u8::try_from(number(rest, 2, 16)?).ok()?);
            return Some(&rest[2..]);
        }
        'u' | 'U' => {
            let digits = if letter == 'u' { 4 } else { 8 };
            let c = char::from_u32(number(rest, digits, 16)?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(&rest[digits..]);
        }
        '0'..='7' => {
            out.push(u8::try_from(number(text, 3, 8)?).ok()?);
            return Some(&text[3..]);
        }
        _ => return None,
    };
    out.push(byte);
    Some(rest)
}

/// The number that exactly so many digits say; signs are no digits.
fn number(text: &str, digits: usize, radix: u32) -> Option<u32> {
    let text = text.get(..digits)?;
    text.chars()
        .try_fold(0_u32, |number, c| number.checked_mul(radix)?.checked_add(c.to_digit(radix)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quoted(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        quote(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_quoted_as_go_quotes_them() {
        let cases: [(&[u8], &str); 12] = [
            (b"plain name.txt", "plain name.txt"),
            (b"a\"b\\c'd", r#"a\"b\\c'd"#),
            (b"\x07\x08\x0c\n\r\t\x0b", r"\a\b\f\n\r\t\v"),
            (b"\x00\x01\x1f\x7f", r"\x00\x01\x1f\x7f"),
            (b"a\xffb\xc3", r"a\xffb\xc3"),
            ("é日本😀".as_bytes(), "é日本😀"),
            ("\u{80}\u{a0}\u{ad}".as_bytes(), r"\u0080\u00a0\u00ad"),
            ("\u{2028}\u{feff}".as_bytes(), r"\u2028\ufeff"),
            ("\u{e000}\u{fffd}".as_bytes(), "\\ue000\u{fffd}"),
            ("\u{e0001}\u{10ffff}".as_bytes(), r"\U000e0001\U0010ffff"),
            (b"\xed\xa0\x80", r"\xed\xa0\x80"),
            (b"<&>", "<&>"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(quoted(bytes), expected);
            assert_eq!(unquote(expected).as_deref(), Some(bytes));
        }
    }

    #[test]
    fn go_escapes_that_go_itself_does_not_write_are_read() {
        assert_eq!(unquote(r"\101\u0041\U00000041\x41"), Some(b"AAAA".to_vec()));
        assert_eq!(unquote(r"\377\xFF"), Some(vec![0xff, 0xff]));
    }

    #[test]
    fn what_go_refuses_is_refused() {
        let bads = [
            "\"",
            "\n",
            r"\",
            r"\q",
            r"\'",
            r"\x4",
            r"\xgg",
            r"\x+1",
            r"\u12",
            r"\ud800",
            r"\U00110000",
            r"\400",
            r"\08",
            r"\1",
            "\\xé1",
        ];
        for bad in bads {
            assert_eq!(unquote(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(unquote(&quoted(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC{0,20}(\\\\\\PC{0,9}){0,5}") {
            let _read = unquote(&text);
        }
    }
}
