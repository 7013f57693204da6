//! The `config` file: what a repository is, sealed but never compressed.

use std::fmt;

use alidade_entity::Cx;
use serde::Deserialize;

use crate::decode::{DecodeError, Decoded};
use crate::polynomial::Polynomial;
use crate::{Error, FileId, Result};

/// Longest plain config that is read; stock ones have about 120 bytes.
pub const MAX_LEN: usize = 64 << 10;

/// What a repository is.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// Format version: 1 or 2.
    pub version: u32,
    /// The name of the repository: random, 32 bytes.
    pub id: FileId,
    /// Secret from which the cut points of file content come.
    pub polynomial: Polynomial,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("version", &self.version).field("id", &self.id).finish()
    }
}

/// A config that was read: one this program knows, or one of a version it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Version 1 or 2.
    Known(Config),
    /// Any other version; nothing else of it is understood.
    Unknown(u64),
}

#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    chunker_polynomial: String,
}

impl Config {
    /// The configuration of a new repository: version 2, a random id and polynomial.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate(cx: &Cx) -> Result<Self> {
        let mut id = [0; 32];
        cx.fill(&mut id)?;
        Ok(Self { version: 2, id: FileId(id), polynomial: Polynomial::random(cx)? })
    }

    /// The JSON as it is sealed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { version, id, polynomial } = self;
        format!(r#"{{"version":{version},"id":"{id}","chunker_polynomial":"{polynomial}"}}"#)
            .into_bytes()
    }

    /// Reads the JSON. Unknown fields are ignored.
    ///
    /// # Errors
    /// When it is malformed, or its polynomial is not irreducible.
    pub fn decode(json: &[u8]) -> Decoded<Found> {
        if json.len() > MAX_LEN {
            return Err(DecodeError::malformed("it is too long for a config"));
        }
        let Versioned { version } = serde_json::from_slice(json)?;
        let version = match version {
            1 => 1,
            2 => 2,
            other => return Ok(Found::Unknown(other)),
        };
        let wire: Wire = serde_json::from_slice(json)?;
        let id = wire.id.parse().map_err(|_cause| DecodeError::malformed("its id is no id"))?;
        let polynomial = wire.chunker_polynomial.parse()?;
        Ok(Found::Known(Self { version, id, polynomial }))
    }

    /// Reads the JSON of the repository at `location`.
    ///
    /// # Errors
    /// [`Error::UnknownVersion`], or [`Error::Damaged`] when it is malformed.
    pub fn decode_at(json: &[u8], location: &str) -> Result<Self> {
        match Self::decode(json).map_err(|error| error.of(format!("config of {location}")))? {
            Found::Known(config) => Ok(config),
            Found::Unknown(version) => {
                Err(Error::UnknownVersion { location: location.to_owned(), version })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alidade_entity::Cancel;

    const STOCK: &str = concat!(
        r#"{"version":2,"id":"cfbbdf00f78709ce786418bfb5b38a116a6de14d3294f7244e6c2ae514ee6e56","#,
        r#""chunker_polynomial":"3304b5f346baf1"}"#
    );

    #[test]
    fn a_stock_config_reads_and_is_written_the_same() {
        let Found::Known(config) = Config::decode(STOCK.as_bytes()).unwrap() else { panic!() };
        assert_eq!(config.version, 2);
        assert_eq!(config.encode(), STOCK.as_bytes());
    }

    #[test]
    fn a_new_config_reads_back() {
        let config = Config::generate(&Cx::system(Cancel::default())).unwrap();
        assert_eq!(Config::decode(&config.encode()).unwrap(), Found::Known(config));
    }

    #[test]
    fn another_version_is_named_even_when_the_rest_is_strange() {
        for json in [r#"{"version":3}"#, r#"{"version":3,"id":[],"new":1}"#] {
            let error = Config::decode_at(json.as_bytes(), "/r").unwrap_err();
            assert!(matches!(error, Error::UnknownVersion { version: 3, .. }), "{error:?}");
        }
        assert_eq!(Config::decode(br#"{"version":0}"#).unwrap(), Found::Unknown(0));
    }

    #[test]
    fn unknown_fields_are_ignored_and_damaged_ones_refused() {
        let more = STOCK.replace(r#"{"version""#, r#"{"chunker":{"a":[1]},"version""#);
        assert!(Config::decode(more.as_bytes()).is_ok());
        let bads = [
            String::new(),
            "[]".to_owned(),
            STOCK[..STOCK.len() - 1].to_owned(),
            STOCK.replace(":2", ":-2"),
            STOCK.replace("cfbb", "CFBB"),
            STOCK.replace("3304b5f346baf1", "3304b5f346baf0"),
            STOCK.replace(r#","chunker_polynomial":"3304b5f346baf1""#, ""),
            format!("{STOCK}x"),
            " ".repeat(MAX_LEN + 1),
        ];
        for bad in bads {
            let error = Config::decode_at(bad.as_bytes(), "/r").unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{bad}: {error:?}");
        }
    }
}
