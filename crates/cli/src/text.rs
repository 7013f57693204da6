//! Text that is safe to print, and words that a shell reads back as they were.
//!
//! File names are bytes that anybody may have chosen. None of them reaches a terminal as it is.

use std::fmt::Write as _;

/// The bytes as text for a terminal: one line, no control characters, nothing that turns the
/// direction of writing. What cannot be shown is `\xNN` or `\u{…}`, and a backslash is `\\`, so
/// that two different names never look the same.
#[must_use]
pub(crate) fn safe(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                c if is_hidden(c) => escape(&mut out, c),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("writing into a String cannot fail");
        }
    }
    out
}

/// A line of text that came from elsewhere, such as an error of another program: like [`safe`],
/// but a backslash stays one.
#[must_use]
pub(crate) fn safe_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' | '\r' => out.push(' '),
            c if is_hidden(c) => escape(&mut out, c),
            c => out.push(c),
        }
    }
    out
}

/// The bytes as one word of a shell command. Names with control characters or without valid
/// UTF-8 need `$'…'`, which bash, zsh and ksh know.
#[must_use]
pub(crate) fn shell_word(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(byte);
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && bytes.iter().all(plain) => text.to_owned(),
        Ok(text) if !text.chars().any(is_hidden) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => {
            let mut out = "$'".to_owned();
            for &byte in bytes {
                match byte {
                    b'\'' | b'\\' => {
                        out.push('\\');
                        out.push(char::from(byte));
                    }
                    b' '..=b'~' => out.push(char::from(byte)),
                    // Octal always has three digits: a digit that follows cannot be mistaken.
                    _ => write!(out, "\\{byte:03o}").expect("writing into a String cannot fail"),
                }
            }
            out.push('\'');
            out
        }
    }
}

/// Splits a command line into words as a shell would: blanks separate, `'…'` and `"…"` hold
/// together, a backslash outside `'…'` takes the next character as it is. Nothing is expanded.
///
/// # Errors
/// When a quote is never closed or the text ends with a backslash.
pub(crate) fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let next = chars.next().ok_or("it ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    match quote {
        Some(open) => Err(format!("a {open} is never closed")),
        None => {
            words.extend(word);
            Ok(words)
        }
    }
}

fn escape(out: &mut String, c: char) {
    let number = u32::from(c);
    if number < 0x80 {
        write!(out, "\\x{number:02x}").expect("writing into a String cannot fail");
    } else {
        write!(out, "\\u{{{number:x}}}").expect("writing into a String cannot fail");
    }
}

/// True for characters that move the cursor, change colours, or cannot be seen.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0x00ad | 0x061c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
            | 0xfeff | 0xfff9..=0xfffb | 0xe0000..=0xe007f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_name_reaches_the_terminal_with_a_control_character() {
        for (bytes, text) in [
            (&b"plain name"[..], "plain name"),
            ("grüße ☂".as_bytes(), "grüße ☂"),
            (b"a\x1b[31mred", "a\\x1b[31mred"),
            (b"line\nbreak\ttab\r", "line\\nbreak\\ttab\\r"),
            (b"back\\slash", "back\\\\slash"),
            (b"latin \xe9 \xff", "latin \\xe9 \\xff"),
            ("csi \u{9b}1m".as_bytes(), "csi \\u{9b}1m"),
            ("gpj.\u{202e}exe".as_bytes(), "gpj.\\u{202e}exe"),
            (b"\x7f\0", "\\x7f\\x00"),
        ] {
            assert_eq!(safe(bytes), text);
        }
    }

    #[test]
    fn every_byte_string_comes_back_from_a_real_shell() {
        let all: Vec<u8> = (1..=255).collect();
        for bytes in [
            &b"plain"[..],
            b"",
            b"two words",
            b"it's",
            b"$HOME `id` \"x\" \\ *",
            b"tab\there\nand 7 after \x017",
            b"\xff\xfe",
            "\u{202e}abc".as_bytes(),
            b"~",
            b"a~b#c!",
            &all,
        ] {
            let script = format!("printf %s {}", shell_word(bytes));
            let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
            assert_eq!(output.stdout, bytes, "{script}");
        }
    }

    #[test]
    fn a_command_is_split_into_words_as_a_shell_does() {
        for (text, words) in [
            ("pass show backup", vec!["pass", "show", "backup"]),
            ("  cat  '/a b/c'  ", vec!["cat", "/a b/c"]),
            (r#"sh -c "echo \"x\"" '' a\ b"#, vec!["sh", "-c", "echo \"x\"", "", "a b"]),
            ("", vec![]),
        ] {
            assert_eq!(split_words(text).unwrap(), words, "{text}");
        }
        assert!(split_words("echo 'open").is_err());
        assert!(split_words("echo \\").is_err());
    }
}
