//! What of a tree is meant, decided entry by entry.

use alidade_entity::{Class, Error, Result};
use alidade_model::{Patterns, Rule, Selection};

use super::dir::names_of;

/// A selection, compiled.
///
/// Rules that need only the path are asked first, so that what they leave out is not even looked
/// at; then those that need more. Among each, the first that holds is counted; among patterns,
/// which can take each other back, the one that decided.
pub(crate) struct Filter {
    names: Vec<String>,
    by_path: Vec<(usize, ByPath)>,
    patterns: Patterns,
    include: Patterns,
    /// Rules about marker files: rule, name, header.
    pub(crate) markers: Vec<Marker>,
    larger_than: Option<(usize, u64)>,
    one_file_system: Option<usize>,
    only: Vec<Vec<u8>>,
}

/// A rule that needs the path alone, in the place it had among the rules.
enum ByPath {
    /// All patterns together stand where the first of them stood.
    Patterns,
    Own(Vec<u8>),
}

/// A rule about the directories that hold a certain file.
pub(crate) struct Marker {
    /// Which rule.
    pub(crate) rule: usize,
    /// Name of the file.
    pub(crate) name: Vec<u8>,
    /// What it must begin with.
    pub(crate) header: Vec<u8>,
}

/// How a directory stands to the paths that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of it is meant.
    Inside,
    /// Something below it is.
    Leading,
    /// Nothing of it is.
    Outside,
}

impl Filter {
    /// Compiles a selection.
    ///
    /// # Errors
    /// When a pattern is malformed; the message names it.
    pub(crate) fn new(selection: &Selection) -> Result<Self> {
        let mut only: Vec<Vec<u8>> = selection.only.iter().map(|path| tidy(path)).collect();
        only.sort();
        only.dedup();
        let mut filter = Self {
            names: Vec::new(),
            by_path: Vec::new(),
            patterns: Patterns::default(),
            include: patterns(selection.include.iter().map(String::as_str))?,
            markers: Vec::new(),
            larger_than: None,
            one_file_system: None,
            only,
        };
        // Snapshots keep what is ours under this name.
        let ours = Rule::Own { what: "name".to_owned(), path: b"/.alidade".to_vec() };
        filter.add(&ours);
        for rule in &selection.rules {
            filter.add(rule);
        }
        filter.patterns = patterns(selection.rules.iter().filter_map(|rule| match rule {
            Rule::Pattern(text) => Some(text.as_str()),
            _ => None,
        }))?;
        Ok(filter)
    }

    fn add(&mut self, rule: &Rule) {
        let no = self.names.len();
        self.names.push(rule.name());
        match rule {
            Rule::Pattern(_) => {
                let stands = self.by_path.iter().any(|(_, rule)| matches!(rule, ByPath::Patterns));
                if !stands {
                    self.by_path.push((no, ByPath::Patterns));
                }
            }
            Rule::IfPresent { name, header } => self.markers.push(Marker {
                rule: no,
                name: name.clone().into_bytes(),
                header: header.clone().into_bytes(),
            }),
            Rule::LargerThan(bytes) => {
                if self.larger_than.is_none_or(|(_, least)| *bytes < least) {
                    self.larger_than = Some((no, *bytes));
                }
            }
            Rule::OneFileSystem => self.one_file_system = Some(no),
            Rule::Own { path, .. } => self.by_path.push((no, ByPath::Own(tidy(path)))),
        }
    }

    /// The name of a rule, for counting.
    pub(crate) fn rule_name(&self, rule: usize) -> &str {
        &self.names[rule]
    }

    /// The name of the rule that leaves this absolute path out, whatever it is.
    pub(crate) fn excludes_path(&self, path: &[u8]) -> Option<String> {
        self.by_path.iter().find_map(|(no, rule)| match rule {
            ByPath::Own(own) => is_at_or_below(path, own).then(|| self.names[*no].clone()),
            ByPath::Patterns => {
                let names: Vec<&[u8]> = names_of(path).collect();
                let pattern = self.patterns.find(&names)?;
                Some(Rule::Pattern(pattern.as_str().to_owned()).name())
            }
        })
    }

    /// False for what no including pattern wants: a directory is wanted when something below may be.
    pub(crate) fn includes(&self, path: &[u8], is_directory: bool) -> bool {
        if self.include.is_empty() {
            return true;
        }
        let names: Vec<&[u8]> = names_of(path).collect();
        self.include.find(&names).is_some()
            || (is_directory && self.include.may_match_below(&names))
    }

    /// The rule that leaves out a regular file of that size.
    pub(crate) fn excludes_size(&self, size: u64) -> Option<usize> {
        self.larger_than.and_then(|(no, most)| (size > most).then_some(no))
    }

    /// The rule that leaves out what lies on another file system.
    pub(crate) fn one_file_system(&self) -> Option<usize> {
        self.one_file_system
    }

    /// How a path stands to those that are meant, given how its directory does.
    pub(crate) fn scope(&self, path: &[u8], directory: Scope) -> Scope {
        match directory {
            Scope::Leading => {}
            inside_or_outside => return inside_or_outside,
        }
        if self.only.binary_search_by(|only| only.as_slice().cmp(path)).is_ok() {
            return Scope::Inside;
        }
        let below = if path == b"/" { path.to_vec() } else { [path, b"/"].concat() };
        let first = self.only.partition_point(|only| only.as_slice() < below.as_slice());
        match self.only.get(first) {
            Some(only) if only.starts_with(&below) => Scope::Leading,
            _ => Scope::Outside,
        }
    }

    /// How the root of a walk stands to the paths that are meant.
    pub(crate) fn root_scope(&self, path: &[u8]) -> Scope {
        if self.only.is_empty() || self.only.iter().any(|only| is_at_or_below(path, only)) {
            return Scope::Inside;
        }
        self.scope(path, Scope::Leading)
    }

    /// The paths that are meant, ascending; empty means everything.
    pub(crate) fn only(&self) -> &[Vec<u8>] {
        &self.only
    }
}

fn patterns<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Patterns> {
    Patterns::parse(texts)
        .map_err(|error| Error::with_source(Class::Unsupported, "read the patterns", error))
}

fn is_at_or_below(path: &[u8], top: &[u8]) -> bool {
    top == b"/"
        || path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// A path without a slash at its end or two in a row.
fn tidy(path: &[u8]) -> Vec<u8> {
    let names: Vec<&[u8]> = names_of(path).filter(|name| *name != b".").collect();
    [b"/".as_slice(), &names.join(&b'/')].concat()
}
