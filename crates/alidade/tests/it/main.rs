//! The real binary, in a home of its own: what is printed, what is left on disk, how it ends.

mod bad_input;
mod json;
mod schema;
mod verbs;
mod world;
