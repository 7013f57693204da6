//! The real binary, in a home of its own: what is printed, what is left on disk, how it ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod away;
mod bad_input;
mod beside;
mod bucket;
mod cache;
mod chosen;
mod cloud;
mod copy;
mod disk;
mod doctor;
mod far;
mod json;
mod network;
mod partial;
mod parts;
mod prompt;
mod rest;
mod roles;
mod schema;
mod sftp;
mod stream;
mod terminal;
mod verbs;
mod world;
