//! What of a stored tree is meant, decided path by path.

use alidade_entity::{Class, Error, Result};
use alidade_model::{Patterns, Rule, Selection};

use crate::identity::components;

/// What a filter says about an entry.
pub(crate) enum Verdict {
    /// It is meant, and everything below it that no rule leaves out.
    Yes,
    /// It is not itself meant; something below it may be.
    Maybe,
    /// Neither it nor anything below it; by a rule, if it was left out on purpose.
    No(Option<String>),
}

/// A selection, ready to be asked.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    only: Vec<Vec<u8>>,
    include: Patterns,
    exclude: Patterns,
}

impl Filter {
    /// The filter for a selection. Rules that ask a live file system (markers, mount points, sizes) do not
    /// apply to what is stored.
    pub(crate) fn of(selection: &Selection) -> Result<Self> {
        let bad = |error| Error::with_source(Class::Unsupported, "read a pattern", error);
        let excludes = selection.rules.iter().filter_map(|rule| match rule {
            Rule::Pattern(pattern) => Some(pattern.as_str()),
            _ => None,
        });
        Ok(Self {
            only: selection.only.clone(),
            include: Patterns::parse(selection.include.iter().map(String::as_str)).map_err(bad)?,
            exclude: Patterns::parse(excludes).map_err(bad)?,
        })
    }

    pub(crate) fn takes_everything(&self) -> bool {
        self.only.is_empty() && self.include.is_empty() && self.exclude.is_empty()
    }

    /// Judges the entry at an absolute path.
    pub(crate) fn look(&self, path: &[u8], is_dir: bool) -> Verdict {
        if self.takes_everything() {
            return Verdict::Yes;
        }
        let path = components(path);
        if let Some(pattern) = self.exclude.find(&path) {
            return Verdict::No(Some(Rule::Pattern(pattern.as_str().to_owned()).name()));
        }
        let mut chosen = self.only.is_empty();
        let mut leads = false;
        for only in &self.only {
            let only = components(only);
            chosen |= path.len() >= only.len() && path[..only.len()] == only[..];
            leads |= is_dir && path.len() < only.len() && only[..path.len()] == path[..];
        }
        if !chosen && !leads {
            return Verdict::No(None);
        }
        if !self.include.is_empty() {
            chosen = chosen && self.include.find(&path).is_some();
            leads = is_dir && self.include.may_match_below(&path);
        }
        match (chosen, leads) {
            (true, _) => Verdict::Yes,
            (false, true) => Verdict::Maybe,
            (false, false) => Verdict::No(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(only: &[&str], include: &[&str], exclude: &[&str]) -> Filter {
        Filter::of(&Selection {
            rules: exclude.iter().map(|&text| Rule::Pattern(text.to_owned())).collect(),
            only: only.iter().map(|path| path.as_bytes().to_vec()).collect(),
            include: include.iter().map(|&text| text.to_owned()).collect(),
        })
        .unwrap()
    }

    /// `y` for chosen, `m` for leading to something chosen, `n` for neither, `x` for excluded by a rule.
    fn looks(filter: &Filter, path: &str, is_dir: bool) -> char {
        match filter.look(path.as_bytes(), is_dir) {
            Verdict::Yes => 'y',
            Verdict::Maybe => 'm',
            Verdict::No(None) => 'n',
            Verdict::No(Some(_)) => 'x',
        }
    }

    #[test]
    fn nothing_asked_for_means_everything() {
        let all = filter(&[], &[], &[]);
        assert!(all.takes_everything());
        assert_eq!(looks(&all, "/a/b", false), 'y');
    }

    #[test]
    fn named_paths_are_chosen_with_what_is_below_and_led_to_by_directories_alone() {
        let some = filter(&["/a/b"], &[], &[]);
        for (path, is_dir, expected) in [
            ("/a", true, 'm'),
            ("/a", false, 'n'),
            ("/a/b", true, 'y'),
            ("/a/b/c/d", false, 'y'),
            ("/a/bb", false, 'n'),
            ("/b", true, 'n'),
        ] {
            assert_eq!(looks(&some, path, is_dir), expected, "{path}");
        }
    }

    #[test]
    fn an_included_directory_brings_its_content_and_an_excluded_one_takes_it_away() {
        let some = filter(&[], &["doc", "/x/*.c"], &["*.o", "!/keep.o"]);
        for (path, is_dir, expected) in [
            ("/a", true, 'm'),
            ("/a/doc", true, 'y'),
            ("/a/doc/deep/file", false, 'y'),
            ("/a/doc/file.o", false, 'x'),
            ("/a/doc/dir.o/file", false, 'x'),
            ("/a/file", false, 'n'),
            ("/x/main.c", false, 'y'),
            ("/keep.o", false, 'n'),
        ] {
            assert_eq!(looks(&some, path, is_dir), expected, "{path}");
        }
    }

    #[test]
    fn both_named_and_included_must_hold() {
        let some = filter(&["/a"], &["*.c"], &[]);
        assert_eq!(looks(&some, "/a/x.c", false), 'y');
        assert_eq!(looks(&some, "/b/x.c", false), 'n');
        assert_eq!(looks(&some, "/b", true), 'n');
    }

    #[test]
    fn a_pattern_that_cannot_be_read_is_refused() {
        let selection = Selection { include: vec!["[".to_owned()], ..Selection::default() };
        assert!(Filter::of(&selection).is_err());
    }
}
