//! JSON text exactly as Go's `encoding/json` writes it. restic compares its own encoding of a tree
//! with the stored bytes before it rewrites one, so that every byte counts.

/// By byte: whether it stands for itself, in ASCII.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x80 {
        plain[byte] = !matches!(byte as u8, b'"' | b'\\' | b'<' | b'>' | b'&');
        byte += 1;
    }
    plain
};

/// Appends a JSON string, quotes included. `<`, `>`, `&`, U+2028 and U+2029 are escaped; every byte
/// that is not part of valid UTF-8 becomes `\ufffd`.
pub fn string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    if bytes.iter().all(|byte| PLAIN[usize::from(*byte)]) {
        out.extend_from_slice(bytes);
        out.push(b'"');
        return;
    }
    for chunk in bytes.utf8_chunks() {
        valid(chunk.valid(), out);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn valid(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    // Bytes from here on are still to be copied as they are.
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let (escape, len): (&[u8], _) = match byte {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            8 => (b"\\b", 1),
            12 => (b"\\f", 1),
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            b'\t' => (b"\\t", 1),
            0..0x20 | b'<' | b'>' | b'&' => (&code(byte), 1),
            0xe2 if bytes[at..].starts_with("\u{2028}".as_bytes()) => (b"\\u2028", 3),
            0xe2 if bytes[at..].starts_with("\u{2029}".as_bytes()) => (b"\\u2029", 3),
            _ => continue,
        };
        out.extend_from_slice(&bytes[from..at]);
        out.extend_from_slice(escape);
        from = at + len;
    }
    out.extend_from_slice(&bytes[from..]);
}

/// Appends a number.
pub fn decimal(number: u64, out: &mut Vec<u8>) {
    let (mut digits, mut at, mut rest) = ([0; 20], 20, number);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn code(byte: u8) -> [u8; 6] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    [b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

/// Appends `json`, which is valid, without white space between tokens and with the escapes of
/// [`string`] inside strings: what Go makes of a `json.RawMessage`.
pub fn compact(json: &str, out: &mut Vec<u8>) {
    let bytes = json.as_bytes();
    let (mut in_string, mut escaped, mut skip) = (false, false, 0);
    for (at, &byte) in bytes.iter().enumerate() {
        if skip > 0 {
            skip -= 1;
            continue;
        }
        if matches!(byte, b'<' | b'>' | b'&') {
            out.extend_from_slice(&code(byte));
            continue;
        }
        if let Some(end) = line_separator(&bytes[at..]) {
            out.extend_from_slice(b"\\u202");
            out.push(end);
            skip = 2;
            continue;
        }
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else {
            if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                continue;
            }
            in_string = byte == b'"';
        }
        out.push(byte);
    }
}

/// The last digit of U+2028 or U+2029, when one of them comes first.
fn line_separator(bytes: &[u8]) -> Option<u8> {
    match bytes {
        [0xe2, 0x80, 0xa8, ..] => Some(b'8'),
        [0xe2, 0x80, 0xa9, ..] => Some(b'9'),
        _ => None,
    }
}

/// Writes an object field by field, in the order of the calls.
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    /// Begins an object at the end of `out`; end it with [`Object::end`].
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Begins a field; its value must be appended to what comes back.
    pub fn field(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        string(name.as_bytes(), self.out);
        self.out.push(b':');
        self.out
    }

    /// A text, whatever it is.
    pub fn text(&mut self, name: &str, value: impl AsRef<[u8]>) {
        string(value.as_ref(), self.field(name));
    }

    /// A text unless it is empty: Go's `omitempty`.
    pub fn text_if_any(&mut self, name: &str, value: impl AsRef<[u8]>) {
        if !value.as_ref().is_empty() {
            self.text(name, value);
        }
    }

    /// A number, whatever it is.
    pub fn number(&mut self, name: &str, value: impl Into<u64>) {
        decimal(value.into(), self.field(name));
    }

    /// A number unless it is zero: Go's `omitempty`.
    pub fn number_if_any(&mut self, name: &str, value: impl Into<u64>) {
        let value = value.into();
        if value != 0 {
            self.number(name, value);
        }
    }

    /// A list of texts, whatever it is.
    pub fn texts<T: AsRef<[u8]>>(&mut self, name: &str, values: &[T]) {
        let out = self.field(name);
        out.push(b'[');
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            string(value.as_ref(), out);
        }
        out.push(b']');
    }

    /// Ends the object.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        string(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        let cases: [(&[u8], &str); 8] = [
            (b"", r#""""#),
            (b"a\"b\\c", r#""a\"b\\c""#),
            (
                b"\x00\x07\x08\t\n\x0b\x0c\r\x1f\x7f",
                "\"\\u0000\\u0007\\b\\t\\n\\u000b\\f\\r\\u001f\x7f\"",
            ),
            (b"<a>&'/", r#""\u003ca\u003e\u0026'/""#),
            ("\u{2027}\u{2028}\u{2029}\u{202a}".as_bytes(), "\"\u{2027}\\u2028\\u2029\u{202a}\""),
            (b"a\xff\xfeb", r#""a\ufffd\ufffdb""#),
            (b"\xe2\x80", r#""\ufffd\ufffd""#),
            (b"\xed\xa0\x80", r#""\ufffd\ufffd\ufffd""#),
        ];
        for (bytes, expected) in cases {
            assert_eq!(text_of(bytes), expected);
        }
    }

    #[test]
    fn numbers_have_as_many_digits_as_they_need() {
        for number in [0, 1, 9, 10, 99, 100, 1_234_567_890, u64::MAX - 1, u64::MAX] {
            let mut out = b"x".to_vec();
            decimal(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("x{number}"));
        }
    }

    #[test]
    fn raw_values_lose_space_between_tokens_only() {
        let mut out = Vec::new();
        compact(" { \"a b\" :\n[ 1, \"\\\" <\u{2028}\" ] }", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a b":[1,"\" \u003c\u2028"]}"#);

        let mut out = Vec::new();
        compact(r#"{ "a\\" : 1 , "b" : 2 }"#, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a\\":1,"b":2}"#);
    }

    #[test]
    fn an_object_leaves_out_what_is_empty_only_where_go_does() {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        object.text("a", "");
        object.text_if_any("b", "");
        object.number("c", 0_u32);
        object.number_if_any("d", 0_u32);
        object.texts::<&str>("e", &[]);
        object.texts("f", &["x", "<"]);
        object.end();
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"a":"","c":0,"e":[],"f":["x","\u003c"]}"#);
    }
}
