//! What is in the files: text, records, noise and zeros, as compressible as real ones.

use std::sync::LazyLock;

use super::chance::Chance;

/// A kind of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    /// Lines of words, as sources and documents are.
    Text,
    /// Records of numbers, as programs and databases are.
    Records,
    /// What is compressed or encrypted already.
    Noise,
    /// Zeros that are written, not a hole.
    Zeros,
}

impl Content {
    /// What file names of this kind end in.
    pub(super) const fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Text => &["rs", "c", "h", "py", "md", "txt", "json", "html"],
            Self::Records => &["o", "so", "bin", "db", "rlib", "mo"],
            Self::Noise => &["gz", "deb", "png", "pack", "xz"],
            Self::Zeros => &["img"],
        }
    }

    /// `len` bytes of this kind, appended to `out`; which ones, `chance` decides.
    pub(super) fn append(self, chance: &mut Chance, len: usize, out: &mut Vec<u8>) {
        let begin = out.len();
        match self {
            Self::Text => text(chance, begin + len, out),
            Self::Records => records(chance, begin + len, out),
            Self::Noise => {
                out.resize(begin + len, 0);
                chance.fill(&mut out[begin..]);
            }
            Self::Zeros => {}
        }
        out.resize(begin + len, 0);
    }
}

/// The phrases that all text is made of, and how many there are.
static PHRASES: LazyLock<Vec<String>> = LazyLock::new(phrases);

const WORDS: usize = 6_000;
const ALL_PHRASES: usize = 40_000;
/// A file speaks of one thing: most of its phrases come from this many.
const TOPIC: usize = 220;

fn phrases() -> Vec<String> {
    let mut chance = Chance::of("phrases", 0);
    let words: Vec<String> = (0..WORDS).map(|_| word(&mut chance)).collect();
    let joints = [" ", " ", " ", " ", "_", ".", "::", "(", ", ", " = "];
    (0..ALL_PHRASES)
        .map(|_| {
            let mut phrase = String::new();
            for at in 0..2 + chance.index(6) {
                if at > 0 {
                    phrase.push_str(joints[chance.index(joints.len())]);
                }
                phrase.push_str(&words[chance.skewed(WORDS)]);
            }
            phrase
        })
        .collect()
}

fn word(chance: &mut Chance) -> String {
    let (consonants, vowels) = (b"bcdfghklmnprstvwz", b"aeiou");
    let mut word = String::new();
    for _ in 0..=chance.index(4) {
        word.push(char::from(consonants[chance.skewed(consonants.len())]));
        word.push(char::from(vowels[chance.skewed(vowels.len())]));
        if chance.below(3) == 0 {
            word.push(char::from(consonants[chance.skewed(consonants.len())]));
        }
    }
    word
}

fn text(chance: &mut Chance, end: usize, out: &mut Vec<u8>) {
    let phrases = &*PHRASES;
    let topic = chance.index(phrases.len() - TOPIC);
    while out.len() < end {
        let indent = 4 * chance.skewed(5);
        out.extend(std::iter::repeat_n(b' ', indent));
        for _ in 0..=chance.skewed(5) {
            let at = match chance.below(4) {
                0 => chance.skewed(phrases.len()),
                _ => topic + chance.skewed(TOPIC),
            };
            out.extend_from_slice(phrases[at].as_bytes());
            out.push(b' ');
        }
        if chance.below(6) == 0 {
            out.extend_from_slice(chance.below(1 << 20).to_string().as_bytes());
        }
        out.extend_from_slice(b";\n");
    }
    out.truncate(end);
}

/// Words that records of a file repeat.
const IDIOMS: usize = 300;

fn records(chance: &mut Chance, end: usize, out: &mut Vec<u8>) {
    let mut idioms = [[0_u8; 12]; IDIOMS];
    for idiom in &mut idioms {
        chance.fill(&mut idiom[..]);
    }
    let mut address = chance.below(1 << 30) as u32;
    while out.len() < end {
        address = address.wrapping_add(4 + 4 * chance.skewed(16) as u32);
        out.extend_from_slice(&address.to_le_bytes());
        out.extend_from_slice(&(chance.skewed(1 << 14) as u32).to_le_bytes());
        for _ in 0..1 + chance.index(2) {
            out.extend_from_slice(&idioms[chance.skewed(IDIOMS)]);
        }
    }
    out.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: Content, len: usize) -> Vec<u8> {
        let mut out = vec![7];
        content.append(&mut Chance::of("content", 1), len, &mut out);
        assert_eq!(out.len(), 1 + len);
        out.split_off(1)
    }

    #[test]
    fn every_kind_compresses_as_real_content_of_it_does() {
        for (content, least, most) in [
            (Content::Text, 0.15, 0.30),
            (Content::Records, 0.30, 0.50),
            (Content::Noise, 0.99, 1.01),
            (Content::Zeros, 0.0, 0.01),
        ] {
            let plain = of(content, 1 << 20);
            let stored = zstd::bulk::compress(&plain, 3).unwrap();
            let ratio = stored.len() as f64 / plain.len() as f64;
            assert!((least..most).contains(&ratio), "{content:?}: {ratio}");
        }
    }

    #[test]
    fn any_length_can_be_had() {
        for content in [Content::Text, Content::Records, Content::Noise, Content::Zeros] {
            for len in [0, 1, 63, 4_097] {
                of(content, len);
            }
        }
    }
}
