//! Values between rows and the words of the house.

use alidade_model::{EntityName, Time};
use rusqlite::types::Type;
use rusqlite::{Result, Row};

/// Reads the time in columns `PREFIX_s` and `PREFIX_n`.
pub(crate) fn time(row: &Row<'_>, seconds: &str, nanos: &str) -> Result<Time> {
    Ok(Time::new(row.get(seconds)?, row.get(nanos)?))
}

/// Reads a column whose text has a form of its own; text without that form is damage.
pub(crate) fn parsed<T>(row: &Row<'_>, column: &str) -> Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|source| damaged(row, column, source))
}

/// As [`parsed`], for a column that may be empty.
pub(crate) fn parsed_option<T>(row: &Row<'_>, column: &str) -> Result<Option<T>>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|source| damaged(row, column, source))).transpose()
}

/// Reads the columns `type` and `object`.
pub(crate) fn entity(row: &Row<'_>) -> Result<EntityName> {
    Ok(EntityName { type_name: parsed(row, "type")?, object: parsed(row, "object")? })
}

/// The error for a column that holds what was never written there.
pub(crate) fn damaged(
    row: &Row<'_>,
    column: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> rusqlite::Error {
    match row.as_ref().column_index(column) {
        Ok(at) => rusqlite::Error::FromSqlConversionFailure(at, Type::Text, source.into()),
        Err(unknown) => unknown,
    }
}
