use std::fmt::Write;

use super::listing::{Found, Listing};

impl Listing {
    /// What differs, one line each, for people to read; empty when nothing does.
    ///
    /// Everything is compared but where on the disk the bytes lie.
    #[must_use]
    pub fn differences(&self, other: &Self) -> String {
        let mut lines = String::new();
        for (path, here) in &self.entries {
            match other.entries.get(path) {
                None => line(&mut lines, path, &format!("{:?} is missing", here.kind)),
                Some(there) => {
                    for text in here.differences(there) {
                        line(&mut lines, path, &text);
                    }
                }
            }
        }
        for (path, there) in &other.entries {
            if !self.entries.contains_key(path) {
                line(&mut lines, path, &format!("{:?} should not be there", there.kind));
            }
        }
        lines
    }

    /// Says what differs unless both are equal.
    ///
    /// # Panics
    /// When anything differs; `what` says between what.
    #[track_caller]
    pub fn assert_equals(&self, other: &Self, what: &str) {
        let differences = self.differences(other);
        assert!(differences.is_empty(), "{what}: expected, then found\n{differences}");
    }
}

fn line(lines: &mut String, path: &[u8], text: &str) {
    let path =
        if path.is_empty() { "(the root)".to_owned() } else { path.escape_ascii().to_string() };
    writeln!(lines, "  {path}: {text}").expect("a string takes everything");
}

impl Found {
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut all = Vec::new();
        let mut compare = |what: &str, here: String, there: String| {
            if here != there {
                all.push(format!("{what} {here}, {there}"));
            }
        };
        compare("kind", format!("{:?}", self.kind), format!("{:?}", other.kind));
        compare("mode", format!("{:04o}", self.mode), format!("{:04o}", other.mode));
        compare(
            "owner",
            format!("{}:{}", self.uid, self.gid),
            format!("{}:{}", other.uid, other.gid),
        );
        let time = |found: &Self| format!("{}.{:09}", found.mtime.0, found.mtime.1);
        compare("mtime", time(self), time(other));
        compare("size", self.size.to_string(), other.size.to_string());
        let content = |found: &Self| found.content.as_ref().map_or("-".to_owned(), |c| hex(c));
        compare("content", content(self), content(other));
        let target = |found: &Self| format!("{:?}", found.target.as_deref().map(escaped));
        compare("target", target(self), target(other));
        compare("device", format!("{:?}", self.device), format!("{:?}", other.device));
        let linked = |found: &Self| format!("{:?}", found.linked.as_deref().map(escaped));
        compare("hard link of", linked(self), linked(other));
        compare("holes", format!("{:?}", self.holes), format!("{:?}", other.holes));
        let names = self.attributes.keys().chain(other.attributes.keys());
        for name in names.collect::<std::collections::BTreeSet<_>>() {
            let value = |found: &Self| match found.attributes.get(name) {
                None => "none".to_owned(),
                Some(value) if value.len() > 64 => {
                    format!("{} bytes, {}…", value.len(), hex(&value[..32]))
                }
                Some(value) => format!("`{}`", escaped(value)),
            };
            compare(&format!("attribute {}", escaped(name)), value(self), value(other));
        }
        if all.is_empty() && self.attributes != other.attributes {
            all.push("attributes differ past their beginning".to_owned());
        }
        all
    }
}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}
