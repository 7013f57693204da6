//! The schema: numbered steps forward, none back.

use rusqlite::{Connection, Result, Transaction, TransactionBehavior};

/// Each step takes a database of version N to N + 1, counted from 0, an empty file.
const STEPS: &[&str] = &[
    include_str!("../migrations/0001_begin.sql"),
    include_str!("../migrations/0002_pack_reads.sql"),
];

/// The newest schema this program knows.
pub const SCHEMA_VERSION: i64 = STEPS.len() as i64;

/// Marks the file as a catalog of this program: `ALID`.
const APPLICATION_ID: i64 = 0x414C_4944;

/// What the file is before any step.
pub(crate) enum Found {
    /// A catalog whose schema is now the newest.
    Ready,
    /// A database of another program.
    Alien,
    /// A catalog of a newer program, with this version.
    Newer(i64),
}

/// Brings the schema up to date. All steps are one transaction; another process that opens the
/// file at the same time waits and then finds nothing to do.
pub(crate) fn migrate(connection: &mut Connection) -> Result<Found> {
    match look(connection)? {
        (true, version) if version == SCHEMA_VERSION => return Ok(Found::Ready),
        (true, version) if version > SCHEMA_VERSION => return Ok(Found::Newer(version)),
        _ => {}
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (ours, version) = look(&transaction)?;
    if !ours {
        return Ok(Found::Alien);
    }
    if version > SCHEMA_VERSION {
        return Ok(Found::Newer(version));
    }
    apply(&transaction, version)?;
    transaction.commit()?;
    Ok(Found::Ready)
}

fn apply(transaction: &Transaction<'_>, version: i64) -> Result<()> {
    let done = usize::try_from(version).unwrap_or(0);
    for step in &STEPS[done..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)
}

/// Whether the file is ours (or still empty), and its version.
fn look(connection: &Connection) -> Result<(bool, i64)> {
    let id: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let empty = id == 0 && version == 0 && tables == 0;
    Ok((empty || (id == APPLICATION_ID && version >= 0), version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_the_newest_version_but_of_another_program_is_alien() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE mine (a); PRAGMA user_version = 1").unwrap();
        assert!(matches!(migrate(&mut connection).unwrap(), Found::Alien));
    }

    #[test]
    fn migrating_twice_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        assert!(matches!(migrate(&mut connection).unwrap(), Found::Ready));
        assert!(matches!(migrate(&mut connection).unwrap(), Found::Ready));
    }
}
