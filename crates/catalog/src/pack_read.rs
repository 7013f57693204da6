use std::collections::HashMap;

use rusqlite::params;

use crate::{Catalog, Result};

/// The name of a pack: the SHA-256 of its content.
pub type PackName = [u8; 32];

impl Catalog {
    /// When packs of a repository were last read whole by this machine and found to be right: seconds since 1970.
    /// 40 bytes for each.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn pack_reads(&self, repository: &str) -> Result<HashMap<PackName, i64>> {
        self.read("list the packs that were read", |connection| {
            connection
                .prepare_cached("SELECT pack, read_s FROM pack_reads WHERE repository = ?1")?
                .query_map([repository], |row| Ok((row.get("pack")?, row.get("read_s")?)))?
                .collect()
        })
    }

    /// Records that packs were read whole, at that second.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_pack_reads(&self, repository: &str, packs: &[PackName], seconds: i64) -> Result<()> {
        self.write("record the packs that were read", |transaction| {
            let mut put = transaction
                .prepare_cached("INSERT OR REPLACE INTO pack_reads VALUES (?1, ?2, ?3)")?;
            for pack in packs {
                put.execute(params![repository, pack, seconds])?;
            }
            Ok(())
        })
    }

    /// Forgets packs, such as those that are gone.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn forget_pack_reads(&self, repository: &str, packs: &[PackName]) -> Result<()> {
        self.write("forget packs that were read", |transaction| {
            let mut forget = transaction
                .prepare_cached("DELETE FROM pack_reads WHERE repository = ?1 AND pack = ?2")?;
            for pack in packs {
                forget.execute(params![repository, pack])?;
            }
            Ok(())
        })
    }
}
