//! The tree: about 160,000 files with the sizes of a developer's machine.

use super::chance::Chance;
use super::content::Content;

/// How many files of which size there are.
pub(super) struct Shape {
    /// Up to 64 KiB.
    small: usize,
    /// Up to 1 MiB.
    middle: usize,
    /// From 1 MiB, 2 MiB, 4 MiB and so on.
    large: &'static [usize],
    /// How many times 1 % of the files are added, removed and renamed: new, removed, renamed.
    pub(super) changes: [usize; 3],
}

/// As measured on a frozen copy of sources, libraries, programs and packages: 154,149 files up to
/// 64 KiB hold 0.99 GB, 183 above 1 MiB hold 2.0 GB.
pub(super) const FULL: Shape = Shape {
    small: 154_149,
    middle: 5_917,
    large: &[64, 38, 28, 22, 16, 10, 5],
    changes: [300, 300, 100],
};

/// The same in small, to see that everything runs.
pub(super) const SMOKE: Shape =
    Shape { small: 1_500, middle: 58, large: &[4, 1], changes: [6, 6, 3] };

/// One file of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Where it lies in the tree.
    pub(super) path: String,
    pub(super) len: u64,
    pub(super) content: Content,
    /// Which stream it is made of; two files with the same are the same.
    seed: u64,
}

impl File {
    /// Its bytes, instead of what is in `out`.
    pub(super) fn bytes(&self, out: &mut Vec<u8>) {
        out.clear();
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        self.content.append(&mut Chance::of("file", self.seed), len, out);
    }
}

/// One in so many files is a copy of another.
const COPIES: u64 = 16;
const DEEPEST: usize = 11;

/// All files, in the order in which they are written.
pub(super) fn files(shape: &Shape) -> Vec<File> {
    let mut chance = Chance::of("tree", 0);
    let mut files: Vec<File> = sizes(shape, &mut chance)
        .into_iter()
        .enumerate()
        .map(|(at, len)| File {
            path: String::new(),
            len,
            content: kind(len, &mut chance),
            seed: at as u64,
        })
        .collect();
    for at in 1..files.len() {
        let original = chance.index(at);
        if chance.below(COPIES) == 0 && class(files[original].len) == class(files[at].len) {
            let File { len, content, seed, .. } = files[original];
            files[at] = File { path: String::new(), len, content, seed };
        }
    }
    chance.shuffle(&mut files);
    let folders = folders(files.len() / 6 + 1, &mut chance);
    let count = files.len();
    for (at, file) in files.iter_mut().enumerate() {
        let near = at * folders.len() / count;
        let folder = &folders[near.saturating_sub(chance.skewed(3))];
        file.path = name(folder, at, file.content, &mut chance);
    }
    files
}

/// A file that is not in the tree: number `at` of those that are added.
pub(super) fn new_file(at: usize, beside: &str) -> File {
    let mut chance = Chance::of("new", at as u64);
    let len = small(&mut chance);
    let content = kind(len, &mut chance);
    let folder = beside.rsplit_once('/').map_or("", |(folder, _)| folder);
    File {
        path: format!("{folder}/new-{at}.{}", content.extensions()[0]),
        len,
        content,
        seed: 1 << 40 | at as u64,
    }
}

/// 0 for small, 1 for middle, 2 for large files.
fn class(len: u64) -> usize {
    usize::from(len > 64 << 10) + usize::from(len > 1 << 20)
}

fn sizes(shape: &Shape, chance: &mut Chance) -> Vec<u64> {
    let mut sizes: Vec<u64> = (0..shape.small).map(|_| small(chance)).collect();
    // From 64, 128, 256 and 512 KiB.
    sizes.extend((0..shape.middle).map(|_| {
        let octave = chance.weighed(&[65, 26, 6, 3]);
        octave_size(64 << 10 << octave, chance)
    }));
    for (octave, count) in shape.large.iter().enumerate() {
        sizes.extend((0..*count).map(|_| octave_size(1 << 20 << octave, chance)));
    }
    sizes
}

/// Most are below 16 KiB; the mean is 6.4 KiB.
fn small(chance: &mut Chance) -> u64 {
    if chance.below(1_000) < 258 {
        octave_size(1_024 << chance.below(6), chance)
    } else {
        octave_size(64 << chance.below(8), chance)
    }
}

/// A size above `from`, at most twice as large.
fn octave_size(from: u64, chance: &mut Chance) -> u64 {
    from + 1 + chance.below(from)
}

fn kind(len: u64, chance: &mut Chance) -> Content {
    let weights = match class(len) {
        0 => [80, 14, 6],
        1 => [55, 30, 15],
        _ => [28, 44, 28],
    };
    [Content::Text, Content::Records, Content::Noise][chance.weighed(&weights)]
}

/// Paths of folders, each below one that comes before it; the first is the root.
fn folders(count: usize, chance: &mut Chance) -> Vec<String> {
    let mut folders = vec![(String::new(), 0)];
    for at in 1..count {
        let mut above = at - 1 - chance.skewed(at.min(40));
        while folders[above].1 >= DEEPEST {
            above = chance.index(above);
        }
        let (path, depth) = &folders[above];
        let made = (format!("{path}/{}-{at}", syllables(chance)), depth + 1);
        folders.push(made);
    }
    folders.into_iter().map(|(path, _)| path.trim_start_matches('/').to_owned()).collect()
}

fn name(folder: &str, at: usize, content: Content, chance: &mut Chance) -> String {
    let extensions = content.extensions();
    let extension = extensions[chance.skewed(extensions.len())];
    let name = format!("{}-{at}.{extension}", syllables(chance));
    if folder.is_empty() { name } else { format!("{folder}/{name}") }
}

fn syllables(chance: &mut Chance) -> String {
    const PARTS: [&str; 20] = [
        "al", "be", "con", "dra", "el", "fi", "gra", "he", "in", "ka", "lo", "mi", "no", "or",
        "pre", "re", "sta", "tu", "ver", "zo",
    ];
    (0..2 + chance.index(3)).map(|_| PARTS[chance.index(PARTS.len())]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_tree_has_the_sizes_that_were_measured() {
        let files = files(&FULL);
        assert_eq!(files.len(), 160_249);
        let sum = |wanted: usize| -> (usize, u64) {
            let all = files.iter().filter(|file| class(file.len) == wanted);
            (all.clone().count(), all.map(|file| file.len).sum())
        };
        for (wanted, count, bytes) in
            [(0, 154_149, 990_000_000), (1, 5_917, 940_000_000), (2, 183, 2_010_000_000)]
        {
            let (found, total) = sum(wanted);
            assert_eq!(found, count);
            let off = total.abs_diff(bytes) * 100 / bytes;
            assert!(off < 8, "class {wanted} holds {total} bytes");
        }
    }

    #[test]
    fn no_two_files_have_one_path_and_the_folders_are_deep() {
        let files = files(&SMOKE);
        let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths.len(), files.len());
        let depths: Vec<usize> = paths.iter().map(|path| path.matches('/').count()).collect();
        assert!(depths.iter().max() > Some(&5) && depths.iter().min() == Some(&0), "{depths:?}");
    }
}
