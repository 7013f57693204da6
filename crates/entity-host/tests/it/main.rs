//! The types of this host on real files, devices and commands.

mod conformance;
mod copy;
mod disk;
mod file_system;
mod reading;
mod sink;
mod stream;
mod support;
mod unprivileged;
mod walk;
