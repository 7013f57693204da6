//! Rust source without what only looks like code.

/// The source with every comment and the inside of every string and character literal blanked.
/// Lines stay lines, so that line numbers hold.
pub(super) fn blank(source: &str) -> String {
    let mut blanked = Blanked { source, at: 0, out: String::with_capacity(source.len()) };
    while blanked.at < source.len() {
        blanked.step();
    }
    blanked.out
}

/// The code that is not test code: modules under `#[cfg(test)]` are cut out.
///
/// It relies on the formatting that is checked anyway: such a module ends with a `}` in the
/// column where its attribute begins.
pub(super) fn production(code: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut test_module: Option<String> = None;
    let mut attribute: Option<(String, Vec<(usize, &str)>)> = None;
    for (number, line) in code.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        if let Some(end) = &test_module {
            if line.trim_end() == end {
                test_module = None;
            }
            continue;
        }
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        let trimmed = line.trim();
        if attribute.is_none() && trimmed == "#[cfg(test)]" {
            attribute = Some((indent, vec![(number, line)]));
            continue;
        }
        if let Some((indent, mut held)) = attribute.take() {
            held.push((number, line));
            if trimmed.starts_with("#[") {
                attribute = Some((indent, held));
            } else if is_module(trimmed) {
                test_module = (!trimmed.ends_with(['}', ';'])).then(|| format!("{indent}}}"));
            } else {
                lines.extend(held);
            }
            continue;
        }
        lines.push((number, line));
    }
    lines.extend(attribute.map(|(_, held)| held).unwrap_or_default());
    lines
}

fn is_module(line: &str) -> bool {
    let line = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub ")).unwrap_or(line);
    line.starts_with("mod ")
}

struct Blanked<'a> {
    source: &'a str,
    at: usize,
    out: String,
}

impl Blanked<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn step(&mut self) {
        let rest = self.rest();
        if rest.starts_with("//") {
            let length = rest.find('\n').unwrap_or(rest.len());
            self.hide(length);
        } else if rest.starts_with("/*") {
            let length = block_comment(rest);
            self.hide(length);
        } else if let Some((open, length)) = raw_string(rest)
            && !self.within_word()
        {
            self.keep(open);
            self.hide(length - open);
        } else if rest.starts_with('"') {
            let length = quoted(rest, '"');
            self.keep(1);
            self.hide(length - 1);
        } else if rest.starts_with('\'') && is_character(rest) {
            let length = quoted(rest, '\'');
            self.keep(1);
            self.hide(length - 1);
        } else {
            let length = rest.chars().next().map_or(1, char::len_utf8);
            self.keep(length);
        }
    }

    /// Whether the letter at hand goes on with a name, such as the last one of `bar"`.
    fn within_word(&self) -> bool {
        self.out.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_')
    }

    fn keep(&mut self, length: usize) {
        let end = self.at + length;
        self.out.push_str(&self.source[self.at..end]);
        self.at = end;
    }

    fn hide(&mut self, length: usize) {
        let end = self.at + length;
        let hidden = self.source[self.at..end].chars().map(|c| if c == '\n' { c } else { ' ' });
        self.out.extend(hidden);
        self.at = end;
    }
}

/// The length of a block comment, which may hold others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of a literal that begins and ends with `quote`.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The lengths of the opening and of the whole of a raw string.
fn raw_string(text: &str) -> Option<(usize, usize)> {
    let after = ["r", "br", "cr"].iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let inner = after[hashes..].strip_prefix('"')?;
    let open = text.len() - inner.len();
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inner.find(&end).map_or(inner.len(), |at| at + end.len());
    Some((open, open + length))
}

/// Whether a quote begins a character and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut characters = text.chars().skip(1);
    match characters.next() {
        Some('\\') => true,
        Some(_) => characters.next() == Some('\''),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_stays() {
        for (source, hidden) in [
            ("a // secret\nb", true),
            ("/* a /* secret */ secret */ b", true),
            (r#"let a = "secret \" secret"; b"#, true),
            ("let a = r##\"secret\"# secret\"##; b", true),
            ("let a = br\"secret\"; b", true),
            ("let a = '\"'; secret; let b = '\"';", false),
            ("fn a<'b>(c: &'b str) { secret }", false),
            (r"let a = '\''; secret; let b = '\\';", false),
            ("let bar = 1; foo(bar, \"x\"); secret", false),
        ] {
            assert_eq!(!blank(source).contains("secret"), hidden, "{source}");
            assert_eq!(blank(source).lines().count(), source.lines().count());
        }
        assert!(blank("/* a */ b").contains('b'));
    }

    #[test]
    fn only_modules_under_cfg_test_are_cut_out() {
        let code = "one\n#[cfg(test)]\nuse two;\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    three\n}\n\
                    four\n#[cfg(test)]\nmod tests;\nfive\n    #[cfg(test)]\n    mod inner {\n}\n    }\nsix\n";
        let kept: Vec<&str> = production(code).into_iter().map(|(_, line)| line).collect();
        assert_eq!(kept, ["one", "#[cfg(test)]", "use two;", "four", "five", "six"]);
        assert_eq!(production(code)[3].0, 9, "line numbers hold");
    }
}
