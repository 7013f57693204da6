//! Ids and their text forms. A Protected Entity id is `type:object` or `type:object:snapshot`.

use std::fmt;
use std::str::FromStr;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text has no `:` between a type and an object.
    #[error("`{text}` is not a Protected Entity id: it has no `type:object`")]
    NoType {
        /// The text as it was given.
        text: String,
    },
    /// A part is empty.
    #[error("`{text}` is not an id: its {part} is empty")]
    Empty {
        /// The text as it was given.
        text: String,
        /// Which part.
        part: &'static str,
    },
    /// A part holds a character that ids do not have.
    #[error("`{text}` is not an id: its {part} may not hold `{found}`")]
    Character {
        /// The text as it was given.
        text: String,
        /// Which part.
        part: &'static str,
        /// The first character that is not allowed.
        found: char,
    },
    /// There are more than three parts.
    #[error("`{text}` is not an id: it has more than `type:object:snapshot`")]
    TooManyParts {
        /// The text as it was given.
        text: String,
    },
}

/// True for the bytes that stand for themselves in an object or snapshot id.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'_' | b'.')
}

/// Writes any bytes in the alphabet of object ids.
///
/// A byte outside the alphabet becomes `_XX` (two hex digits), and so does an underscore that two
/// hex digits follow. [`decode_object`] is the inverse for every input.
#[must_use]
pub fn encode_object(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for (at, &byte) in bytes.iter().enumerate() {
        let looks_encoded = byte == b'_'
            && bytes.get(at + 1).is_some_and(u8::is_ascii_hexdigit)
            && bytes.get(at + 2).is_some_and(u8::is_ascii_hexdigit);
        if is_plain(byte) && !looks_encoded {
            text.push(char::from(byte));
        } else {
            text.push('_');
            text.push(char::from(HEX[usize::from(byte >> 4)]));
            text.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    text
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Reads back what [`encode_object`] wrote.
#[must_use]
pub fn decode_object(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair =
            bytes.get(at + 1).copied().and_then(hex).zip(bytes.get(at + 2).copied().and_then(hex));
        match pair {
            Some((high, low)) if bytes[at] == b'_' => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn check(text: &str, part: &'static str, allowed: fn(u8) -> bool) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { text: text.to_owned(), part });
    }
    match text.chars().find(|&c| !u8::try_from(c).is_ok_and(allowed)) {
        None => Ok(()),
        Some(found) => Err(IdError::Character { text: text.to_owned(), part, found }),
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $part:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text of it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                check(text, $part, $allowed)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id_type!(
    /// The name of a type of Protected Entities, such as `fs`: lower case letters, digits, `-`.
    TypeName, "type", |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
);
id_type!(
    /// The name of an object within its type, in the alphabet of Protected Entity ids.
    ObjectId, "object", is_plain
);
id_type!(
    /// The name of one frozen state of an entity.
    SnapshotId, "snapshot", is_plain
);
id_type!(
    /// The name of one run of a verb; chosen before the run begins.
    RunId, "run", is_plain
);
id_type!(
    /// Where a stored entity came from: a machine's or a cluster's name.
    Host, "host", |b| b.is_ascii_graphic()
);

impl ObjectId {
    /// The object id that stands for these bytes.
    ///
    /// # Errors
    /// When there are no bytes.
    pub fn encode(bytes: &[u8]) -> Result<Self, IdError> {
        encode_object(bytes).parse()
    }

    /// The bytes this id stands for.
    #[must_use]
    pub fn decode(&self) -> Vec<u8> {
        decode_object(&self.0)
    }
}

/// An entity without a snapshot: `type:object`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityName {
    /// Its type.
    pub type_name: TypeName,
    /// Which one of that type.
    pub object: ObjectId,
}

impl EntityName {
    /// The id of this entity as it is now.
    #[must_use]
    pub fn live(&self) -> EntityId {
        EntityId { name: self.clone(), snapshot: None }
    }

    /// The id of a frozen state of this entity.
    #[must_use]
    pub fn at(&self, snapshot: SnapshotId) -> EntityId {
        EntityId { name: self.clone(), snapshot: Some(snapshot) }
    }
}

impl fmt::Display for EntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.type_name, self.object)
    }
}

impl FromStr for EntityName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let id: EntityId = text.parse()?;
        match id.snapshot {
            None => Ok(id.name),
            Some(_) => Err(IdError::TooManyParts { text: text.to_owned() }),
        }
    }
}

/// The id of a Protected Entity: `type:object`, or `type:object:snapshot` for a frozen state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId {
    /// The entity.
    pub name: EntityName,
    /// The frozen state, or `None` for the entity as it is now.
    pub snapshot: Option<SnapshotId>,
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.snapshot {
            None => self.name.fmt(f),
            Some(snapshot) => write!(f, "{}:{snapshot}", self.name),
        }
    }
}

impl FromStr for EntityId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut parts = text.split(':');
        let (Some(type_name), Some(object)) = (parts.next(), parts.next()) else {
            return Err(IdError::NoType { text: text.to_owned() });
        };
        let snapshot = parts.next().map(str::parse).transpose()?;
        if parts.next().is_some() {
            return Err(IdError::TooManyParts { text: text.to_owned() });
        }
        Ok(Self {
            name: EntityName { type_name: type_name.parse()?, object: object.parse()? },
            snapshot,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_byte_string_survives_the_object_alphabet(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = encode_object(&bytes);
            prop_assert!(text.bytes().all(is_plain));
            prop_assert_eq!(decode_object(&text), bytes);
        }

        #[test]
        fn parsing_never_panics_and_prints_what_it_read(text in ".{0,40}") {
            if let Ok(id) = text.parse::<EntityId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn an_underscore_is_encoded_only_before_two_hex_digits() {
        assert_eq!(encode_object(b"/a_b"), "/a_b");
        assert_eq!(encode_object(b"/a_bc"), "/a_5Fbc");
        assert_eq!(encode_object(b"/a b"), "/a_20b");
        assert_eq!(encode_object(b"/a_ "), "/a__20");
    }

    #[test]
    fn an_id_with_a_fourth_part_is_refused() {
        assert!(matches!("fs:/a:b:c".parse::<EntityId>(), Err(IdError::TooManyParts { .. })));
        assert!(matches!("fs".parse::<EntityId>(), Err(IdError::NoType { .. })));
        assert!(matches!("fs:".parse::<EntityId>(), Err(IdError::Empty { .. })));
        assert!(matches!(
            "fs:/a b".parse::<EntityId>(),
            Err(IdError::Character { found: ' ', .. })
        ));
    }
}
