use std::fmt;

use crate::EntityId;

/// The shape of a content: how it is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Entries with metadata, then bytes per file.
    Tree,
    /// A size, allocated extents, random reads.
    Disk,
    /// Ordered bytes, committed only on the producer's success.
    Stream,
}

impl Shape {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Disk => "disk",
            Self::Stream => "stream",
        }
    }

    /// The shape with that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Tree, Self::Disk, Self::Stream].into_iter().find(|shape| shape.word() == word)
    }
}

/// The name of one content of an entity; an entity with a single content calls it `data`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentName(String);

impl ContentName {
    /// The content with that name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name an only content has.
    #[must_use]
    pub fn data() -> Self {
        Self::new("data")
    }

    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An edge to a part of an entity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Component {
    /// The part.
    pub id: EntityId,
}

/// What an entity says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityInfo {
    /// Its id.
    pub id: EntityId,
    /// A name for people.
    pub name: String,
    /// Bytes, where the entity can say without counting.
    pub size: Option<u64>,
    /// Its named contents; empty for an entity that is only referenced.
    pub contents: Vec<(ContentName, Shape)>,
}
