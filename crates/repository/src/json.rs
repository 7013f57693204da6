//! Reads JSON piece by piece from a stream, holding no more than the piece in hand: for trees and
//! indexes, which may be larger than memory should be.
//!
//! It is strict: what it accepts is JSON in UTF-8. Everything kept is paid for from a budget that
//! the caller sets, so that no input can make it hold more.

use std::io::Read;

use crate::decode::{DecodeError, Decoded};

/// Bytes read at a time.
const BUFFER: usize = 64 << 10;
/// How deep values that are skipped or kept raw may be nested.
const MAX_DEPTH: u32 = 64;

/// A stream of JSON.
pub struct Reader<R> {
    source: R,
    buf: Box<[u8]>,
    at: usize,
    end: usize,
    budget: usize,
    /// While a raw value is read: its bytes so far.
    raw: Option<Vec<u8>>,
}

impl<R> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("budget", &self.budget).finish_non_exhaustive()
    }
}

/// Whether the first field or item of an object or list is still to come.
#[derive(Clone, Copy, Debug)]
pub struct First(bool);

fn ends() -> DecodeError {
    DecodeError::malformed("its JSON ends early")
}

fn expected(what: &'static str) -> DecodeError {
    DecodeError::malformed(format!("its JSON has something else where {what} must be"))
}

/// Where the first byte is that ends a text or is not itself in it: eight bytes at a time.
fn end_of_plain(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = ONES << 7;
    let (words, _) = text.as_chunks::<8>();
    let mut from = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        // The top bit of a byte below that number, when the byte's own top bit is not set.
        let below = |word: u64, number: u64| word.wrapping_sub(ONES * number) & !word & TOPS;
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let escape = below(word ^ (ONES * u64::from(b'\\')), 1);
        if (quote | escape | below(word, 0x20)) != 0 {
            break;
        }
        from += 8;
    }
    let rest = text[from..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    rest.map(|at| from + at)
}

impl<R: Read> Reader<R> {
    /// Reads from `source`; keeps nothing before [`Reader::set_budget`].
    pub fn new(source: R) -> Self {
        Self::sized(source, BUFFER as u64)
    }

    /// As [`Reader::new`], for a source that has about `len` bytes.
    pub fn sized(source: R, len: u64) -> Self {
        let len = usize::try_from(len).unwrap_or(BUFFER).clamp(64, BUFFER);
        let buf = vec![0; len].into_boxed_slice();
        Self { source, buf, at: 0, end: 0, budget: 0, raw: None }
    }

    /// Allows so many bytes of texts and raw values to be kept from now on.
    pub fn set_budget(&mut self, bytes: usize) {
        self.budget = bytes;
    }

