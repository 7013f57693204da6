//! The verbs, one per file: the options of each, and what it prints.

pub mod cat;
pub mod catalog;
pub mod check;
pub mod completions;
pub mod copy;
pub mod diff;
pub mod doctor;
pub mod find;
pub mod init;
pub mod key;
pub mod list;
pub mod ls;
pub mod protect;
pub mod repair;
pub mod restore;
pub mod runs;
pub mod show;
pub mod snapshots;
pub mod stream_command;
pub mod types;
pub mod unlock;
pub mod version;
pub mod writing;
