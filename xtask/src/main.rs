//! Set-up, build, demo, tests.
fn main() {}
