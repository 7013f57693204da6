use alidade_model::Time;
use rusqlite::{Row, params};

use crate::{Catalog, Result, sql};

/// A long-running operation that somebody asked this machine for. No repository knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// Its id.
    pub id: String,
    /// What it does, as a word.
    pub kind: String,
    /// How far it is, as a word.
    pub state: String,
    /// When it was asked for.
    pub created: Time,
    /// When its state changed last.
    pub updated: Time,
    /// The rest: a JSON text that belongs to the caller.
    pub detail: String,
}

impl Catalog {
    /// Records a task; the same id again replaces the row.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_task(&self, task: &TaskRow) -> Result<()> {
        self.write("record a task", |transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO tasks
                     (id, kind, state, created_s, created_n, updated_s, updated_n, detail)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    task.id,
                    task.kind,
                    task.state,
                    task.created.seconds,
                    task.created.nanos,
                    task.updated.seconds,
                    task.updated.nanos,
                    task.detail,
                ],
            )?;
            Ok(())
        })
    }

    /// All tasks, the newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn tasks(&self) -> Result<Vec<TaskRow>> {
        self.read("list tasks", |connection| {
            connection
                .prepare_cached("SELECT * FROM tasks ORDER BY created_s DESC, created_n DESC, id")?
                .query_map([], read)?
                .collect()
        })
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<TaskRow> {
    Ok(TaskRow {
        id: row.get("id")?,
        kind: row.get("kind")?,
        state: row.get("state")?,
        created: sql::time(row, "created_s", "created_n")?,
        updated: sql::time(row, "updated_s", "updated_n")?,
        detail: row.get("detail")?,
    })
}
