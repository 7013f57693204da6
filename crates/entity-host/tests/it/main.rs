//! `fs` on real files: what a walk finds, what reading gives, what a sink makes of it.

mod support;
mod walk;
