//! What every plug must do, as tests that any plug runs with one line.
