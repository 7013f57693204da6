//! `fs` on real files: what a walk finds, what reading gives, what a sink makes of it.

mod conformance;
mod copy;
mod file_system;
mod reading;
mod sink;
mod support;
mod unprivileged;
mod walk;