    /// How many bytes may still be kept.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// The bytes that were read from the source and not looked at yet, and the source.
    fn filled(&mut self) -> Decoded<&[u8]> {
        while self.at == self.end {
            self.at = 0;
            self.end = 0;
            match self.source.read(&mut self.buf) {
                Ok(0) => break,
                Ok(n) => self.end = n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(&self.buf[self.at..self.end])
    }

    fn spend(&mut self, bytes: usize) -> Decoded<()> {
        self.budget = self
            .budget
            .checked_sub(bytes)
            .ok_or_else(|| DecodeError::malformed("it has a text that is too long"))?;
        Ok(())
    }

    /// Passes over the next `n` bytes, which are in the buffer.
    fn advance(&mut self, n: usize) -> Decoded<()> {
        if self.raw.is_some() {
            self.spend(n)?;
        }
        if let Some(raw) = &mut self.raw {
            raw.extend_from_slice(&self.buf[self.at..self.at + n]);
        }
        self.at += n;
        Ok(())
    }

    fn byte(&mut self) -> Decoded<u8> {
        let byte = *self.filled()?.first().ok_or_else(ends)?;
        self.advance(1)?;
        Ok(byte)
    }

    /// The first byte of the next token, which stays there; `None` at the end.
    fn token(&mut self) -> Decoded<Option<u8>> {
        loop {
            match self.filled()?.first() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.advance(1)?,
                other => return Ok(other.copied()),
            }
        }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Decoded<()> {
        if self.token()?.ok_or_else(ends)? != byte {
            return Err(expected(what));
        }
        self.advance(1)
    }

    /// Begins an object.
    ///
    /// # Errors
    /// When there is none.
    pub fn object(&mut self) -> Decoded<First> {
        self.expect(b'{', "an object")?;
        Ok(First(true))
    }

    /// Reads the name of the next field into `name`; false at the end of the object.
    ///
    /// # Errors
    /// When neither comes.
    pub fn field(&mut self, first: &mut First, name: &mut String) -> Decoded<bool> {
        if self.next(first, b'}')? {
            self.text(name)?;
            self.expect(b':', "a colon")?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Begins a list.
    ///
    /// # Errors
    /// When there is none.
    pub fn list(&mut self) -> Decoded<First> {
        self.expect(b'[', "a list")?;
        Ok(First(true))
    }

    /// True when another item comes; false at the end of the list.
    ///
    /// # Errors
    /// When neither comes.
    pub fn item(&mut self, first: &mut First) -> Decoded<bool> {
        self.next(first, b']')
    }

    fn next(&mut self, first: &mut First, close: u8) -> Decoded<bool> {
        let token = self.token()?.ok_or_else(ends)?;
        let is_first = std::mem::replace(&mut first.0, false);
        if token == close {
            self.advance(1)?;
            return Ok(false);
        }
        if !is_first {
            self.expect(b',', "a comma")?;
        }
        Ok(true)
    }

    /// Reads `null` if that is what comes.
    ///
    /// # Errors
    /// When the stream ends.
    pub fn null(&mut self) -> Decoded<bool> {
        if self.token()?.ok_or_else(ends)? != b'n' {
            return Ok(false);
        }
        self.word(b"null")?;
        Ok(true)
    }

    fn word(&mut self, word: &[u8]) -> Decoded<()> {
        for expected_byte in word {
            if self.byte()? != *expected_byte {
                return Err(expected("a value"));
            }
        }
        Ok(())
    }

    /// Reads a text into `out`, replacing what is in it. A lone surrogate becomes U+FFFD.
    ///
    /// # Errors
    /// When there is none, it is no UTF-8, or it is longer than the budget.
    pub fn text(&mut self, out: &mut String) -> Decoded<()> {
        let mut bytes = std::mem::take(out).into_bytes();
        bytes.clear();
        self.expect(b'"', "a text")?;
        self.text_until_quote(Some(&mut bytes))?;
        *out = String::from_utf8(bytes)
            .map_err(|_cause| DecodeError::malformed("it has a text that is not UTF-8"))?;
        Ok(())
    }

    /// Reads up to the closing quote, keeping the text when asked.
    fn text_until_quote(&mut self, mut out: Option<&mut Vec<u8>>) -> Decoded<()> {
        loop {
            let filled = self.filled()?;
            let stop = end_of_plain(filled);
            let plain = stop.unwrap_or(filled.len());
            let next = stop.map(|at| filled[at]);
            if filled.is_empty() {
                return Err(ends());
            }
            if let Some(out) = &mut out {
                self.spend(plain)?;
                out.extend_from_slice(&self.buf[self.at..self.at + plain]);
            }
            self.advance(plain)?;
            match next {
                None => {}
                Some(b'"') => return self.advance(1),
                Some(b'\\') => {
                    self.advance(1)?;
                    let c = self.escape()?;
                    if let Some(out) = &mut out {
                        self.spend(4)?;
                        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
                Some(_) => {
                    return Err(DecodeError::malformed("it has a text with a control character"));
                }
            }
        }
    }

    /// What the escape after a backslash means.
    fn escape(&mut self) -> Decoded<char> {
        Ok(match self.byte()? {
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            plain @ (b'"' | b'\\' | b'/') => char::from(plain),
            b'u' => self.unicode()?,
            _ => return Err(DecodeError::malformed("it has a text with an unknown escape")),
        })
    }

    fn unicode(&mut self) -> Decoded<char> {
        let first = self.code_unit()?;
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        // A surrogate: with its partner it is one character. Go turns one without into U+FFFD and
        // reads what follows on its own; that needs looking ahead, and no writer makes such texts.
        if first >= 0xdc00 {
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        self.word(br"\u")?;
        let second = self.code_unit()?;
        let low = second.wrapping_sub(0xdc00);
        if low >= 0x400 {
            return Err(DecodeError::malformed("it has a text with half a character"));
        }
        let code = 0x10000 + ((first - 0xd800) << 10) + low;
        Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn code_unit(&mut self) -> Decoded<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = char::from(self.byte()?).to_digit(16);
            unit = unit << 4
                | digit.ok_or_else(|| DecodeError::malformed("it has a text with a bad escape"))?;
        }
        Ok(unit)
    }

    /// Reads a whole number from 0 to `max`.
    ///
    /// # Errors
    /// When there is none.
    pub fn number(&mut self, max: u64) -> Decoded<u64> {
        let first = self.token()?.ok_or_else(ends)?;
        let mut number = 0_u64;
        let mut digits = 0;
        while let Some(&byte @ b'0'..=b'9') = self.filled()?.first() {
            let next = number.checked_mul(10).and_then(|n| n.checked_add(u64::from(byte - b'0')));
            number = next.filter(|n| *n <= max).ok_or_else(|| expected("a smaller number"))?;
            digits += 1;
            self.advance(1)?;
        }
        let leading_zero = first == b'0' && digits > 1;
        let more = matches!(self.filled()?.first(), Some(b'.' | b'e' | b'E'));
        if digits == 0 || leading_zero || more {
            return Err(expected("a whole number"));
        }
        Ok(number)
    }

    /// Passes over any value.
    ///
    /// # Errors
    /// When there is none, or it is nested too deep.
    pub fn skip(&mut self) -> Decoded<()> {
        self.skip_nested(MAX_DEPTH)
    }

    fn skip_nested(&mut self, depth: u32) -> Decoded<()> {
        let deeper =
            || depth.checked_sub(1).ok_or_else(|| DecodeError::malformed("it is nested too deep"));
        match self.token()?.ok_or_else(ends)? {
            b'{' => {
                let (depth, mut first) = (deeper()?, self.object()?);
                while self.next(&mut first, b'}')? {
                    self.expect(b'"', "a text")?;
                    self.text_until_quote(None)?;
                    self.expect(b':', "a colon")?;
                    self.skip_nested(depth)?;
                }
                Ok(())
            }
            b'[' => {
                let (depth, mut first) = (deeper()?, self.list()?);
                while self.item(&mut first)? {
                    self.skip_nested(depth)?;
                }
                Ok(())
            }
            b'"' => {
                self.advance(1)?;
                self.text_until_quote(None)
            }
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.skip_number(),
        }
    }

    fn skip_number(&mut self) -> Decoded<()> {
        if self.filled()?.first() == Some(&b'-') {
            self.advance(1)?;
        }
        if self.filled()?.first() == Some(&b'0') {
            self.advance(1)?;
        } else {
            self.digits()?;
        }
        if self.filled()?.first() == Some(&b'.') {
            self.advance(1)?;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.filled()?.first() {
            self.advance(1)?;
            if let Some(b'+' | b'-') = self.filled()?.first() {
                self.advance(1)?;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Decoded<()> {
        let mut any = false;
        while let Some(b'0'..=b'9') = self.filled()?.first() {
            any = true;
            self.advance(1)?;
        }
        if any { Ok(()) } else { Err(expected("a value")) }
    }

    /// Reads any value as it stands.
    ///
    /// # Errors
    /// When there is none, it is nested too deep, no UTF-8, or longer than the budget.
    pub fn raw(&mut self) -> Decoded<String> {
        self.token()?;
        self.raw = Some(Vec::new());
        let read = self.skip();
        let raw = self.raw.take().unwrap_or_default();
        read?;
        String::from_utf8(raw)
            .map_err(|_cause| DecodeError::malformed("it has a text that is not UTF-8"))
    }

    /// Checks that nothing but white space follows.
    ///
    /// # Errors
    /// When something does.
    pub fn end(&mut self) -> Decoded<()> {
        match self.token()? {
            None => Ok(()),
            Some(_) => Err(DecodeError::malformed("something follows its JSON")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives one byte at a time.
    struct Dribble<'a>(&'a [u8]);

    impl Read for Dribble<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let n = self.0.len().min(1);
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn reader(json: &str) -> Reader<Dribble<'_>> {
        let mut reader = Reader::new(Dribble(json.as_bytes()));
        reader.set_budget(1000);
        reader
    }

    fn text_of(json: &str) -> Decoded<String> {
        let mut text = "old".to_owned();
        reader(json).text(&mut text)?;
        Ok(text)
    }

    #[test]
    fn texts_are_unescaped() {
        assert_eq!(text_of(r#" "" "#).unwrap(), "");
        assert_eq!(text_of(r#""a\"\\\/\b\f\n\r\tb""#).unwrap(), "a\"\\/\x08\x0c\n\r\tb");
        assert_eq!(text_of(r#""é\u00e9\ud83d\ude00\udc00""#).unwrap(), "éé😀\u{fffd}");
        for bad in [
            "",
            "\"",
            "\"\n\"",
            r#""\q""#,
            r#""\u12"#,
            r#""\u12g4""#,
            r#""\ud800a""#,
            "1",
            r#""\ud83d\u0041""#,
        ] {
            assert!(text_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_whole_and_bounded() {
        for (json, number) in [("0", 0), ("7,", 7), ("18446744073709551615 ", u64::MAX)] {
            assert_eq!(reader(json).number(u64::MAX).unwrap(), number);
        }
        for bad in ["", "-1", "00", "01", "1.0", "1e3", "18446744073709551616", "x", "\"1\""] {
            assert!(reader(bad).number(u64::MAX).is_err(), "{bad}");
        }
        assert!(reader("256").number(255).is_err());
    }

    #[test]
    fn any_valid_value_is_skipped_and_kept_raw_and_no_other() {
        let good = [
            "null",
            "true",
            "false",
            "0",
            "-0.5e+10",
            "\"a\\\"b\"",
            "[]",
            "{}",
            "[1, [2], {\"a\":[]}]",
            r#"{"a":{"b":"c"},"d":null}"#,
        ];
        for json in good {
            reader(json).skip().unwrap();
            assert_eq!(reader(&format!(" {json} ")).raw().unwrap().trim_end(), json);
        }
        let bad = [
            "",
            "nul",
            "-",
            "1.",
            "1e",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":1,}",
            "{1:2}",
            "[",
            "{",
            "+1",
            ".5",
        ];
        for json in bad {
            assert!(reader(json).skip().is_err(), "{json}");
        }
    }

    #[test]
    fn what_is_deep_or_long_is_refused() {
        let deep = "[".repeat(100_000);
        assert!(Reader::new(deep.as_bytes()).skip().is_err());
        assert!(text_of(&format!("\"{}\"", "a".repeat(1000))).is_ok());
        assert!(text_of(&format!("\"{}\"", "a".repeat(1001))).is_err());
        assert!(reader(&format!("\"{}\"", "a".repeat(1000))).raw().is_err());
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_about_what_json_is(json in r#"[\[\]{}:,"\\ua0-9.eE+\- nultr]{0,24}"#) {
            let mut ours = Reader::new(json.as_bytes());
            let ours = ours.skip().and_then(|()| ours.end());
            let serde = serde_json::from_str::<serde::de::IgnoredAny>(&json);
            prop_assert_eq!(ours.is_ok(), serde.is_ok());
        }
    }

    #[test]
    fn the_end_of_plain_text_is_where_a_look_at_each_byte_finds_it() {
        let plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | 0..0x20);
        for byte in 0..=255_u8 {
            for at in 0..24 {
                let mut text = vec![0xC3; 24];
                text[at] = byte;
                assert_eq!(end_of_plain(&text), text.iter().position(|b| !plain(b)), "{byte} {at}");
                assert_eq!(end_of_plain(&text[..at]), None);
            }
        }
    }
}
